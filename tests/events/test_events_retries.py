"""Retries and parking of `@event_handler`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import kombu
import pytest
from amqp.exceptions import NotFound

from nameko.amqp import Retry
from nameko.amqp.memory import Transport
from nameko.containers import ServiceContainer
from nameko.events import BROADCAST, SINGLETON, event_handler
from nameko.standalone.events import event_dispatcher

Eventually = Callable[..., Any]


@pytest.fixture
def dispatch(broker_config: dict[str, Any]) -> Iterator[Any]:
    dispatch = event_dispatcher(broker_config)
    yield dispatch
    dispatch.close()


class Queues:
    """Looks at the queues of a broker."""

    def __init__(self, uri: str) -> None:
        self.connection = kombu.Connection(uri, transport=Transport if uri.startswith("memory:") else None)
        self.channel = self.connection.channel()

    def depth(self, name: str) -> int:
        """How many messages wait in a queue; 0 when there is none of that name."""
        try:
            return int(self.channel.queue_declare(name, passive=True).message_count)
        except NotFound:
            self.channel = self.connection.channel()
            return 0

    def take(self, name: str) -> list[Any]:
        """All messages of a queue."""
        messages = []
        while (message := self.channel.basic_get(name, no_ack=True)) is not None:
            messages.append(self.channel.message_to_python(message))
        return messages


@pytest.fixture
def queues(broker_uri: str) -> Iterator[Queues]:
    queues = Queues(broker_uri)
    yield queues
    queues.connection.release()


def test_only_the_handler_that_failed_gets_the_event_again(
    start: Callable[..., ServiceContainer], dispatch: Any, queues: Queues, eventually: Eventually
) -> None:
    handled: list[str] = []

    class Warehouse:
        name = "warehouse"

        @event_handler("shop", "sold", retry=Retry(3, 0.05))
        def pack(self, payload: Any) -> None:
            handled.append("pack")
            raise ValueError(payload)

        @event_handler("shop", "sold", handler_type=SINGLETON)
        def count(self, payload: Any) -> None:
            handled.append("count")

    start(Warehouse)
    dispatch("shop", "sold", {"id": 1})
    dead = "evt-shop-sold--warehouse.pack.dead"
    eventually(lambda: queues.depth(dead) == 1)
    assert Counter(handled) == {"pack": 3, "count": 1}
    (parked,) = queues.take(dead)
    assert parked.payload == {"id": 1}
    assert parked.headers["nameko-retry-exchange"] == "shop.events"
    assert parked.headers["nameko-retry-routing-key"] == "sold"


def test_every_instance_tries_its_own_copy_of_a_broadcast_again_and_all_park_in_one_queue(
    start: Callable[..., ServiceContainer], dispatch: Any, queues: Queues, eventually: Eventually
) -> None:
    handled: list[str] = []

    def listener(instance: str) -> type:
        class Listener:
            name = "listener"

            @event_handler("shop", "sold", handler_type=BROADCAST, reliable_delivery=False, retry=Retry(3, 0.05))
            def hear(self, payload: Any) -> None:
                handled.append(instance)
                raise ValueError(payload)

        return Listener

    for instance in ("first", "second"):
        start(listener(instance))
    dispatch("shop", "sold", 1)
    eventually(lambda: queues.depth("evt-shop-sold--listener.hear.dead") == 2)
    assert Counter(handled) == {"first": 3, "second": 3}


def test_requeue_on_error_parks_after_the_cap_of_the_configuration(
    start: Callable[..., ServiceContainer], dispatch: Any, queues: Queues, eventually: Eventually
) -> None:
    handled = []

    class Warehouse:
        name = "warehouse"

        @event_handler("shop", "sold", requeue_on_error=True)
        def pack(self, payload: Any) -> None:
            handled.append(payload)
            raise ValueError(payload)

    container = start(Warehouse, RETRY_DELAY=0.01, RETRY_MAX_DELAY=0.02)
    dispatch("shop", "sold", 1)
    eventually(lambda: queues.depth("evt-shop-sold--warehouse.pack.dead") == 1, timeout_s=10)
    container.stop()
    assert len(handled) == 20
    assert queues.depth("evt-shop-sold--warehouse.pack") == 0


# -- the checker

FAILING = """
class Warehouse:
    name = "warehouse"

    @event_handler("shop", "sold", retry=Retry(attempts=4, backoff=[0.1, 0.2, 0.3]))
    def pack(self, number):
        log("attempt", number)
        concurrency.sleep(0.01)
        if number % 3 == 0 or len(logged("attempt", number)) < 3:
            raise ValueError(number)
        log("done", number)
"""

KILLS = 4
DEAD = "evt-shop-sold--warehouse.pack.dead"
WAITING = [f"evt-shop-sold--warehouse.pack.retry.{delay_ms}" for delay_ms in (100, 200, 300)]


@pytest.mark.rabbitmq
@pytest.mark.parametrize("broker_uri", ["rabbitmq"], indirect=True)
@pytest.mark.timeout(120)
def test_nothing_is_lost_when_processes_are_killed_between_attempts(
    service_process: Any, dispatch: Any, queues: Queues, log: Any, eventually: Eventually
) -> None:
    processes = [service_process(FAILING), service_process(FAILING)]
    sent: list[int] = []
    kills_while_waiting = kills_at_work = 0
    for turn in range(KILLS):
        for number in range(turn * 30, turn * 30 + 30):
            dispatch("shop", "sold", number)  # confirmed when it returns
            sent.append(number)
        eventually(lambda: sum(map(queues.depth, WAITING)) > 0)
        victim = processes.pop(0)
        begun = len(log("attempt"))
        eventually(lambda begun=begun: len(log("attempt")) > begun)
        victim.kill()
        kills_while_waiting += sum(map(queues.depth, WAITING)) > 0
        kills_at_work += victim.wait() < 0
        processes.append(service_process(FAILING))
    assert kills_while_waiting > 0
    assert kills_at_work == KILLS

    def outcomes() -> set[int]:
        return {int(number) for _, number, _ in log("done")} | parked.keys()

    parked: Counter[int] = Counter()

    def all_settled() -> bool:
        parked.update(message.payload for message in queues.take(DEAD))
        return outcomes() >= set(sent)

    eventually(all_settled, timeout_s=30)
    assert outcomes() == set(sent)  # neither lost nor phantom
    attempts = Counter(int(number) for _, number, _ in log("attempt"))
    assert {number for number in sent if number % 3 == 0} <= parked.keys()
    assert min(attempts[number] for number in parked) >= 4
    # Whatever is duplicated was unacknowledged at a kill: at most the prefetched messages, ten for each.
    assert sum(times - 1 for times in parked.values()) <= KILLS * 10
    eventually(lambda: sum(map(queues.depth, [*WAITING, "evt-shop-sold--warehouse.pack"])) == 0)
