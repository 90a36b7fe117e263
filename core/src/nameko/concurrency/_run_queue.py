"""What the hub calls before it looks at its sockets again."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from nameko.concurrency._library import get_hub

# So many calls in a row, then the hub looks at its sockets and timers again.
_CALLS_PER_TURN = 1000


class RunQueue:
    # What a hub calls before it looks at its sockets again, in order; what these calls add is called in the same turn.
    # A timer for each of them would cost several times as much, and the hub would ask the operating system for news
    # between one generation of timers and the next.

    __slots__ = ("_calls", "_due", "hub")

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._due = False  # `run` is running, or the hub is going to call it

    def add(self, fn: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._calls.append((fn, args))
        if not self._due:
            self._due = True
            self.hub.schedule_call_global(0, self.run)

    def run_after(self, fn: Callable[..., object], *args: Any) -> None:
        # From the hub: call `fn`, then, without a detour, what it has added.
        was_due, self._due = self._due, True
        try:
            fn(*args)
        finally:
            if was_due:  # then a timer stands, which finds nothing or what is left
                self._run_some()
            else:
                self.run()

    def run(self) -> None:
        try:
            self._run_some()
        finally:
            self._due = bool(self._calls)
            if self._due:
                self.hub.schedule_call_global(0, self.run)

    def _run_some(self) -> None:
        calls = self._calls
        for _ in range(_CALLS_PER_TURN):
            if not calls:
                return
            fn, args = calls.popleft()
            try:
                fn(*args)
            except self.hub.SYSTEM_EXCEPTIONS:
                raise
            except BaseException:  # of a plain greenthread that has ended: as the hub treats them
                self.hub.squelch_timer_exception(None, sys.exc_info())


def run_queue() -> RunQueue:
    hub = get_hub()
    try:
        queue: RunQueue = hub.nameko_run_queue
    except AttributeError:
        queue = hub.nameko_run_queue = RunQueue(hub)
    return queue


def soon(fn: Callable[..., object], *args: Any) -> None:
    """Call `fn(*args)` from the hub, in the order of these calls, before it waits again; `fn` must not block.

    Cheaper than `schedule(0, ...)`, and sooner when this is called in a greenthread that was itself woken so.
    """
    run_queue().add(fn, args)
