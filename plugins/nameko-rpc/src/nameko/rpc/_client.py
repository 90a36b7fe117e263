"""What is called: `client.service.method(...)`, whichever way the call then takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from nameko.rpc._calls import RpcReply


class Context(Protocol):
    """Who calls: a worker context, for one."""

    @property
    def context_data(self) -> Mapping[str, Any]:
        """What travels with the call."""


class Caller(Protocol):
    """Makes calls, with one set of options."""

    def call(self, context: Context, service_name: str, method_name: str, args: Any, kwargs: Any) -> Any:
        """Call and wait; the result."""

    def call_async(self, context: Context, service_name: str, method_name: str, args: Any, kwargs: Any) -> RpcReply:
        """Call, and return when the request is safe with the broker."""

    def with_options(self, options: Mapping[str, Any]) -> Caller:
        """A caller with other options."""


class Client:
    """Calls methods of services: of one service, or of all.

    Names come as attributes or as items: `client.method(1)`, or `client.service.method(1)` for one that is bound to no
    service, or `client["service-name"]["method"](1)` for names that are no identifiers.

    :param caller: makes the calls
    :param context: who calls
    :param service_name: the service, when that is decided
    :param method_name: the method, when that is decided too
    """

    __slots__ = ("_caller", "_context", "method_name", "service_name")

    def __init__(
        self, caller: Caller, context: Context, service_name: str | None = None, method_name: str | None = None
    ) -> None:
        self._caller = caller
        self._context = context
        self.service_name = service_name
        self.method_name = method_name

    def __getattr__(self, name: str) -> Client:
        # Asked for by copy, pickle, inspect, mock and the like: none of that is meant for the other side.
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Client:
        if self.service_name is None:
            return Client(self._caller, self._context, name)
        if self.method_name is None:
            return Client(self._caller, self._context, self.service_name, name)
        raise AttributeError(f"`{self.identifier}` is a method and has no `{name}`")

    @property
    def fully_specified(self) -> bool:
        """Whether both service and method are decided, so that it can be called."""
        return self.method_name is not None

    @property
    def identifier(self) -> str:
        """`service.method`, with a star for what is not decided."""
        return f"{self.service_name or '*'}.{self.method_name or '*'}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method and wait for its result.

        :raises: what the remote method raises: as itself, if its class is known here, else as `RemoteError`
        :raises UnknownService: when nobody listens for that service
        :raises nameko.amqp.MessageRefused: when the service's queue is at its limit and refuses the request
        :raises RpcTimeout: when there is no reply by the deadline
        :raises ReplyLost: when the reply can no longer arrive
        :raises ValueError: when this is no method
        """
        service_name, method_name = self._target()
        return self._caller.call(self._context, service_name, method_name, args, kwargs)

    def call_async(self, *args: Any, **kwargs: Any) -> RpcReply:
        """Call the method and do not wait for its result, which the reply's `result()` gives or raises.

        Returns when the broker has the request.

        :raises UnknownService: when nobody listens for that service
        :raises ValueError: when this is no method
        """
        service_name, method_name = self._target()
        return self._caller.call_async(self._context, service_name, method_name, args, kwargs)

    def _target(self) -> tuple[str, str]:
        if self.service_name is None or self.method_name is None:
            raise ValueError(f"`{self.identifier}` names no method: call `client.service.method(...)`")
        return self.service_name, self.method_name

    def with_options(self, **options: Any) -> Client:
        """The same with other options: `client.method.with_options(timeout=2)(...)`.

        :param options: `timeout` in seconds, `headers`, `priority`, ..., as for `ServiceRpc`
        """
        return Client(self._caller.with_options(options), self._context, self.service_name, self.method_name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} [{self.identifier}]>"


#: Its other name in the 3.0 line.
Proxy = Client

Client.__module__ = "nameko.rpc"
