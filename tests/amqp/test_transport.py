"""The transport: frames in any pieces, big and small, from many greenthreads; and TLS that verifies."""

from __future__ import annotations

import random
import re
import ssl
import struct
import time

import amqp
import kombu
import pytest
from amqp.exceptions import (
    FrameError,
    FrameSyntaxError,
    NotFound,
    PreconditionFailed,
    RecoverableConnectionError,
    UnexpectedFrame,
)
from amqp.serialization import decode_properties_basic

from nameko import concurrency
from nameko.amqp import BrokerRefused, UndeliverableMessage, wire
from nameko.amqp.transport import Transport
from nameko.exceptions import ConfigurationError

FRAME_MAX = 131072


# -- frames


class Frames:
    """Collects what a `FrameReader` hands on."""

    def __init__(self, max_message_bytes=2**40):
        self.methods, self.messages, self.acks = [], [], []
        self.reader = wire.FrameReader(
            on_method=lambda *args: self.methods.append(args),
            on_message=lambda *args: self.messages.append(args),
            on_ack=lambda *args: self.acks.append(args),
            frame_max=FRAME_MAX,
            max_message_bytes=max_message_bytes,
        )


def delivery(tag, body, properties=b"\x00\x00", channel=1, chunk=FRAME_MAX - 8):
    method = b"\x00\x3c\x00\x3c" + b"\x01c" + struct.pack(">QB", tag, 1) + b"\x02ex" + b"\x02rk"
    frames = [
        struct.pack(">BHI", 1, channel, len(method)) + method + b"\xce",
        struct.pack(">BHIHHQ", 2, channel, 12 + len(properties), 60, 0, len(body)) + properties + b"\xce",
    ]
    for start in range(0, len(body), chunk):
        part = body[start : start + chunk]
        frames.append(struct.pack(">BHI", 3, channel, len(part)) + part + b"\xce")
    return b"".join(frames)


ACK = struct.pack(">BHI", 1, 3, 13) + b"\x00\x3c\x00\x50" + struct.pack(">QB", 77, 1) + b"\xce"
STREAM = b"".join(
    [
        delivery(1, b"small"),
        wire.HEARTBEAT_FRAME,
        delivery(2, b"x" * 300_000, chunk=100_000),
        ACK,
        delivery(3, b""),
        wire.encode_method(0, (10, 61), b""),
    ]
)


@pytest.mark.parametrize("seed", range(5))
def test_frames_in_pieces_of_any_size(seed):
    frames, rest, chance = Frames(), STREAM, random.Random(seed)
    while rest:
        size = chance.choice([1, 3, 7, 8, 100, 70_000])
        frames.reader.feed(rest[:size])
        rest = rest[size:]
    assert [body for *_, body, _ in frames.messages] == [b"small", b"x" * 300_000, b""]
    assert [wire.decode_delivery(method)["delivery_tag"] for _, method, *_ in frames.messages] == [1, 2, 3]
    assert frames.acks == [(3, 77, True)]
    assert [method for _, method, _ in frames.methods] == [(10, 61)]
    assert frames.reader.wanted == 0


def test_byte_by_byte():
    frames = Frames()
    for byte in delivery(1, b"small") + ACK:
        frames.reader.feed(bytes([byte]))
    assert len(frames.messages) == len(frames.acks) == 1


def test_a_delivery_decoded():
    frames = Frames()
    frames.reader.feed(delivery(9, b"b"))
    assert wire.decode_delivery(frames.messages[0][1]) == {
        "consumer_tag": "c",
        "delivery_tag": 9,
        "redelivered": True,
        "exchange": "ex",
        "routing_key": "rk",
    }


def test_messages_of_several_channels_interleave():
    first, second = delivery(1, b"a" * 50, chunk=10, channel=1), delivery(2, b"b" * 50, chunk=10, channel=2)
    cut = len(first) - 18 * 3
    frames = Frames()
    frames.reader.feed(first[:cut] + second + first[cut:])
    assert [(channel, body) for channel, *_, body, _ in frames.messages] == [(2, b"b" * 50), (1, b"a" * 50)]


def test_bodies_over_the_limit_are_skipped():
    frames = Frames(max_message_bytes=100)
    frames.reader.feed(delivery(1, b"x" * 1000, chunk=90) + delivery(2, b"ok") + delivery(3, b"y" * 101))
    assert [(body, oversize) for *_, body, oversize in frames.messages] == [(b"", True), (b"ok", False), (b"", True)]


