"""What goes out: requests, events and messages, as the observers of calls see them."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from nameko.exceptions import PluginError
from nameko.observers import Observers, notify

if TYPE_CHECKING:
    from typing_extensions import Self

    from nameko.containers import WorkerContext
    from nameko.extensions import ExcInfo

__all__ = ["OutgoingCall", "observers_outside_services"]

_log = logging.getLogger(__name__)

CallKind = Literal["rpc", "event", "message"]

#: So much may observers add to the headers of one message; as much as the other side makes context data of.
MAX_ADDED_BYTES = 8 * 1024
# AMQP 0-9-1 sends the names of headers as short strings: a length byte, then at most that many bytes.
_MAX_NAME_BYTES = 255


class OutgoingCall:
    """A request, an event or a message on its way: what `nameko_call_started` and `nameko_call_finished` are given.

    For whoever sends it: a context manager around the sending; or `start()`, and `finish()` when the outcome is known.

    :ivar headers: an observer puts in what is to travel in the message's headers, strings by their names; they go
        before headers of the same name
    :param observers: who observes
    :param kind: `rpc` for a request, `event`, or `message` for any other
    :param destination: of a request, the name of the service that is called; else the name of the exchange
    :param operation: the name of the method, the type of the event, or the routing key of the message
    :param worker_ctx: the worker that calls; None when no worker does
    :param config: the configuration of the service, or of the client, that calls
    """

    __slots__ = (
        "_observers",
        "_over",
        "_started_at",
        "config",
        "destination",
        "headers",
        "kind",
        "operation",
        "worker_ctx",
    )

    def __init__(
        self,
        observers: Observers,
        kind: CallKind,
        destination: str,
        operation: str,
        worker_ctx: WorkerContext | None,
        config: Mapping[str, Any],
    ) -> None:
        self.kind = kind
        self.destination = destination
        self.operation = operation
        self.worker_ctx = worker_ctx
        self.config = config
        self.headers: dict[str, str] = {}
        self._observers = observers
        self._over = False
        self._started_at = 0.0

    def start(self) -> None:
        """It is about to be sent."""
        self._started_at = time.perf_counter()
        if not self._observers.call_started:
            return
        try:
            notify(self._observers.call_started, call=self)
        except BaseException as exc:  # the caller is killed in an observer, or runs out of time: nothing is sent
            self.finish_with(exc)
            raise

    def finish(self, exc_info: ExcInfo | None = None) -> None:
        """It has its outcome. Only the first time counts."""
        if self._over:
            return
        self._over = True
        if self._observers.call_finished:
            duration_s = time.perf_counter() - self._started_at
            notify(self._observers.call_finished, call=self, exc_info=exc_info, duration_s=duration_s)

    def finish_with(self, exc: BaseException | None) -> None:
        """The same, for a call that was answered with an exception, or without."""
        self.finish(None if exc is None else (type(exc), exc, exc.__traceback__))

    def added_headers(self) -> dict[str, str]:
        """What observers have put into `headers`, but for what a message cannot carry, which is logged."""
        added: dict[str, str] = {}
        remaining = MAX_ADDED_BYTES
        for name, value in self.headers.items():
            size = _size(name, value)
            if size > remaining:
                _log.error("an observer's header %r is left out of %r: it is no text, or too long", name, self)
            else:
                remaining -= size
                added[name] = value
        return added

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.finish(sys.exc_info() if exc is not None else None)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"<OutgoingCall {self.kind} {self.destination} {self.operation}>"


def _size(name: object, value: object) -> int:
    """The bytes that a header takes; more than there may be when a message cannot carry it."""
    if not isinstance(name, str) or not isinstance(value, str):
        return MAX_ADDED_BYTES + 1
    try:
        name_bytes = len(name.encode())
        return name_bytes + len(value.encode()) if name_bytes <= _MAX_NAME_BYTES else MAX_ADDED_BYTES + 1
    except UnicodeEncodeError:
        return MAX_ADDED_BYTES + 1


def observers_outside_services(config: Mapping[str, Any]) -> Observers:
    """Who observes the calls of a program that is no service: the installed plugins, as the configuration selects them.

    A plugin that cannot be loaded is no reason to refuse such a program its calls: it is named in the log, and nobody
    observes.

    :raises ConfigurationError: when the key `plugins` is malformed
    """
    from nameko.plugins import plugins_for  # takes a while, which only those who make a client spend

    try:
        return Observers(plugins_for(config).observers)
    except PluginError as exc:
        _log.warning("nothing observes calls from here: %s", exc)
        return Observers()
