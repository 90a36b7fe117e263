"""Consuming: messages reach the handler, and the subscription outlives whatever happens to it."""

from __future__ import annotations

import logging
import struct

import amqp
import kombu
import pytest
from kombu.exceptions import ContentDisallowed, DecodeError, MessageStateError

from nameko import concurrency
from nameko.amqp.transport import transport_class
from nameko.exceptions import ConfigurationError, ContainerBeingKilled

EXCHANGE = kombu.Exchange("things", type="topic")
QUEUE = kombu.Queue("things", EXCHANGE, routing_key="thing.#")


def publish(broker, payload, **options):
    broker.publish(payload, exchange="things", routing_key="thing.a", mandatory=True, **options)


def client(uri):
    """A plain kombu connection to the same broker."""
    options = {"transport": transport_class(uri)} if uri.startswith("memory") else {}
    return kombu.Connection(uri, **options)


def depth(uri, name="things"):
    with client(uri) as connection:
        return connection.default_channel.queue_declare(name, passive=True).message_count


def keep(messages):
    """A handler that acknowledges."""

    def on_message(message):
        messages.append(message)
        message.ack()

    return on_message


def test_acknowledged_messages_are_gone(make_broker, broker_uri, eventually):
    broker, got = make_broker(broker_uri), []
    subscription = broker.subscribe(QUEUE, keep(got))
    assert subscription.consuming
    for number in range(20):
        publish(broker, number)
    eventually(lambda: len(got) == 20)
    assert [message.payload for message in got] == list(range(20))
    broker.container.stop()
    assert depth(broker_uri) == 0


def test_unacknowledged_messages_come_back_when_the_channel_is_given_back(make_broker, broker_uri, eventually):
    broker, got = make_broker(broker_uri), []
    broker.subscribe(QUEUE, got.append)
    for number in range(5):
        publish(broker, number)
    eventually(lambda: len(got) == 5)
    broker.container.stop()
    eventually(lambda: depth(broker_uri) == 5)
    other, again = make_broker(broker_uri), []
    other.subscribe(QUEUE, keep(again))
    eventually(lambda: len(again) == 5)
    assert all(message.redelivered for message in again)


def test_prefetch_limits_what_is_under_way(make_broker, broker_uri, eventually):
    broker, got = make_broker(broker_uri, max_workers=3), []
    broker.subscribe(QUEUE, got.append)
    for number in range(10):
        publish(broker, number)
    eventually(lambda: len(got) == 3)
    assert depth(broker_uri) == 7
    got[0].ack()
    eventually(lambda: len(got) == 4)


@pytest.mark.parametrize(("config", "expected"), [({"PREFETCH_COUNT": 2}, 2), ({"max_workers": 4}, 4), ({}, 10)])
def test_prefetch_by_configuration(make_broker, memory_uri, config, expected, eventually):
    broker, got = make_broker(memory_uri, **config), []
    broker.subscribe(QUEUE, got.append)
    for number in range(15):
        publish(broker, number)
    eventually(lambda: len(got) == expected)
    assert depth(memory_uri) == 15 - expected


def test_prefetch_must_be_a_number(make_broker, memory_uri):
    with pytest.raises(ConfigurationError, match="PREFETCH_COUNT must be a number"):
        make_broker(memory_uri, PREFETCH_COUNT="many")


def test_requeue_and_reject(make_broker, broker_uri, eventually):
    broker, seen = make_broker(broker_uri), []

    def on_message(message):
        seen.append((message.payload, message.redelivered))
        if message.payload == "again" and not message.redelivered:
            message.requeue()
        else:
            message.reject()

    broker.subscribe(QUEUE, on_message)
    publish(broker, "again")
    publish(broker, "never")
    eventually(lambda: len(seen) == 3)
    assert sorted(seen) == [("again", False), ("again", True), ("never", False)]
    broker.container.stop()
    assert depth(broker_uri) == 0


def test_a_message_is_settled_once(make_broker, broker_uri, eventually):
    broker, got = make_broker(broker_uri), []
    broker.subscribe(QUEUE, keep(got))
    publish(broker, 1)
    message = eventually(lambda: got)[0]
    assert message.acknowledged
    for settle in (message.ack, message.reject, message.requeue):
        with pytest.raises(MessageStateError, match="already acknowledged with state: ACK"):
            settle()


