"""The in-process broker against RabbitMQ: the same operations over both, and the same must be seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from random import Random
from typing import Any

import amqp
import kombu
import pytest
from amqp.exceptions import (
    AccessRefused,
    AMQPNotImplementedError,
    ChannelError,
    ConsumerCancelled,
    InvalidCommand,
    MessageNacked,
    NotAllowed,
    NotFound,
    PreconditionFailed,
    RecoverableConnectionError,
    ResourceLocked,
)

from nameko.amqp.memory import Transport

QUIET_S = 0.15


class Peer:
    """A connection and a channel of it, and everything that happened to them."""

    def __init__(self, uri: str, **transport_options: Any) -> None:
        transport = Transport if uri.startswith("memory:") else None
        self.client = kombu.Connection(uri, transport=transport, transport_options=transport_options)
        self.vhost = self.client.virtual_host
        self.connection = self.client.transport.establish_connection()
        self.channel = self.open_channel()
        self.seen: list[Any] = []
        self.messages: list[Any] = []

    def open_channel(self) -> Any:
        channel = self.connection.channel()
        channel.events["basic_ack"].add(lambda tag, multiple: self.seen.append(("ack", tag)))
        channel.events["basic_nack"].add(lambda tag, multiple: self.seen.append(("nack", tag)))
        return channel

    def collect_returns(self) -> None:
        self.channel.events["basic_return"].add(
            lambda exc, exchange, routing_key, message: self.seen.append(
                ("return", exc.reply_code, exc.reply_text, exchange, routing_key, message.body)
            )
        )

    def queue(self, name: str = "", **options: Any) -> str:
        """Declare a queue that goes with the connection, unless told otherwise."""
        options = {"auto_delete": False, "durable": True, **options}
        return str(self.channel.queue_declare(name, **options).queue)

    def consume(self, queue: str, channel: Any = None, prefetch: int = 0, ack: bool = False, **options: Any) -> str:
        channel = channel or self.channel
        if prefetch:
            channel.basic_qos(0, prefetch, False)

        def on_message(message: Any) -> None:
            self.messages.append(message)
            self.seen.append(message.body)
            if ack:
                channel.basic_ack(message.delivery_tag)

        return str(channel.basic_consume(queue, callback=on_message, **options))

    def send(
        self, body: str, exchange: str = "", routing_key: str = "", mandatory: bool = False, **properties: Any
    ) -> None:
        self.channel.basic_publish(
            amqp.Message(body, **properties), exchange=exchange, routing_key=routing_key, mandatory=mandatory
        )

    def send_surely(self, *args: Any, **kwargs: Any) -> None:
        """Publish, on a channel of its own, and come back when it has arrived."""
        channel = self.connection.channel()
        confirmed: list[int] = []
        channel.events["basic_ack"].add(lambda tag, multiple: confirmed.append(tag))
        channel.confirm_select()
        own, self.channel = self.channel, channel
        try:
            self.send(*args, **kwargs)
        finally:
            self.channel = own
        self.until(lambda: confirmed)
        channel.close()

    def until(self, condition: Callable[[], object], timeout_s: float = 5) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not in {timeout_s} s; seen so far: {self.seen}"
            try:
                self.connection.drain_events(timeout=0.05)
            except TimeoutError:
                pass

    def until_seen(self, *expected: Any) -> None:
        """Drain until there are as many happenings as expected, and compare."""
        self.until(lambda: len(self.seen) >= len(expected))
        assert self.seen == list(expected)

    def quiet(self) -> None:
        """Drain until nothing more comes."""
        try:
            while True:
                self.connection.drain_events(timeout=QUIET_S)
        except TimeoutError:
            pass

    def send_and_drain(self, *bodies: str, **where: Any) -> None:
        """Publish what the broker will not take. The error may come while sending, or later."""
        for body in bodies:
            self.send(body, **where)
        self.quiet()

    def get(self, queue: str, **options: Any) -> Any:
        message = self.channel.basic_get(queue, **options)
        return None if message is None else message

    def bodies(self, queue: str) -> list[str]:
        """Take everything out of a queue."""
        taken = []
        while (message := self.channel.basic_get(queue, no_ack=True)) is not None:
            taken.append(message.body)
        return taken

    def depth(self, queue: str) -> int:
        return int(self.channel.queue_declare(queue, passive=True).message_count)

    def until_depth(self, queue: str, depth: int) -> None:
        self.until(lambda: self.depth(queue) == depth)


@pytest.fixture
def peers(broker_uri: str) -> Iterator[Callable[..., Peer]]:
    made: list[Peer] = []

    def make(**transport_options: Any) -> Peer:
        made.append(Peer(broker_uri, **transport_options))
        return made[-1]

    yield make
    for peer in made:
        peer.connection.collect()


@pytest.fixture
def peer(peers: Callable[..., Peer]) -> Peer:
    return peers()


def close_and_check_reopened(peer: Peer) -> None:
    assert peer.channel.is_open
    peer.queue("still-works", durable=False, auto_delete=True)


class TestRouting:
    def test_the_default_exchange_routes_by_queue_name(self, peer: Peer) -> None:
        peer.queue("a")
        peer.queue("b")
        peer.send_surely("one", routing_key="a")
        assert peer.bodies("a") == ["one"]
        assert peer.bodies("b") == []

    def test_a_direct_exchange_compares_keys(self, peer: Peer) -> None:
        peer.channel.exchange_declare("x", "direct")
        for queue, key in [("a", "k"), ("b", "k"), ("b", "other"), ("c", "other")]:
            peer.queue(queue)
            peer.channel.queue_bind(queue, "x", key)
        peer.send_surely("one", "x", "k")
        assert [peer.bodies(queue) for queue in "abc"] == [["one"], ["one"], []]

    def test_a_queue_gets_a_message_once_however_many_bindings_match(self, peer: Peer) -> None:
        peer.channel.exchange_declare("x", "topic")
        peer.queue("a")
        for key in ("#", "k", "*"):
            peer.channel.queue_bind("a", "x", key)
        peer.send_surely("one", "x", "k")
        assert peer.bodies("a") == ["one"]

    def test_a_fanout_exchange_ignores_keys(self, peer: Peer) -> None:
        peer.channel.exchange_declare("x", "fanout")
        for queue in "ab":
            peer.queue(queue)
            peer.channel.queue_bind(queue, "x", "whatever")
        peer.send_surely("one", "x", "k")
        assert [peer.bodies(queue) for queue in "ab"] == [["one"], ["one"]]

    @pytest.mark.parametrize("key", ["a", "a.b", "a.b.c", "", ".", "a.", ".b", "a..b", "b.a", "a.x.y.b", "x.a.b.x"])
    def test_topics(self, peer: Peer, key: str) -> None:
        patterns = [
            "#",
            "*",
            "a.*",
            "*.b",
            "a.#",
            "#.b",
            "a.#.b",
            "*.*",
            "#.a.#",
            "a.*.#",
            "a",
            "",
            "#.#",
            "*.#",
            "a..b",
        ]
        matching = {
            "a": {"#", "*", "a.#", "#.a.#", "a", "#.#", "*.#"},
            "a.b": {"#", "a.*", "*.b", "a.#", "#.b", "a.#.b", "*.*", "#.a.#", "a.*.#", "#.#", "*.#"},
            "a.b.c": {"#", "a.#", "#.a.#", "a.*.#", "#.#", "*.#"},
            "": {"#", "", "#.#"},
            ".": {"#", "*.*", "#.#", "*.#"},
            "a.": {"#", "a.*", "a.#", "*.*", "#.a.#", "a.*.#", "#.#", "*.#"},
            ".b": {"#", "*.b", "#.b", "*.*", "#.#", "*.#"},
            "a..b": {"#", "a.#", "#.b", "a.#.b", "#.a.#", "a.*.#", "#.#", "*.#", "a..b"},
            "b.a": {"#", "*.*", "#.a.#", "#.#", "*.#"},
            "a.x.y.b": {"#", "a.#", "#.b", "a.#.b", "#.a.#", "a.*.#", "#.#", "*.#"},
            "x.a.b.x": {"#", "#.a.#", "#.#", "*.#"},
        }
        peer.channel.exchange_declare("x", "topic")
        for pattern in patterns:
            peer.queue(f"q{pattern}", durable=False)
            peer.channel.queue_bind(f"q{pattern}", "x", pattern)
        peer.send_surely("one", "x", key)
        assert {pattern for pattern in patterns if peer.bodies(f"q{pattern}")} == matching[key]

    def test_headers(self, peer: Peer) -> None:
        peer.channel.exchange_declare("x", "headers")
        bindings: dict[str, dict[str, Any]] = {
            "all": {"x-match": "all", "a": 1, "b": "two"},
            "any": {"x-match": "any", "a": 1, "b": "two"},
            "default": {"a": 1, "b": "two"},
            "void": {"a": None},
            "nothing": {},
            "any-of-nothing": {"x-match": "any"},
            "x-ignored": {"a": 1, "x-other": 5},
        }
        for queue, arguments in bindings.items():
            peer.queue(queue)
            peer.channel.queue_bind(queue, "x", "", arguments=arguments)

        def receivers(**headers: Any) -> set[str]:
            peer.send_surely("one", "x", application_headers=headers)
            return {queue for queue in bindings if peer.bodies(queue)}

        assert receivers(a=1, b="two") == {"all", "any", "default", "void", "nothing", "x-ignored"}
        assert receivers(a=1) == {"any", "void", "nothing", "x-ignored"}
        assert receivers(a="1", b=2) == {"void", "nothing"}
        assert receivers() == {"nothing"}

    def test_an_exchange_can_lead_to_another(self, peer: Peer) -> None:
        for name in "xyz":
            peer.channel.exchange_declare(name, "topic", auto_delete=False)
        peer.queue("a")
        peer.channel.exchange_bind("y", "x", "k.#")
        peer.channel.exchange_bind("x", "y", "#")  # a circle is not run round
        peer.channel.exchange_bind("z", "y", "#")
        peer.channel.queue_bind("a", "z", "#")
        peer.send_surely("one", "x", "k.1")
        peer.send_surely("two", "x", "other")
        assert peer.bodies("a") == ["one"]
        peer.channel.exchange_unbind("y", "x", "k.#")
        peer.send_surely("three", "x", "k.1")
        assert peer.bodies("a") == []

    def test_an_alternate_exchange_takes_what_has_no_route(self, peer: Peer) -> None:
        peer.channel.exchange_declare("spare", "fanout", auto_delete=False)
        peer.channel.exchange_declare("x", "direct", auto_delete=False, arguments={"alternate-exchange": "spare"})
        peer.queue("a")
        peer.queue("rest")
        peer.channel.queue_bind("a", "x", "a")
        peer.channel.queue_bind("rest", "spare", "")
        peer.collect_returns()
        peer.send_surely("one", "x", "a", mandatory=True)
        peer.send_surely("two", "x", "b", mandatory=True)
        assert (peer.bodies("a"), peer.bodies("rest")) == (["one"], ["two"])
        assert peer.seen == []

    def test_unbinding_and_deleting_end_the_routes(self, peer: Peer) -> None:
        peer.channel.exchange_declare("x", "direct", auto_delete=False)
        for queue in "ab":
            peer.queue(queue)
            peer.channel.queue_bind(queue, "x", "k")
        peer.channel.queue_unbind("a", "x", "k")
        peer.send_surely("one", "x", "k")
        assert [peer.bodies(queue) for queue in "ab"] == [[], ["one"]]
        peer.channel.queue_delete("b")
        peer.queue("b")
        peer.send_surely("two", "x", "k")
        assert peer.bodies("b") == []


class TestDelivery:
    def test_a_message_arrives_as_it_was_sent(self, peer: Peer) -> None:
        peer.queue("a")
        headers = {"list": (1, "two", None, [True]), "table": {"x": 1.5}, "bytes": b"raw", "none": None, "big": 2**40}
        peer.consume("a")
        peer.send(
            "héllo",
            routing_key="a",
            content_type="text/plain",
            priority=0,
            delivery_mode=2,
            correlation_id="c",
            reply_to="r",
            message_id="m",
            timestamp=1700000000,
            type="t",
            app_id="app",
            application_headers={**headers, "when": datetime(2020, 1, 2, 3, 4, 5, 678)},
            no_such_property="dropped",
        )
        peer.until_seen("héllo")
        message = peer.messages[0]
        assert message.properties == {
            "content_type": "text/plain",
            "content_encoding": "utf-8",
            "priority": 0,
            "delivery_mode": 2,
            "correlation_id": "c",
            "reply_to": "r",
            "message_id": "m",
            "timestamp": 1700000000,
            "type": "t",
            "app_id": "app",
            "application_headers": {
                "list": [1, "two", None, [True]],
                "table": {"x": 1.5},
                "bytes": "raw",
                "none": None,
                "big": 2**40,
                "when": datetime(2020, 1, 2, 3, 4, 5),
            },
        }
        delivery_info = dict(message.delivery_info)
        assert delivery_info.pop("consumer_tag")
        assert delivery_info == {"delivery_tag": 1, "redelivered": False, "exchange": "", "routing_key": "a"}
        assert message.channel is peer.channel

    def test_binary_bodies_stay_binary(self, peer: Peer) -> None:
        peer.queue("a")
        peer.send_surely(b"\x00\xff", routing_key="a", content_encoding="binary")
        assert peer.bodies("a") == [b"\x00\xff"]

    @pytest.mark.parametrize("value", [object(), {1, 2}, 1j])
    def test_headers_that_amqp_has_no_type_for_are_refused_at_once(self, peer: Peer, value: object) -> None:
        with pytest.raises(amqp.exceptions.FrameSyntaxError, match="not handled by amqp"):
            peer.send("x", routing_key="a", application_headers={"h": value})

    @pytest.mark.parametrize("properties", [{"correlation_id": 5}, {"correlation_id": "x" * 256}, {"priority": 256}])
    def test_properties_that_do_not_fit_are_refused_at_once(self, peer: Peer, properties: dict[str, Any]) -> None:
        with pytest.raises(Exception):  # noqa: B017, PT011  (py-amqp's are struct.error and TypeError, by chance)
            peer.send("x", routing_key="a", **properties)

    def test_consumers_take_turns(self, peers: Callable[..., Peer]) -> None:
        one, two = peers(), peers()
        one.queue("a")
        one.consume("a", ack=True)
        two.consume("a", ack=True)
        for number in range(6):
            two.send_surely(str(number), routing_key="a")
        one.until(lambda: len(one.seen) == 3)
        two.until(lambda: len(two.seen) == 3)
        assert sorted(one.seen + two.seen) == list("012345")
        assert one.seen in (list("024"), list("135"))

    def test_a_consumer_has_no_more_than_its_prefetch_unacknowledged(self, peer: Peer) -> None:
        peer.queue("a")
        peer.consume("a", prefetch=2)
        for number in range(5):
            peer.send(str(number), routing_key="a")
        peer.until_seen("0", "1")
        peer.quiet()
        assert peer.seen == ["0", "1"]
        peer.channel.basic_ack(1)
        peer.until_seen("0", "1", "2")
        peer.channel.basic_ack(3, multiple=True)
        peer.until_seen("0", "1", "2", "3", "4")

    def test_prefetch_is_each_consumers_own(self, peer: Peer) -> None:
        peer.queue("a")
        peer.queue("b")
        peer.consume("a", prefetch=1)
        peer.consume("b", prefetch=2)
        for number in range(3):
            peer.send(f"a{number}", routing_key="a")
            peer.send(f"b{number}", routing_key="b")
        peer.until(lambda: len(peer.seen) == 3)
        peer.quiet()
        assert sorted(peer.seen) == ["a0", "b0", "b1"]

    def test_prefetch_can_be_shared_by_a_channel(self, peer: Peer) -> None:
        peer.queue("a")
        peer.queue("b")
        peer.channel.basic_qos(0, 2, True)
        peer.consume("a")
        peer.consume("b")
        for number in range(2):
            peer.send(f"a{number}", routing_key="a")
        peer.until_seen("a0", "a1")
        peer.send("b0", routing_key="b")
        peer.quiet()
        assert peer.seen == ["a0", "a1"]
        peer.channel.basic_ack(peer.messages[0].delivery_tag)
        peer.until_seen("a0", "a1", "b0")

    def test_prefetch_does_not_count_for_a_consumer_without_acks(self, peer: Peer) -> None:
        peer.queue("a")
        peer.consume("a", prefetch=1, no_ack=True)
        for number in range(3):
            peer.send(str(number), routing_key="a")
        peer.until_seen("0", "1", "2")
        assert peer.depth("a") == 0

    def test_a_cancelled_consumer_gets_nothing_more(self, peer: Peer) -> None:
        peer.queue("a")
        tag = peer.consume("a")
        peer.send("one", routing_key="a")
        peer.until_seen("one")
        assert peer.channel.basic_cancel(tag) == tag
        peer.send_surely("two", routing_key="a")
        assert peer.bodies("a") == ["two"]
        peer.channel.basic_ack(1)  # what it had can still be acknowledged
        peer.quiet()

    def test_cancelling_what_is_not_there_is_harmless(self, peer: Peer) -> None:
        assert peer.channel.basic_cancel("nobody") == "nobody"

    def test_a_consumer_may_be_exclusive(self, peers: Callable[..., Peer]) -> None:
        one, two = peers(), peers()
        one.queue("a")
        one.consume("a", consumer_tag="only", exclusive=True)
        with pytest.raises(AccessRefused) as refused:
            two.consume("a")
        assert refused.value.reply_text == f"ACCESS_REFUSED - queue 'a' in vhost '{one.vhost}' in exclusive use"
        one.channel.basic_cancel("only")
        two.consume("a")
        with pytest.raises(AccessRefused):
            one.consume("a", exclusive=True)

    def test_consumer_tags_are_given_where_none_is_asked_for(self, peer: Peer) -> None:
        peer.queue("a")
        assert peer.consume("a").startswith("amq.ctag-")

    def test_a_queue_that_goes_tells_its_consumers(self, peer: Peer) -> None:
        peer.queue("a")
        cancelled: list[str] = []
        peer.consume("a", consumer_tag="t", on_cancel=cancelled.append)
        peer.send("one", routing_key="a")
        peer.until_seen("one")
        peer.channel.queue_delete("a")
        peer.until(lambda: cancelled == ["t"])
        peer.channel.basic_ack(1)  # to nobody's surprise
        peer.quiet()

    def test_a_queue_that_goes_raises_where_nobody_listens_for_that(self, peer: Peer) -> None:
        peer.queue("a")
        peer.consume("a", consumer_tag="t")

        def delete() -> None:
            peer.channel.queue_delete("a")
            peer.quiet()

        with pytest.raises(ConsumerCancelled):
            delete()


class TestAcknowledging:
    def test_requeued_messages_come_back_to_their_place_and_marked(self, peer: Peer) -> None:
        peer.queue("a")
        for body in ("one", "two", "three"):
            peer.send_surely(body, routing_key="a")
        first = peer.get("a")
        second = peer.get("a")
        peer.channel.basic_reject(first.delivery_tag, requeue=True)
        peer.until_depth("a", 2)
        peer.channel.basic_reject(second.delivery_tag, requeue=True)
        peer.until_depth("a", 3)
        again = [peer.get("a") for _ in range(3)]
        assert [(message.body, message.delivery_info["redelivered"]) for message in again] == [
            ("one", True),
            ("two", True),
            ("three", False),
        ]

    def test_rejected_messages_are_gone(self, peer: Peer) -> None:
        peer.queue("a")
        peer.send_surely("one", routing_key="a")
        peer.channel.basic_reject(peer.get("a").delivery_tag, requeue=False)
        peer.quiet()
        assert peer.depth("a") == 0

    def test_multiple_acks_are_for_all_up_to_the_tag(self, peer: Peer) -> None:
        peer.queue("a")
        for body in ("one", "two", "three"):
            peer.send_surely(body, routing_key="a")
            peer.get("a")
        peer.channel.basic_ack(2, multiple=True)
        peer.channel.basic_recover(requeue=True)
        peer.until_depth("a", 1)
        assert peer.bodies("a") == ["three"]

    def test_a_multiple_ack_of_zero_is_for_everything(self, peer: Peer) -> None:
        peer.queue("a")
        peer.send_surely("one", routing_key="a")
        peer.get("a")
        peer.channel.basic_ack(0, multiple=True)
        peer.channel.basic_recover(requeue=True)
        peer.quiet()
        assert peer.depth("a") == 0

    @pytest.mark.parametrize("multiple", [False, True])
    def test_an_unknown_tag_closes_the_channel(self, peer: Peer, multiple: bool) -> None:
        peer.queue("a")
        peer.send_surely("one", routing_key="a")
        peer.get("a")
        peer.channel.basic_ack(7, multiple=multiple)
        with pytest.raises(PreconditionFailed) as failed:
            peer.quiet()
        assert failed.value.reply_text == "PRECONDITION_FAILED - unknown delivery tag 7"
        assert failed.value.method_sig == (60, 80)
        peer.until_depth("a", 1)  # what the channel had is back in the queue

    def test_acknowledging_twice_closes_the_channel(self, peer: Peer) -> None:
        peer.queue("a")
        peer.send_surely("one", routing_key="a")
        message = peer.get("a")
        peer.channel.basic_ack(message.delivery_tag)
        peer.channel.basic_reject(message.delivery_tag, requeue=True)
        with pytest.raises(PreconditionFailed, match="unknown delivery tag 1"):
            peer.quiet()

    @pytest.mark.parametrize("whole_connection", [False, True])
    def test_closing_gives_back_what_was_not_acknowledged(
        self, peers: Callable[..., Peer], whole_connection: bool
    ) -> None:
        one, two = peers(), peers()
        one.queue("a")
        one.consume("a", prefetch=2)
        for body in ("one", "two", "three"):
            two.send_surely(body, routing_key="a")
        one.until_seen("one", "two")
        (one.connection if whole_connection else one.channel).close()
        two.until_depth("a", 3)
        assert [two.get("a", no_ack=True).delivery_info["redelivered"] for _ in range(3)] == [True, True, False]

    def test_recovering_only_ever_requeues(self, peer: Peer) -> None:
        peer.channel.basic_recover(requeue=False)
        with pytest.raises(AMQPNotImplementedError) as failed:
            peer.quiet()
        assert failed.value.reply_text == "NOT_IMPLEMENTED - requeue=false"


class TestPublishing:
    def test_confirms_are_numbered_from_one(self, peer: Peer) -> None:
        peer.queue("a")
        peer.send("unconfirmed", routing_key="a")
        peer.channel.confirm_select()
        peer.send("one", routing_key="a")
        peer.until_seen(("ack", 1))
        peer.send("to nobody", routing_key="nowhere")
        peer.until_seen(("ack", 1), ("ack", 2))

    def test_a_mandatory_message_without_a_route_comes_back_before_its_confirm(self, peer: Peer) -> None:
        peer.channel.exchange_declare("x", "topic")
        peer.channel.confirm_select()
        peer.collect_returns()
        peer.send("lost", "x", "k", mandatory=True)
        peer.until_seen(("return", 312, "NO_ROUTE", "x", "k", "lost"), ("ack", 1))

    def test_a_return_raises_where_nobody_listens_for_it(self, peer: Peer) -> None:
        peer.send("lost", routing_key="nowhere", mandatory=True)
        with pytest.raises(ChannelError) as returned:
            peer.quiet()
        assert (returned.value.reply_code, returned.value.reply_text) == (312, "NO_ROUTE")

    def test_an_exchange_that_does_not_exist_closes_the_channel(self, peer: Peer) -> None:
        peer.queue("a")
        peer.consume("a", consumer_tag="t")
        peer.channel.confirm_select()
        peer.send("one", routing_key="a")
        peer.until(lambda: len(peer.seen) == 2)
        with pytest.raises(NotFound) as failed:
            peer.send_and_drain("lost", "lost with it", exchange="nowhere", routing_key="k")
        assert failed.value.reply_text == f"NOT_FOUND - no exchange 'nowhere' in vhost '{peer.vhost}'"
        assert failed.value.method_sig == (60, 40)
        peer.until_depth("a", 1)
        assert [message.body for message in [peer.get("a")]] == ["one"]
        peer.send("no longer confirmed", routing_key="a")
        peer.quiet()
        assert len(peer.seen) == 2

    def test_the_error_of_a_publish_comes_at_the_next_method_with_an_answer(self, peer: Peer) -> None:
        peer.queue("a")

        def publish_and_declare() -> None:
            peer.send("lost", "nowhere", "k")
            peer.channel.queue_declare("a", passive=True)

        with pytest.raises(NotFound, match="no exchange 'nowhere'"):
            publish_and_declare()
        assert peer.depth("a") == 0

    @pytest.mark.parametrize(
        ("expiration", "problem"),
        [("abc", "no_integer"), ("-1", "{value_negative,-1}"), ("1.5", '{leftover_string,".5"}'), ("", "no_integer")],
    )
    def test_an_expiration_must_be_a_number(self, peer: Peer, expiration: str, problem: str) -> None:
        peer.send("x", routing_key="a", expiration=expiration)
        with pytest.raises(PreconditionFailed) as failed:
            peer.quiet()
        assert failed.value.reply_text == f"PRECONDITION_FAILED - invalid expiration '{expiration}': {problem}"

    def test_immediate_is_not_implemented(self, peer: Peer) -> None:
        peer.channel.basic_publish(amqp.Message("x"), routing_key="a", immediate=True)
        with pytest.raises(AMQPNotImplementedError) as failed:
            peer.quiet()
        assert failed.value.reply_text == "NOT_IMPLEMENTED - immediate=true"
        with pytest.raises((RecoverableConnectionError, OSError)):
            peer.queue("a")

    def test_confirm_publish_waits_for_each_message(self, peers: Callable[..., Peer]) -> None:
        peer = peers(confirm_publish=True)
        peer.queue("a")
        peer.send("one", routing_key="a")
        assert peer.depth("a") == 1
        with pytest.raises(NotFound):
            peer.send("lost", "nowhere", "k")
        peer.queue("full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        peer.send("one", routing_key="full")

        def overfill() -> None:
            for _ in range(3):  # RabbitMQ's limit is not exact
                peer.send("more", routing_key="full")

        with pytest.raises(MessageNacked):
            overfill()


class TestQueues:
    def test_a_name_is_given_where_none_is_asked_for(self, peer: Peer) -> None:
        name = peer.queue("", exclusive=True, durable=False)
        assert name.startswith("amq.gen-")
        peer.send_surely("one", routing_key=name)
        assert peer.bodies("") == ["one"]  # the channel's last declaration is meant

    def test_without_a_declaration_there_is_no_last_one(self, peer: Peer) -> None:
        with pytest.raises(NotFound) as failed:
            peer.channel.queue_purge("")
        assert failed.value.reply_text == "NOT_FOUND - no previously declared queue"

    def test_declaring_again_tells_how_many_messages_and_consumers_there_are(self, peers: Callable[..., Peer]) -> None:
        one, two = peers(), peers()
        one.queue("a")
        one.send_surely("one", routing_key="a")
        assert tuple(two.channel.queue_declare("a", durable=True, auto_delete=False)) == ("a", 1, 0)
        one.consume("a")
        one.until_seen("one")
        assert tuple(two.channel.queue_declare("a", passive=True)) == ("a", 0, 1)

    @pytest.mark.parametrize(
        ("changed", "difference"),
        [
            ({"durable": False}, "'durable' for {}: received 'false' but current is 'true'"),
            ({"auto_delete": True}, "'auto_delete' for {}: received 'true' but current is 'false'"),
            (
                {"arguments": {"x-expires": 60000, "x-max-length": 5}},
                "'x-max-length' for {}: received the value '5' of type 'signedint' but current is none",
            ),
            ({"arguments": {"x-expires": 1000}}, "'x-expires' for {}: received '1000' but current is '60000'"),
            ({}, "'x-expires' for {}: received none but current is the value '60000' of type 'signedint'"),
            (
                {"arguments": {"x-expires": 60000, "x-queue-type": "quorum"}},
                "'x-queue-type' for {}: received the value 'quorum' of type 'longstr' but current is none",
            ),
        ],
    )
    def test_a_different_declaration_is_refused(self, peer: Peer, changed: dict[str, Any], difference: str) -> None:
        peer.queue("a", arguments={"x-expires": 60000})
        with pytest.raises(PreconditionFailed) as failed:
            peer.queue("a", **changed)
        place = difference.format(f"queue 'a' in vhost '{peer.vhost}'")
        assert failed.value.reply_text == f"PRECONDITION_FAILED - inequivalent arg {place}"
        assert failed.value.method_sig == (50, 10)
        close_and_check_reopened(peer)

    def test_arguments_that_nobody_knows_make_no_difference(self, peer: Peer) -> None:
        peer.queue("a", arguments={"my-note": 1})
        peer.queue("a", arguments={"my-note": 2, "x-queue-type": "classic"})

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            ({"x-expires": 0}, "invalid arg 'x-expires' for {}: {{value_zero,0}}"),
            ({"x-expires": -1}, "invalid arg 'x-expires' for {}: {{value_negative,-1}}"),
            ({"x-expires": "1"}, "invalid arg 'x-expires' for {}: \"expected integer, got longstr\""),
            ({"x-message-ttl": 2**40}, "invalid arg 'x-message-ttl' for {}: {{value_too_large,1099511627776}}"),
            ({"x-max-length": -1}, "invalid arg 'x-max-length' for {}: {{value_negative,-1}}"),
            ({"x-overflow": "foo"}, "invalid arg 'x-overflow' for {}: invalid_overflow"),
            ({"x-queue-type": "foo"}, "invalid arg 'x-queue-type' for {}: \"unsupported queue type 'foo'\""),
            (
                {"x-dead-letter-routing-key": "k"},
                "invalid arg 'x-dead-letter-routing-key' for {}: routing_key_but_no_dlx_defined",
            ),
        ],
    )
    def test_arguments_that_cannot_be_are_refused(self, peer: Peer, arguments: dict[str, Any], problem: str) -> None:
        with pytest.raises(PreconditionFailed) as failed:
            peer.queue("a", arguments=arguments)
        assert failed.value.reply_text == "PRECONDITION_FAILED - " + problem.format(
            f"queue 'a' in vhost '{peer.vhost}'"
        )
        close_and_check_reopened(peer)

    def test_a_dead_letter_exchange_must_be_a_name(self, peer: Peer) -> None:
        with pytest.raises(PreconditionFailed, match="invalid type 'signedint' for arg 'x-dead-letter-exchange'"):
            peer.queue("a", arguments={"x-dead-letter-exchange": 5})

    def test_reserved_names_are_refused(self, peer: Peer) -> None:
        with pytest.raises(AccessRefused) as refused:
            peer.queue("amq.mine")
        assert refused.value.reply_text == "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'"

    def test_an_exclusive_queue_is_for_one_connection(self, peers: Callable[..., Peer]) -> None:
        one, two = peers(), peers()
        one.queue("a", exclusive=True, durable=False)
        attempts: list[Callable[[], object]] = [
            lambda: two.queue("a", exclusive=True, durable=False),
            lambda: two.depth("a"),
            lambda: two.consume("a"),
            lambda: two.get("a"),
            lambda: two.channel.queue_bind("a", "amq.topic", "k"),
            lambda: two.channel.queue_purge("a"),
            lambda: two.channel.queue_delete("a"),
        ]
        for attempt in attempts:
            with pytest.raises(ResourceLocked) as locked:
                attempt()
            assert locked.value.reply_text == (
                f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'a' in vhost '{one.vhost}'. It "
                "could be originally declared on another connection or the exclusive property value does not match "
                "that of the original declaration."
            )
        two.send_surely("anybody may publish", routing_key="a")
        assert one.bodies("a") == ["anybody may publish"]
        one.connection.close()
        two.queue("a")

    def test_an_auto_delete_queue_goes_with_its_last_consumer(self, peers: Callable[..., Peer]) -> None:
        one, two = peers(), peers()
        one.queue("a", auto_delete=True)
        assert one.depth("a") == 0  # not before it had one
        one.consume("a", consumer_tag="one")
        two.consume("a", consumer_tag="two")
        one.channel.basic_cancel("one")
        assert one.depth("a") == 0
        two.connection.close()

        def is_gone() -> bool:
            try:
                one.depth("a")
            except NotFound:
                return True
            return False

        one.until(is_gone)

    def test_purging_and_deleting_tell_how_many_messages_went(self, peer: Peer) -> None:
        peer.queue("a")
        for number in range(3):
            peer.send_surely(str(number), routing_key="a")
        peer.get("a")
        assert peer.channel.queue_purge("a") == 2
        peer.send_surely("again", routing_key="a")
        assert peer.channel.queue_delete("a") == 1
        assert peer.channel.queue_delete("a") == 0

    def test_deleting_can_be_conditional(self, peer: Peer) -> None:
        peer.queue("a")
        peer.consume("a")
        with pytest.raises(PreconditionFailed) as failed:
            peer.channel.queue_delete("a", if_unused=True)
        assert failed.value.reply_text == f"PRECONDITION_FAILED - queue 'a' in vhost '{peer.vhost}' in use"
        peer.send_surely("one", routing_key="a")
        with pytest.raises(PreconditionFailed) as failed:
            peer.channel.queue_delete("a", if_empty=True)
        assert failed.value.reply_text == f"PRECONDITION_FAILED - queue 'a' in vhost '{peer.vhost}' not empty"
        assert peer.channel.queue_delete("a", if_unused=True) == 1

    def test_getting_a_message_tells_how_many_are_left(self, peer: Peer) -> None:
        peer.queue("a")
        assert peer.get("a") is None
        for number in range(3):
            peer.send_surely(str(number), routing_key="a")
        assert peer.get("a").delivery_info == {
            "delivery_tag": 1,
            "redelivered": False,
            "exchange": "",
            "routing_key": "a",
            "message_count": 2,
        }

    @pytest.mark.parametrize(
        "use",
        [
            lambda channel: channel.queue_declare("nope", passive=True),
            lambda channel: channel.queue_bind("nope", "amq.topic", "k"),
            lambda channel: channel.queue_purge("nope"),
            lambda channel: channel.basic_get("nope"),
            lambda channel: channel.basic_consume("nope", callback=print),
        ],
    )
    def test_a_queue_that_does_not_exist_is_not_found(self, peer: Peer, use: Callable[[Any], object]) -> None:
        with pytest.raises(NotFound) as failed:
            use(peer.channel)
        assert failed.value.reply_text == f"NOT_FOUND - no queue 'nope' in vhost '{peer.vhost}'"
        assert failed.value.reply_code == 404
        close_and_check_reopened(peer)

    def test_unbinding_what_does_not_exist_is_harmless(self, peer: Peer) -> None:
        peer.queue("a")
        peer.channel.queue_unbind("a", "amq.topic", "k")
        peer.channel.queue_unbind("nope", "amq.topic", "k")
        peer.channel.queue_unbind("a", "nope", "k")
        close_and_check_reopened(peer)

    def test_a_consumer_tag_is_used_once_on_a_channel(self, peer: Peer) -> None:
        peer.queue("a")
        peer.consume("a", consumer_tag="t")
        with pytest.raises(NotAllowed) as failed:
            peer.consume("a", consumer_tag="t")
        assert failed.value.reply_text == "NOT_ALLOWED - attempt to reuse consumer tag 't'"
        assert not peer.connection.connected

    def test_a_prefetch_size_is_not_implemented(self, peer: Peer) -> None:
        with pytest.raises(AMQPNotImplementedError) as failed:
            peer.channel.basic_qos(10, 0, False)
        assert failed.value.reply_text == "NOT_IMPLEMENTED - prefetch_size!=0 (10)"


class TestExchanges:
    @pytest.mark.parametrize(
        ("changed", "difference"),
        [
            ({"type": "fanout"}, "'type' for {}: received 'fanout' but current is 'topic'"),
            ({"durable": False}, "'durable' for {}: received 'false' but current is 'true'"),
            ({"auto_delete": True}, "'auto_delete' for {}: received 'true' but current is 'false'"),
            (
                {"arguments": {"alternate-exchange": "y"}},
                "'alternate-exchange' for {}: received the value 'y' of type 'longstr' but current is none",
            ),
        ],
    )
    def test_a_different_declaration_is_refused(self, peer: Peer, changed: dict[str, Any], difference: str) -> None:
        declaration = {"type": "topic", "durable": True, "auto_delete": False}
        peer.channel.exchange_declare("x", **declaration)
        peer.channel.exchange_declare("x", **declaration)
        with pytest.raises(PreconditionFailed) as failed:
            peer.channel.exchange_declare("x", **{**declaration, **changed})
        place = difference.format(f"exchange 'x' in vhost '{peer.vhost}'")
        assert failed.value.reply_text == f"PRECONDITION_FAILED - inequivalent arg {place}"

    @pytest.mark.parametrize(
        "use",
        [
            lambda channel: channel.exchange_declare("nope", "topic", passive=True),
            lambda channel: channel.queue_bind("", "nope", "k"),
            lambda channel: channel.exchange_bind("amq.topic", "nope", "k"),
            lambda channel: channel.exchange_bind("nope", "amq.topic", "k"),
        ],
    )
    def test_one_that_does_not_exist_is_not_found(self, peer: Peer, use: Callable[[Any], object]) -> None:
        peer.queue("", exclusive=True, durable=False)
        with pytest.raises(NotFound) as failed:
            use(peer.channel)
        assert failed.value.reply_text == f"NOT_FOUND - no exchange 'nope' in vhost '{peer.vhost}'"

    @pytest.mark.parametrize(
        "use",
        [
            lambda channel: channel.exchange_declare("", "direct", durable=True, auto_delete=False),
            lambda channel: channel.exchange_declare("", "direct", passive=True),
            lambda channel: channel.exchange_delete(""),
            lambda channel: channel.queue_bind("", "", "k"),
            lambda channel: channel.queue_unbind("", "", "k"),
        ],
    )
    def test_the_default_exchange_is_as_it_is(self, peer: Peer, use: Callable[[Any], object]) -> None:
        peer.queue("", exclusive=True, durable=False)
        with pytest.raises(AccessRefused) as failed:
            use(peer.channel)
        assert failed.value.reply_text == "ACCESS_REFUSED - operation not permitted on the default exchange"

    def test_built_in_exchanges_are_there_and_stay(self, peer: Peer) -> None:
        for name, exchange_type in [("amq.topic", "topic"), ("amq.direct", "direct"), ("amq.match", "headers")]:
            peer.channel.exchange_declare(name, exchange_type, durable=True, auto_delete=False)
        with pytest.raises(AccessRefused) as failed:
            peer.channel.exchange_delete("amq.topic")
        assert failed.value.reply_text == (
            f"ACCESS_REFUSED - deletion of system exchange 'amq.topic' in vhost '{peer.vhost}' not allowed"
        )
        with pytest.raises(AccessRefused, match=r"exchange name 'amq\.mine' contains reserved prefix"):
            peer.channel.exchange_declare("amq.mine", "topic")

    def test_unknown_types_close_the_connection(self, peer: Peer) -> None:
        with pytest.raises(InvalidCommand) as failed:
            peer.channel.exchange_declare("x", "nope")
        assert failed.value.reply_text == "COMMAND_INVALID - unknown exchange type 'nope'"
        assert not peer.connection.connected

    def test_deleting(self, peer: Peer) -> None:
        peer.channel.exchange_declare("x", "topic", auto_delete=False)
        peer.queue("a")
        peer.channel.queue_bind("a", "x", "k")
        with pytest.raises(PreconditionFailed) as failed:
            peer.channel.exchange_delete("x", if_unused=True)
        assert failed.value.reply_text == f"PRECONDITION_FAILED - exchange 'x' in vhost '{peer.vhost}' in use"
        peer.channel.exchange_delete("x")
        peer.channel.exchange_delete("x")
        with pytest.raises(NotFound):
            peer.channel.exchange_declare("x", "topic", passive=True)

    def test_an_auto_delete_exchange_goes_with_its_last_binding(self, peer: Peer) -> None:
        peer.channel.exchange_declare("x", "topic", auto_delete=True)
        for queue in "ab":
            peer.queue(queue)
            peer.channel.queue_bind(queue, "x", "k")
        peer.channel.queue_unbind("a", "x", "k")
        peer.channel.exchange_declare("x", "topic", passive=True)
        peer.channel.queue_delete("b")
        with pytest.raises(NotFound):
            peer.channel.exchange_declare("x", "topic", passive=True)

    def test_headers_bindings_must_be_understood(self, peer: Peer) -> None:
        peer.queue("a")
        with pytest.raises(PreconditionFailed) as failed:
            peer.channel.queue_bind("a", "amq.headers", "", arguments={"x-match": "foo"})
        assert failed.value.reply_text == (
            'PRECONDITION_FAILED - Invalid x-match field value <<"foo">>; expected all, any, all-with-x, or any-with-x'
        )


class TestExpiry:
    def test_messages_expire(self, peer: Peer) -> None:
        peer.queue("a")
        peer.send_surely("soon", routing_key="a", expiration="1")
        peer.send_surely("behind", routing_key="a", expiration="600000")
        peer.until_depth("a", 1)
        assert peer.bodies("a") == ["behind"]

    def test_a_message_behind_another_expires_when_it_is_first(self, peer: Peer) -> None:
        peer.queue("a")
        peer.send_surely("stays", routing_key="a")
        peer.send_surely("waits", routing_key="a", expiration="1")
        peer.quiet()
        assert peer.depth("a") == 2
        assert peer.bodies("a") == ["stays"]

    def test_a_queue_can_limit_the_life_of_its_messages(self, peer: Peer) -> None:
        peer.queue("a", arguments={"x-message-ttl": 1})
        peer.send_surely("short", routing_key="a", expiration="600000")
        peer.until_depth("a", 0)

    def test_with_no_time_to_live_only_a_waiting_consumer_gets_it(self, peer: Peer) -> None:
        peer.queue("a")
        peer.send_surely("nobody there", routing_key="a", expiration="0")
        assert peer.bodies("a") == []
        peer.consume("a")
        peer.send("just in time", routing_key="a", expiration="0")
        peer.until_seen("just in time")

    def test_unused_queues_expire(self, peer: Peer) -> None:
        peer.queue("a", arguments={"x-expires": 400})
        peer.consume("a", consumer_tag="t")
        peer.quiet()
        peer.quiet()
        peer.quiet()
        assert peer.depth("a") == 0  # it had a consumer all the time
        peer.channel.basic_cancel("t")
        peer.quiet()
        peer.quiet()
        peer.quiet()
        peer.quiet()
        with pytest.raises(NotFound):
            peer.depth("a")


class TestLimits:
    def test_the_oldest_go_when_there_are_too_many(self, peer: Peer) -> None:
        peer.queue("a", arguments={"x-max-length": 2})
        for number in range(4):
            peer.send_surely(str(number), routing_key="a")
        assert peer.bodies("a") == ["2", "3"]

    def test_or_too_many_bytes(self, peer: Peer) -> None:
        peer.queue("a", arguments={"x-max-length-bytes": 10})
        for number in range(4):
            peer.send_surely(str(number) * 4, routing_key="a")
        assert peer.bodies("a") == ["2222", "3333"]

    def test_new_ones_can_be_refused_instead(self, peer: Peer) -> None:
        peer.queue("a", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        peer.channel.confirm_select()
        for _ in range(4):
            peer.send("x", routing_key="a")
            count = len(peer.seen)
            peer.until(lambda count=count: len(peer.seen) > count)
        assert peer.seen[0] == ("ack", 1)
        assert peer.seen[-1] == ("nack", 4)


class TestDeadLetters:
    @pytest.fixture
    def dead(self, peer: Peer) -> str:
        peer.channel.exchange_declare("dlx", "topic", auto_delete=False)
        peer.queue("dead")
        peer.channel.queue_bind("dead", "dlx", "#")
        return "dead"

    def only_dead_letter(self, peer: Peer) -> Any:
        peer.until_depth("dead", 1)
        return peer.get("dead", no_ack=True)

    def test_rejected_messages(self, peer: Peer, dead: str) -> None:
        peer.queue("a", arguments={"x-dead-letter-exchange": "dlx"})
        peer.send_surely("one", routing_key="a", application_headers={"own": "header"})
        peer.channel.basic_reject(peer.get("a").delivery_tag, requeue=False)
        letter = self.only_dead_letter(peer)
        assert letter.body == "one"
        assert letter.delivery_info["exchange"] == "dlx"
        assert letter.delivery_info["routing_key"] == "a"
        headers = letter.headers
        (death,) = headers["x-death"]
        assert isinstance(death.pop("time"), datetime)
        assert death == {"count": 1, "reason": "rejected", "queue": "a", "exchange": "", "routing-keys": ["a"]}
        assert headers["own"] == "header"
        assert headers["x-first-death-reason"] == "rejected"
        assert headers["x-first-death-queue"] == "a"
        assert headers["x-first-death-exchange"] == ""

    def test_expired_messages_with_another_routing_key(self, peer: Peer, dead: str) -> None:
        peer.queue("a", arguments={"x-dead-letter-exchange": "dlx", "x-dead-letter-routing-key": "other"})
        peer.send_surely("one", routing_key="a", expiration="1")
        letter = self.only_dead_letter(peer)
        assert letter.delivery_info["routing_key"] == "other"
        assert "expiration" not in letter.properties
        (death,) = letter.headers["x-death"]
        assert (death["reason"], death["original-expiration"]) == ("expired", "1")

    def test_messages_that_there_is_no_room_for(self, peer: Peer, dead: str) -> None:
        peer.queue("a", arguments={"x-dead-letter-exchange": "dlx", "x-max-length": 1})
        peer.send_surely("one", routing_key="a")
        peer.send_surely("two", routing_key="a")
        letter = self.only_dead_letter(peer)
        assert (letter.body, letter.headers["x-death"][0]["reason"]) == ("one", "maxlen")
        assert peer.bodies("a") == ["two"]

    def test_deaths_are_counted(self, peer: Peer) -> None:
        peer.queue("work", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "pause"})
        peer.queue(
            "pause",
            arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work", "x-message-ttl": 1},
        )
        peer.send_surely("one", routing_key="work")
        for _ in range(3):
            peer.until_depth("work", 1)
            message = peer.get("work")
            peer.channel.basic_reject(message.delivery_tag, requeue=False)
        peer.until_depth("work", 1)
        deaths = peer.get("work", no_ack=True).headers["x-death"]
        assert [(death["queue"], death["reason"], death["count"]) for death in deaths] == [
            ("pause", "expired", 3),
            ("work", "rejected", 3),
        ]

    def test_a_circle_of_automatic_deaths_ends(self, peer: Peer) -> None:
        for name, other in [("a", "b"), ("b", "a")]:
            peer.queue(
                name,
                arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": other, "x-message-ttl": 1},
            )
        peer.send_surely("one", routing_key="a")
        peer.quiet()
        assert (peer.depth("a"), peer.depth("b")) == (0, 0)

    def test_without_the_exchange_they_are_dropped(self, peer: Peer) -> None:
        peer.queue("a", arguments={"x-dead-letter-exchange": "nowhere"})
        peer.send_surely("one", routing_key="a")
        peer.channel.basic_reject(peer.get("a").delivery_tag, requeue=False)
        peer.quiet()
        assert peer.depth("a") == 0
        close_and_check_reopened(peer)


class TestClosing:
    def test_a_closed_channel_does_nothing_more(self, peer: Peer) -> None:
        peer.queue("a")
        peer.channel.close()
        peer.channel.close()
        assert not peer.channel.is_open
        with pytest.raises(RecoverableConnectionError):
            peer.channel.queue_declare("a", passive=True)
        with pytest.raises(RecoverableConnectionError):
            peer.send("x", routing_key="a")
        assert peer.channel.basic_cancel("t") is None
        assert peer.connection.connected

    def test_a_closed_connection_does_nothing_more(self, peer: Peer) -> None:
        peer.connection.close()
        peer.connection.close()
        assert not peer.connection.connected
        with pytest.raises(RecoverableConnectionError):
            peer.connection.channel()
        with pytest.raises(RecoverableConnectionError):
            peer.queue("a")

    def test_channels_are_independent(self, peer: Peer) -> None:
        other = peer.open_channel()
        peer.queue("a")
        peer.consume("a")
        with pytest.raises(NotFound):
            other.queue_declare("nope", passive=True)
        peer.send_surely("one", routing_key="a")
        peer.until_seen("one")
        assert other.channel_id != peer.channel.channel_id

    def test_waiting_ends_at_the_wall_clock(self, peer: Peer) -> None:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            peer.connection.drain_events(timeout=0.2)
        assert 0.19 < time.monotonic() - started < 1


@pytest.mark.rabbitmq
class TestAnything:
    """Random operations, on both brokers at once."""

    @pytest.mark.parametrize("seed", range(6))
    def test_the_same_happens_on_both(self, memory_uri: str, rabbitmq_uri: str, seed: int) -> None:
        traces = []
        for uri in (memory_uri, rabbitmq_uri):
            random = Random(seed)
            peer = Peer(uri)
            try:
                traces.append(list(self.act(peer, random)))
            finally:
                peer.connection.collect()
        assert traces[0] == traces[1]

    def act(self, peer: Peer, random: Random) -> Iterator[Any]:
        peer.channel.exchange_declare("x", "topic", auto_delete=False)
        peer.queue("a", arguments={"x-max-length": 6, "x-dead-letter-exchange": "x"})
        peer.queue("b", arguments={"x-dead-letter-exchange": "x", "x-dead-letter-routing-key": "a.again"})
        peer.queue("c")
        for queue, key in [("a", "a.#"), ("b", "*.b"), ("c", "#"), ("c", "a.*")]:
            peer.channel.queue_bind(queue, "x", key)
        unsettled: list[int] = []
        for number in range(80):
            action = random.choice(
                ["send", "send", "send", "get", "get", "ack", "reject", "requeue", "recover", "purge"]
            )
            if action == "send":
                peer.send_surely(str(number), "x", random.choice(["a.b", "a.c", "d.b", "e"]), mandatory=False)
            elif action == "get":
                message = peer.get(random.choice("abc"))
                if message is not None:
                    unsettled.append(message.delivery_tag)
                    info = {**message.delivery_info, "deaths": self.deaths(message)}
                    yield number, message.body, info
            elif action == "recover":
                peer.channel.basic_recover(requeue=True)
                unsettled.clear()
            elif action == "purge" and random.random() < 0.2:
                yield number, peer.channel.queue_purge(random.choice("abc"))
            elif unsettled:
                tag = unsettled.pop(random.randrange(len(unsettled)))
                self.settle(peer.channel, action, tag)
            peer.channel.basic_qos(0, 0, False)  # an answer: the channel has seen to what came before
            yield number, action, [self.steady_depth(peer, queue) for queue in "abc"]

    def settle(self, channel: Any, action: str, tag: int) -> None:
        if action == "ack":
            channel.basic_ack(tag)
        else:
            channel.basic_reject(tag, requeue=action == "requeue")

    def deaths(self, message: Any) -> list[Any]:
        headers = message.properties.get("application_headers", {})
        return [(death["queue"], death["reason"], death["count"]) for death in headers.get("x-death", [])]

    def steady_depth(self, peer: Peer, queue: str) -> int:
        # RabbitMQ's queues are processes: dead letters arrive a little later than what caused them.
        depths = [peer.depth(queue)]
        while len(depths) < 3 or len(set(depths[-3:])) > 1:
            depths.append(peer.depth(queue))
        return depths[-1]


class TestKombu:
    """What people write with kombu itself."""

    def test_producers_and_consumers(self, broker_uri: str) -> None:
        transport = Transport if broker_uri.startswith("memory:") else None
        exchange = kombu.Exchange("orders", "topic", durable=True)
        queue = kombu.Queue("orders-eu", exchange, routing_key="eu.#", max_length=10)
        received: list[Any] = []

        def on_message(body: Any, message: Any) -> None:
            received.append((body, message.headers, message.delivery_info["redelivered"]))
            if len(received) == 1:
                message.requeue()
            else:
                message.ack()

        with kombu.Connection(broker_uri, transport=transport) as connection:
            producer = connection.Producer(serializer="json")
            producer.publish(
                {"id": 1}, exchange=exchange, routing_key="eu.fr", declare=[queue], headers={"h": 1}, retry=True
            )
            with connection.Consumer([queue], callbacks=[on_message], prefetch_count=1):
                while len(received) < 2:
                    connection.drain_events(timeout=5)
            assert received == [({"id": 1}, {"h": 1}, False), ({"id": 1}, {"h": 1}, True)]
            assert queue(connection.default_channel).get() is None
            assert connection.SimpleQueue("simple").qsize() == 0
            assert connection.connected
        assert not connection.connected
