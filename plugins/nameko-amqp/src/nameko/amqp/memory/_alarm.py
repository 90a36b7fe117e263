"""An alarm clock for what a broker has to do at a certain time."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import Any

#: `schedule(delay_s, fn, *args)` calls `fn(*args)` later.
Schedule = Callable[..., object]


class Alarm:
    """Calls `fn` with `lock` held when its time has come. Used with the lock held.

    A timer that is running is let run: when it rings too early, it is wound up again. So setting the alarm for each of
    many messages costs a timer now and then, and nothing has to be called off in another thread.

    :param schedule: makes timers, which hold the alarm weakly
    """

    def __init__(self, lock: Any, fn: Callable[[], None], schedule: Schedule) -> None:
        self._lock = lock
        self._fn = fn
        self._schedule = schedule
        self._due_at: float | None = None
        self._rings_at: float | None = None

    def set(self, due_at: float) -> None:
        """Call `fn` at `due_at`, on the monotonic clock, rather than when it was set for before."""
        self._due_at = due_at
        if self._rings_at is None or due_at < self._rings_at:
            self._wind_up(due_at)

    def cancel(self) -> None:
        """Do not call `fn`."""
        self._due_at = None

    def ring_if_due(self) -> None:
        """Call `fn` if its time has come: for when no timer could."""
        if self._due_at is not None and self._due_at <= time.monotonic():
            self._due_at = None
            self._fn()

    def _wind_up(self, at: float) -> None:
        self._rings_at = at
        self._schedule(max(0, at - time.monotonic()), _ring, weakref.ref(self), at)

    def ring(self, at: float) -> None:
        """The timer set for `at` has run down."""
        with self._lock:
            if at != self._rings_at:  # one that was set for an earlier time has taken its place
                return
            self._rings_at = None
            self.ring_if_due()
            if self._due_at is not None and self._rings_at is None:
                self._wind_up(self._due_at)


def _ring(alarm: weakref.ref[Alarm], at: float) -> None:
    target = alarm()
    if target is not None:
        target.ring(at)