def test_cost_is_linear_in_the_size_of_a_message():
    def seconds(size):
        frames, data = Frames(), delivery(1, b"x" * size)
        best = float("inf")
        for _ in range(5):
            started_at = time.process_time()
            for start in range(0, len(data), 4096):
                frames.reader.feed(data[start : start + 4096])
            best = min(best, time.process_time() - started_at)
        return best

    # It would be 256 times as long, seconds, if each piece were added to what came before it.
    assert seconds(16_000_000) < 16 * 5 * max(seconds(1_000_000), 0.002)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x32\xff", UnexpectedFrame),
        (b"\x01\x00\x00\xff\xff\xff\xff", FrameError),
        (b"\x09\x00\x00\x00\x00\x00\x00\xce", UnexpectedFrame),
        (b"\x03\x00\x01\x00\x00\x00\x01x\xce", UnexpectedFrame),
        (delivery(1, b"x" * 10)[:-18] + ACK[:2] + b"\x01" + ACK[3:], UnexpectedFrame),
        (delivery(1, b"x")[:-9] + b"\x03\x00\x01\x00\x00\x00\x02xy\xce", UnexpectedFrame),
    ],
)
def test_what_is_no_amqp_is_refused(data, error):
    with pytest.raises(error):
        Frames().reader.feed(data)


@pytest.mark.parametrize("size", [0, 1, FRAME_MAX - 8, FRAME_MAX - 7, 3 * FRAME_MAX])
def test_content_goes_out_as_it_comes_in(size):
    body = bytes(size)
    properties = {"content_type": "a/b", "application_headers": {"k": ["v", 1, None]}, "priority": 3, "timestamp": 5}
    content = wire.encode_content(7, wire.OutboundMessage(body, properties), FRAME_MAX)
    frames = Frames()
    method = b"\x00\x3c\x00\x3c" + b"\x01c" + struct.pack(">QB", 1, 0) + b"\x00\x00"
    frames.reader.feed(struct.pack(">BHI", 1, 7, len(method)) + method + b"\xce" + content)
    ((channel, _, header, received, _),) = frames.messages
    assert (channel, received) == (7, body)
    assert wire.decode_properties(header) == properties


@pytest.mark.parametrize(
    "properties",
    [
        {"priority": 256},
        {"priority": "high"},
        {"delivery_mode": None, "timestamp": "yesterday"},
        {"correlation_id": "x" * 256},
        {"application_headers": {"k": object()}},
        {"application_headers": {"k": 2**64}},
        {"application_headers": {"k" * 256: 1}},
        {"application_headers": [1]},
    ],
)
def test_properties_that_amqp_does_not_know(properties):
    with pytest.raises(FrameSyntaxError):
        wire.encode_properties(properties)


def header_of(table, flags=0x2000, rest=b""):
    return struct.pack(">HHQH", 60, 0, 1, flags) + struct.pack(">I", len(table)) + table + rest


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"nameko.call_id_stack": ["a.b.1", "ü"], "nameko.language": "en"},
        {"mixed": ["a", 1, None], "empty": []},
        {"table": {"in": {"table": "x"}}, "number": 2**40, "yes": True, "nothing": None, "real": 0.5},
    ],
)
@pytest.mark.parametrize("others", [{}, {"reply_to": "r", "expiration": "1000"}, {"timestamp": 5, "app_id": "a"}])
def test_properties_come_back_as_they_were_sent(headers, others):
    properties = {"content_type": "a/b", "delivery_mode": 2, "priority": 0, **others, "application_headers": headers}
    header = struct.pack(">HHQ", 60, 0, 1) + wire.encode_properties(properties)
    assert wire.decode_properties(header) == properties
    assert wire.decode_properties(header) == decode_properties_basic(header, 12)[0]


@pytest.mark.parametrize("missing", [1, 2, 5, 6, 13])
def test_properties_that_end_too_early_are_read_as_py_amqp_reads_them(missing):
    whole = wire.encode_properties(dict.fromkeys(["content_type", "correlation_id", "reply_to"], "xxxxx"))
    cut = (struct.pack(">HHQ", 60, 0, 1) + whole)[:-missing]
    try:
        expected = decode_properties_basic(cut, 12)[0]
    except struct.error:
        with pytest.raises(struct.error):
            wire.decode_properties(cut)
    else:
        assert wire.decode_properties(cut) == expected


