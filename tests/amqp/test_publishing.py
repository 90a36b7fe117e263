"""Publishing: every message has one outcome, whatever else is under way."""

from __future__ import annotations

import gc
import logging
import re
import struct
import subprocess
import sys
import time
import tracemalloc
import uuid
from functools import partial

import kombu
import pytest
from amqp.exceptions import FrameSyntaxError, MessageNacked, NotFound, PreconditionFailed
from kombu.exceptions import EncodeError

from harness.management import MANAGEMENT_URL
from harness.waiting import eventually
from nameko import concurrency
from nameko.amqp import MessageRefused, MessageTooLarge, PublishTimeout, UndeliverableMessage
from nameko.exceptions import ConfigurationError
from nameko.testing.rabbit import Client, HTTPError

EXCHANGE = kombu.Exchange("things", type="topic")


def queue(name="things", key="thing.#"):
    return kombu.Queue(name, EXCHANGE, routing_key=key)


def collect(broker, into, name="things", key="thing.#"):
    def on_message(message):
        into.append(message.payload)
        message.ack()

    return broker.subscribe(queue(name, key), on_message)


def publish(broker, payload, key="thing.a", **options):
    broker.publish(payload, exchange="things", routing_key=key, **options)


def wait_all(threads):
    return [thread.wait() for thread in threads]


def test_what_is_published_arrives_with_its_properties(make_broker, broker_uri, eventually):
    broker = make_broker(broker_uri)
    messages = []
    broker.subscribe(queue(), lambda message: (messages.append(message), message.ack()))
    publish(
        broker,
        {"a": [1, "ü"]},
        headers={"nameko.x": "y"},
        correlation_id="c1",
        reply_to="r1",
        expiration_s=12.5,
        mandatory=True,
        message_id="m1",
        timestamp=1700000000,
        type="t",
        app_id="app",
    )
    message = eventually(lambda: messages)[0]
    assert message.payload == {"a": [1, "ü"]}
    assert message.headers == {"nameko.x": "y"}
    assert message.delivery_info["routing_key"] == "thing.a"
    assert message.delivery_info["exchange"] == "things"
    assert not message.redelivered
    properties = message.properties
    assert (properties["content_type"], properties["content_encoding"]) == ("application/json", "utf-8")
    assert (properties["delivery_mode"], properties["priority"]) == (2, 0)
    assert (properties["correlation_id"], properties["reply_to"], properties["expiration"]) == ("c1", "r1", "12500")
    assert (properties["message_id"], properties["type"], properties["app_id"]) == ("m1", "t", "app")
    assert properties["timestamp"] == 1700000000


def test_many_greenthreads_publish_at_once(make_broker, broker_uri, eventually):
    broker, got = make_broker(broker_uri), []
    collect(broker, got)
    expected = [[thread, number] for thread in range(50) for number in range(100)]

    def run(thread):
        for number in range(100):
            publish(broker, [thread, number], mandatory=True)

    wait_all([concurrency.spawn(run, thread) for thread in range(50)])
    eventually(lambda: len(got) >= 5000, timeout_s=20)
    assert sorted(got) == expected


def test_order_of_one_publisher_is_kept(make_broker, broker_uri, eventually):
    broker, got, outcomes = make_broker(broker_uri), [], []
    collect(broker, got)
    for number in range(500):
        broker.publish_nowait(number, exchange="things", routing_key="thing.a", on_done=outcomes.append)
    eventually(lambda: len(got) == 500)
    assert got == list(range(500))
    assert outcomes == [None] * 500


def test_a_mandatory_message_without_a_queue_is_undeliverable(make_broker, broker_uri):
    broker = make_broker(broker_uri)
    broker.declare(EXCHANGE)
    with pytest.raises(UndeliverableMessage, match=r"routing key `thing\.nobody`"):
        publish(broker, 1, key="thing.nobody", mandatory=True)
    publish(broker, 1, key="thing.nobody")  # not mandatory: confirmed, and dropped


