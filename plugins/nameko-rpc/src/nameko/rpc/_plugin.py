"""What nameko-rpc tells the framework about itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from nameko.plugins import ConfigKey, ExtensionInfo, hookimpl


@hookimpl
def nameko_extensions() -> Sequence[ExtensionInfo]:
    """The entrypoint and the dependencies."""
    from nameko.rpc import ClusterRpc, Rpc, ServiceRpc

    return [
        ExtensionInfo(Rpc, "@rpc: runs a method for each request, and replies with its result"),
        ExtensionInfo(ServiceRpc, "RpcProxy or ServiceRpc: injects a client for one service"),
        ExtensionInfo(ClusterRpc, "injects a client for all services"),
    ]


@hookimpl
def nameko_config_keys() -> Sequence[ConfigKey]:
    """Where requests go, how long callers wait, and what they get to see of errors."""
    return [
        ConfigKey("rpc_exchange", "str", "nameko-rpc", "The exchange of requests and replies."),
        ConfigKey(
            "RPC_TIMEOUT", "seconds", 300, "How long a caller waits for a reply, unless its proxy says otherwise."
        ),
        ConfigKey(
            "RPC_EXPIRE_REQUESTS",
            "bool",
            True,
            "Have the broker drop a request when its caller has given up; with false, somebody serves it in the end.",
        ),
        ConfigKey(
            "EXPOSE_ERRORS",
            "bool",
            True,
            "Tell RPC callers what a method raised; with false, an id that is in the log, unless expected.",
        ),
    ]


@hookimpl
def nameko_shell_namespace(config: Mapping[str, Any], exit_stack: ExitStack) -> Mapping[str, Any]:
    """`n.rpc.service.method(...)`."""
    from nameko.standalone.rpc import ClusterRpcProxy

    proxy = ClusterRpcProxy(config)
    exit_stack.callback(proxy.disconnect)
    return {"rpc": proxy.connect_later()}
