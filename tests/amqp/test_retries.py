"""Retries and parking of `@consume`, over both brokers; at the other end stands kombu."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import kombu
import pytest
from amqp.exceptions import NotFound
from kombu import Exchange, Queue

from nameko import concurrency
from nameko.amqp import Backoff, Retry
from nameko.amqp._retry_wire import retry_headers
from nameko.amqp.memory import Transport
from nameko.containers import ServiceContainer
from nameko.exceptions import ConfigurationError
from nameko.extensions import DependencyProvider
from nameko.messaging import consume

Start = Callable[..., ServiceContainer]
Eventually = Callable[..., Any]

ORDERS = Exchange("orders", type="topic", durable=True)
QUEUE = Queue("to-pack", exchange=ORDERS, routing_key="paid")
DEAD = "to-pack.dead"


class Outside:
    """Anybody else on the broker, with plain kombu."""

    def __init__(self, uri: str) -> None:
        self.connection = kombu.Connection(uri, transport=Transport if uri.startswith("memory:") else None)
        self.channel = self.connection.channel()

    def send(self, body: Any, **options: Any) -> None:
        options = {"exchange": "orders", "routing_key": "paid", "serializer": "json", **options}
        self.connection.Producer(self.channel).publish(body, **options)

    def get(self, queue: str) -> Any:
        """The first message of a queue; None when there is none, or no queue."""
        try:
            message = self.channel.basic_get(queue, no_ack=True)
        except NotFound:
            self.channel = self.connection.channel()
            return None
        return None if message is None else self.channel.message_to_python(message)

    def depth(self, queue: str) -> int | None:
        """How many messages wait in a queue; None when there is no queue."""
        try:
            return int(self.channel.queue_declare(queue, passive=True).message_count)
        except NotFound:
            self.channel = self.connection.channel()
            return None


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


def packer(calls: list[Any], outcome: Callable[[Any], Any], queue: Queue = QUEUE, **options: Any) -> type:
    """A service that notes its orders and then does as `outcome` says."""

    class Packer:
        name = "packer"
        context = Context()

        @consume(queue, **options)
        def pack(self, order: Any) -> Any:
            calls.append(order)
            return outcome(self.context.context_data if order == "context" else order)

    return Packer


def fail(order: Any) -> None:
    raise ValueError(f"no {order}")


def counters(container: ServiceContainer) -> Any:
    return next(iter(container.entrypoints)).broker.counters


class TestRetrying:
    def test_as_often_as_declared_and_then_it_is_parked(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        container = start(packer(calls, fail, retry=Retry(attempts=3, backoff=0.05)))
        outside.send({"tëa": 1}, headers={"colour": "red", "CC": ["elsewhere"]}, message_id="m1", priority=3)
        eventually(lambda: outside.depth(DEAD) == 1)
        assert calls == [{"tëa": 1}] * 3
        assert counters(container)["messages_retried"] == 2
        eventually(lambda: counters(container)["messages_parked"] == 1)
        container.stop()
        assert outside.depth("to-pack") == 0
        parked = outside.get(DEAD)
        assert parked.payload == {"tëa": 1}
        assert parked.properties["message_id"] == "m1"
        assert parked.properties["priority"] == 3
        trace = parked.headers.pop("nameko-dead-traceback")
        assert trace.startswith("Traceback")
        assert trace.endswith("ValueError: no {'tëa': 1}")
        since = time.strptime(parked.headers.pop("nameko-dead-since"), "%Y-%m-%dT%H:%M:%SZ")
        assert abs(time.mktime(since) - time.mktime(time.gmtime())) < 60
        assert parked.headers == {
            "colour": "red",
            "nameko-retry-exchange": "orders",
            "nameko-retry-routing-key": "paid",
            "nameko-dead-reason": "attempts",
            "nameko-dead-error": "ValueError: no {'tëa': 1}",
            "nameko-dead-attempts": 3,
            "nameko-dead-queue": "to-pack",
            "nameko-dead-return-exchange": "",
            "nameko-dead-return-routing-key": "to-pack",
        }

    def test_until_it_succeeds(self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually) -> None:
        container = start(
            packer(calls, lambda order: fail(order) if len(calls) < 3 else None, retry=Retry(backoff=[0.02, 0.04]))
        )
        outside.send("thrice")
        eventually(lambda: len(calls) == 3)
        container.stop()
        assert [outside.depth(name) for name in ("to-pack", DEAD, "to-pack.retry.20", "to-pack.retry.40")] == [0] * 4
        assert calls == ["thrice"] * 3

    def test_delays_grow_as_declared(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        moments: list[float] = []

        def note(order: Any) -> None:
            moments.append(time.monotonic())
            fail(order)

        start(packer(calls, note, retry=Retry(attempts=4, backoff=Backoff(first_s=0.1, factor=3, max_s=0.4))))
        outside.send("x")
        eventually(lambda: outside.depth(DEAD) == 1)
        waits = [after - before for before, after in itertools.pairwise(moments)]
        for wait, least in zip(waits, (0.1, 0.3, 0.4), strict=True):
            assert wait >= least - 0.01

    def test_only_after_the_exceptions_that_are_named(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        errors: dict[str, BaseException] = {"key": KeyError("x"), "value": ValueError("x"), "exit": SystemExit(1)}

        def raise_it(order: Any) -> None:
            raise errors[order]

        container = start(packer(calls, raise_it, retry=Retry(2, 0.02, on=(KeyError, SystemExit))))
        for order in errors:
            outside.send(order)
        eventually(lambda: outside.depth(DEAD) == 2)
        container.stop()
        assert sorted(calls) == ["exit", "exit", "key", "key", "value"]

    def test_not_after_expected_ones_unless_they_are_named(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        def raise_it(order: Any) -> None:
            raise {"expected": KeyError, "other": ValueError, "base": concurrency.Timeout}[order]()

        container = start(packer(calls, raise_it, retry=Retry(2, 0.02), expected_exceptions=KeyError))
        for order in ("expected", "base", "other"):
            outside.send(order)
        eventually(lambda: outside.depth(DEAD) == 1)
        container.stop()
        assert sorted(calls) == ["base", "expected", "other", "other"]
        assert outside.get(DEAD).payload == "other"

    def test_one_attempt_means_parking_at_once(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        start(packer(calls, fail, retry=Retry(attempts=1)))
        eventually(lambda: outside.depth(DEAD) == 0)  # it is there before anything fails
        outside.send("x")
        eventually(lambda: outside.depth(DEAD) == 1)
        assert calls == ["x"]

    def test_waiting_takes_no_worker_and_no_place_among_the_prefetched(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        service = packer(
            calls, lambda order: fail(order) if order == "bad" else None, retry=Retry(2, 30), prefetch_count=1
        )
        start(service, max_workers=1)
        for _ in range(5):
            outside.send("bad")
        outside.send("good")
        eventually(lambda: calls == ["bad"] * 5 + ["good"])
        eventually(lambda: outside.depth("to-pack.retry.30000") == 5)

    def test_a_long_delay_does_not_hold_up_a_short_one(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        class Slow(Exception):
            pass

        def raise_it(order: Any) -> None:
            if order == "slow":
                raise Slow
            if len(calls) < 3:
                fail(order)

        other = Queue("to-send", exchange=ORDERS, routing_key="sent")

        class Service:
            name = "service"

            @consume(QUEUE, retry=Retry(3, [30], on=Slow))
            def slow(self, order: Any) -> None:
                calls.append(order)
                raise_it(order)

            @consume(other, retry=Retry(3, [0.05]))
            def fast(self, order: Any) -> None:
                calls.append(order)
                raise_it(order)

        start(Service)
        outside.send("slow")
        eventually(lambda: outside.depth("to-pack.retry.30000") == 1)
        outside.send("fast", routing_key="sent")
        eventually(lambda: calls == ["slow", "fast", "fast"])

    def test_the_context_of_further_attempts_is_that_of_the_first(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        contexts = []

        def note(context: Any) -> None:
            contexts.append({key: value for key, value in context.items() if key != "call_id_stack"})
            fail(context)

        start(packer(calls, note, retry=Retry(3, 0.02)))
        outside.send("context", headers={"nameko.language": "fr", "colour": "red"})
        eventually(lambda: outside.depth(DEAD) == 1)
        assert contexts == [{"language": "fr", "colour": "red"}] * 3

    @pytest.mark.parametrize("error", [RuntimeError("cannot be made"), SystemExit(3), concurrency.Timeout(None)])
    def test_a_method_of_a_service_that_cannot_be_made_has_failed(
        self, start: Start, outside: Outside, eventually: Eventually, error: BaseException
    ) -> None:
        class Broken:
            name = "broken"

            def __init__(self) -> None:
                raise error

            @consume(QUEUE, retry=Retry(2, 0.02, on=BaseException))
            def pack(self, order: Any) -> None:
                raise AssertionError("not reached")

        start(Broken)
        outside.send("x")
        eventually(lambda: outside.depth(DEAD) == 1)

    @pytest.mark.parametrize("nonsense", [-5, "many", 0, True, None, [1], 2**63 - 1])
    def test_attempts_that_are_no_number_count_as_none(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually, nonsense: Any
    ) -> None:
        start(packer(calls, fail, retry=Retry(2, 0.02)))
        outside.send("x", headers={"nameko-retry-attempts": nonsense, "nameko-retry-exchange": 3})
        eventually(lambda: outside.depth(DEAD) == 1)
        assert len(calls) == 2

    def test_headers_that_cannot_be_sent_again_are_left_out(self, caplog: pytest.LogCaptureFixture) -> None:
        # An unsigned number of 64 bits can be received, but the library that encodes headers has signed ones only.
        message = SimpleNamespace(headers={"huge": 2**64 - 1}, delivery_info={"exchange": "e", "routing_key": "k"})
        assert retry_headers(message, 1, None) == {
            "nameko-retry-attempts": 1,
            "nameko-retry-exchange": "e",
            "nameko-retry-routing-key": "k",
        }
        assert "the headers of a message are dropped, as they cannot be encoded" in caplog.text

    def test_the_origin_is_told_to_overridden_methods(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        from nameko.messaging import Consumer

        keys = []

        class Routed(Consumer):
            def handle_message(self, body: Any, message: Any) -> None:
                keys.append((message.delivery_info["exchange"], message.delivery_info["routing_key"]))
                super().handle_message(body, message)

        class Service:
            name = "service"

            @Routed.decorator(queue=QUEUE, retry=Retry(2, 0.02))
            def pack(self, order: Any) -> None:
                fail(order)

        start(Service)
        outside.send("x")
        eventually(lambda: outside.depth(DEAD) == 1)
        assert keys == [("orders", "paid")] * 2


class TestExpiration:
    def test_there_is_no_attempt_after_it(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        start(packer(calls, fail, retry=Retry(10, [0.05, 30])))
        outside.send("x", expiration=5)
        eventually(lambda: outside.depth(DEAD) == 1)
        assert len(calls) == 2
        assert outside.get(DEAD).headers["nameko-dead-reason"] == "deadline"

    def test_what_has_expired_on_the_way_is_dropped(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        first = start(packer(calls, fail, retry=Retry(10, 0.2)))
        outside.send("x", expiration=0.4)
        eventually(lambda: outside.depth("to-pack.retry.200") == 1)
        first.kill()
        eventually(lambda: outside.depth("to-pack") == 1)
        concurrency.sleep(0.5)  # what is tested is that time passes
        second = start(packer(calls, fail, retry=Retry(10, 0.2)))
        eventually(lambda: counters(second)["messages_expired"] == 1)
        second.stop()
        assert calls == ["x"]
        assert outside.depth("to-pack") == 0

    @pytest.mark.parametrize("options", [{}, {"retry": Retry()}], ids=["without retries", "with retries"])
    def test_what_was_delivered_in_time_may_wait_for_its_worker(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually, options: dict[str, Any]
    ) -> None:
        gate = concurrency.Event()
        container = start(packer(calls, lambda order: gate.wait(), **options), max_workers=1, PREFETCH_COUNT=3)
        outside.send("first")
        eventually(lambda: calls == ["first"])
        for order in ("in line", "waits"):
            outside.send(order, expiration=0.1)
        subscription = next(iter(container.entrypoints))._subscription
        eventually(lambda: subscription.waiting == 1)
        concurrency.sleep(0.2)  # what is tested is that time passes
        gate.send(None)
        eventually(lambda: calls == ["first", "in line", "waits"])
        assert counters(container)["messages_expired"] == 0


class TestRequeueOnError:
    @pytest.mark.parametrize("error", [KeyError("expected"), ValueError("x"), SystemExit(3), concurrency.Timeout()])
    def test_backs_off_and_parks_whatever_was_raised(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually, error: BaseException
    ) -> None:
        def raise_it(order: Any) -> None:
            raise error

        service = packer(calls, raise_it, requeue_on_error=True, expected_exceptions=KeyError)
        container = start(service, RETRY_ATTEMPTS=4, RETRY_DELAY=0.02, RETRY_MAX_DELAY=0.05)
        assert outside.depth(DEAD) is None  # made when it is needed: nameko 2.14 needs no permission for it
        outside.send("x")
        eventually(lambda: outside.depth(DEAD) == 1)
        container.stop()
        assert len(calls) == 4
        assert outside.depth("to-pack") == 0

    def test_by_default_no_message_runs_more_than_five_times_a_second(self) -> None:
        default = Retry().completed({})
        assert default.attempts == 20
        delays = [default.delay_s(failures) for failures in range(1, 20)]
        assert min(delays) >= 0.2
        assert delays == sorted(delays)
        assert delays[-1] == 60


class TestTrouble:
    def test_a_wait_queue_that_was_deleted_is_made_again(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        start(packer(calls, lambda order: fail(order) if calls.count(order) == 1 else None, retry=Retry(3, 0.05)))
        outside.send("a")
        eventually(lambda: calls == ["a", "a"])
        outside.channel.queue_delete("to-pack.retry.50")
        outside.send("b")
        eventually(lambda: calls == ["a", "a", "b", "b"])

    def test_a_wait_queue_that_is_different_costs_no_message(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("nameko.amqp.retrier._GIVE_BACK_AFTER_S", 0.3)
        container = start(packer(calls, fail, retry=Retry(2, 0.05)))
        outside.channel.queue_declare("to-pack.retry.50", durable=True, auto_delete=False)
        started = time.monotonic()
        outside.send("x")
        eventually(lambda: len(calls) == 3)
        assert time.monotonic() - started >= 0.6 - 0.05
        assert counters(container)["retries_failed"] >= 2
        outside.channel.queue_delete("to-pack.retry.50")
        eventually(lambda: outside.depth(DEAD) == 1)

    def test_headers_that_fill_a_frame_do_not_break_the_connection(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        container = start(packer(calls, fail, retry=Retry(2, 0.05)))
        outside.send("x", headers={"big": "x" * 130_000})
        eventually(lambda: outside.depth(DEAD) == 1)
        assert counters(container)["retries_failed"] == 0
        assert "big" not in outside.get(DEAD).headers

    def test_a_name_that_is_too_long_is_shortened(
        self, start: Start, outside: Outside, calls: list[Any], eventually: Eventually
    ) -> None:
        long = "ö" * 125
        queue = Queue(long, exchange=ORDERS, routing_key="long")
        other = Queue("ö" * 124 + "oo", exchange=ORDERS, routing_key="other")

        class Service:
            name = "service"

            @consume(queue, retry=Retry(2, 0.02))
            def first(self, order: Any) -> None:
                calls.append("first")
                fail(order)

            @consume(other, retry=Retry(2, 0.02))
            def second(self, order: Any) -> None:
                calls.append("second")
                fail(order)

        container = start(Service)
        outside.send("x", routing_key="long")
        outside.send("x", routing_key="other")
        eventually(lambda: counters(container)["messages_parked"] == 2)
        assert sorted(calls) == ["first", "first", "second", "second"]


class TestDeclaration:
    @pytest.mark.parametrize(
        "declare",
        [
            lambda: Retry(attempts=0),
            lambda: Retry(attempts=1.5),  # type: ignore[arg-type]
            lambda: Retry(attempts=True),
            lambda: Retry(backoff=-1),
            lambda: Retry(backoff=[1, "2"]),  # type: ignore[list-item]
            lambda: Retry(backoff=[]),
            lambda: Retry(backoff="1"),  # type: ignore[arg-type]
            lambda: Retry(backoff=float("nan")),
            lambda: Retry(backoff=10**9),
            lambda: Retry(on="ValueError"),  # type: ignore[arg-type]
            lambda: Retry(on=()),
            lambda: Retry(on=[ValueError, 3]),  # type: ignore[list-item]
            lambda: Backoff(first_s=-1),
            lambda: Backoff(factor=0.5),
            lambda: Backoff(max_s=float("inf")),
            lambda: Retry().completed({"RETRY_ATTEMPTS": 0}),
            lambda: Retry().completed({"RETRY_DELAY": "soon"}),
            lambda: Retry().completed({"RETRY_MAX_DELAY": None}),
            lambda: consume(QUEUE, retry=3)(fail),
            lambda: consume(QUEUE, retry=Retry(), requeue_on_error=True)(fail),
        ],
    )
    def test_what_cannot_be_is_refused_in_one_line(self, declare: Callable[[], Any]) -> None:
        with pytest.raises(ConfigurationError) as refused:
            declare()
        assert "\n" not in str(refused.value)
        assert any(word in str(refused.value) for word in ("must be", "takes", "exclude"))

    def test_what_is_left_open_comes_from_the_configuration(self) -> None:
        config = {"RETRY_ATTEMPTS": 7, "RETRY_DELAY": 3, "RETRY_MAX_DELAY": 4}
        assert Retry().completed(config) == Retry(7, Backoff(3, 2.0, 4))
        assert Retry(2, 5, KeyError).completed(config) == Retry(2, 5, KeyError)
        assert [Retry(backoff=[1, 2]).delay_s(failures) for failures in (1, 2, 3, 10_000)] == [1, 2, 2, 2]
        assert Backoff(0.5, 100, 60).delay_s(10_000) == 60
