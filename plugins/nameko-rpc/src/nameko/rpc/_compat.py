"""Clients under the names, and with the constructors, that they have in nameko 2.14, for extensions that make them."""

from __future__ import annotations

from typing import Any

from nameko.rpc._client import Client, Context
from nameko.rpc._providers import worker_caller
from nameko.rpc._replies import ReplyListener


class ServiceProxy(Client):
    """A client for one service.

    :param worker_ctx: the worker that calls
    :param service_name: the service
    :param reply_listener: where the replies come in
    :param options: as for `ServiceRpc`
    """

    def __init__(self, worker_ctx: Context, service_name: str, reply_listener: ReplyListener, **options: Any) -> None:
        super().__init__(worker_caller(reply_listener, options), worker_ctx, service_name)


class MethodProxy(Client):
    """A client for one method.

    :param worker_ctx: the worker that calls
    :param service_name: the service
    :param method_name: its method
    :param reply_listener: where the replies come in
    :param options: as for `ServiceRpc`
    """

    def __init__(
        self, worker_ctx: Context, service_name: str, method_name: str, reply_listener: ReplyListener, **options: Any
    ) -> None:
        super().__init__(worker_caller(reply_listener, options), worker_ctx, service_name, method_name)


ServiceProxy.__module__ = MethodProxy.__module__ = "nameko.rpc"