def test_unroutable_messages_among_routable_ones(make_broker, broker_uri, eventually):
    broker, got = make_broker(broker_uri), []
    collect(broker, got, key="thing.*")

    def run(number):
        key = "thing.a" if number % 3 else "other.a"
        try:
            publish(broker, number, key=key, mandatory=True)
        except UndeliverableMessage:
            return number, "undeliverable"
        return number, "confirmed"

    outcomes = dict(wait_all([concurrency.spawn(run, number) for number in range(600)]))
    eventually(lambda: len(got) == 400)
    assert sorted(got) == [number for number, outcome in outcomes.items() if outcome == "confirmed"]
    assert [number for number, outcome in outcomes.items() if outcome == "undeliverable"] == list(range(0, 600, 3))


def test_equal_destinations_with_different_bodies_are_told_apart(make_broker, rabbitmq_uri, eventually):
    """The queue goes while messages to it are under way: exactly those that were returned are reported."""
    broker, outcomes = make_broker(rabbitmq_uri), {}
    broker.declare(queue())
    with kombu.Connection(rabbitmq_uri) as connection:
        channel = connection.default_channel
        for number in range(2000):
            broker.publish_nowait(
                number,
                exchange="things",
                routing_key="thing.a",
                mandatory=True,
                on_done=lambda error, number=number: outcomes.update({number: error}),
            )
            if number == 1000:
                concurrency.sleep(0.02)
                bodies = []
                while (message := queue()(channel).get(no_ack=True)) is not None:
                    bodies.append(message.payload)
                queue()(channel).delete()
    eventually(lambda: len(outcomes) == 2000)
    undeliverable = [number for number, error in outcomes.items() if error is not None]
    assert all(isinstance(outcomes[number], UndeliverableMessage) for number in undeliverable)
    assert undeliverable == sorted(undeliverable)
    assert set(bodies).isdisjoint(undeliverable)
    assert set(range(1001, 2000)) <= set(undeliverable)


def test_a_missing_exchange_fails_only_the_one_who_named_it(make_broker, broker_uri, eventually):
    broker, got = make_broker(broker_uri), []
    collect(broker, got)

    def run(number):
        exchange = "nowhere" if number % 10 == 0 else "things"
        try:
            broker.publish(number, exchange=exchange, routing_key="thing.a")
        except NotFound:
            return "not found"
        return "confirmed"

    outcomes = wait_all([concurrency.spawn(run, number) for number in range(50)])
    good = [number for number in range(50) if number % 10]
    assert [number for number, outcome in enumerate(outcomes) if outcome == "confirmed"] == good
    assert {outcome for number, outcome in enumerate(outcomes) if number % 10 == 0} == {"not found"}
    eventually(lambda: set(got) == set(good))  # some may have come twice: nothing is lost
    publish(broker, "after")
    eventually(lambda: "after" in got)


def test_an_error_that_names_nobody_still_finds_its_culprit(make_broker, rabbitmq_uri, eventually):
    """An invalid property closes the channel, with a text that names no exchange."""
    broker, got = make_broker(rabbitmq_uri), []
    collect(broker, got)

    def run(number):
        options = {"expiration_s": None} if number != 17 else {"user_id": "somebody-else"}
        try:
            publish(broker, number, **options)
        except Exception as exc:
            return exc
        return "confirmed"

    outcomes = wait_all([concurrency.spawn(run, number) for number in range(30)])
    assert [number for number, outcome in enumerate(outcomes) if outcome != "confirmed"] == [17]
    assert "user_id" in str(outcomes[17])
    eventually(lambda: set(got) == set(range(30)) - {17})


def drop_confirms(proxy):
    confirm = re.compile(rb"\x01..\x00\x00\x00\x0d\x00\x3c\x00\x50.{9}\xce", re.DOTALL)
    proxy.alter = lambda data: confirm.sub(b"", data)


def test_a_suspect_that_is_never_confirmed_holds_others_up_until_its_deadline(make_broker, proxy, eventually):
    broker, got = make_broker(proxy.uri), []
    collect(broker, got)
    drop_confirms(proxy)
    outcomes = []
    for options in ({"user_id": "somebody-else"}, {}):  # the broker closes the channel over the first
        broker.publish_nowait(
            "suspect", exchange="things", routing_key="thing.a", on_done=outcomes.append, timeout_s=1.5, **options
        )
    eventually(lambda: len(outcomes) == 2)
    proxy.alter = lambda data: data
    publish(broker, "later", timeout_s=10)
    eventually(lambda: "later" in got)