@pytest.mark.parametrize("error", [ValueError("oops"), concurrency.Timeout(None), SystemExit(3), KeyboardInterrupt()])
def test_whatever_a_handler_raises_the_message_is_rejected_and_consuming_goes_on(
    make_broker, broker_uri, eventually, error, caplog
):
    broker, got = make_broker(broker_uri), []

    def on_message(message):
        if message.payload == "bad":
            raise error
        keep(got)(message)

    broker.subscribe(QUEUE, on_message)
    publish(broker, "bad")
    publish(broker, "good")
    eventually(lambda: got)
    assert broker.counters["messages_rejected"] == 1
    assert "queue things: a message is rejected" in caplog.text
    broker.container.stop()
    assert depth(broker_uri) == 0


def test_a_container_that_is_going_down_gives_messages_back(make_broker, broker_uri, eventually):
    broker, tries = make_broker(broker_uri), []

    def on_message(message):
        tries.append(message.redelivered)
        if len(tries) < 3:
            raise ContainerBeingKilled
        message.ack()

    broker.subscribe(QUEUE, on_message)
    publish(broker, 1)
    eventually(lambda: tries == [False, True, True])


def hold_first_of_five(broker):
    """A subscription whose callback does not return before the event is sent; and what it was called with."""
    got, go_on = [], concurrency.Event()

    def on_message(message):
        got.append(message)
        go_on.wait()

    subscription = broker.subscribe(QUEUE, on_message)
    for number in range(5):
        publish(broker, number)
    return subscription, got, go_on


def test_stop_gives_back_what_was_not_handed_on(make_broker, broker_uri, eventually):
    broker = make_broker(broker_uri)
    subscription, got, go_on = hold_first_of_five(broker)
    eventually(lambda: got)
    subscription.stop()
    assert not subscription.consuming
    eventually(lambda: depth(broker_uri) == 4)
    go_on.send(None)
    publish(broker, "later")
    got[0].ack()  # the channel is still open for what was handed on
    subscription.close()
    eventually(lambda: depth(broker_uri) == 5)
    assert len(got) == 1


def test_nothing_is_handed_on_while_a_silent_broker_is_asked_to_stop(make_broker, proxy, eventually):
    broker = make_broker(proxy.uri)
    subscription, got, go_on = hold_first_of_five(broker)
    eventually(lambda: subscription.waiting == 4)
    proxy.hold()
    stopping = concurrency.spawn(subscription.stop)
    concurrency.sleep(0)
    go_on.send(None)
    stopping.wait()
    assert len(got) == 1
    proxy.release()
    with client(proxy.uri) as connection:
        eventually(lambda: connection.default_channel.queue_declare("things", passive=True).message_count == 4)


def test_inline_runs_in_the_reader_while_others_are_blocked(make_broker, broker_uri, eventually):
    broker, got, blocked, forever = make_broker(broker_uri), [], [], concurrency.Event()
    other = kombu.Queue("replies", EXCHANGE, routing_key="reply")

    def block(message):
        blocked.append(message)
        forever.wait()

    broker.subscribe(QUEUE, block)
    broker.subscribe(other, keep(got), inline=True)
    publish(broker, 1)
    eventually(lambda: blocked)
    for number in range(100):
        broker.publish(number, exchange="things", routing_key="reply", mandatory=True)
    eventually(lambda: len(got) == 100)


def test_an_inline_handler_that_raises_does_not_stop_the_connection(make_broker, broker_uri, eventually):
    broker, got = make_broker(broker_uri), []

    def on_message(message):
        if message.payload == "bad":
            raise RuntimeError("oops")
        keep(got)(message)

    broker.subscribe(QUEUE, on_message, inline=True)
    publish(broker, "bad")
    publish(broker, "good")
    eventually(lambda: got)


def test_a_deleted_queue_is_declared_again(make_broker, broker_uri, eventually, caplog):
    broker, got, lost = make_broker(broker_uri), [], []
    subscription = broker.subscribe(QUEUE, keep(got), on_lost=lost.append)
    with client(broker_uri) as connection:
        connection.default_channel.queue_delete("things")
    eventually(lambda: lost)
    eventually(lambda: subscription.consuming)
    assert len([record for record in caplog.records if "declaring it again" in record.message]) == 1
    publish(broker, "after")
    eventually(lambda: [message.payload for message in got] == ["after"])


def test_a_deleted_queue_does_not_disturb_the_others(make_broker, broker_uri, eventually):
    broker, got = make_broker(broker_uri), []
    broker.subscribe(QUEUE, keep(got))
    broker.subscribe(kombu.Queue("doomed", EXCHANGE, routing_key="doomed"), keep([]))
    with client(broker_uri) as connection:
        connection.default_channel.queue_delete("doomed")
    for number in range(10):
        publish(broker, number)
    eventually(lambda: len(got) == 10)


