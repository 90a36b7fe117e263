"""`Delivery`: what a worker learns of the message that it runs for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import kombu
import pytest
from kombu import Exchange, Queue

from nameko.amqp import Retry
from nameko.amqp.memory import Transport
from nameko.extensions import Entrypoint
from nameko.messaging import Delivery, DeliveryInfo, consume
from nameko.testing.services import entrypoint_hook

Eventually = Callable[..., Any]

QUEUE = Queue("to-pack", exchange=Exchange("orders", type="topic", durable=True), routing_key="paid")


@pytest.fixture
def channel(broker_uri: str) -> Iterator[Any]:
    transport = Transport if broker_uri.startswith("memory:") else None
    with kombu.Connection(broker_uri, transport=transport) as connection:
        channel = connection.channel()
        QUEUE(channel).declare()
        yield channel


def send(channel: Any, **properties: Any) -> None:
    kombu.Producer(channel).publish("tea", exchange="orders", routing_key="paid", serializer="json", **properties)


def make_service(failures: int = 0) -> tuple[type, list[DeliveryInfo]]:
    seen: list[DeliveryInfo] = []

    class Warehouse:
        name = "warehouse"

        delivery = Delivery()

        @consume(QUEUE, retry=Retry(attempts=5, backoff=0.01))
        def pack(self, payload: Any) -> None:
            seen.append(self.delivery)
            if len(seen) <= failures:
                raise ValueError("no")

    return Warehouse, seen


def test_what_came_with_a_message(start: Callable[..., Any], channel: Any, eventually: Eventually) -> None:
    service_cls, seen = make_service()
    start(service_cls)
    send(channel, message_id="m1", correlation_id="c1", headers={"a": 1})
    eventually(lambda: seen)
    assert seen == [DeliveryInfo(False, 1, "m1", "c1", {"a": 1})]


def test_what_did_not_come_is_none(start: Callable[..., Any], channel: Any, eventually: Eventually) -> None:
    service_cls, seen = make_service()
    start(service_cls)
    send(channel)
    eventually(lambda: seen)
    assert seen == [DeliveryInfo(False, 1, None, None, {})]


def test_a_message_that_was_given_back_is_redelivered(
    start: Callable[..., Any], channel: Any, eventually: Eventually
) -> None:
    for number in range(10):
        send(channel, message_id=str(number))
    for _ in range(5):
        channel.basic_get("to-pack")
    channel.close()  # five are given back
    service_cls, seen = make_service()
    start(service_cls)
    eventually(lambda: len(seen) == 10)
    assert {each.message_id: each.redelivered for each in seen} == {str(number): number < 5 for number in range(10)}


def test_attempts_are_counted(start: Callable[..., Any], channel: Any, eventually: Eventually) -> None:
    service_cls, seen = make_service(failures=2)
    start(service_cls)
    send(channel, message_id="m1")
    eventually(lambda: len(seen) == 3)
    assert [(each.attempt, each.message_id) for each in seen] == [(1, "m1"), (2, "m1"), (3, "m1")]


def test_a_worker_without_a_message_has_none(start: Callable[..., Any]) -> None:
    class Other(Entrypoint):
        pass

    class Service:
        name = "service"

        delivery = Delivery()

        @Other.decorator
        def method(self) -> Any:
            return self.delivery

    with entrypoint_hook(start(Service), "method") as method:
        assert method() is None


def test_a_worker_learns_that_its_message_is_lost(
    start: Callable[..., Any], channel: Any, broker_uri: str, eventually: Eventually
) -> None:
    service_cls, seen = make_service()
    container = start(service_cls)
    send(channel)
    eventually(lambda: seen)
    assert not seen[0].is_lost()
    container.stop()
    assert seen[0].is_lost()
