"""Rows 26 and 27: processes that end under load, and what becomes of the messages that they had."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from nameko import concurrency

pytestmark = [pytest.mark.rabbitmq, pytest.mark.timeout(180)]

Eventually = Callable[..., Any]
clock = concurrency.original("time").monotonic

PREFETCH = 10  # what `max_workers` makes it
CALLS = 200
WORK_S = 0.05


@pytest.fixture
def pair(make_site: Callable[[], Any]) -> Any:
    """A site, two instances of the service, and a caller of them."""
    site = make_site()
    first, second = site.start("subject:Subject"), site.start("subject:Subject")
    site.wait_until_ready(first, second)
    return site, first, second, site.cluster()


def times_done(site: Any) -> Counter[str]:
    return Counter(line[1] for line in site.effects("done"))


def under_load(site: Any, cluster: Any, hosted: Any, eventually: Eventually) -> list[Any]:
    """Make calls, and return when `hosted` is at work on some of them."""
    calls = [cluster.subject.work.call_async(number, WORK_S) for number in range(CALLS)]
    eventually(lambda: [line for line in site.effects("done") if line[-1] == str(hosted.pid)])
    return calls


@pytest.mark.faults
def test_row_26_sigterm_under_load_loses_and_repeats_nothing(pair: Any, eventually: Eventually) -> None:
    site, ending, other, cluster = pair
    calls = under_load(site, cluster, ending, eventually)
    started_at = clock()
    assert ending.stop() == 0
    print(f"ended after {clock() - started_at:.2f} s")
    assert clock() - started_at <= 30 + 2  # SHUTDOWN_TIMEOUT and two seconds; workers take a twentieth of one
    done_by_it = len([line for line in site.effects("done") if line[-1] == str(ending.pid)])
    assert [call.result() for call in calls] == list(range(CALLS))
    assert times_done(site) == {str(number): 1 for number in range(CALLS)}
    assert len([line for line in site.effects("begun") if line[-1] == str(ending.pid)]) == done_by_it
    assert other.alive


@pytest.mark.faults
def test_row_27_sigkill_under_load_loses_nothing_and_repeats_what_was_under_way(
    pair: Any, eventually: Eventually
) -> None:
    site, killed, other, cluster = pair
    calls = under_load(site, cluster, killed, eventually)
    killed.kill()
    begun_by_it = {line[1] for line in site.effects("begun") if line[-1] == str(killed.pid)}
    assert [call.result() for call in calls] == list(range(CALLS))
    times = times_done(site)
    assert set(times) == {str(number) for number in range(CALLS)}
    twice = {number for number, count in times.items() if count > 1}
    print(f"{len(twice)} duplicates")
    assert twice <= begun_by_it
    assert len(twice) <= PREFETCH
    assert other.alive


@pytest.mark.faults
def test_row_27_what_a_killed_process_had_is_with_another_within_a_second(pair: Any, eventually: Eventually) -> None:
    site, first, second, cluster = pair
    cluster.subject.work.call_async(0, 3600)
    (line,) = eventually(lambda: site.effects("begun", 0))
    stuck, other = (first, second) if line[-1] == str(first.pid) else (second, first)
    stuck.send_signal(signal.SIGKILL)
    started_at = clock()
    eventually(lambda: len(site.effects("begun", 0)) == 2)
    print(f"with another after {clock() - started_at:.2f} s")
    assert clock() - started_at <= 1
    assert site.effects("begun", 0)[1][-1] == str(other.pid)
