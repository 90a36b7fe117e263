"""The synchronous AMQP client: confirms, deadlines, losses, threads."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import amqp
import kombu
import pytest
from amqp.exceptions import FrameSyntaxError
from kombu.exceptions import EncodeError

from nameko import concurrency
from nameko.amqp import (
    AmqpSettings,
    BrokerUnreachable,
    MessageRefused,
    MessageTooLarge,
    PublishTimeout,
    UndeliverableMessage,
)
from nameko.amqp.blocking import BlockingClient, BlockingPublisher, ConnectionLost, Deadline
from nameko.amqp.serializers import Codecs

QUEUE = kombu.Queue("blocking", durable=False, auto_delete=True)


@pytest.fixture
def settings(broker_uri: str) -> AmqpSettings:
    return AmqpSettings.from_config({"AMQP_URI": broker_uri})


@pytest.fixture
def client(settings: AmqpSettings) -> Iterator[BlockingClient]:
    client = BlockingClient(settings)
    yield client
    client.close()


@pytest.fixture
def publisher(settings: AmqpSettings) -> Iterator[BlockingPublisher]:
    publisher = BlockingPublisher(settings)
    yield publisher
    publisher.close()


@pytest.fixture
def received(client: BlockingClient) -> list[Any]:
    """What arrives in `QUEUE`, which `client` consumes."""
    messages: list[Any] = []

    def take(message: Any) -> None:
        messages.append(message)
        message.ack()

    deadline = Deadline(5)
    assert client.open(deadline)
    client.consume(QUEUE, take, deadline)
    return messages


# -- connecting


@pytest.mark.parametrize("greeting", [b"AMQP\0\0\x09\1", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\1\0\0\0\0\0\0\xce"])
def test_what_does_not_speak_amqp_cannot_be_connected_to(greeting: bytes) -> None:
    # A broker refuses a protocol header with its own; so may one that is on its way up.
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(8)
            peer.sendall(greeting)
            peer.recv(1)  # until the client has had enough

    answering = concurrency.spawn(answer)
    settings = AmqpSettings.from_config({"AMQP_URI": f"pyamqp://127.0.0.1:{listener.getsockname()[1]}"})
    client = BlockingClient(settings)
    with (
        listener,
        pytest.raises(ConnectionError, match=r"does not speak AMQP there .*is the port right"),
    ):
        client.open(Deadline(10))
    assert not client.connected
    answering.wait()


@pytest.mark.rabbitmq
@pytest.mark.parametrize("method", [b"\0\x14\0\x0b", b"\0\x55\0\x0b"], ids=["channel.open-ok", "confirm.select-ok"])
def test_connection_that_stalls_before_its_channel_is_there_is_not_kept(
    network: Any, network_uri: str, method: bytes
) -> None:
    client = BlockingClient(AmqpSettings.from_config({"AMQP_URI": network_uri}))
    network.stall_before(method)
    with pytest.raises(TimeoutError):
        client.open(Deadline(0.5))
    assert network.count("held_down") > 0
    assert not client.connected
    assert client.open(Deadline(5))
    publication = client.send(1, exchange="", routing_key="x", deadline=Deadline(5))
    client.wait(lambda: publication.done, Deadline(5))
    publication.result()
    client.close()


# -- deadlines


def test_deadline() -> None:
    never = Deadline(None)
    assert not never.passed
    assert never.remaining_s() is None
    soon = Deadline(0.05)
    assert 0 < (soon.remaining_s() or 0) <= 0.05
    assert never.or_after(None) is never
    assert soon.or_after(10) is soon
    assert (never.or_after(0.01).remaining_s() or 0) <= 0.01
    concurrency.sleep(0.06)
    assert soon.passed
    assert soon.remaining_s() == 0


# -- one client


def test_send_wait_and_consume(client: BlockingClient, received: list[Any]) -> None:
    deadline = Deadline(5)
    assert not client.open(deadline)
    assert client.connected
    publication = client.send(
        {"ä": 1},
        exchange="",
        routing_key="blocking",
        deadline=deadline,
        mandatory=True,
        correlation_id="1",
        headers={"a": "b"},
        expiration_s=2,
        reply_to="me",
    )
    client.wait(lambda: publication.done and received, deadline)
    publication.result()
    (message,) = received
    assert message.payload == {"ä": 1}
    assert message.headers == {"a": "b"}
    properties = {key: message.properties[key] for key in ("correlation_id", "reply_to", "expiration", "delivery_mode")}
    assert properties == {"correlation_id": "1", "reply_to": "me", "expiration": "2000", "delivery_mode": 2}


def test_unroutable_ones_among_others_are_told_apart(client: BlockingClient, received: list[Any]) -> None:
    deadline = Deadline(10)
    publications = [
        client.send(
            number,
            exchange="",
            routing_key="blocking" if number % 3 else "nowhere",
            deadline=deadline,
            mandatory=True,
            correlation_id=str(number),
        )
        for number in range(60)
    ]
    client.wait(lambda: all(each.done for each in publications) and len(received) == 40, deadline)
    failed = [number for number, each in enumerate(publications) if isinstance(each.error, UndeliverableMessage)]
    assert failed == list(range(0, 60, 3))


def test_wait_ends_at_its_deadline_although_messages_arrive(client: BlockingClient, received: list[Any]) -> None:
    client.send(0, exchange="", routing_key="blocking", deadline=Deadline(5))

    def never() -> bool:
        # A new message for each that arrives: there is always something to read.
        client._channel.basic_publish(amqp.Message("1"), routing_key="blocking")
        return False

    started = time.monotonic()
    with pytest.raises(TimeoutError):
        client.wait(never, Deadline(0.5))
    assert 0.4 < time.monotonic() - started < 1
    assert len(received) > 5


def test_unserializable_payload_sends_nothing(client: BlockingClient, received: list[Any]) -> None:
    with pytest.raises(EncodeError):
        client.send(object(), exchange="", routing_key="blocking", deadline=Deadline(5))
    assert client.connected


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"x": object()}},
        {"headers": {"k" * 300: 1}},
        {"reply_to": "x" * 256},
        {"routing_key": "k" * 256},
        {"headers": {"x": "x" * 140_000}},
    ],
    ids=["type of a header", "name of a header", "property", "routing key", "size of the headers"],
)
def test_what_amqp_cannot_send_is_refused_and_disturbs_nothing(rabbitmq_uri: str, options: dict[str, Any]) -> None:
    client = BlockingClient(AmqpSettings.from_config({"AMQP_URI": rabbitmq_uri}))
    deadline = Deadline(5)
    client.open(deadline)
    under_way = client.send(1, exchange="", routing_key="nobody", deadline=deadline)
    with pytest.raises(FrameSyntaxError):
        client.send(2, **{"exchange": "", "routing_key": "nobody", "deadline": deadline, **options})
    last = client.send(3, exchange="", routing_key="nobody", deadline=deadline)
    client.wait(lambda: under_way.done and last.done, deadline)
    under_way.result()
    last.result()
    client.close()


def test_closed_client_fails_what_is_not_confirmed_and_opens_again(client: BlockingClient, received: list[Any]) -> None:
    publication = client.send(1, exchange="", routing_key="blocking", deadline=Deadline(5))
    client.close()
    client.close()
    assert not client.connected
    with pytest.raises(ConnectionLost, match="was closed before the broker confirmed"):
        publication.result()
    assert client.open(Deadline(5))


@pytest.mark.rabbitmq
def test_second_broker_of_a_list_is_tried(rabbitmq_uri: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    uris = f"pyamqp://guest:guest@127.0.0.1:{port}/;{rabbitmq_uri}"
    client = BlockingClient(AmqpSettings.from_config({"AMQP_URI": uris}))
    assert client.open(Deadline(5))
    client.close()


@pytest.mark.rabbitmq
def test_wrong_password(rabbitmq_uri: str) -> None:
    settings = AmqpSettings.from_config({"AMQP_URI": rabbitmq_uri.replace("guest:guest", "guest:wrong")})
    with pytest.raises(amqp.AccessRefused) as raised:
        BlockingClient(settings).open(Deadline(5))
    assert raised.value.reply_code == 403
    text = str(raised.value)
    assert text.startswith(f"the broker {settings.masked_uri} refuses: ")
    assert text.endswith("; check user, password and virtual host in AMQP_URI")
    assert "wrong" not in text


@pytest.mark.rabbitmq
def test_unknown_virtual_host(rabbitmq_uri: str) -> None:
    settings = AmqpSettings.from_config({"AMQP_URI": f"{rabbitmq_uri.rpartition('/')[0]}/no-such-vhost"})
    with pytest.raises(amqp.NotAllowed, match="vhost no-such-vhost not found; check user, password and virtual host"):
        BlockingClient(settings).open(Deadline(5))


@pytest.mark.rabbitmq
@pytest.mark.parametrize(("connect_timeout_s", "within_s"), [(0.3, 10), (10, 1)])
def test_hanging_broker_of_a_list_leaves_time_for_the_next(
    rabbitmq_uri: str, silent: Any, connect_timeout_s: float, within_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    uris = f"{uri_of(silent)};{rabbitmq_uri}"
    client = BlockingClient(AmqpSettings.from_config({"AMQP_URI": uris, "CONNECT_TIMEOUT": connect_timeout_s}))
    started = time.monotonic()
    assert client.open(Deadline(within_s))
    assert time.monotonic() - started < 2
    assert f"cannot connect to pyamqp://guest:********@127.0.0.1:{silent.getsockname()[1]}/" in caplog.text
    client.drop()
    assert client.open(Deadline(5))  # where it worked last
    client.close()
    assert accepted(silent) == 1


@pytest.mark.rabbitmq
def test_connections_of_one_publisher_begin_where_it_worked_last(rabbitmq_uri: str, silent: Any) -> None:
    uris = f"{uri_of(silent)};{rabbitmq_uri}"
    publisher = BlockingPublisher(AmqpSettings.from_config({"AMQP_URI": uris, "CONNECT_TIMEOUT": 0.3}))
    publisher.publish(1, exchange="", routing_key="x")
    publishing = [concurrency.spawn(publisher.publish, 1, exchange="", routing_key="x") for _ in range(3)]
    for each in publishing:
        each.wait()
    publisher.close()
    assert accepted(silent) == 1


@pytest.mark.rabbitmq
def test_broker_of_a_list_that_refuses_is_followed_by_the_next(rabbitmq_uri: str) -> None:
    uris = f"{rabbitmq_uri.replace('guest:guest', 'guest:wrong')};{rabbitmq_uri}"
    client = BlockingClient(AmqpSettings.from_config({"AMQP_URI": uris}))
    assert client.open(Deadline(5))
    client.close()


@pytest.mark.parametrize("scheme", ["pyamqp", "amqps"])
@pytest.mark.parametrize("brokers", [1, 3])
def test_time_that_passes_before_there_is_a_connection(silent: Any, brokers: int, scheme: str) -> None:
    uris = ";".join([uri_of(silent).replace("pyamqp", scheme)] * brokers)
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"no connection to the broker \w+://guest:\*{8}@.* in time") as raised:
        BlockingClient(AmqpSettings.from_config({"AMQP_URI": uris})).open(Deadline(2))
    assert "\n" not in str(raised.value)
    assert 1.9 < time.monotonic() - started < 4
    assert accepted(silent) == brokers


def test_connecting_with_no_time_left(silent: Any) -> None:
    with pytest.raises(TimeoutError, match="no connection to the broker"):
        BlockingClient(AmqpSettings.from_config({"AMQP_URI": uri_of(silent)})).open(Deadline(0))
    assert accepted(silent) == 0


def test_broker_that_does_not_answer_within_connect_timeout(silent: Any) -> None:
    settings = AmqpSettings.from_config({"AMQP_URI": uri_of(silent), "CONNECT_TIMEOUT": 0.3})
    with pytest.raises(BrokerUnreachable, match=r"cannot be reached: no answer within 0\.3 s \(CONNECT_TIMEOUT\)"):
        BlockingClient(settings).open(Deadline(10))


@pytest.fixture
def silent() -> Iterator[Any]:
    """A node that hangs: a listener at which connections are made, and nothing else happens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def uri_of(listener: Any) -> str:
    return f"pyamqp://guest:guest@127.0.0.1:{listener.getsockname()[1]}/"


