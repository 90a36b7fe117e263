"""RPC over AMQP: methods that other services call, and clients to call them with.

::

    class ServiceY:
        name = "service_y"

        @rpc
        def append_identifier(self, value):
            return f"{value}-y"

    class ServiceX:
        name = "service_x"

        y = RpcProxy("service_y")

        @rpc
        def remote_method(self, value):
            return self.y.append_identifier(f"{value}-x")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nameko.rpc._calls import RpcCall, RpcReply
    from nameko.rpc._client import Client, Proxy
    from nameko.rpc._compat import MethodProxy, ServiceProxy
    from nameko.rpc._entrypoint import Rpc, rpc
    from nameko.rpc._providers import ClusterRpc, RpcProxy, ServiceRpc
    from nameko.rpc._replies import ReplyListener
    from nameko.rpc._server import InternalError, Responder, RpcConsumer
    from nameko.rpc._topology import (
        RPC_QUEUE_TEMPLATE,
        RPC_REPLY_QUEUE_TEMPLATE,
        RPC_REPLY_QUEUE_TTL,
        get_rpc_exchange,
    )

__all__ = [
    "RPC_QUEUE_TEMPLATE",
    "RPC_REPLY_QUEUE_TEMPLATE",
    "RPC_REPLY_QUEUE_TTL",
    "Client",
    "ClusterRpc",
    "InternalError",
    "MethodProxy",
    "Proxy",
    "ReplyListener",
    "Responder",
    "Rpc",
    "RpcCall",
    "RpcConsumer",
    "RpcProxy",
    "RpcReply",
    "ServiceProxy",
    "ServiceRpc",
    "get_rpc_exchange",
    "rpc",
]

# Imported when first asked for: the command line imports this package to find the plugin, and must not load kombu.
_HOMES = {
    "RPC_QUEUE_TEMPLATE": "_topology",
    "RPC_REPLY_QUEUE_TEMPLATE": "_topology",
    "RPC_REPLY_QUEUE_TTL": "_topology",
    "Client": "_client",
    "ClusterRpc": "_providers",
    "InternalError": "_server",
    "MethodProxy": "_compat",
    "Proxy": "_client",
    "ReplyListener": "_replies",
    "Responder": "_server",
    "Rpc": "_entrypoint",
    "RpcCall": "_calls",
    "RpcConsumer": "_server",
    "RpcProxy": "_providers",
    "RpcReply": "_calls",
    "ServiceProxy": "_compat",
    "ServiceRpc": "_providers",
    "get_rpc_exchange": "_topology",
    "rpc": "_entrypoint",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value
