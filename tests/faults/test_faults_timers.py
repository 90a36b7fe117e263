"""Row 30: a timer keeps its schedule whatever its method does, whoever sets the clock, and never stops silently."""

from __future__ import annotations

import signal
import statistics
from collections.abc import Callable
from typing import Any

import pytest

from nameko import concurrency

pytestmark = [pytest.mark.matrix, pytest.mark.rabbitmq, pytest.mark.timeout(300)]

Eventually = Callable[..., Any]
clock = concurrency.original("time").monotonic  # of the whole system: the processes have the same

INTERVAL_S = 0.2
SPAN_S = 6.0
#: What a service that stood still for longer than 5 s leaves out.
STILL_S = 8.0
# What a machine that is busy with something else may add. What was measured is printed.
BUSY_S = 2


#: `overruns` takes longer than its interval; the others do not.
NAMES = {"steady", "clock_is_set", "raises", "leaves_a_timeout", "overruns"}


@pytest.fixture
def timers(make_site: Callable[[], Any], eventually: Eventually) -> tuple[Any, Any]:
    site = make_site()
    hosted = site.run("timers")
    eventually(lambda: {line[0] for line in site.effects()} == NAMES, timeout_s=20)
    return site, hosted


def ticks(site: Any, name: str, since: float, until: float) -> list[list[str]]:
    return [line for line in site.effects(name) if since <= float(line[1]) < until]


def test_row_30_ticks_come_on_schedule(timers: Any) -> None:
    site, hosted = timers
    since = clock()
    concurrency.sleep(SPAN_S)
    seen = {name: ticks(site, name, since, since + SPAN_S) for name in NAMES}
    period_s = dict.fromkeys(NAMES, INTERVAL_S)
    period_s["overruns"] = statistics.mean(float(line[2]) for line in seen["overruns"])
    off = {name: len(seen[name]) - int(SPAN_S / period_s[name]) for name in NAMES}
    print(f"ticks more or less than due: {off}")
    assert {name for name in NAMES if abs(off[name]) > 1} == set(), off
    assert hosted.alive


def test_row_30_a_process_that_stood_still_makes_up_for_nothing_at_once(timers: Any, eventually: Eventually) -> None:
    site, hosted = timers
    hosted.send_signal(signal.SIGSTOP)
    concurrency.sleep(STILL_S)
    since = clock()
    hosted.send_signal(signal.SIGCONT)
    eventually(lambda: ticks(site, "steady", since + 1, clock()))
    at_once = len(ticks(site, "steady", since, since + 1))
    print(f"{at_once} ticks in the first second")
    assert at_once <= 1 / INTERVAL_S + 2


def test_row_30_sigterm_ends_them_within_a_second(timers: Any) -> None:
    site, hosted = timers
    asked_at = clock()
    assert hosted.stop() == 0
    ended_at = clock()
    assert {line[0] for line in site.effects() if float(line[1]) > asked_at + 1} == set()
    print(f"ended after {ended_at - asked_at:.2f} s")
    assert ended_at - asked_at <= 1 + BUSY_S