def test_a_declaration_that_the_broker_closes_the_connection_over_is_refused_once(make_broker, rabbitmq_uri):
    broker = make_broker(rabbitmq_uri)
    with pytest.raises(ConfigurationError, match=r"^exchange `odd` cannot be declared: .*unknown exchange type"):
        broker.declare(kombu.Exchange("odd", type="x-of-no-plugin"))
    broker.declare(EXCHANGE)
    assert broker._publishing().connection.reconnects == 1


def test_big_messages_between_small_ones(make_broker, broker_uri, eventually):
    broker, got = make_broker(broker_uri), []
    collect(broker, got)
    sizes = [5_000_000 if number % 20 == 7 else 10 for number in range(60)]
    wait_all([concurrency.spawn(publish, broker, f"{number:03}" + "x" * size) for number, size in enumerate(sizes)])
    eventually(lambda: len(got) == 60, timeout_s=20)
    by_number = {int(payload[:3]): payload[3:] for payload in got}
    assert [by_number[number] == "x" * size for number, size in enumerate(sizes)] == [True] * 60


def test_what_cannot_be_sent_is_refused_before(make_broker, broker_uri):
    broker = make_broker(broker_uri, MAX_MESSAGE_BYTES=1000)
    broker.declare(EXCHANGE)
    with pytest.raises(EncodeError, match="not JSON serializable"):
        publish(broker, object())
    with pytest.raises(EncodeError, match="not JSON compliant"):
        publish(broker, float("nan"))
    loop = []
    loop.append(loop)
    with pytest.raises(EncodeError, match="Circular"):
        publish(broker, loop)
    with pytest.raises(MessageTooLarge, match="MAX_MESSAGE_BYTES allows 1000"):
        publish(broker, "x" * 1000)
    publish(broker, "x" * 900)


def test_a_header_of_an_unknown_type_is_refused_before(make_broker, rabbitmq_uri):
    broker = make_broker(rabbitmq_uri)
    broker.declare(EXCHANGE)
    for headers, named in (({"x": object()}, "x"), ({"a": 1, "x": [2**70]}, "x"), ({"k" * 300: 1}, "kkk")):
        with pytest.raises(Exception, match=f"headers cannot be encoded: `{named}"):
            publish(broker, 1, headers=headers)
    with pytest.raises(Exception, match="`reply_to` has 256 bytes"):
        publish(broker, 1, reply_to="x" * 256)
    publish(broker, 1)


class Token:
    def __repr__(self):
        return "the secret"


UNKNOWN = [Token(), [Token()], {"a": Token()}, [{"a\n[value: ": [1, (Token(),)]}]]


@pytest.mark.parametrize("value", UNKNOWN)
def test_a_header_of_an_unknown_type_is_named_with_its_type(make_broker, rabbitmq_uri, value):
    broker = make_broker(rabbitmq_uri)
    broker.declare(EXCHANGE)
    with pytest.raises(FrameSyntaxError) as caught:
        publish(broker, 1, headers={"to\nken": value})
    assert caught.value.reply_text == r"headers cannot be encoded: `to\nken`: AMQP has no type for Token"


@pytest.mark.parametrize("value", [*UNKNOWN, 2**70, [{"a": -(2**70)}]])
def test_the_value_of_a_header_that_cannot_be_encoded_is_not_shown(make_broker, broker_uri, value):
    broker = make_broker(broker_uri)
    broker.declare(EXCHANGE)
    with pytest.raises((FrameSyntaxError, ValueError)) as caught:
        publish(broker, 1, headers={"to\nken": value})
    assert not re.search(rf"the secret|{2**70}|\n", str(caught.value))


def test_headers_that_exceed_a_frame_are_refused_before(make_broker, broker_uri, eventually):
    """A content header is one frame; RabbitMQ closes the connection over a bigger one, and everybody else's with it."""
    broker, messages = make_broker(broker_uri), []
    broker.subscribe(queue(), lambda message: (messages.append(message), message.ack()))
    for too_big in ({"x": "ü" * 100_000}, {"x": ["a" * 40_000] * 4}, {f"{n}": {"y": n} for n in range(15_000)}):
        with pytest.raises(FrameSyntaxError, match=r"headers .* take \d{6} bytes, .* allows 131064"):
            publish(broker, 1, headers=too_big)
    publish(broker, 2)
    assert eventually(lambda: messages)[0].payload == 2
    assert broker._publishing().connection.reconnects == 0


