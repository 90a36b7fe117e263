"""What goes over the wire, seen by somebody who knows nothing of the framework: exchanges, queues, messages."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import amqp
import kombu
import pytest

from nameko.containers import ServiceContainer
from nameko.events import BROADCAST, SINGLETON, EventDispatcher, EventHandler, event_handler
from nameko.extensions import DependencyProvider
from nameko.testing.rabbit import Client, get_rabbit_connections
from nameko.testing.services import dummy, entrypoint_hook

pytestmark = pytest.mark.rabbitmq

Eventually = Callable[..., Any]


@pytest.fixture(params=["rabbitmq"])
def broker_uri(rabbitmq_uri: str) -> str:
    return rabbitmq_uri


@pytest.fixture
def vhost(rabbitmq_uri: str) -> str:
    return rabbitmq_uri.rpartition("/")[2]


@pytest.fixture
def channel(rabbitmq_uri: str) -> Iterator[Any]:
    with kombu.Connection(rabbitmq_uri) as connection:
        yield connection.default_channel


class NamedBroadcast(EventHandler):
    broadcast_identifier = "red"  # type: ignore[assignment]


class Warehouse:
    name = "warehouse"

    @event_handler("shop", "pool")
    def pool(self, payload: Any) -> None: ...

    @event_handler("shop", "pool.brief", reliable_delivery=False)
    def brief_pool(self, payload: Any) -> None: ...

    @event_handler("shop", "single", handler_type=SINGLETON)
    def single(self, payload: Any) -> None: ...

    @event_handler("shop", "single.brief", handler_type=SINGLETON, reliable_delivery=False)
    def brief_single(self, payload: Any) -> None: ...

    @event_handler("shop", "all", handler_type=BROADCAST, reliable_delivery=False)
    def brief_broadcast(self, payload: Any) -> None: ...

    @NamedBroadcast.decorator("shop", "all.#", handler_type=BROADCAST)
    def broadcast(self, payload: Any) -> None: ...


def test_queues_are_those_of_the_specification(
    start: Callable[..., ServiceContainer], manager: Client, vhost: str
) -> None:
    start(Warehouse)
    queues = {
        re.sub("[0-9a-f]{32}$", "<id>", queue["name"]): (queue["durable"], queue["auto_delete"], queue["exclusive"])
        for queue in manager.get_queues(vhost)
    }
    assert queues == {
        "evt-shop-pool--warehouse.pool": (True, False, False),
        "evt-shop-pool.brief--warehouse.brief_pool": (True, True, False),
        "evt-shop-single": (True, False, False),
        "evt-shop-single.brief": (True, True, False),
        # RabbitMQ reports an exclusive queue as not durable, whatever was asked for.
        "evt-shop-all--warehouse.brief_broadcast-<id>": (False, True, True),
        "evt-shop-all.#--warehouse.broadcast-red": (True, False, False),
    }
    assert all(queue["arguments"] == {} for queue in manager.get_queues(vhost))


def test_queues_are_bound_by_the_event_type(
    start: Callable[..., ServiceContainer], manager: Client, vhost: str
) -> None:
    start(Warehouse)
    bindings = {
        (binding["source"], binding["routing_key"], json.dumps(binding["arguments"]))
        for queue in manager.get_queues(vhost)
        for binding in manager.get_queue_bindings(vhost, queue["name"])
        if binding["source"]
    }
    types = {"pool", "pool.brief", "single", "single.brief", "all", "all.#"}
    assert bindings == {("shop.events", event_type, "{}") for event_type in types}


class Shop:
    name = "shop"

    dispatch = EventDispatcher()

    @dummy
    def tell(self, event_type: str, payload: Any) -> None:
        self.dispatch(event_type, payload)


def exchange_of(manager: Client, vhost: str) -> tuple[Any, ...]:
    exchange = manager.get_exchange(vhost, "shop.events")
    return tuple(exchange[key] for key in ("type", "durable", "auto_delete", "internal", "arguments"))


@pytest.mark.parametrize("service_cls", [Shop, Warehouse])
def test_exchange_is_declared_by_either_side(
    service_cls: type, start: Callable[..., ServiceContainer], manager: Client, vhost: str
) -> None:
    start(service_cls)
    assert exchange_of(manager, vhost) == ("topic", True, False, False, {})


def test_exchange_may_delete_itself(start: Callable[..., ServiceContainer], manager: Client, vhost: str) -> None:
    start(Shop, AUTO_DELETE_EVENT_EXCHANGES=True)
    assert exchange_of(manager, vhost) == ("topic", True, True, False, {})


def test_exchange_that_is_not_to_be_declared_is_used_as_it_is(
    start: Callable[..., ServiceContainer], manager: Client, vhost: str, eventually: Eventually
) -> None:
    # Declared by somebody else, as something that a declaration of ours would clash with.
    manager.create_exchange(vhost, "shop.events", "topic", durable=False)
    received: list[Any] = []

    class Listener:
        name = "listener"

        @event_handler("shop", "sold")
        def handle(self, payload: Any) -> None:
            received.append(payload)

    start(Listener, DECLARE_EVENT_EXCHANGES=False)
    shop = start(Shop, DECLARE_EVENT_EXCHANGES=False)
    with entrypoint_hook(shop, "tell") as tell:
        tell("sold", 1)
    eventually(lambda: received == [1])
    assert exchange_of(manager, vhost) == ("topic", False, False, False, {})


@pytest.fixture
def tap(channel: Any) -> Callable[[], Any]:
    """`tap()`: the next message of the exchange `shop.events`."""
    exchange = kombu.Exchange("shop.events", type="topic", durable=True)
    queue = kombu.Queue(f"tap-{uuid.uuid4().hex}", exchange, "#", exclusive=True)(channel)
    queue.declare()
    return lambda: queue.get(no_ack=True)


def test_event_on_the_wire(start: Callable[..., ServiceContainer], tap: Callable[[], Any]) -> None:
    shop = start(Shop)
    with entrypoint_hook(shop, "tell", context_data={"language": "de", "user_id": 7}) as tell:
        tell("sold", {"article": "Schlüssel", "prices": [1, 2.5, None, True]})
    message = tap()
    assert json.loads(message.body) == {"article": "Schlüssel", "prices": [1, 2.5, None, True]}
    assert message.delivery_info["exchange"] == "shop.events"
    assert message.delivery_info["routing_key"] == "sold"
    properties = dict(message.properties)
    headers = properties.pop("application_headers")
    assert properties == {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "priority": 0,
    }
    [call_id] = headers.pop("nameko.call_id_stack")
    assert re.fullmatch(r"shop\.tell\.[0-9a-f-]{36}", call_id)
    assert headers == {"nameko.language": "de", "nameko.user_id": 7}


@pytest.mark.parametrize(
    ("serializer", "content_type", "content_encoding"),
    [
        ("json", "application/json", "utf-8"),
        ("yaml", "application/x-yaml", "utf-8"),
    ],
)
def test_content_type_is_that_of_the_serializer(
    serializer: str,
    content_type: str,
    content_encoding: str,
    start: Callable[..., ServiceContainer],
    tap: Callable[[], Any],
) -> None:
    with entrypoint_hook(start(Shop, serializer=serializer), "tell") as tell:
        tell("sold", {"article": 1})
    message = tap()
    assert (message.content_type, message.content_encoding) == (content_type, content_encoding)


class Context(DependencyProvider):
    def get_dependency(self, worker_ctx: Any) -> Any:
        return worker_ctx


def test_event_of_another_implementation_is_handled(
    start: Callable[..., ServiceContainer], channel: Any, eventually: Eventually
) -> None:
    seen: list[Any] = []

    class Listener:
        name = "listener"

        worker_ctx = Context()

        @event_handler("shop", "sold")
        def handle(self, payload: Any) -> None:
            seen.append((payload, dict(self.worker_ctx.data), self.worker_ctx.call_id_stack))

    start(Listener)
    producer = kombu.Producer(channel)
    stack = [f"shop.sell.{uuid.uuid4()}", f"shop.tell.{uuid.uuid4()}"]
    producer.publish(
        {"article": 1},
        exchange="shop.events",
        routing_key="sold",
        headers={"nameko.call_id_stack": stack, "nameko.language": "de", "foreign": "x"},
    )
    eventually(lambda: seen)
    [(payload, data, call_id_stack)] = seen
    assert payload == {"article": 1}
    assert data["language"] == "de"
    assert data["foreign"] == "x"
    assert call_id_stack[:2] == stack
    assert call_id_stack[2].startswith("listener.handle.")


POISON = {
    "no JSON": ({"content_type": "application/json", "content_encoding": "utf-8"}, b"{nope"),
    "no content type": ({}, b"anything"),
    "pickle": ({"content_type": "application/x-python-serialize", "content_encoding": "binary"}, b"cos\nsystem\n."),
    "unknown charset": ({"content_type": "application/json", "content_encoding": "klingon"}, b"{}"),
    "bad headers": (
        {
            "content_type": "application/json",
            "content_encoding": "utf-8",
            "application_headers": {"nameko.call_id_stack": 42, "nameko.language": [1, {"a": None}]},
        },
        b"{}",
    ),
}


@pytest.mark.parametrize("requeue_on_error", [False, True])
@pytest.mark.parametrize("kind", POISON)
def test_content_never_stops_a_handler(
    kind: str, requeue_on_error: bool, start: Callable[..., ServiceContainer], channel: Any, eventually: Eventually
) -> None:
    received = []

    class Listener:
        name = "listener"

        @event_handler("shop", "sold", requeue_on_error=requeue_on_error)
        def handle(self, payload: Any) -> None:
            received.append(payload)

    container = start(Listener, max_workers=1)
    properties, body = POISON[kind]
    for _ in range(3):
        channel.basic_publish(amqp.Message(body, **properties), exchange="shop.events", routing_key="sold")
    kombu.Producer(channel).publish("fine", exchange="shop.events", routing_key="sold", serializer="json")
    eventually(lambda: "fine" in received)
    container.stop()
    # Nothing is left behind: not in the queue, and not unacknowledged with the consumer that has gone.
    queue = kombu.Queue("evt-shop-sold--listener.handle", no_declare=True)(channel)
    assert queue.get() is None


def test_handlers_of_every_type_come_back_after_a_lost_connection(
    start: Callable[..., ServiceContainer], manager: Client, vhost: str, channel: Any, eventually: Eventually
) -> None:
    received: list[Any] = []

    class Listener:
        name = "listener"

        @event_handler("shop", "sold")
        def pool(self, payload: Any) -> None:
            received.append(("pool", payload))

        @event_handler("shop", "sold", handler_type=SINGLETON)
        def singleton(self, payload: Any) -> None:
            received.append(("singleton", payload))

        @event_handler("shop", "sold", handler_type=BROADCAST, reliable_delivery=False)
        def broadcast(self, payload: Any) -> None:
            received.append(("broadcast", payload))

    container = start(Listener)
    producer = kombu.Producer(channel)

    def lost() -> bool:
        for connection in get_rabbit_connections(vhost, manager):
            if connection["client_properties"].get("connection_name", "").startswith("nameko"):
                manager.delete_connection(connection["name"])
        return bool(container.not_ready_reasons())

    eventually(lost, timeout_s=20)
    eventually(lambda: not container.not_ready_reasons(), timeout_s=10)
    producer.publish(1, exchange="shop.events", routing_key="sold", serializer="json")
    eventually(lambda: sorted(received) == [("broadcast", 1), ("pool", 1), ("singleton", 1)])
