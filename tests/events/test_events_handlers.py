"""Who gets an event, what becomes of it, over both brokers."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nameko import concurrency
from nameko.events import (
    BROADCAST,
    SERVICE_POOL,
    SINGLETON,
    EventDispatcher,
    EventHandler,
    EventHandlerConfigurationError,
    event_handler,
)
from nameko.exceptions import ConfigurationError
from nameko.extensions import DependencyProvider
from nameko.standalone.events import event_dispatcher
from nameko.testing.services import dummy, entrypoint_hook

Eventually = Callable[..., Any]
Start = Callable[..., Any]


class Shop:
    """Dispatches what it is told to."""

    name = "shop"

    dispatch = EventDispatcher()

    @dummy
    def tell(self, event_type: str, event_data: Any) -> None:
        self.dispatch(event_type, event_data)


@pytest.fixture
def tell(start: Start) -> Callable[[str, Any], None]:
    """`tell(event_type, event_data)` has the service `shop` dispatch an event."""
    shop = start(Shop)

    def tell(event_type: str, event_data: Any) -> None:
        with entrypoint_hook(shop, "tell") as call:
            call(event_type, event_data)

    return tell


def listener(service_name: str, received: list[Any], *args: Any, **kwargs: Any) -> type:
    """A service that puts (its instance's id, payload) into `received`; one class is one service instance here."""
    instance = uuid.uuid4().hex

    class Listener:
        name = service_name

        @event_handler(*args, **kwargs)
        def handle(self, payload: Any) -> None:
            received.append((instance, payload))

    return Listener


def counted(received: list[Any]) -> Counter[Any]:
    return Counter(payload for _, payload in received)


def instances(received: list[Any]) -> set[str]:
    return {instance for instance, _ in received}


@pytest.fixture
def settled(tell: Callable[[str, Any], None], start: Start, eventually: Eventually) -> Callable[[], None]:
    """`settled()` returns when the events dispatched before have been delivered.

    It dispatches one more and waits for it: nothing else could be told apart from "not yet".
    """
    seen: list[Any] = []
    start(listener("settled", seen, "shop", "settle"))

    def wait() -> None:
        mark = uuid.uuid4().hex
        tell("settle", mark)
        eventually(lambda: mark in counted(seen))

    return wait


# -- who gets it


def test_service_pool_is_one_instance_of_each_service(
    start: Start, tell: Callable[[str, Any], None], settled: Callable[[], None], eventually: Eventually
) -> None:
    warehouse: list[Any] = []
    accounts: list[Any] = []
    for _ in range(3):
        start(listener("warehouse", warehouse, "shop", "sold"))
    for _ in range(2):
        start(listener("accounts", accounts, "shop", "sold", SERVICE_POOL))
    for number in range(30):
        tell("sold", number)
    eventually(lambda: len(warehouse) >= 30 and len(accounts) >= 30)
    settled()
    assert counted(warehouse) == counted(accounts) == Counter(range(30))
    assert len(instances(warehouse)) == 3
    assert len(instances(accounts)) == 2


def test_methods_of_one_service_are_pools_of_their_own(
    start: Start, tell: Callable[[str, Any], None], settled: Callable[[], None], eventually: Eventually
) -> None:
    received = []

    class Warehouse:
        name = "warehouse"

        @event_handler("shop", "sold")
        def restock(self, payload: Any) -> None:
            received.append(("restock", payload))

        @event_handler("shop", "sold")
        def count(self, payload: Any) -> None:
            received.append(("count", payload))

    start(Warehouse)
    start(Warehouse)
    tell("sold", 1)
    eventually(lambda: len(received) >= 2)
    settled()
    assert sorted(received) == [("count", 1), ("restock", 1)]


def test_singleton_is_one_instance_whatever_the_service(
    start: Start, tell: Callable[[str, Any], None], settled: Callable[[], None], eventually: Eventually
) -> None:
    received: list[Any] = []
    for service_name in ("warehouse", "warehouse", "accounts"):
        start(listener(service_name, received, "shop", "sold", handler_type=SINGLETON))
    for number in range(30):
        tell("sold", number)
    eventually(lambda: len(received) >= 30)
    settled()
    assert counted(received) == Counter(range(30))
    assert len(instances(received)) == 3


def test_broadcast_is_every_instance(
    start: Start, tell: Callable[[str, Any], None], settled: Callable[[], None], eventually: Eventually
) -> None:
    received: list[Any] = []
    for service_name in ("warehouse", "warehouse", "accounts"):
        start(listener(service_name, received, "shop", "sold", handler_type=BROADCAST, reliable_delivery=False))
    for number in range(10):
        tell("sold", number)
    eventually(lambda: len(received) >= 30)
    settled()
    assert Counter(received) == Counter((instance, number) for instance in instances(received) for number in range(10))
    assert len(instances(received)) == 3


def test_event_of_another_service_or_type_is_not_handled(
    start: Start, tell: Callable[[str, Any], None], settled: Callable[[], None], eventually: Eventually
) -> None:
    received: list[Any] = []
    start(listener("warehouse", received, "shop", "sold"))
    start(listener("accounts", received, "market", "sold"))
    tell("bought", 1)
    tell("sold.twice", 2)
    tell("sold", 3)
    eventually(lambda: received)
    settled()
    assert [payload for _, payload in received] == [3]


EVENT_TYPES = ("sold", "sold.book", "sold.pen", "sold.pen.red", "bought.pen")


@pytest.mark.parametrize(
    ("pattern", "matching"),
    [
        ("sold", {"sold"}),
        ("sold.*", {"sold.book", "sold.pen"}),
        ("sold.#", {"sold", "sold.book", "sold.pen", "sold.pen.red"}),
        ("*.pen.#", {"sold.pen", "sold.pen.red", "bought.pen"}),
        ("#", set(EVENT_TYPES)),
    ],
)
def test_event_type_is_a_topic_pattern(
    pattern: str,
    matching: set[str],
    start: Start,
    tell: Callable[[str, Any], None],
    settled: Callable[[], None],
    eventually: Eventually,
) -> None:
    received: list[Any] = []
    start(listener("warehouse", received, "shop", pattern))
    for event_type in EVENT_TYPES:
        tell(event_type, event_type)
    eventually(lambda: matching <= set(counted(received)))
    settled()
    assert set(counted(received)) & set(EVENT_TYPES) == matching


def test_several_handlers_on_one_method(start: Start, tell: Callable[[str, Any], None], eventually: Eventually) -> None:
    received = []

    class Warehouse:
        name = "warehouse"

        @event_handler("shop", "sold")
        @event_handler("shop", "bought")
        @event_handler("shop", "lost", handler_type=BROADCAST, reliable_delivery=False)
        @event_handler("shop", "found", handler_type=SINGLETON)
        def handle(self, payload: Any) -> None:
            received.append(payload)

    start(Warehouse)
    for event_type in ("sold", "bought", "lost", "found"):
        tell(event_type, event_type)
    eventually(lambda: sorted(received) == ["bought", "found", "lost", "sold"])


def test_service_handles_its_own_events(start: Start, eventually: Eventually) -> None:
    received = []

    class Shop:
        name = "shop"

        dispatch = EventDispatcher()

        @dummy
        def sell(self) -> None:
            self.dispatch("sold", 1)

        @event_handler("shop", "sold")
        def restock(self, payload: Any) -> None:
            received.append(payload)

    with entrypoint_hook(start(Shop), "sell") as sell:
        sell()
    eventually(lambda: received == [1])


# -- what becomes of it


def test_reliable_queue_keeps_events_while_nobody_handles_them(
    start: Start, tell: Callable[[str, Any], None], eventually: Eventually
) -> None:
    received: list[Any] = []
    start(listener("warehouse", received, "shop", "sold")).stop()
    for number in range(5):
        tell("sold", number)
    start(listener("warehouse", received, "shop", "sold"))
    eventually(lambda: counted(received) == Counter(range(5)))


@pytest.mark.parametrize("handler_type", [SERVICE_POOL, SINGLETON, BROADCAST])
def test_unreliable_queue_goes_with_its_last_handler(
    handler_type: str,
    start: Start,
    tell: Callable[[str, Any], None],
    settled: Callable[[], None],
    eventually: Eventually,
) -> None:
    received: list[Any] = []
    service = listener("warehouse", received, "shop", "sold", handler_type, reliable_delivery=False)
    start(service).stop()
    tell("sold", "missed")
    start(service)
    tell("sold", "handled")
    eventually(lambda: received)
    settled()
    assert counted(received) == Counter(["handled"])


class HostBroadcast(EventHandler):
    """A broadcast that finds its queue again."""

    @property
    def broadcast_identifier(self) -> str:
        return str(self.container.config["HOST"])


def test_reliable_broadcast_with_an_identifier_of_its_own(
    start: Start, tell: Callable[[str, Any], None], settled: Callable[[], None], eventually: Eventually
) -> None:
    received = []

    class Listener:
        name = "warehouse"

        host = HostName()

        @HostBroadcast.decorator("shop", "sold", handler_type=BROADCAST)
        def handle(self, payload: Any) -> None:
            received.append((self.host, payload))

    start(Listener, HOST="red")
    start(Listener, HOST="blue").stop()
    tell("sold", 1)
    eventually(lambda: received == [("red", 1)])
    start(Listener, HOST="blue")
    eventually(lambda: len(received) == 2)
    settled()
    assert received == [("red", 1), ("blue", 1)]


class HostName(DependencyProvider):
    def get_dependency(self, worker_ctx: Any) -> str:
        return str(self.container.config["HOST"])


def test_failed_event_is_done_with(
    start: Start, tell: Callable[[str, Any], None], settled: Callable[[], None], eventually: Eventually
) -> None:
    received = []

    class Warehouse:
        name = "warehouse"

        @event_handler("shop", "sold")
        def restock(self, payload: Any) -> None:
            received.append(payload)
            raise ValueError(payload)

    warehouse = start(Warehouse)
    tell("sold", 1)
    eventually(lambda: received)
    warehouse.stop()
    start(Warehouse)
    tell("sold", 2)
    eventually(lambda: 2 in received)
    settled()
    assert received == [1, 2]


def test_failed_event_is_requeued_on_request(
    start: Start, tell: Callable[[str, Any], None], settled: Callable[[], None], eventually: Eventually
) -> None:
    received = []

    class Warehouse:
        name = "warehouse"

        @event_handler("shop", "sold", requeue_on_error=True)
        def restock(self, payload: Any) -> None:
            received.append(payload)
            if len(received) < 3:
                raise ValueError(payload)

    warehouse = start(Warehouse)
    tell("sold", 1)
    eventually(lambda: len(received) == 3)
    warehouse.stop()
    start(Warehouse)
    settled()
    assert received == [1, 1, 1]


@pytest.mark.parametrize("requeue_on_error", [False, True])
def test_event_of_a_killed_container_goes_to_another(
    requeue_on_error: bool, start: Start, tell: Callable[[str, Any], None], eventually: Eventually
) -> None:
    received: list[Any] = []
    begun = []

    class Warehouse:
        name = "warehouse"

        @event_handler("shop", "sold", requeue_on_error=requeue_on_error)
        def restock(self, payload: Any) -> None:
            begun.append(payload)
            concurrency.sleep(60)

    first = start(Warehouse)
    tell("sold", 1)
    eventually(lambda: begun == [1])
    first.kill()

    class Warehouse:  # type: ignore[no-redef]
        name = "warehouse"

        @event_handler("shop", "sold", requeue_on_error=requeue_on_error)
        def restock(self, payload: Any) -> None:
            received.append(payload)

    start(Warehouse)
    eventually(lambda: received == [1])


def test_stopping_container_finishes_what_it_has_begun(
    start: Start, tell: Callable[[str, Any], None], settled: Callable[[], None], eventually: Eventually
) -> None:
    begun: list[int] = []
    finished: list[int] = []
    go_on = concurrency.Event()

    class Warehouse:
        name = "warehouse"

        @event_handler("shop", "sold")
        def restock(self, payload: int) -> None:
            begun.append(payload)
            go_on.wait()
            finished.append(payload)

    warehouse = start(Warehouse, max_workers=2)
    for number in range(5):
        tell("sold", number)
    eventually(lambda: len(begun) == 2)
    stopping = concurrency.spawn(warehouse.stop)
    concurrency.sleep(0)
    go_on.send(None)
    stopping.wait()
    assert sorted(finished) == sorted(begun)

    start(Warehouse)
    eventually(lambda: len(finished) == 5)
    settled()
    assert sorted(finished) == list(range(5))


# -- what travels with it


def test_context_data_and_call_ids_travel(start: Start, eventually: Eventually) -> None:
    seen: list[Any] = []

    class Context(DependencyProvider):
        def get_dependency(self, worker_ctx: Any) -> Any:
            return worker_ctx

    class Warehouse:
        name = "warehouse"

        worker_ctx = Context()

        @event_handler("shop", "sold")
        def restock(self, payload: Any) -> None:
            seen.append(self.worker_ctx)

    shop = start(Shop)
    start(Warehouse)
    with entrypoint_hook(shop, "tell", context_data={"language": "de", "user_id": 7}) as call:
        call("sold", 1)
    eventually(lambda: seen)
    [worker_ctx] = seen
    assert worker_ctx.data["language"] == "de"
    assert worker_ctx.data["user_id"] == 7
    assert worker_ctx.immediate_parent_call_id.startswith("shop.tell.")
    assert worker_ctx.call_id.startswith("warehouse.restock.")


def test_standalone_dispatch_reaches_services(
    start: Start, broker_config: dict[str, Any], eventually: Eventually
) -> None:
    received: list[Any] = []
    start(listener("warehouse", received, "shop", "sold"))
    dispatch = event_dispatcher(broker_config)
    dispatch("shop", "sold", {"article": 42})
    eventually(lambda: [payload for _, payload in received] == [{"article": 42}])
    dispatch.close()


# -- the dispatcher


def test_nobody_has_to_listen(tell: Callable[[str, Any], None]) -> None:
    tell("sold", 1)


def test_options_are_those_of_the_publisher_but_routing_is_not_one(start: Start, eventually: Eventually) -> None:
    received: list[Any] = []

    class Odd:
        name = "shop"

        dispatch = EventDispatcher(exchange="elsewhere", routing_key="elsewhere", serializer="yaml", priority=3)

        @dummy
        def tell(self) -> None:
            self.dispatch("sold", (1, 2))

    start(listener("warehouse", received, "shop", "sold"), ACCEPT=["yaml", "json"])
    with entrypoint_hook(start(Odd), "tell") as call:
        call()
    eventually(lambda: [payload for _, payload in received] == [[1, 2]])


def test_payload_that_cannot_be_serialized_raises_in_the_worker(
    tell: Callable[[str, Any], None], start: Start, eventually: Eventually
) -> None:
    received: list[Any] = []
    start(listener("warehouse", received, "shop", "sold"))
    with pytest.raises(Exception, match="not JSON serializable"):
        tell("sold", object())
    tell("sold", 1)
    eventually(lambda: [payload for _, payload in received] == [1])


# -- declarations that cannot work


@pytest.fixture
def build() -> Iterator[Callable[..., Any]]:
    from nameko.containers import ServiceContainer

    def build_container(*args: Any, entrypoint: Any = event_handler, **kwargs: Any) -> Any:
        class Warehouse:
            name = "warehouse"

            @entrypoint(*args, **kwargs)
            def handle(self, payload: Any) -> None: ...

        return ServiceContainer(Warehouse, {"AMQP_URI": "memory://localhost/unused"})

    return build_container


def test_reliable_broadcast_needs_an_identifier(build: Callable[..., Any]) -> None:
    with pytest.raises(EventHandlerConfigurationError, match=r"event_handler\('shop', 'sold'\).*broadcast_identifier"):
        build("shop", "sold", handler_type=BROADCAST)
    assert issubclass(EventHandlerConfigurationError, ConfigurationError)


@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        (("shop", "sold"), {"handler_type": "everyone"}, "handler type 'everyone' is not one of"),
        (("shop", 42), {}, "`event_type` must be a string"),
        ((None, "sold"), {}, "`source_service` must be a string"),
        (("shop", "s" * 250), {}, "longer than 255 bytes"),
    ],
)
def test_declaration_that_cannot_work(
    args: tuple[Any, ...], kwargs: dict[str, Any], problem: str, build: Callable[..., Any]
) -> None:
    with pytest.raises(EventHandlerConfigurationError, match=problem):
        build(*args, **kwargs)


