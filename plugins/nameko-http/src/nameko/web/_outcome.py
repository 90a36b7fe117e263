"""Waiting for a worker."""

from __future__ import annotations

from typing import Any

from nameko import concurrency


class Outcome:
    """What a worker came to, for the one greenthread that waits for it: an `Event` at half the cost."""

    __slots__ = ("_exc", "_ready", "_result", "_waiter")

    def __init__(self) -> None:
        self._ready = False
        self._waiter: Any = None
        self._result: Any = None
        self._exc: BaseException | None = None

    def send(self, result: Any = None, exc_info: Any = None) -> None:
        """Called once; with `sys.exc_info()`, or the exception, if there was one."""
        self._result = result
        self._exc = exc_info[1] if isinstance(exc_info, tuple) else exc_info
        self._ready = True
        if self._waiter is not None:
            concurrency.schedule(0, self._wake)

    def wait(self) -> tuple[Any, BaseException | None]:
        """The worker's result and its exception, once it has one of them."""
        while not self._ready:
            self._waiter = concurrency.current()
            try:
                concurrency.park()
            finally:
                self._waiter = None
        return self._result, self._exc

    def _wake(self) -> None:
        if self._waiter is not None:  # not killed meanwhile
            self._waiter.switch()
