"""The worker context: what is known about one call of one service method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from nameko._context_data import ContextData
from nameko._unique_ids import new_unique_id
from nameko.constants import CALL_ID_STACK_CONTEXT_KEY

if TYPE_CHECKING:
    from nameko.containers import ServiceContainer
    from nameko.extensions import Entrypoint


_NO_HEADERS: Mapping[str, Any] = MappingProxyType({})

#: In place of a service that is yet to be made, from the container's service class.
UNMADE: Any = object()


class Headers(Protocol):
    """The headers of a message or a request, to be read."""

    def get(self, name: str, /) -> Any:
        """The value of a header; None when it is not there."""

    def keys(self) -> Iterable[str]:
        """The names."""


def new_call_id() -> str:
    """A unique id for a call."""
    return new_unique_id()


class WorkerContext:
    """One call of one service method.

    :param container: the container that runs it
    :param service: the instance of the service class, made for this call alone
    :param entrypoint: what caused the call
    :param args: positional arguments of the method
    :param kwargs: keyword arguments of the method
    :param data: context data: what travels with the call from service to service
    :param headers: what came with the call, of which context data may be made: the headers of the message or of the
        HTTP request, as they are; empty for a call that has none, such as a timer's
    """

    def __init__(
        self,
        container: ServiceContainer,
        service: Any,
        entrypoint: Entrypoint,
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        headers: Headers | None = None,
    ) -> None:
        self.container = container
        self._service = service
        self.entrypoint = entrypoint
        self.service_name = container.service_name
        self.args = args if args is not None else ()
        self.kwargs = kwargs if kwargs is not None else {}
        self.data: dict[str, Any] = dict(data) if data else {}
        self.headers: Headers = _NO_HEADERS if headers is None else headers
        self._parent_call_ids: list[str] = self.data.pop(CALL_ID_STACK_CONTEXT_KEY, None) or []
        self._call_id: str | None = None
        #: When it was asked for, and when its worker began, in seconds by `time.perf_counter()`; None before that.
        self.fired_at: float | None = None
        self.started_at: float | None = None
        #: The message that brought the call, as its entrypoint received it; None where it was no message.
        self.message: Any = None

    @property
    def service(self) -> Any:
        """The instance of the service class. The worker makes it when it begins, unless it is asked for before."""
        if self._service is UNMADE:
            made = self.container.service_cls()
            if self._service is UNMADE:  # still, as that may have taken a while
                self._service = made
        return self._service

    @service.setter
    def service(self, service: Any) -> None:
        self._service = service

    @property
    def config(self) -> Mapping[str, Any]:
        """The container's configuration."""
        return self.container.config

    @property
    def call_id(self) -> str:
        """`<service>.<method>.<unique id>`."""
        if self._call_id is None:
            self._call_id = f"{self.service_name}.{self.entrypoint.method_name}.{new_call_id()}"
        return self._call_id

    @property
    def call_id_stack(self) -> list[str]:
        """The ids of the calls that led here, oldest first, and this one's; `parent_calls_tracked` + 1 at most."""
        tracked = self.container.parent_calls_tracked
        return [*(self._parent_call_ids[-tracked:] if tracked else ()), self.call_id]

    @property
    def context_data(self) -> dict[str, Any]:
        """What the calls that this worker makes carry: its data and its call id stack. May be changed."""
        return ContextData(self.data, self.call_id_stack)

    @property
    def origin_call_id(self) -> str | None:
        """The id of the first call of the chain that is still known; None when this is it."""
        stack = self.call_id_stack
        return stack[0] if len(stack) > 1 else None

    @property
    def immediate_parent_call_id(self) -> str | None:
        """The id of the calling worker; None when the call came from outside."""
        stack = self.call_id_stack
        return stack[-2] if len(stack) > 1 else None

    def __repr__(self) -> str:
        return f"<WorkerContext [{self.service_name}.{self.entrypoint.method_name}] at 0x{id(self):x}>"


WorkerContext.__module__ = Headers.__module__ = new_call_id.__module__ = "nameko.containers"