def test_consuming_goes_on_after_a_lost_connection(make_broker, proxy, eventually):
    broker, got = make_broker(proxy.uri), []
    subscription = broker.subscribe(QUEUE, keep(got))
    for count in range(5):
        assert proxy.reset_all() == 2
        publish(broker, count, timeout_s=10)
        eventually(lambda count=count: subscription.consuming and count in [message.payload for message in got])
        eventually(lambda: len(proxy.links) == 2)


def test_a_stale_acknowledgement_does_nothing_and_the_message_comes_again(make_broker, proxy, eventually):
    broker, got = make_broker(proxy.uri), []
    subscription = broker.subscribe(QUEUE, got.append)
    publish(broker, 1)
    eventually(lambda: got)
    proxy.reset_all()
    eventually(lambda: len(got) == 2)
    assert not got[0].redelivered
    assert got[1].redelivered
    got[0].ack()  # on the connection that is gone
    publish(broker, 2, timeout_s=10)
    eventually(lambda: len(got) == 3)  # the channel is well: the stale tag did not reach it
    assert subscription.consuming
    got[1].ack()
    got[2].ack()
    broker.container.stop()
    assert broker.counters == {}


def test_what_waits_in_the_inbox_when_the_connection_is_lost_is_handed_on_once(make_broker, proxy, eventually):
    broker, got, go_on = make_broker(proxy.uri), [], concurrency.Event()

    def on_message(message):
        got.append(message)
        go_on.wait()
        message.ack()

    broker.subscribe(QUEUE, on_message)
    for number in range(5):
        publish(broker, number)
    eventually(lambda: got)
    proxy.reset_all()
    go_on.send(None)
    eventually(lambda: len(got) == 6)  # the first one twice, since its acknowledgement was lost
    assert sorted(message.payload for message in got) == [0, 0, 1, 2, 3, 4]


def test_another_queue_of_that_name_refuses_the_start(make_broker, broker_uri):
    with client(broker_uri) as connection:
        connection.default_channel.queue_declare(
            "things", durable=True, auto_delete=False, arguments={"x-message-ttl": 1000}
        )
        broker = make_broker(broker_uri)
        with pytest.raises(ConfigurationError) as raised:
            broker.subscribe(QUEUE, keep([]))
        connection.default_channel.queue_delete("things")
    assert "queue `things` exists with other properties" in str(raised.value)
    assert "x-message-ttl" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_another_exchange_of_that_name_refuses_the_declaration(make_broker, broker_uri):
    with client(broker_uri) as connection:
        connection.default_channel.exchange_declare("things", "fanout", durable=True, auto_delete=False)
        broker = make_broker(broker_uri)
        with pytest.raises(ConfigurationError, match="exchange `things` exists with other properties"):
            broker.declare(EXCHANGE)


def test_a_queue_that_turned_incompatible_is_tried_again_and_reported(make_broker, rabbitmq_uri, proxy, eventually):
    broker, lost = make_broker(proxy.uri), []
    subscription = broker.subscribe(QUEUE, keep([]), on_lost=lost.append)
    proxy.refusing = True
    proxy.reset_all()
    with client(rabbitmq_uri) as connection:
        channel = connection.default_channel
        channel.queue_delete("things")
        channel.queue_declare("things", durable=True, auto_delete=False, arguments={"x-message-ttl": 1000})
        proxy.refusing = False
        eventually(lambda: any(isinstance(error, amqp.exceptions.PreconditionFailed) for error in lost), timeout_s=10)
        assert not subscription.consuming
        assert "queue things is not consumed" in broker.container.not_ready_reasons()
        channel.queue_delete("things")
    eventually(lambda: subscription.consuming, timeout_s=10)


def send_raw(uri, body, **properties):
    with client(uri) as connection:
        channel = connection.default_channel
        message = amqp.Message(body, **properties)
        channel.basic_publish(message, exchange="things", routing_key="thing.a")