def test_headers_may_fill_a_frame(make_broker, broker_uri, eventually):
    broker, messages = make_broker(broker_uri), []
    broker.subscribe(queue(), lambda message: (messages.append(message), message.ack()))
    with pytest.raises(FrameSyntaxError, match=r"take (\d+) bytes") as refused:
        publish(broker, 1, headers={"x": "a" * 140_000})
    fitting = 140_000 - (int(re.search(r"take (\d+)", str(refused.value))[1]) - 131_064)
    with pytest.raises(FrameSyntaxError, match="take 131065 bytes"):
        publish(broker, 1, headers={"x": "a" * (fitting + 1)})
    publish(broker, 2, headers={"x": "a" * fitting}, timeout_s=5)
    assert len(eventually(lambda: messages)[0].headers["x"]) == fitting


@pytest.mark.parametrize("key", ["k" * 256, "\ud800"])
def test_a_routing_key_that_cannot_be_sent_fails_alone(make_broker, broker_uri, eventually, key):
    broker = make_broker(broker_uri)
    collect(broker, got := [])
    with pytest.raises((FrameSyntaxError, UnicodeEncodeError)):
        publish(broker, "bad", key=key)
    with pytest.raises(UndeliverableMessage):
        publish(broker, "nowhere", key="nothing", mandatory=True)
    publish(broker, "good", timeout_s=10)
    assert eventually(lambda: got) == ["good"]


def test_encoded_by_the_caller(make_broker, broker_uri, eventually):
    broker, messages = make_broker(broker_uri), []
    broker.subscribe(queue(), lambda message: (messages.append(message), message.ack()))
    publish(broker, b"\x00\xff", content_type="application/octet-stream", content_encoding="binary")
    publish(broker, "text", content_type="text/plain")
    first, second = eventually(lambda: len(messages) == 2 and messages)
    assert bytes(first.body) == b"\x00\xff"
    assert first.content_type == "application/octet-stream"
    assert (bytes(second.body), second.content_encoding) == (b"text", "utf-8")


def test_a_body_that_the_caller_has_not_encoded(make_broker, broker_uri):
    broker = make_broker(broker_uri)
    with pytest.raises(EncodeError, match=r"content_type `foo/bar`.* must be bytes or str, not dict"):
        publish(broker, {"a": 1}, content_type="foo/bar")


def test_a_killed_publisher_leaves_no_trace(make_broker, proxy, eventually):
    broker, got = make_broker(proxy.uri), []
    collect(broker, got)
    proxy.hold()
    thread = concurrency.spawn(publish, broker, "killed")
    concurrency.sleep(0.05)
    thread.kill()
    proxy.release()
    wait_all([concurrency.spawn(publish, broker, number) for number in range(20)])
    eventually(lambda: set(range(20)) <= set(got))


def test_a_timeout_of_the_caller_strikes_while_waiting(make_broker, proxy, eventually):
    broker, got = make_broker(proxy.uri), []
    collect(broker, got)
    proxy.hold()
    with pytest.raises(concurrency.Timeout), concurrency.Timeout(0.1):
        publish(broker, "given up")
    proxy.release()
    publish(broker, "next")
    eventually(lambda: "next" in got)


def test_no_confirm_in_time(make_broker, proxy, eventually):
    broker, got = make_broker(proxy.uri), []
    collect(broker, got)
    proxy.hold()
    started_at = time.monotonic()
    with pytest.raises(PublishTimeout, match="whether it arrived is not known"):
        publish(broker, 1, timeout_s=0.3)
    assert 0.25 < time.monotonic() - started_at < 0.8
    proxy.release()
    publish(broker, 2)
    eventually(lambda: 2 in got)


class StuckLog(logging.Handler):
    """Waits, as one that writes to a slow peer."""

    def __init__(self):
        super().__init__()
        self.go_on = concurrency.Event()

    def emit(self, record):
        self.go_on.wait()


@pytest.fixture
def stuck_log():
    handler, logger = StuckLog(), logging.getLogger("nameko")
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)
    handler.go_on.send(None)