def accepted(listener: Any) -> int:
    """How many have connected."""
    listener.settimeout(0)
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def garbage_server(data: bytes) -> tuple[str, Any]:
    """A server that answers whoever connects with `data`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        connection.recv(8)
        connection.sendall(data)
        connection.recv(1)  # until the client has gone

    concurrency.spawn(serve)
    return f"pyamqp://guest:guest@127.0.0.1:{listener.getsockname()[1]}/", listener


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10,
        struct.pack(">BHI", 1, 0, 2**31) + b"x" * 100,
        struct.pack(">BHI", 1, 0, 4) + b"abcd\x00",
        b"",
    ],
)
def test_peer_that_does_not_speak_amqp(data: bytes) -> None:
    uri, listener = garbage_server(data)
    client = BlockingClient(AmqpSettings.from_config({"AMQP_URI": uri}))
    started = time.monotonic()
    with pytest.raises((OSError, amqp.AMQPError)):
        client.open(Deadline(0.5))
    assert time.monotonic() - started < 2
    assert not client.connected
    listener.close()


# -- the publisher


def test_publish_returns_when_confirmed(
    publisher: BlockingPublisher, client: BlockingClient, received: list[Any]
) -> None:
    for number in range(20):
        publisher.publish(number, exchange="", routing_key="blocking", mandatory=True)
    client.wait(lambda: len(received) == 20, Deadline(5))
    assert [message.payload for message in received] == list(range(20))


def test_publish_fails(publisher: BlockingPublisher) -> None:
    with pytest.raises(UndeliverableMessage):
        publisher.publish(1, exchange="", routing_key="nowhere", mandatory=True)
    publisher.publish(1, exchange="", routing_key="nowhere")
    with pytest.raises(amqp.NotFound):
        publisher.publish(1, exchange="nowhere", routing_key="x")
    with pytest.raises(MessageTooLarge):
        publisher.publish("x" * 17_000_000, exchange="", routing_key="x")
    publisher.publish(1, exchange="", routing_key="nowhere")


def test_full_queue_that_refuses(publisher: BlockingPublisher, client: BlockingClient) -> None:
    limits = {"x-max-length": 1, "x-overflow": "reject-publish"}
    client.open(Deadline(5))
    client.call(lambda channel: channel.queue_declare("full", auto_delete=False, arguments=limits), Deadline(5))
    publisher.publish(1, exchange="", routing_key="full")
    with pytest.raises(MessageRefused, match=r"not take the message .*routing key `full`.*`max-length`"):
        publisher.publish(2, exchange="", routing_key="full")


def test_compressed(settings: AmqpSettings, received: list[Any], client: BlockingClient) -> None:
    publisher = BlockingPublisher(settings, codecs=Codecs("json", ["json"]))
    publisher.publish("x" * 10_000, exchange="", routing_key="blocking", compression="gzip")
    publisher.close()
    client.wait(lambda: bool(received), Deadline(5))
    (message,) = received
    assert message.headers == {"compression": "application/x-gzip"}
    assert len(message.body) < 1_000


def test_many_at_once(publisher: BlockingPublisher, client: BlockingClient, received: list[Any]) -> None:
    def publish(number: int) -> None:
        for _ in range(10):
            publisher.publish(number, exchange="", routing_key="blocking", mandatory=True)

    threads = [concurrency.spawn(publish, number) for number in range(5)]
    for thread in threads:
        thread.wait()
    client.wait(lambda: len(received) == 50, Deadline(5))


@pytest.mark.rabbitmq
def test_publish_over_a_lost_connection(network: Any, network_uri: str) -> None:
    publisher = BlockingPublisher(AmqpSettings.from_config({"AMQP_URI": network_uri}))
    publisher.publish(1, exchange="", routing_key="x")
    network.reset()
    publisher.publish(2, exchange="", routing_key="x")
    assert network.count("accepted") == 2
    publisher.close()


@pytest.mark.rabbitmq
def test_publish_over_a_silent_network(network: Any, network_uri: str) -> None:
    publisher = BlockingPublisher(AmqpSettings.from_config({"AMQP_URI": network_uri, "PUBLISH_TIMEOUT": 0.5}))
    publisher.publish(1, exchange="", routing_key="x")
    network.blackhole()
    started = time.monotonic()
    with pytest.raises(PublishTimeout, match=r"no confirm from pyamqp://guest:\*{8}@"):
        publisher.publish(2, exchange="", routing_key="x")
    assert time.monotonic() - started < 1
    publisher.close()
    assert time.monotonic() - started < 3