@pytest.mark.parametrize("name", [b"\xff\xfe", b"k"])
@pytest.mark.parametrize("value", [b"S\x00\x00\x00\x09short", b"A\x00\x00\x00\x09S\x00\x00\x00\x01x"])
def test_a_field_that_goes_beyond_its_table_reads_nothing_of_what_follows(name, value):
    table = bytes([len(name)]) + name + value
    try:
        properties = wire.decode_properties(header_of(table, flags=0x2400, rest=b"\x05other"))
    except Exception:  # refused, whatever as: the message is marked
        return
    assert properties == decode_properties_basic(header_of(table, flags=0x2400, rest=b"\x05other"), 12)[0]


# -- as kombu's transport


@pytest.fixture
def connection(rabbitmq_uri):
    with kombu.Connection(rabbitmq_uri, transport=Transport) as made:
        yield made


def test_it_is_a_transport_for_kombu(connection):
    channel = connection.default_channel
    queue = kombu.Queue("q", kombu.Exchange("e"), routing_key="k")(channel)
    queue.declare()
    connection.Producer(channel).publish({"a": 1}, exchange="e", routing_key="k", headers={"h": 1})
    got = []
    with kombu.Consumer(channel, [queue], callbacks=[lambda body, message: (got.append(body), message.ack())]):
        while not got:
            connection.drain_events(timeout=5)
    assert got == [{"a": 1}]
    assert queue.get() is None
    connection.Producer(channel).publish("ü", exchange="e", routing_key="k")
    assert queue.get(no_ack=True).payload == "ü"


def test_nothing_to_read_in_time(connection):
    started_at = time.monotonic()
    with pytest.raises(TimeoutError):
        connection.connect() and connection.drain_events(timeout=0.2)
    assert time.monotonic() - started_at < 1


def test_channel_errors_come_to_the_one_who_asked(connection):
    first, second = connection.channel(), connection.channel()
    errors = []

    def ask():
        try:
            first.queue_declare("none", passive=True)
        except NotFound as exc:
            errors.append(exc)

    thread = concurrency.spawn(ask)
    assert second.queue_declare("some", durable=False, auto_delete=True).queue == "some"
    thread.wait()
    assert len(errors) == 1
    with pytest.raises(NotFound):
        first.queue_declare("x")
    with pytest.raises(PreconditionFailed):
        second.queue_declare("some", durable=True, auto_delete=True)


def test_many_greenthreads_wait_for_answers_at_once(connection):
    channels = [connection.channel() for _ in range(20)]

    def declare(number):
        return [channels[number].queue_declare(f"q-{number}-{i}", auto_delete=True).queue for i in range(10)]

    threads = [concurrency.spawn(declare, number) for number in range(20)]
    assert [thread.wait() for thread in threads] == [[f"q-{n}-{i}" for i in range(10)] for n in range(20)]


def test_an_answer_that_does_not_come(proxy):
    with kombu.Connection(proxy.uri, transport=Transport) as connection:
        channel = connection.channel()
        proxy.hold()
        started_at = time.monotonic()
        with pytest.raises(TimeoutError, match="did not answer in time"):
            channel.wait((20, 11), timeout=0.2)
        assert time.monotonic() - started_at < 1
        connection.connection.collect()


def test_closing_under_a_reader_ends_its_wait(connection):
    raw = connection.connection
    errors = []

    def read():
        try:
            raw.drain_events()
        except OSError as exc:
            errors.append(exc)

    thread = concurrency.spawn(read)
    concurrency.sleep(0.05)
    raw.collect()
    with concurrency.Timeout(2):
        thread.wait()
    assert len(errors) == 1


def test_a_full_kernel_buffer_blocks_nobody_and_loses_nothing(make_broker, proxy, eventually):
    """40 MB are written while nobody reads; the writers go on, and the rest is held back until it can be sent."""
    broker, outcomes = make_broker(proxy.uri), []
    broker.declare(kombu.Queue("big", kombu.Exchange("e"), routing_key="k"))
    transport = broker._publishing().connection.raw.transport
    proxy.hold()
    for _ in range(40):
        broker.publish_nowait("x" * 1_000_000, exchange="e", routing_key="k", on_done=outcomes.append)
        concurrency.sleep(0)
    assert transport.congested
    assert transport.unsent_bytes < 3_000_000
    proxy.release()
    eventually(lambda: outcomes == [None] * 40, timeout_s=20)
    assert not transport.congested