def test_deadlines_hold_while_the_log_is_stuck(make_broker, proxy, stuck_log):
    broker = make_broker(proxy.uri)
    broker.declare(EXCHANGE)
    proxy.hold()
    options = {"exchange": "things", "routing_key": "thing.a"}
    broker.publish_nowait(1, on_done=stuck_log.error, timeout_s=0.1, **options)
    for timeout_s in (0.1, 0.3):
        with concurrency.Timeout(5), pytest.raises(PublishTimeout):
            publish(broker, 2, timeout_s=timeout_s)


def test_messages_go_on_after_a_congestion_while_the_log_is_stuck(make_broker, rabbitmq_uri, stuck_log):
    broker, outcomes = make_broker(rabbitmq_uri), []
    broker.declare(EXCHANGE)
    broker.publish_nowait("x" * 1_500_000, exchange="things", routing_key="thing.a", on_done=outcomes.append)
    broker.publish_nowait(1, exchange="things", routing_key="k" * 256, on_done=stuck_log.error)
    with concurrency.Timeout(5):
        publish(broker, 2, timeout_s=3)
    assert outcomes == [None]


def test_what_is_given_up_is_released_although_it_is_never_confirmed(make_broker, proxy, eventually):
    """As with a quorum queue that has no majority: the broker reads, and confirms nothing."""
    broker = make_broker(proxy.uri)
    broker.declare(EXCHANGE)
    drop_confirms(proxy)

    def held_bytes():
        proxy.from_clients.clear()
        gc.collect()  # exceptions, and the frames that they have come through, refer to each other
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        for _ in range(40):
            with pytest.raises(PublishTimeout):
                publish(broker, "x" * 500_000, timeout_s=0.05)
            with pytest.raises(concurrency.Timeout), concurrency.Timeout(0.05):
                publish(broker, "x" * 500_000)
        eventually(
            lambda: held_bytes() < 15_000_000
        )  # once all of it is written, which on a busy machine takes a while
    finally:
        tracemalloc.stop()


def test_deadlines_hold_while_the_broker_is_away(make_broker, proxy, eventually):
    broker, got = make_broker(proxy.uri, PUBLISH_TIMEOUT=0.4), []
    collect(broker, got)
    proxy.refusing = True
    proxy.reset_all()
    started_at = time.monotonic()
    eventually(lambda: broker.not_ready_reasons())
    with pytest.raises(PublishTimeout, match="no connection to the broker"):
        publish(broker, "lost")
    assert time.monotonic() - started_at < 1.2
    proxy.refusing = False
    publish(broker, "found", timeout_s=10)
    eventually(lambda: "found" in got)


def test_nothing_is_lost_when_connections_break_under_load(make_broker, proxy, eventually):
    broker, got, outcomes = make_broker(proxy.uri), set(), {}

    def on_message(message):
        got.add(message.payload)
        message.ack()

    broker.subscribe(queue(), on_message)

    def run(thread):
        for number in range(40):
            identifier = f"{thread}-{number}"
            publish(broker, identifier, mandatory=True, timeout_s=20)
            assert identifier not in outcomes
            outcomes[identifier] = "confirmed"

    threads = [concurrency.spawn(run, thread) for thread in range(25)]
    broken = 0
    for _ in range(5):
        concurrency.sleep(0.15)
        broken += proxy.reset_all()
    wait_all(threads)
    assert broken >= 5
    assert len(outcomes) == 1000
    eventually(lambda: got == set(outcomes), timeout_s=10)


def test_connections_closed_by_the_broker(make_broker, rabbitmq_uri, eventually):
    broker, got = make_broker(rabbitmq_uri), []
    collect(broker, got)
    publish(broker, 1)
    connections = [broker._publishing().connection, broker._consuming().connection]
    before = [connection.raw for connection in connections]
    close_all_connections(
        rabbitmq_uri.rpartition("/")[2],
        until=lambda: all(connection.raw is not raw for connection, raw in zip(connections, before, strict=True)),
    )
    publish(broker, 2, timeout_s=10)
    eventually(lambda: 2 in got, timeout_s=10)


def method_frame(channel_id, *method, arguments=b""):
    return struct.pack(">BHIHH", 1, channel_id, 4 + len(arguments), *method) + arguments + b"\xce"


