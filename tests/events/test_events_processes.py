"""Services in several processes, and what happens to their events when one of them dies."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nameko.standalone.events import event_dispatcher

pytestmark = pytest.mark.rabbitmq

Eventually = Callable[..., Any]
Log = Callable[..., list[list[str]]]


@pytest.fixture
def dispatch(rabbitmq_uri: str) -> Iterator[Any]:
    dispatch = event_dispatcher({"AMQP_URI": rabbitmq_uri})
    yield dispatch
    dispatch.close()


HANDLERS = """
class Warehouse:
    name = "warehouse"

    @event_handler("shop", "sold")
    def pool(self, number):
        log("pool", number)

    @event_handler("shop", "sold", handler_type=SINGLETON)
    def singleton(self, number):
        log("singleton", number)

    @event_handler("shop", "sold", handler_type=BROADCAST, reliable_delivery=False)
    def broadcast(self, number):
        log("broadcast", number)
"""


def test_three_modes_over_three_processes(
    service_process: Any, dispatch: Any, log: Log, eventually: Eventually
) -> None:
    processes = [
        service_process(HANDLERS),
        service_process(HANDLERS),
        service_process(HANDLERS.replace('"warehouse"', '"accounts"')),
    ]
    events = [str(number) for number in range(30)]
    for number in events:
        dispatch("shop", "sold", int(number))
    # Two services make a pool each; 3 processes get each broadcast; one singleton for all.
    eventually(lambda: len(log()) >= 30 * (2 + 1 + 3), timeout_s=20)

    pids = [str(process.pid) for process in processes]
    handled = {mode: [(number, pid) for _, number, pid in log(mode)] for mode in ("pool", "singleton", "broadcast")}
    assert Counter(number for number, pid in handled["pool"] if pid != pids[2]) == Counter(events)
    assert Counter(number for number, pid in handled["pool"] if pid == pids[2]) == Counter(events)
    assert Counter(number for number, _ in handled["singleton"]) == Counter(events)
    assert Counter(handled["broadcast"]) == Counter((number, pid) for number in events for pid in pids)
    # Shared, not merely handled: each process had a part.
    assert {pid for _, pid in handled["pool"]} == {pid for _, pid in handled["singleton"]} == set(pids)


SLOW = """
class Warehouse:
    name = "warehouse"

    @event_handler("shop", "sold")
    def handle(self, number):
        log("begun", number)
        concurrency.sleep(0.05)
        log("handled", number)
"""

STUCK = SLOW.replace("sleep(0.05)", "sleep(3600)")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_lost_when_a_process_dies(
    how: signal.Signals, service_process: Any, dispatch: Any, log: Log, eventually: Eventually
) -> None:
    first, second = service_process(SLOW), service_process(SLOW)
    events = [str(number) for number in range(100)]
    for number in events:
        dispatch("shop", "sold", int(number))
        if number == "50":
            eventually(lambda: [line for line in log("begun") if line[-1] == str(first.pid)])
            first.send_signal(how)
    eventually(lambda: {number for _, number, _ in log("handled")} == set(events), timeout_s=20)
    handled = Counter(number for _, number, _ in log("handled"))
    twice = [number for number, times in handled.items() if times > 1]
    if how == signal.SIGTERM:
        assert twice == []  # it finished what it had begun, and gave back the rest
        assert first.wait() == 0
    # A process that is killed may have handled what it could not acknowledge any more: at most its prefetch count.
    assert len(twice) <= 10
    assert second.status is None


def test_event_of_a_process_that_is_killed_in_its_handler_goes_to_another(
    service_process: Any, dispatch: Any, log: Log, eventually: Eventually
) -> None:
    stuck = service_process(STUCK)
    dispatch("shop", "sold", 1)
    eventually(lambda: log("begun", "1"))
    stuck.kill()
    other = service_process(SLOW)
    eventually(lambda: log("handled", "1", str(other.pid)))
    assert [line[-1] for line in log("begun", "1")] == [str(stuck.pid), str(other.pid)]
