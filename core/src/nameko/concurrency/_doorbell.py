"""Calls from other operating system threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from nameko.concurrency._library import get_hub, original


class Doorbell:
    """Calls functions in the thread that made it, on behalf of any other operating system thread.

    Greenthreads belong to the thread that started them: an `Event` sent from another one would corrupt both. Costs a
    pipe and no greenthread, and nothing while nobody rings.
    """

    def __init__(self) -> None:
        self._os = original("os")
        self._thread_id = _thread_id()
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._reader, self._writer = self._os.pipe()
        self._os.set_blocking(self._reader, False)
        self._os.set_blocking(self._writer, False)
        self._hub = get_hub()
        self._listener = self._hub.add(self._hub.READ, self._reader, self._answer, self._answer, None)

    def is_mine(self) -> bool:
        """Whether it was made in this operating system thread."""
        return _thread_id() == self._thread_id

    def call(self, fn: Callable[..., object], *args: Any) -> None:
        """Call `fn(*args)`, which must not block, in the thread that made this: at once when that is this thread."""
        if self.is_mine():
            fn(*args)
            return
        self._calls.append((fn, args))
        try:
            self._os.write(self._writer, b"\0")
        except BlockingIOError:  # the pipe is full of rings that are not answered yet
            pass

    def close(self) -> None:
        """Give the pipe back, in the thread that made it; `call` must not be used any more."""
        self.call(self._close)

    def _close(self) -> None:
        self._hub.remove(self._listener)
        self._os.close(self._reader)
        self._os.close(self._writer)

    def _answer(self, _: object) -> None:
        try:
            self._os.read(self._reader, 4096)  # before the calls are taken: a ring that comes meanwhile is not missed
        except BlockingIOError:  # somebody else's event: a process that was forked shares what the hub waits with
            return
        while self._calls:
            fn, args = self._calls.popleft()
            fn(*args)


def _thread_id() -> int:
    # Of the operating system's thread: a monkey-patched `get_ident` tells greenthreads apart instead.
    ident: int = original("threading").get_ident()
    return ident