def test_a_connection_that_is_closed_as_soon_as_its_channel_is_set_up(make_broker, proxy, eventually):
    broker, got, outcomes, closed = make_broker(proxy.uri), [], {}, []
    collect(broker, got)

    def close_once(data):
        if method_frame(1, 85, 11) not in data or closed:  # confirm.select-ok
            return data
        closed.append(True)
        return data + method_frame(0, 10, 50, arguments=struct.pack(">HBHH", 320, 0, 0, 0))

    proxy.alter = close_once
    proxy.reset_all()
    for number in range(3):
        broker.publish_nowait(
            number, exchange="things", routing_key="thing.a", on_done=partial(outcomes.__setitem__, number)
        )
    eventually(lambda: closed and broker.container.not_ready_reasons() == [])
    publish(broker, 3)
    eventually(lambda: outcomes == {0: None, 1: None, 2: None})
    eventually(lambda: sorted(got) == [0, 1, 2, 3])


def close_all_connections(vhost, until):
    """Through the management API, which hears of connections seconds late: closes those it lists, until it is done."""
    client = Client(MANAGEMENT_URL)

    def close_those_listed():
        for connection in client.get_connections() or ():
            if connection.get("vhost") == vhost:
                try:
                    client.delete_connection(connection["name"])
                except HTTPError:  # listed, but gone already
                    pass
        return until()

    eventually(close_those_listed, timeout_s=25, interval_s=0.1)


def test_declared_entities_come_back_with_the_connection(make_broker, rabbitmq_uri, proxy, eventually):
    broker, got = make_broker(proxy.uri), []
    collect(broker, got)
    broker.declare(kombu.Exchange("extra", type="fanout"))
    proxy.refusing = True
    with kombu.Connection(rabbitmq_uri) as connection:
        proxy.reset_all()
        connection.default_channel.exchange_delete("extra")
    proxy.refusing = False
    broker.publish("x", exchange="extra", routing_key="", timeout_s=10)