def test_heartbeats_of_another_thread_do_not_get_into_frames(make_broker, rabbitmq_uri, eventually):
    broker, outcomes, sent = make_broker(rabbitmq_uri), [], []
    broker.declare(kombu.Queue("big", kombu.Exchange("e"), routing_key="k"))
    raw = broker._publishing().connection.raw

    def beat():
        while len(sent) < 5000 and len(outcomes) < 60:
            raw.transport.send_heartbeat_aside()
            sent.append(raw.transport.last_written_at)

    concurrency.original("threading").Thread(target=beat, daemon=True).start()
    for _ in range(60):
        broker.publish_nowait("x" * 1_000_000, exchange="e", routing_key="k", on_done=outcomes.append)
        concurrency.sleep(0)
    eventually(lambda: outcomes == [None] * 60, timeout_s=30)
    assert len(set(sent)) > 10
    assert broker._publishing().connection.raw is raw


# -- acknowledgements


@pytest.fixture
def deliver(connect_through_proxy):
    """`deliver(count)`: a channel, and so many messages that were delivered on it and are not settled."""

    def deliver(count):
        channel = connect_through_proxy.channel()
        queue = kombu.Queue("acks")(channel)
        queue.declare()
        for number in range(count):
            connect_through_proxy.Producer(channel).publish(number, routing_key="acks")
        got = []
        channel.basic_consume("acks", consumer_tag="t", callback=got.append)
        while len(got) < count:
            connect_through_proxy.drain_events(timeout=5)
        return channel, got

    return deliver


@pytest.fixture
def connect_through_proxy(proxy):
    with kombu.Connection(proxy.uri, transport=Transport) as made:
        yield made


def acks_in(data, channel_id):
    """Delivery tag and `multiple` of each basic.ack among the frames."""
    start = struct.pack(">BHI", 1, channel_id, 13) + b"\x00\x3c\x00\x50"
    return [struct.unpack_from(">QB", data, match.end()) for match in re.finditer(re.escape(start), data)]


def left_in_queue(channel, connection):
    """How many messages return to the queue when the channel is closed."""
    channel.close()
    return connection.channel().queue_declare("acks", passive=True).message_count


@pytest.mark.parametrize(
    ("acked", "expected", "left"),
    [
        ([1, 2, 3, 4, 5], [(5, 1)], 0),
        ([3, 1, 2], [(3, 1)], 2),
        ([2, 3], [(2, 0), (3, 0)], 3),
        ([1], [(1, 0)], 4),
        ([5, 1, 2, 4], [(5, 0), (1, 0), (2, 0), (4, 0)], 1),
    ],
)
def test_acks_of_one_turn_are_one_frame_where_that_says_the_same(
    deliver, connect_through_proxy, proxy, acked, expected, left
):
    channel, _ = deliver(5)
    for tag in acked:
        channel.basic_ack(tag)
    channel_id = channel.channel_id
    assert left_in_queue(channel, connect_through_proxy) == left
    assert acks_in(proxy.from_clients, channel_id) == expected


def test_acks_after_rejections_and_acks_of_many(deliver, connect_through_proxy, proxy):
    channel, _ = deliver(6)
    channel.basic_reject(1, requeue=False)
    channel.basic_ack(3, multiple=True)
    channel.basic_ack(5)
    channel.basic_ack(4)
    channel_id = channel.channel_id
    assert left_in_queue(channel, connect_through_proxy) == 1
    assert acks_in(proxy.from_clients, channel_id) == [(5, 1)]


def test_a_rejection_between_acks_is_no_ack(deliver, connect_through_proxy):
    channel, _ = deliver(4)
    channel.basic_ack(3)
    channel.basic_ack(4)
    channel.basic_reject(2, requeue=True)
    channel.basic_ack(1)
    assert left_in_queue(channel, connect_through_proxy) == 1


def test_acks_of_two_channels_in_turn(deliver, connect_through_proxy, proxy):
    channel, other = deliver(4)[0], deliver(0)[0]
    kombu.Queue("other")(other).declare()
    other.basic_cancel("t")
    got = []
    other.basic_consume("other", consumer_tag="o", callback=got.append)
    connect_through_proxy.Producer(channel).publish("x", routing_key="other")
    while not got:
        connect_through_proxy.drain_events(timeout=5)
    channel.basic_ack(2)
    channel.basic_ack(3)
    other.basic_ack(got[0].delivery_tag)
    channel.basic_ack(1)
    channel_id = channel.channel_id
    assert left_in_queue(channel, connect_through_proxy) == 1
    assert acks_in(proxy.from_clients, channel_id) == [(3, 1)]