@pytest.mark.parametrize("option", ["expiration", "timeout", "confirm_timeout"])
@pytest.mark.parametrize("value", ["x", "5", True, -1, float("inf"), float("nan")])
def test_dispatcher_whose_seconds_are_none(option: str, value: Any, start_container: Start, memory_uri: str) -> None:
    class Shop:
        name = "shop"
        dispatch = EventDispatcher(**{option: value})

        @dummy
        def sell(self) -> None: ...

    refused = rf"^shop\.dispatch: {option} must be a number of seconds, not {value!r}"
    with pytest.raises(ConfigurationError, match=refused):
        start_container(Shop, {"AMQP_URI": memory_uri})


def test_dispatcher_with_an_option_that_there_is_not(start_container: Start, memory_uri: str) -> None:
    class Shop:
        name = "shop"
        dispatch = EventDispatcher(user_confirms=True)

        @dummy
        def sell(self) -> None: ...

    refused = r"^shop\.dispatch: EventDispatcher has no option `user_confirms` \(did you mean 'use_confirms'\?\)\.$"
    with pytest.raises(ConfigurationError, match=refused):
        start_container(Shop, {"AMQP_URI": memory_uri})


@pytest.mark.parametrize("handler_type", [SERVICE_POOL, SINGLETON])
def test_only_broadcasts_have_an_identifier(handler_type: str) -> None:
    assert EventHandler("shop", "sold", handler_type).broadcast_identifier is None


def test_identifier_of_a_broadcast_is_new_each_time() -> None:
    handler = EventHandler("shop", "sold", BROADCAST, reliable_delivery=False)
    assert handler.broadcast_identifier != handler.broadcast_identifier


def test_arguments_of_every_entrypoint_are_taken(build: Callable[..., Any]) -> None:
    container = build("shop", "sold", expected_exceptions=(ValueError,), sensitive_arguments=("payload.card",))
    [handler] = container.entrypoints
    assert handler.expected_exceptions == (ValueError,)
    assert handler.sensitive_arguments == ("payload.card",)