def test_payloads_are_decoded_on_demand(make_broker, broker_uri, eventually):
    broker, got = make_broker(broker_uri), []
    broker.subscribe(QUEUE, keep(got))
    json_type = {"content_type": "application/json", "content_encoding": "utf-8"}
    send_raw(broker_uri, b"{not json", **json_type)
    send_raw(broker_uri, b"\xff", **json_type)
    send_raw(broker_uri, b"[" * 100_000, **json_type)
    send_raw(broker_uri, b"x", content_type="application/x-python-serialize", content_encoding="binary")
    send_raw(broker_uri, b"plain")
    send_raw(broker_uri, b'{"__type__": "nothing", "__value__": 1}', **json_type)
    send_raw(broker_uri, b'"x"', application_headers={"compression": "application/x-gzip"}, **json_type)
    eventually(lambda: len(got) == 7)
    for message in got[:3]:
        with pytest.raises(DecodeError, match="cannot decode as `application/json`"):
            message.decode()
    with pytest.raises(ContentDisallowed, match="x-python-serialize` is not accepted"):
        _ = got[3].payload
    assert got[4].payload in (b"plain", "plain")
    assert got[5].payload == {"__type__": "nothing", "__value__": 1}
    with pytest.raises(ContentDisallowed, match="compression `application/x-gzip` is not accepted"):
        got[6].decode()


def test_falsy_payloads_are_decoded_once(make_broker, memory_uri, eventually):
    broker, got = make_broker(memory_uri), []
    broker.subscribe(QUEUE, keep(got))
    publish(broker, [])
    message = eventually(lambda: got)[0]
    assert message.payload is message.payload == []


def test_a_message_that_is_too_big_is_rejected(make_broker, broker_uri, eventually, caplog):
    broker, got = make_broker(broker_uri, MAX_MESSAGE_BYTES=300_000), []
    broker.subscribe(QUEUE, keep(got))
    send_raw(broker_uri, b"x" * 500_000)
    publish(broker, "x" * 200_000)
    eventually(lambda: got)
    assert len(got[0].payload) == 200_000
    assert broker.counters["messages_rejected"] == 1
    assert "a message is rejected" in caplog.text


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("a value of an unknown type", b"\x01kZ"),
        ("a table in a table, without end", b"\x01kF\x00\x00\xff\xff" * 5000),
        ("a date beyond all calendars", b"\x01kT\xff\xff\xff\xff\xff\xff\xff\xff"),
    ],
)
def test_headers_that_cannot_be_decoded_cost_nothing_but_their_message(name, table):
    """RabbitMQ checks tables before it passes them on; what it does let through must not reach the connection."""
    from nameko.amqp.channels import Channel

    payload = struct.pack(">HHQH", 60, 0, 1, 0x2000) + struct.pack(">I", len(table)) + table
    method = b"\x00\x3c\x00\x3c" + b"\x03tag" + struct.pack(">QB", 7, 0) + b"\x00" + b"\x01k"
    got = []

    class Closed(Channel):
        def __init__(self):
            self.callbacks = {"tag": got.append}
            self.connection = None
            self.no_ack_consumers = {"tag"}

    Closed().take_message(method, payload, b"x", False)
    assert got[0].error.startswith("malformed properties")
    assert got[0].delivery_tag == 7


def test_a_content_type_that_is_not_text(make_broker, rabbitmq_uri, eventually, caplog):
    """RabbitMQ passes any bytes on: here a content type that is not UTF-8."""
    broker, got = make_broker(rabbitmq_uri), []
    broker.subscribe(QUEUE, keep(got))
    send_raw(rabbitmq_uri, b"x", content_type=b"\xff\xfe")
    publish(broker, "good")
    eventually(lambda: got)
    assert broker.counters["messages_rejected"] == 1
    assert "malformed properties" in caplog.text


def test_no_ack_queues_need_no_acknowledgement(make_broker, broker_uri, eventually):
    broker, got = make_broker(broker_uri), []
    broker.subscribe(kombu.Queue("things", EXCHANGE, routing_key="thing.#", no_ack=True), keep(got))
    for number in range(30):
        publish(broker, number)
    eventually(lambda: len(got) == 30)


def test_two_instances_share_a_queue(make_broker, broker_uri, eventually):
    first, second = make_broker(broker_uri), make_broker(broker_uri)
    got = {first: [], second: []}
    for broker in got:
        broker.subscribe(QUEUE, keep(got[broker]))
    for number in range(40):
        publish(first, number)
    eventually(lambda: len(got[first]) + len(got[second]) == 40)
    assert len(got[first]) == len(got[second]) == 20


def test_nothing_is_logged_in_an_orderly_life(make_broker, broker_uri, eventually, caplog):
    caplog.set_level(logging.WARNING)
    broker, got = make_broker(broker_uri), []
    broker.subscribe(QUEUE, keep(got))
    publish(broker, 1)
    eventually(lambda: got)
    broker.container.stop()
    assert caplog.records == []
