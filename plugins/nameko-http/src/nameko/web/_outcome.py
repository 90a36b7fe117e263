"""Waiting for a worker."""

from __future__ import annotations

from typing import Any

from nameko.concurrency import Event


class Outcome:
    """What a worker came to, for the one that waits for it."""

    __slots__ = ("_event", "_exc", "_result")

    def __init__(self) -> None:
        self._event = Event()
        self._result: Any = None
        self._exc: BaseException | None = None

    def send(self, result: Any = None, exc_info: Any = None) -> None:
        """Called once; with `sys.exc_info()`, or the exception, if there was one."""
        self._result = result
        self._exc = exc_info[1] if isinstance(exc_info, tuple) else exc_info
        self._event.send(None)

    def wait(self) -> tuple[Any, BaseException | None]:
        """The worker's result and its exception, once it has one of them."""
        self._event.wait()
        return self._result, self._exc
