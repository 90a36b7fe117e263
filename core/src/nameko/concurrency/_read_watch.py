"""A socket that is watched for longer than one wait."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from nameko.concurrency._library import get_hub, notify_opened
from nameko.concurrency._run_queue import run_queue


class ReadWatch:
    """Calls `callback` from the hub while a socket has something to read, from `resume()` until `pause()`.

    Registered with the operating system once, where `wait_readable` does so for each wait. It calls again and again
    while there is something to read: take it, or `pause()`. What `callback` leaves to `soon` is called right after it.

    :param fileno: the socket's file descriptor; pause before closing it
    :param callback: takes one argument, the descriptor; must neither block nor raise
    """

    __slots__ = ("_callback", "_fileno", "_hub", "_listener", "active")

    def __init__(self, fileno: int, callback: Callable[[int], object]) -> None:
        notify_opened(fileno)  # a listener that its former owner left behind would collide with ours
        self._hub = get_hub()
        self._fileno = fileno
        self._callback = callback
        self._listener: Any = None
        self.active = False

    def resume(self) -> None:
        """Start watching."""
        if not self.active:
            on_readable = partial(run_queue().run_after, self._callback)
            self._listener = self._hub.add(self._hub.READ, self._fileno, on_readable, _ignore_obsolete, None)
            self.active = True

    def pause(self) -> None:
        """Stop watching."""
        if self.active:
            self.active = False
            self._hub.remove(self._listener)
            self._listener = None


def _ignore_obsolete(_: BaseException) -> None:
    """The hub tells a listener here that its descriptor was reused; the owner of a `ReadWatch` pauses it before."""