def test_acks_of_one_and_of_many_in_one_turn(deliver, connect_through_proxy):
    channel, _ = deliver(6)
    channel.basic_ack(4)
    channel.basic_ack(5)
    channel.basic_ack(3, multiple=True)
    assert left_in_queue(channel, connect_through_proxy) == 1


def test_nothing_is_settled_on_a_channel_that_is_being_closed(deliver, connect_through_proxy):
    channel, _ = deliver(2)
    channel.close_soon()
    for settle in (channel.basic_ack, lambda tag: channel.basic_reject(tag, requeue=True)):
        with pytest.raises(RecoverableConnectionError):
            settle(1)
    assert connect_through_proxy.channel().queue_declare("acks", passive=True).message_count == 2


def test_a_message_that_was_fetched_is_not_acknowledged_with_others(deliver, connect_through_proxy, proxy):
    channel, got = deliver(2)
    kombu.Queue("fetched")(channel).declare()
    connect_through_proxy.Producer(channel).publish("x", routing_key="fetched")
    assert channel.basic_get("fetched") is not None
    channel.basic_ack(got[0].delivery_tag)
    channel.basic_ack(got[1].delivery_tag)
    assert left_in_queue(channel, connect_through_proxy) == 0
    assert connect_through_proxy.channel().queue_declare("fetched", passive=True).message_count == 1


def test_what_is_consumed_without_acks_is_not_kept_account_of(connect_through_proxy):
    channel = connect_through_proxy.channel()
    kombu.Queue("acks")(channel).declare()
    got = []
    channel.basic_consume("acks", consumer_tag="t", no_ack=True, callback=got.append)
    connect_through_proxy.Producer(channel).publish("x", routing_key="acks")
    while not got:
        connect_through_proxy.drain_events(timeout=5)
    assert channel._outstanding == {}


# -- TLS


@pytest.fixture
def tls_uri(tls_listener):
    """`tls_uri(name)`: RabbitMQ behind TLS, with the certificate of that name, as `amqps://...@localhost`."""
    return lambda name: tls_listener(name).uri


def test_tls(make_broker, tls_uri, certificates, eventually):
    broker, got = make_broker(tls_uri("good"), AMQP_SSL={"ca_certs": str(certificates / "ca.pem")}), []
    queue = kombu.Queue("q", kombu.Exchange("e"), routing_key="k")
    broker.subscribe(queue, lambda message: (got.append(len(message.payload)), message.ack()))
    threads = [
        concurrency.spawn(broker.publish, "x" * size, exchange="e", routing_key="k", mandatory=True)
        for size in [10] * 200 + [3_000_000] * 3
    ]
    for thread in threads:
        thread.wait()
    eventually(lambda: len(got) == 203, timeout_s=20)
    assert sorted(got) == [10] * 200 + [3_000_000] * 3
    broker.container.stop()


def test_over_tls_what_is_not_acknowledged_comes_again_and_nothing_else(
    make_broker, tls_uri, certificates, connection, eventually
):
    broker, got = make_broker(tls_uri("good"), AMQP_SSL={"ca_certs": str(certificates / "ca.pem")}), []
    queue = kombu.Queue("q", kombu.Exchange("e"), routing_key="k")
    subscription = broker.subscribe(queue, got.append, prefetch=10)
    for number in range(5):
        broker.publish(number, exchange="e", routing_key="k", mandatory=True)
    eventually(lambda: len(got) == 5)
    for message in (got[1], got[0], got[3]):
        message.ack()
    consuming = broker._consuming().connection
    consuming.raw.channel()  # the broker answers, so it has the acknowledgements
    consuming.raw.collect()  # the connection is lost
    eventually(lambda: len(got) == 7 and subscription.consuming, timeout_s=10)
    assert sorted((message.payload, message.redelivered) for message in got[5:]) == [(2, True), (4, True)]
    with pytest.raises(UndeliverableMessage):
        broker.publish("x", exchange="e", routing_key="nobody", mandatory=True)
    for message in got[5:]:
        message.ack()
    broker.container.stop()
    assert connection.default_channel.queue_declare("q", passive=True).message_count == 0