def test_without_monkey_patching(rabbitmq_uri):
    program = f"""
import time
from nameko import concurrency
assert not concurrency.is_monkey_patched()
from nameko.amqp import Broker
from nameko.containers import ServiceContainer
from nameko.extensions import DependencyProvider
import kombu

class Holder(DependencyProvider):
    broker = Broker()

class Service:
    name = "unpatched"
    holder = Holder()

container = ServiceContainer(Service, {{"AMQP_URI": {rabbitmq_uri!r}}})
container.start()
broker = next(iter(container.dependencies)).broker
got = []
broker.subscribe(kombu.Queue("q", kombu.Exchange("e"), "k"), lambda m: (got.append(m.payload), m.ack()))
threads = [
    concurrency.spawn(broker.publish, n, exchange="e", routing_key="k", mandatory=True) for n in range(200)
]
for thread in threads:
    thread.wait()
deadline = time.monotonic() + 10
while len(got) < 200 and time.monotonic() < deadline:
    concurrency.sleep(0.01)
container.stop()
print(sorted(got) == list(range(200)))
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert finished.stdout == "True\n", finished.stderr


def test_a_message_that_the_broker_could_not_take(make_broker, rabbitmq_uri, eventually):
    """A full queue that refuses: the broker answers with basic.nack."""
    broker = make_broker(rabbitmq_uri)
    broker.declare(
        kombu.Queue("full", EXCHANGE, "thing.a", queue_arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    )
    publish(broker, 1)
    with pytest.raises(MessageRefused, match=r"not take the message \(exchange `things`.*`max-length`") as refused:
        publish(broker, 2)
    assert isinstance(refused.value, MessageNacked)
    publish(broker, 3, key="thing.elsewhere")


def test_a_callback_that_fails_hurts_nobody(make_broker, broker_uri, eventually, caplog):
    broker, outcomes = make_broker(broker_uri), []
    broker.declare(EXCHANGE)

    def fail(error):
        raise RuntimeError("oops")

    broker.publish_nowait(1, exchange="things", routing_key="x", on_done=fail)
    broker.publish_nowait(2, exchange="things", routing_key="x", on_done=outcomes.append)
    eventually(lambda: outcomes == [None])
    assert "the callback of a publication to exchange `things`, routing key `x` failed" in caplog.text


def test_a_cancelled_publication_is_not_told_and_not_sent_again(make_broker, rabbitmq_uri, proxy, eventually):
    broker, got, outcomes = make_broker(proxy.uri), [], []
    collect(broker, got)
    proxy.refusing = True
    proxy.reset_all()
    eventually(lambda: broker.not_ready_reasons())
    cancelled = broker.publish_nowait("no", exchange="things", routing_key="thing.a", on_done=outcomes.append)
    broker.publish_nowait("yes", exchange="things", routing_key="thing.a", on_done=outcomes.append)
    cancelled.cancel()
    assert cancelled.done
    proxy.refusing = False
    eventually(lambda: got == ["yes"] and outcomes == [None], timeout_s=10)


def test_the_time_that_a_message_waits_for_the_broker_counts_for_its_expiration(make_broker, proxy, eventually):
    broker, messages = make_broker(proxy.uri), []
    broker.subscribe(queue(), lambda message: (messages.append(message), message.ack()))
    proxy.refusing = True
    proxy.reset_all()
    eventually(lambda: broker.not_ready_reasons())
    options = {"exchange": "things", "routing_key": "thing.a", "on_done": lambda _: None}
    began_at = time.monotonic()
    broker.publish_nowait("first", expiration_s=60, **options)
    broker.publish_nowait("for ever", **options)
    eventually(lambda: time.monotonic() - began_at > 0.3)
    waited_ms = (time.monotonic() - began_at) * 1000
    proxy.refusing = False
    first, for_ever = eventually(lambda: len(messages) == 2 and messages, timeout_s=20)
    assert 0 < int(first.properties["expiration"]) <= 60_000 - waited_ms + 1
    assert first.properties["delivery_mode"] == 2
    assert "expiration" not in for_ever.properties


def test_a_message_that_the_broker_finds_too_big(make_broker, rabbitmq_uri, eventually):
    """More than the broker allows, where MAX_MESSAGE_BYTES allows it: RabbitMQ 3.10 takes 128 MiB."""
    broker, got = make_broker(rabbitmq_uri, MAX_MESSAGE_BYTES=200 * 1024 * 1024), []
    collect(broker, got)
    with pytest.raises(PreconditionFailed, match="message size"):
        publish(broker, b"x" * (129 * 1024 * 1024), content_type="application/octet-stream", timeout_s=20)
    publish(broker, "after")
    eventually(lambda: got == ["after"])


def test_compressed(make_broker, broker_uri, eventually):
    broker, messages = make_broker(broker_uri, ACCEPT_COMPRESSION=["gzip"]), []
    broker.subscribe(queue(), lambda message: (messages.append(message), message.ack()))
    publish(broker, "x" * 10_000, compression="gzip")
    message = eventually(lambda: messages)[0]
    assert len(message.body) < 200
    assert message.payload == "x" * 10_000


def test_a_stopped_container_publishes_no_more(make_broker, broker_uri):
    broker = make_broker(broker_uri)
    broker.container.stop()
    with pytest.raises(RuntimeError, match="service has stopped"):
        publish(broker, 1)


def test_a_native_thread_is_told_that_it_cannot_publish(make_broker, broker_uri, eventually):
    broker, got = make_broker(broker_uri), []
    collect(broker, got)

    def outcome_of(fn, *args):
        with pytest.raises(RuntimeError, match=r"^service: .*native thread.*`run_in_native_thread`") as raised:
            fn(*args)
        assert "\n" not in str(raised.value)

    for fn, *args in (
        (publish, broker, 1),
        (broker.publish_nowait, 1),
        (broker.declare, EXCHANGE),
        (broker.declare_for_message, EXCHANGE),
        (broker.subscribe, queue(), print),
    ):
        if fn == broker.publish_nowait:
            fn = partial(fn, exchange="things", routing_key="thing.a", on_done=print)
        with concurrency.Timeout(5):
            concurrency.run_in_native_thread(outcome_of, fn, *args)
    publish(broker, 2)
    eventually(lambda: got == [2])


def test_names_with_any_characters(make_broker, broker_uri, eventually):
    name = f"exchänge {uuid.uuid4()}"
    broker, got = make_broker(broker_uri), []
    broker.subscribe(
        kombu.Queue("schlänge", kombu.Exchange(name), routing_key="schlüssel"),
        lambda message: (got.append(message.delivery_info), message.ack()),
    )
    broker.publish(1, exchange=name, routing_key="schlüssel", mandatory=True)
    info = eventually(lambda: got)[0]
    assert (info["exchange"], info["routing_key"]) == (name, "schlüssel")
