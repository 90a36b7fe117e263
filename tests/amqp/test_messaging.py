"""`@consume` and `Publisher`, over both brokers; at the other end stands kombu."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import kombu
import pytest
from amqp.exceptions import NotFound
from kombu import Exchange, Queue
from kombu.exceptions import EncodeError

from nameko import concurrency
from nameko.amqp import UndeliverableMessage, _declared
from nameko.amqp.memory import Transport
from nameko.containers import ServiceContainer
from nameko.exceptions import ConfigurationError, ContainerBeingKilled
from nameko.extensions import DependencyProvider
from nameko.messaging import Consumer, Publisher, consume
from nameko.testing.services import entrypoint_hook

Start = Callable[..., ServiceContainer]
Eventually = Callable[..., Any]

ORDERS = Exchange("orders", type="topic", durable=True)
QUEUE = Queue("to-pack", exchange=ORDERS, routing_key="paid")


class Outside:
    """Anybody else on the broker, with plain kombu."""

    def __init__(self, uri: str) -> None:
        self.connection = kombu.Connection(uri, transport=Transport if uri.startswith("memory:") else None)
        self.channel = self.connection.channel()
        self.channel.confirm_select()
        self._confirmed = 0
        self.channel.events["basic_ack"].add(self._count)

    def _count(self, delivery_tag: int, multiple: bool) -> None:
        self._confirmed = delivery_tag

    def declare(self, queue: Queue) -> None:
        queue(self.channel).declare()

    def send(self, body: Any, exchange: str = "orders", routing_key: str = "paid", **options: Any) -> None:
        """Publish, and return when the broker has it."""
        if "content_type" not in options:
            options = {"serializer": "json", **options}
        before = self._confirmed
        self.connection.Producer(self.channel).publish(body, exchange=exchange, routing_key=routing_key, **options)
        while self._confirmed == before:
            self.connection.drain_events(timeout=5)

    def get(self, queue: str) -> Any:
        message = self.channel.basic_get(queue, no_ack=True)
        return None if message is None else self.channel.message_to_python(message)

    def depth(self, queue: str = "to-pack") -> int:
        return int(self.channel.queue_declare(queue, passive=True).message_count)


@pytest.fixture
def outside(broker_uri: str) -> Iterator[Outside]:
    made = Outside(broker_uri)
    yield made
    made.connection.release()


@pytest.fixture
def calls() -> list[Any]:
    """What the service did."""
    return []


class Context(DependencyProvider):
    """Injects the context of the worker."""

    def get_dependency(self, worker_ctx: Any) -> Any:
        return worker_ctx


def packer(calls: list[Any], outcome: Callable[[Any], Any] = lambda order: None, **options: Any) -> type:
    """A service that notes its orders and then does as `outcome` says."""

    class Packer:
        name = "packer"
        context = Context()

        @consume(QUEUE, **options)
        def pack(self, order: Any) -> Any:
            calls.append(order)
            return outcome(order)

    return Packer


def fail(order: Any) -> None:
    raise ValueError(order)


class TestConsuming:
    def test_the_method_gets_the_body_and_the_message_is_done_with(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        container = start(packer(calls))
        outside.send({"id": 1, "what": "tëa"})
        eventually(lambda: calls == [{"id": 1, "what": "tëa"}])
        container.stop()
        assert outside.depth() == 0

    def test_a_message_that_waits_before_the_service_starts_is_not_lost(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        outside.declare(QUEUE)
        outside.send("early")
        start(packer(calls))
        eventually(lambda: calls == ["early"])

    @pytest.mark.parametrize("falsy", [None, 0, "", [], {}, False])
    def test_bodies_may_be_anything(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually, falsy: Any
    ) -> None:
        start(packer(calls))
        outside.send(falsy)
        eventually(lambda: len(calls) == 1)
        assert calls == [falsy]

    @pytest.mark.parametrize(
        "outcome",
        [
            ValueError("expected"),
            RuntimeError("unexpected"),
            concurrency.Timeout(),
            SystemExit(3),
            KeyboardInterrupt(),
        ],
        ids=repr,
    )
    def test_an_error_is_the_end_of_the_message_too(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually, outcome: BaseException
    ) -> None:
        def raise_first(order: Any) -> None:
            if order == "first":
                raise outcome

        container = start(packer(calls, raise_first, expected_exceptions=ValueError))
        outside.send("first")
        outside.send("second")
        eventually(lambda: calls == ["first", "second"])
        container.stop()
        assert outside.depth() == 0

    def test_only_as_many_messages_are_taken_as_there_are_workers(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        gate = concurrency.Event()
        start(packer(calls, lambda order: gate.wait()), max_workers=2)
        for number in range(5):
            outside.send(number)
        eventually(lambda: len(calls) == 2)
        assert outside.depth() == 3
        gate.send(None)
        eventually(lambda: sorted(calls) == [0, 1, 2, 3, 4])

    def test_or_as_many_as_the_declaration_says(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        gate = concurrency.Event()
        start(packer(calls, lambda order: gate.wait(), prefetch_count=1), max_workers=5)
        for number in range(3):
            outside.send(number)
        eventually(lambda: len(calls) == 1)
        assert outside.depth() == 2
        gate.send(None)
        eventually(lambda: len(calls) == 3)

    def test_several_queues_and_methods(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        class Service:
            name = "service"

            @consume(Queue("one"))
            @consume(Queue("two"))
            def both(self, body: Any) -> None:
                calls.append(("both", body))

            @consume(Queue("three"))
            def third(self, body: Any) -> None:
                calls.append(("third", body))

        start(Service)
        for queue in ("one", "two", "three"):
            outside.send(queue, exchange="", routing_key=queue)
        eventually(lambda: sorted(calls) == [("both", "one"), ("both", "two"), ("third", "three")])

    def test_instances_share_the_work(self, start: Start, outside: Outside, eventually: Eventually) -> None:
        first: list[Any] = []
        second: list[Any] = []
        start(packer(first))
        start(packer(second))
        for number in range(10):
            outside.send(number)
        eventually(lambda: sorted(first + second) == list(range(10)))
        assert len(first) == len(second) == 5


class TestContext:
    def test_headers_become_context_data(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        class Service:
            name = "service"
            context = Context()

            @consume(QUEUE)
            def pack(self, order: Any) -> None:
                calls.append(self.context)

        start(Service)
        outside.send(
            "x", headers={"nameko.call_id_stack": ["first.call.1"], "nameko.user_id": "me", "trace": {"span": 1}}
        )
        eventually(lambda: calls)
        context = calls[0]
        assert context.data == {"user_id": "me", "trace": {"span": 1}}
        assert context.call_id_stack == ["first.call.1", context.call_id]
        assert context.origin_call_id == "first.call.1"

    @pytest.mark.parametrize("stack", [5, "text", [1, 2], {"a": 1}], ids=repr)
    def test_nonsense_in_headers_hurts_nobody(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually, stack: Any
    ) -> None:
        start(packer(calls))
        outside.send("nonsense", headers={"nameko.call_id_stack": stack})
        outside.send("sense")
        eventually(lambda: calls == ["nonsense", "sense"])


class TestPoison:
    @pytest.mark.parametrize(
        "options",
        [
            {"body": b"{not json", "content_type": "application/json", "content_encoding": "utf-8"},
            {"body": b"\xff\xfe", "content_type": "application/json", "content_encoding": "utf-8"},
            {"body": b"[" * 100_000, "content_type": "application/json", "content_encoding": "utf-8"},
            {"body": b"x", "content_type": "application/x-python-serialize", "content_encoding": "binary"},
            {"body": b"x", "content_type": "application/x-unheard-of", "content_encoding": "binary"},
            {
                "body": b"x",
                "content_type": "application/json",
                "content_encoding": "utf-8",
                "headers": {"compression": "application/x-gzip"},
            },
        ],
        ids=["json", "utf-8", "deep", "pickle", "type", "compression"],
    )
    def test_what_cannot_be_decoded_is_rejected_and_nothing_else_happens(
        self,
        start: Start,
        outside: Outside,
        calls: list[Any],
        eventually: Eventually,
        caplog: pytest.LogCaptureFixture,
        options: dict[str, Any],
    ) -> None:
        container = start(packer(calls, requeue_on_error=True))
        outside.send(**options)
        outside.send("good")
        eventually(lambda: calls == ["good"])
        (entrypoint,) = container.entrypoints
        assert entrypoint.broker.counters["messages_rejected"] == 1
        assert "rejected, as it cannot be decoded" in caplog.text
        container.stop()
        assert outside.depth() == 0


class TestGivingBack:
    def test_with_requeue_on_error_a_message_is_tried_again_but_not_hotly(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        container = start(packer(calls, fail, requeue_on_error=True), RETRY_DELAY=0.2)
        started = time.monotonic()
        outside.send("never")
        eventually(lambda: len(calls) >= 3)
        duration = time.monotonic() - started
        assert duration >= 0.2 + 0.4 - 0.01  # the delays before the second and the third attempt
        container.stop()
        eventually(lambda: outside.depth() == 1)
        assert calls == ["never"] * 3

    def test_until_it_succeeds(self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually) -> None:
        def fail_once(order: Any) -> None:
            if len(calls) == 1:
                fail(order)

        container = start(packer(calls, fail_once, requeue_on_error=True))
        outside.send("twice")
        eventually(lambda: calls == ["twice", "twice"])
        container.stop()
        assert outside.depth() == 0

    def test_others_are_handled_meanwhile(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        start(packer(calls, lambda order: fail(order) if order == "bad" else None, requeue_on_error=True))
        outside.send("bad")
        eventually(lambda: calls == ["bad"])
        outside.send("good")
        eventually(lambda: calls[:2] == ["bad", "good"])

    def test_what_fails_while_the_service_stops_waits_for_the_next_one(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        def fail_slowly(order: Any) -> None:
            gate.wait()
            fail(order)

        gate = concurrency.Event()
        container = start(packer(calls, fail_slowly, requeue_on_error=True))
        outside.send("during the stop")
        eventually(lambda: len(calls) == 1)
        stopping = concurrency.spawn(container.stop)
        eventually(lambda: not next(iter(container.entrypoints))._subscription.consuming)
        gate.send(None)
        stopping.wait()
        eventually(lambda: outside.depth() == 1)
        assert len(calls) == 1
        again: list[Any] = []
        start(packer(again))
        eventually(lambda: again == ["during the stop"])

    def test_a_service_that_is_killed_leaves_its_messages_to_others(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        container = start(packer(calls, lambda order: concurrency.sleep(60), requeue_on_error=True), max_workers=1)
        outside.send("running")
        outside.send("waiting for a worker")
        eventually(lambda: calls == ["running"])
        container.kill()
        eventually(lambda: outside.depth() == 2)
        again: list[Any] = []
        start(packer(again))
        eventually(lambda: sorted(again) == ["running", "waiting for a worker"])

    def test_a_service_that_stops_finishes_what_runs_and_gives_back_the_rest(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        gate = concurrency.Event()
        container = start(packer(calls, lambda order: gate.wait(), prefetch_count=3), max_workers=1)
        for number in range(3):
            outside.send(number)
        eventually(lambda: calls == [0])
        stopping = concurrency.spawn(container.stop)
        eventually(lambda: outside.depth() >= 1)
        gate.send(None)
        stopping.wait()
        assert outside.depth() == 3 - len(calls)
        assert calls in ([0], [0, 1])

    def test_a_service_that_stops_begins_with_nothing_that_waits_for_a_worker(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        gates = [concurrency.Event() for _ in range(3)]
        container = start(packer(calls, lambda order: gates[order].wait(), prefetch_count=3), max_workers=2)
        for number in range(3):
            outside.send(number)
        eventually(lambda: sorted(calls) == [0, 1])
        stopping = concurrency.spawn(container.stop)
        eventually(lambda: not next(iter(container.entrypoints))._subscription.consuming)
        gates[0].send(None)
        eventually(lambda: outside.depth() == 1)
        gates[1].send(None)
        stopping.wait()
        assert sorted(calls) == [0, 1]

    @pytest.mark.parametrize(("requeue", "left"), [(False, 0), (True, 1)])
    def test_a_service_that_cannot_be_instantiated_has_failed(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually, requeue: bool, left: int
    ) -> None:
        class Broken:
            name = "broken"

            def __init__(self) -> None:
                calls.append("made")
                raise RuntimeError("cannot be made")

            @consume(QUEUE, requeue_on_error=requeue)
            def pack(self, order: Any) -> None:
                raise AssertionError("not reached")

        container = start(Broken)
        outside.send("x")
        eventually(lambda: calls == ["made"])
        container.stop()
        eventually(lambda: outside.depth() == left)

    def test_a_container_that_goes_down_refuses_work(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        container = start(packer(calls))

        def refuse(*arguments: Any, **kwargs: Any) -> None:
            calls.append("refused")
            raise ContainerBeingKilled

        accepts = container.spawn_worker
        container.spawn_worker = refuse  # type: ignore[method-assign]
        outside.send("x")
        eventually(lambda: calls)
        container.spawn_worker = accepts  # type: ignore[method-assign]
        eventually(lambda: calls[-1] == "x")


class TestOverriding:
    def test_handling_a_message(self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually) -> None:
        class Unwrapping(Consumer):
            def handle_message(self, body: Any, message: Any) -> None:
                if body is None:
                    message.ack()
                else:
                    super().handle_message(body["wrapped"], message)

        class Service:
            name = "service"

            @Unwrapping.decorator(queue=QUEUE)
            def pack(self, order: Any) -> None:
                calls.append(order)

        container = start(Service)
        outside.send(None)
        outside.send({"wrapped": 1})
        eventually(lambda: calls == [1])
        container.stop()
        assert outside.depth() == 0

    def test_the_result_that_dependencies_see(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        class Doubling(Consumer):
            def handle_result(
                self, message: Any, worker_ctx: Any, result: Any = None, exc_info: Any = None
            ) -> tuple[Any, Any]:
                super().handle_result(message, worker_ctx, result, exc_info)
                return result * 2, exc_info

        class Watcher(DependencyProvider):
            def worker_result(self, worker_ctx: Any, result: Any = None, exc_info: Any = None) -> None:
                calls.append(result)

        class Service:
            name = "service"
            watcher = Watcher()

            @Doubling.decorator(QUEUE)
            def pack(self, order: Any) -> Any:
                return order

        start(Service)
        outside.send(21)
        eventually(lambda: calls == [42])

    def test_settling_a_message(self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually) -> None:
        class Rejecting(Consumer):
            def handle_message_processed(self, message: Any, result: Any = None, exc_info: Any = None) -> None:
                message.reject()
                calls.append("rejected")

        class Service:
            name = "service"

            @Rejecting.decorator(QUEUE)
            def pack(self, order: Any) -> None:
                pass

        container = start(Service)
        outside.send("x")
        eventually(lambda: calls == ["rejected"])
        container.stop()
        assert outside.depth() == 0


class TestDeclaration:
    @pytest.mark.parametrize("queue", [None, "to-pack", ORDERS], ids=repr)
    def test_a_queue_is_needed(self, start: Start, queue: Any) -> None:
        class Service:
            name = "service"

            @consume(queue)
            def pack(self, order: Any) -> None:
                pass

        with pytest.raises(ConfigurationError, match="`queue` must be a kombu"):
            start(Service)

    def test_a_queue_that_is_different_is_named(self, start: Start, outside: Outside, calls: list[Any]) -> None:
        outside.declare(Queue("to-pack", durable=False))
        with pytest.raises(ConfigurationError, match=r"`to-pack`.*'durable'"):
            start(packer(calls))

    def test_public_names_say_where_they_are_found(self) -> None:
        assert Consumer.__module__ == Publisher.__module__ == "nameko.messaging"


class Shop:
    name = "shop"

    publish = Publisher(exchange=ORDERS, priority=3, headers={"own": 1})
    publish_anywhere = Publisher()
    context = Context()

    @consume(Queue("unused"))
    def send(self, body: Any, **options: Any) -> None:
        self.publish(body, **options)

    @consume(Queue("unused-too"))
    def send_anywhere(self, body: Any, **options: Any) -> None:
        self.publish_anywhere(body, **options)


class TestPublishing:
    @pytest.fixture
    def shop(self, start: Start, outside: Outside) -> ServiceContainer:
        container = start(Shop)
        outside.declare(QUEUE)
        return container

    @pytest.fixture
    def send(self, shop: ServiceContainer) -> Callable[..., None]:
        def send(*args: Any, method: str = "send", context_data: Any = None, **options: Any) -> None:
            with entrypoint_hook(shop, method, context_data=context_data) as call:
                call(*args, **options)

        return send

    def test_a_message_has_the_form_of_nameko_2(self, send: Callable[..., None], outside: Outside) -> None:
        send({"id": 1}, routing_key="paid", context_data={"user_id": "me", "call_id_stack": ["a.b.1"]})
        message = outside.get("to-pack")
        assert message.payload == {"id": 1}
        properties = dict(message.properties)
        headers = properties.pop("application_headers")
        assert properties == {
            "content_type": "application/json",
            "content_encoding": "utf-8",
            "delivery_mode": 2,
            "priority": 3,
        }
        parent, own = headers.pop("nameko.call_id_stack")
        assert parent == "a.b.1"
        assert own.startswith("shop.send.")
        assert headers == {"nameko.user_id": "me", "own": 1}

    def test_context_data_is_read_when_the_message_is_sent(self, start: Start, outside: Outside) -> None:
        class Late:
            name = "late"
            publish = Publisher(exchange=ORDERS)
            context = Context()

            @consume(Queue("unused"))
            def send(self, body: Any) -> None:
                self.context.data["language"] = "fr"
                self.publish(body, routing_key="paid")

        container = start(Late)
        outside.declare(QUEUE)
        with entrypoint_hook(container, "send") as send:
            send("x")
        assert outside.get("to-pack").headers["nameko.language"] == "fr"

    def test_a_call_has_the_last_word_except_about_nameko_headers(
        self, send: Callable[..., None], outside: Outside
    ) -> None:
        send(
            "x",
            routing_key="paid",
            priority=1,
            delivery_mode="transient",
            expiration=60,
            correlation_id="c",
            message_id="m",
            headers={"own": 2, "more": 3, "nameko.call_id_stack": "forged"},
            retry=True,
            retry_policy={"max_retries": 3},
        )
        message = outside.get("to-pack")
        assert message.headers["own"] == 2
        assert message.headers["more"] == 3
        assert isinstance(message.headers["nameko.call_id_stack"], list)
        properties = message.properties
        assert properties["priority"] == 1
        assert properties["delivery_mode"] == 1
        assert properties["expiration"] == "60000"
        assert (properties["correlation_id"], properties["message_id"]) == ("c", "m")

    def test_to_another_exchange_or_straight_to_a_queue(self, send: Callable[..., None], outside: Outside) -> None:
        outside.declare(Queue("other", exchange=Exchange("other"), routing_key="k"))
        send("by entity", exchange=Exchange("other"), routing_key="k")
        send("by name", exchange="other", routing_key="k")
        send("by queue", method="send_anywhere", routing_key="other")
        assert [outside.get("other").payload for _ in range(3)] == ["by entity", "by name", "by queue"]

    def test_what_is_to_be_declared_is(self, start: Start, send: Callable[..., None], outside: Outside) -> None:
        send("x", routing_key="new", declare=[Queue("new", exchange=ORDERS, routing_key="new")])
        assert outside.get("new").payload == "x"

        class Declaring:
            name = "declaring"
            publish = Publisher(exchange=Exchange("mine", delivery_mode="transient"), declare=[Queue("from-start")])

            @consume(Queue("unused"))
            def send(self, body: Any) -> None:
                self.publish(body, exchange="", routing_key="from-start")
                self.publish(body, routing_key="nobody")

        container = start(Declaring)
        assert outside.depth("from-start") == 0
        outside.channel.exchange_declare("mine", "direct", passive=True)
        with entrypoint_hook(container, "send") as declared_send:
            declared_send("y")
        assert outside.get("from-start").payload == "y"

    @pytest.mark.rabbitmq
    def test_of_what_comes_with_messages_the_last_is_declared_again_after_a_reconnect(
        self,
        start_container: Callable[..., ServiceContainer],
        proxy: Any,
        rabbitmq_uri: str,
        eventually: Eventually,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(_declared, "PASSING_MAX", 2)

        class Declaring:
            name = "declaring"
            publish = Publisher(declare=[Queue("stays")])

            @consume(Queue("unused"))
            def send(self, body: Any, queue: Queue) -> None:
                self.publish(body, routing_key=queue.name, declare=[queue], mandatory=True)

        container = start_container(Declaring, {"AMQP_URI": proxy.uri})
        outside = Outside(rabbitmq_uri)

        def exists(queue: str) -> bool:
            with kombu.Connection(rabbitmq_uri) as connection:
                try:
                    connection.channel().queue_declare(queue, passive=True)
                except NotFound:
                    return False
                return True

        with entrypoint_hook(container, "send") as send:
            for name in ["a", "b", "a", "c", "stays"]:
                send("x", Queue(name))
            for name in ["a", "b", "c", "stays"]:
                outside.channel.queue_delete(name)
            proxy.reset_all()
            assert eventually(lambda: [exists(name) for name in ["stays", "a", "c"]] == [True] * 3)
            assert not exists("b")
            send("x", Queue("b"))
        assert outside.get("b").payload == "x"
        outside.connection.release()

    def test_the_exchange_may_say_how_its_messages_are_kept(self, start: Start, outside: Outside) -> None:
        class Service:
            name = "service"
            publish = Publisher(exchange=Exchange("mine", delivery_mode="transient"))

            @consume(Queue("unused"))
            def send(self, body: Any, **options: Any) -> None:
                self.publish(body, routing_key="k", **options)

        container = start(Service)
        outside.declare(Queue("q", exchange=Exchange("mine"), routing_key="k"))
        with entrypoint_hook(container, "send") as send:
            send("x")
            send("x", delivery_mode=2)
        assert [outside.get("q").properties["delivery_mode"] for _ in range(2)] == [1, 2]

    def test_a_queue_in_place_of_an_exchange_is_deprecated(self, start: Start, outside: Outside) -> None:
        with pytest.warns(DeprecationWarning, match="pass its exchange"):

            class Old:
                name = "old"
                publish = Publisher(queue=QUEUE)

                @consume(Queue("unused"))
                def send(self, body: Any) -> None:
                    self.publish(body, routing_key="paid")

        with pytest.warns(DeprecationWarning, match="pass its exchange"):
            container = start(Old)
        with entrypoint_hook(container, "send") as send:
            send("x")
        assert outside.get("to-pack").payload == "x"

    def test_what_has_no_route_is_dropped_unless_it_is_mandatory(self, send: Callable[..., None]) -> None:
        send("lost", routing_key="nobody")
        with pytest.raises(UndeliverableMessage):
            send("needed", routing_key="nobody", mandatory=True)

    def test_an_exchange_that_does_not_exist_is_not_found(self, send: Callable[..., None], outside: Outside) -> None:
        with pytest.raises(NotFound, match="no exchange 'nowhere'"):
            send("x", exchange="nowhere")
        send("y", routing_key="paid")
        assert outside.get("to-pack").payload == "y"

    def test_what_cannot_be_serialized_is_not_sent(self, send: Callable[..., None], outside: Outside) -> None:
        with pytest.raises(EncodeError):
            send(object(), routing_key="paid")
        assert outside.depth() == 0

    def test_without_confirms_nothing_is_waited_for_and_failures_are_logged(
        self, send: Callable[..., None], outside: Outside, eventually: Eventually, caplog: pytest.LogCaptureFixture
    ) -> None:
        send("x", routing_key="paid", use_confirms=False)
        eventually(lambda: outside.depth() == 1)
        with caplog.at_level(logging.ERROR):
            send("lost", routing_key="nobody", mandatory=True, use_confirms=False)
            eventually(lambda: "to exchange `orders` with routing key `nobody` was not published" in caplog.text)

    def test_options_that_do_not_exist_are_refused(self, start: Start, send: Callable[..., None]) -> None:
        with pytest.raises(TypeError, match=r"no option `serialiser` \(did you mean 'serializer'\?\)"):
            send("x", serialiser="yaml")

        class Mistaken:
            name = "mistaken"
            publish = Publisher(exchange=ORDERS, expire=5, x=1)

        wanted = r"^mistaken\.publish: Publisher has no option `expire` \(did you mean 'expiration'\?\), `x`\.$"
        with pytest.raises(ConfigurationError, match=wanted):
            start(Mistaken)

    def test_an_exchange_that_is_different_is_named(self, start: Start, outside: Outside) -> None:
        outside.channel.exchange_declare("orders", "fanout", durable=True, auto_delete=False)
        with pytest.raises(ConfigurationError, match=r"`orders`.*'type'"):
            start(Shop)

    def test_another_serializer(self, start: Start, outside: Outside) -> None:
        class Yaml:
            name = "yaml"
            publish = Publisher(exchange=ORDERS, serializer="yaml")

            @consume(Queue("unused"))
            def send(self, body: Any) -> None:
                self.publish(body, routing_key="paid")

        container = start(Yaml)
        outside.declare(QUEUE)
        with entrypoint_hook(container, "send") as send:
            send({"a": 1})
        message = outside.get("to-pack")
        assert message.content_type == "application/x-yaml"
        assert "a: 1" in message.body


class TestTogether:
    def test_context_travels_through_a_chain_of_services(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        class First:
            name = "first"
            publish = Publisher(exchange=ORDERS)

            @consume(QUEUE)
            def pack(self, order: Any) -> None:
                self.publish(order, routing_key="packed")

        class Second:
            name = "second"
            context = Context()

            @consume(Queue("to-ship", exchange=ORDERS, routing_key="packed"))
            def ship(self, order: Any) -> None:
                calls.append((order, self.context))

        start(Second)
        start(First)
        outside.send(1, headers={"nameko.user_id": 7, "foreign": "yes"})
        eventually(lambda: calls)
        order, context = calls[0]
        assert order == 1
        assert context.data == {"user_id": 7, "foreign": "yes"}
        assert [call_id.rsplit(".", 1)[0] for call_id in context.call_id_stack] == ["first.pack", "second.ship"]
