"""Timers whose methods overrun, raise, and set the clock; each tick is written down with its time."""

from __future__ import annotations

import itertools
import time
from typing import Any

from subject import FAILURES

from harness.journal import log
from nameko import concurrency
from nameko.timer import timer

_wall_clock = time.time
_offset_s = 0.0


def _stepping_clock() -> float:
    return _wall_clock() + _offset_s


time.time = _stepping_clock


class Timers:
    name = "timers"

    steps = itertools.cycle([3600.0, -7200.0, 3600.0, 0.0])
    failures = itertools.cycle(FAILURES)

    @timer(interval=0.2)
    def steady(self) -> None:
        log("steady", time.monotonic())

    @timer(interval=0.2)
    def clock_is_set(self) -> None:
        global _offset_s
        log("clock_is_set", time.monotonic())
        _offset_s += next(self.steps)

    @timer(interval=0.05)
    def overruns(self) -> None:
        started_at = time.monotonic()
        concurrency.sleep(0.3)
        log("overruns", started_at, time.monotonic() - started_at)

    @timer(interval=0.2)
    def raises(self) -> Any:
        log("raises", time.monotonic())
        return FAILURES[next(self.failures)]()

    @timer(interval=0.2)
    def leaves_a_timeout(self) -> None:
        log("leaves_a_timeout", time.monotonic())
        concurrency.Timeout(0.05)
