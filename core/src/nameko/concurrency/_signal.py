"""A cheap one-shot event."""

from __future__ import annotations

from typing import Any

from nameko.concurrency._library import current, park
from nameko.concurrency._run_queue import soon


class Signal:
    """One-shot, like `threading.Event`: cheaper than an `Event`, carries nothing, and is waited for without a timeout.

    Whoever waits goes on in the same turn of the hub.
    """

    __slots__ = ("_is_set", "_waiters")

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: list[Any] = []

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._is_set

    def set(self) -> None:
        """Let everybody go on who waits, now or later."""
        self._is_set = True
        for waiter in self._waiters:
            soon(self._wake, waiter)

    def wait(self) -> None:
        """Wait until it is set."""
        if self._is_set:
            return
        thread = current()
        self._waiters.append(thread)
        try:
            park()
        finally:
            if thread in self._waiters:  # killed, or struck by a timeout
                self._waiters.remove(thread)

    def _wake(self, thread: Any) -> None:
        if thread in self._waiters:
            self._waiters.remove(thread)
            thread.switch()