@pytest.mark.parametrize(
    ("certificate", "authority", "reason"),
    [
        ("wrong-host", "ca", "Hostname mismatch"),
        ("good", "other-ca", "self-signed certificate|unable to get local issuer"),
        ("good", None, "self-signed certificate|unable to get local issuer"),
        ("expired", "ca", "certificate has expired"),
    ],
)
def test_tls_that_does_not_verify_is_refused_at_once(
    make_broker, tls_uri, certificates, certificate, authority, reason
):
    options = {"ca_certs": str(certificates / f"{authority}.pem")} if authority else True
    started_at = time.monotonic()
    with pytest.raises(BrokerRefused, match=f"its certificate does not verify: ({reason})") as raised:
        make_broker(tls_uri(certificate), AMQP_SSL=options)
    assert time.monotonic() - started_at < 5
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("options", [{"verify": False}, {"cert_reqs": "CERT_NONE"}])
def test_verification_is_turned_off_in_so_many_words(make_broker, tls_uri, caplog, options):
    make_broker(tls_uri("wrong-host"), AMQP_SSL=options).declare(kombu.Exchange("e"))
    assert "the certificate of the broker is not verified" in caplog.text


def test_the_host_name_alone_may_go_unverified(make_broker, tls_uri, certificates, caplog):
    options = {"ca_certs": str(certificates / "ca.pem"), "check_hostname": False}
    make_broker(tls_uri("wrong-host"), AMQP_SSL=options)
    assert "the host name in the certificate of the broker is not verified" in caplog.text
    with pytest.raises(BrokerRefused, match="does not verify"):
        make_broker(tls_uri("expired"), AMQP_SSL=options)


def test_another_name_may_be_expected(make_broker, tls_uri, certificates):
    options = {"ca_certs": str(certificates / "ca.pem"), "server_hostname": "example.org"}
    make_broker(tls_uri("wrong-host"), AMQP_SSL=options)


def test_plain_where_tls_is_expected(make_broker):
    listener = concurrency.listen(("127.0.0.1", 0))

    def serve():
        while True:
            sock, _ = listener.accept()
            sock.sendall(b"\x15\x03\x03\x00\x02\x02\x0a")  # a TLS alert: unexpected message
            sock.close()

    thread = concurrency.spawn(serve)
    with pytest.raises(BrokerRefused, match="plain or TLS"):
        make_broker(f"amqp://guest:guest@127.0.0.1:{listener.getsockname()[1]}//", START_TIMEOUT=5)
    thread.kill()
    listener.close()


def test_tls_where_plain_is_expected(make_broker, rabbitmq_uri):
    with pytest.raises(BrokerRefused, match="TLS failed"):
        make_broker(rabbitmq_uri.replace("pyamqp://", "amqps://"), START_TIMEOUT=5)


def test_tls_options_that_cannot_work(make_broker, rabbitmq_uri):
    uri = rabbitmq_uri.replace("pyamqp://", "amqps://")
    with pytest.raises(ConfigurationError, match=r"cannot use ca_certs `/no/such/file`: .*No such file"):
        make_broker(uri, AMQP_SSL={"ca_certs": "/no/such/file"})
    with pytest.raises(ConfigurationError, match="unknown option `ca_cert`"):
        make_broker(uri, AMQP_SSL={"ca_cert": "x"})
    with pytest.raises(ConfigurationError, match="cert_reqs `maybe`"):
        make_broker(uri, AMQP_SSL={"cert_reqs": "maybe"})
    assert ssl.OPENSSL_VERSION  # the module that all of this is about


def test_properties_are_encoded_as_py_amqp_does():
    chance = random.Random(7)
    values = {
        "content_type": ["application/json", "ü/x", None],
        "content_encoding": ["utf-8", None],
        "application_headers": [
            {},
            {"nameko.call_id_stack": ["a.b.c", "d.e.f"], "ü": "ö"},
            {"i": 5, "big": 2**40, "neg": -3, "t": True, "f": 1.5, "n": None, "b": b"\xff", "d": {"x": [1, "y", []]}},
            None,
        ],
        "delivery_mode": [1, 2, None],
        "priority": [0, 9, None],
        "correlation_id": ["c" * 36, None],
        "reply_to": ["r", None],
        "expiration": ["1000", None],
        "message_id": ["m", None],
        "timestamp": [1_700_000_000, None],
        "type": ["t", None],
        "user_id": ["u", None],
        "app_id": ["a", None],
        "cluster_id": ["k", None],
    }
    for _ in range(300):
        properties = {name: chance.choice(choices) for name, choices in values.items()}
        expected = amqp.Message(b"", **properties)._serialize_properties()
        assert wire.encode_properties(properties) == expected
