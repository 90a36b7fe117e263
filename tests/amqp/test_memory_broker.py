"""The in-process broker itself: waking, threads, what it keeps, what can be seen of it."""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import textwrap
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import amqp
import kombu
import pytest
from amqp.exceptions import (
    ConnectionForced,
    NotFound,
    PreconditionFailed,
    RecoverableConnectionError,
    ResourceError,
)

from nameko import concurrency
from nameko.amqp.memory import (
    MAX_MESSAGE_BYTES,
    BindingInfo,
    Connection,
    MemoryBroker,
    Transport,
    drop_broker,
    get_broker,
)

native_threading = concurrency.original("threading")


@pytest.fixture
def vhost() -> Iterator[str]:
    name = f"memory-{uuid.uuid4().hex[:8]}"
    yield name
    drop_broker(name)


@pytest.fixture
def connect(vhost: str) -> Iterator[Callable[..., Connection]]:
    made: list[Connection] = []

    def make(**options: Any) -> Connection:
        connection = Connection(vhost, **options)
        connection.connect()
        made.append(connection)
        return connection

    yield make
    for connection in made:
        connection.close()


@pytest.fixture
def connection(connect: Callable[..., Connection]) -> Connection:
    return connect()


@pytest.fixture
def channel(connection: Connection) -> Any:
    return connection.channel()


@pytest.fixture
def broker(vhost: str) -> MemoryBroker:
    return get_broker(vhost)


def message(body: str | bytes = "x", **properties: Any) -> Any:
    return amqp.Message(body, **properties)


def declare(channel: Any, name: str = "a", **options: Any) -> None:
    channel.queue_declare(name, **{"durable": True, "auto_delete": False, **options})


def drain_all(connection: Connection) -> None:
    try:
        while True:
            connection.drain_events(timeout=0)
    except TimeoutError:
        pass


class TestWaking:
    def test_a_message_wakes_the_consumer_at_once(self, connect: Callable[..., Connection]) -> None:
        consuming, publishing = connect().channel(), connect().channel()
        declare(consuming)
        arrived: list[float] = []
        consuming.basic_consume("a", no_ack=True, callback=lambda received: arrived.append(time.perf_counter()))
        reader = concurrency.spawn(serve, consuming.connection)
        delays = []
        for number in range(200):
            sent_at = time.perf_counter()
            publishing.basic_publish(message(), routing_key="a")
            while len(arrived) <= number:
                concurrency.sleep(0)
            delays.append(arrived[-1] - sent_at)
        reader.kill()
        assert statistics.median(delays) < 0.001

    def test_waiting_takes_no_processor_time(self, connection: Connection) -> None:
        used_before = time.process_time()
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.5)
        assert time.process_time() - used_before < 0.05

    def test_a_reader_that_is_killed_loses_nothing(self, connection: Connection, channel: Any) -> None:
        declare(channel)
        bodies: list[str] = []
        channel.basic_consume("a", no_ack=True, callback=lambda received: bodies.append(received.body))
        reader = concurrency.spawn(serve, connection)
        concurrency.sleep(0)
        channel.basic_publish(message("one"), routing_key="a")
        reader.kill()
        connection.drain_events(timeout=1)
        assert bodies == ["one"]

    def test_a_timeout_of_the_reader_leaves_it_usable(self, connection: Connection, channel: Any) -> None:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=0.01)
        declare(channel)
        bodies: list[str] = []
        channel.basic_consume("a", no_ack=True, callback=lambda received: bodies.append(received.body))
        channel.basic_publish(message("one"), routing_key="a")
        connection.drain_events(timeout=1)
        assert bodies == ["one"]

    def test_several_greenthreads_may_wait_for_one_connection(
        self, connection: Connection, channel: Any, eventually: Callable[..., Any]
    ) -> None:
        declare(channel)
        bodies: list[str] = []
        channel.basic_consume("a", no_ack=True, callback=lambda received: bodies.append(received.body))
        readers = [concurrency.spawn(connection.drain_events, 5) for _ in range(3)]
        concurrency.sleep(0)
        for number in range(3):
            channel.basic_publish(message(str(number)), routing_key="a")
        for reader in readers:
            reader.wait()
        assert bodies == ["0", "1", "2"]

    def test_closing_wakes_everybody(self, connection: Connection) -> None:
        readers = [concurrency.spawn(connection.drain_events) for _ in range(3)]
        concurrency.sleep(0)
        connection.close()
        for reader in readers:
            with pytest.raises(RecoverableConnectionError, match="connection already closed"):
                reader.wait()
        with pytest.raises(RecoverableConnectionError):
            connection.drain_events(timeout=1)

    def test_a_consumer_that_feeds_itself_starves_nobody_and_needs_no_deep_stack(
        self, connection: Connection, channel: Any
    ) -> None:
        declare(channel)
        count = 0

        def requeue(received: Any) -> None:
            nonlocal count
            count += 1
            channel.basic_reject(received.delivery_tag, requeue=True)

        channel.basic_consume("a", callback=requeue)
        channel.basic_publish(message(), routing_key="a")
        reader = concurrency.spawn(serve, connection)
        for _ in range(20):  # each time, the reader has its turn and gives it back
            concurrency.sleep(0)
        reader.kill()
        assert count > sys.getrecursionlimit()


def serve(connection: Connection) -> None:
    while True:
        connection.drain_events()


class TestThreads:
    """Native threads, each with a hub of its own or none."""

    def test_publishing_from_another_thread_wakes_this_one(
        self, connect: Callable[..., Connection], channel: Any
    ) -> None:
        declare(channel)
        bodies: list[str] = []
        channel.basic_consume("a", no_ack=True, callback=lambda received: bodies.append(received.body))

        def publish() -> None:
            publishing = connect().channel()
            for number in range(200):
                publishing.basic_publish(message(str(number)), routing_key="a")

        thread = native_threading.Thread(target=publish)
        concurrency.schedule(0.05, thread.start)
        while len(bodies) < 200:
            channel.connection.drain_events(timeout=5)
        thread.join()
        assert bodies == [str(number) for number in range(200)]

    def test_a_thread_can_call_a_service_in_another(self, connect: Callable[..., Connection], channel: Any) -> None:
        declare(channel, "requests")

        def answer(request: Any) -> None:
            channel.basic_publish(message(request.body.upper()), routing_key=request.properties["reply_to"])
            channel.basic_ack(request.delivery_tag)

        channel.basic_consume("requests", callback=answer)
        replies: list[str] = []

        def call() -> None:
            client = connect()
            calling = client.channel()
            queue = calling.queue_declare("", exclusive=True).queue
            calling.basic_consume(queue, no_ack=True, callback=lambda reply: replies.append(reply.body))
            for word in ("one", "two", "three"):
                calling.basic_publish(message(word, reply_to=queue), routing_key="requests")
                client.drain_events(timeout=5)
            client.close()

        reader = concurrency.spawn(serve, channel.connection)
        concurrency.run_in_native_thread(call)
        reader.kill()
        assert replies == ["ONE", "TWO", "THREE"]

    def test_many_threads_lose_nothing(self, connect: Callable[..., Connection], channel: Any) -> None:
        declare(channel)
        received: list[str] = []

        def take(delivered: Any) -> None:
            received.append(delivered.body)
            channel.basic_ack(delivered.delivery_tag)

        channel.basic_qos(0, 10, False)
        channel.basic_consume("a", callback=take)

        def publish(name: int) -> None:
            publishing = connect().channel()
            for number in range(500):
                publishing.basic_publish(message(f"{name}-{number}"), routing_key="a")

        threads = [native_threading.Thread(target=publish, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        while len(received) < 2000:
            channel.connection.drain_events(timeout=5)
        for thread in threads:
            thread.join()
        assert len(set(received)) == 2000
        for name in range(4):
            own = [body for body in received if body.startswith(f"{name}-")]
            assert own == [f"{name}-{number}" for number in range(500)]

    def test_a_connection_may_be_drained_by_one_thread_after_another(
        self, connection: Connection, channel: Any
    ) -> None:
        declare(channel)
        bodies: list[str] = []
        channel.basic_consume("a", no_ack=True, callback=lambda received: bodies.append(received.body))
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.01)
        about_to_wait = native_threading.Event()

        def drain() -> None:
            about_to_wait.set()
            connection.drain_events(timeout=5)

        thread = native_threading.Thread(target=drain)
        thread.start()
        about_to_wait.wait()
        channel.basic_publish(message("one"), routing_key="a")
        thread.join()
        channel.basic_publish(message("two"), routing_key="a")
        connection.drain_events(timeout=1)
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.01)
        concurrency.schedule(0.01, channel.basic_publish, message("three"), "", "a")
        connection.drain_events(timeout=5)
        assert bodies == ["one", "two", "three"]

    def test_it_works_in_a_process_that_is_not_monkey_patched(self) -> None:
        program = """
            import threading
            import kombu
            from nameko.amqp.memory import Transport
            from nameko.concurrency import is_monkey_patched

            assert not is_monkey_patched()
            connection = kombu.Connection("memory://localhost/plain", transport=Transport)
            queue = kombu.Queue("a", durable=False)
            received = []

            def on_message(body, message):
                received.append(body)
                message.ack()

            def publish():
                with kombu.Connection("memory://localhost/plain", transport=Transport) as other:
                    other.Producer().publish({"n": 1}, routing_key="a", declare=[queue])

            with connection, connection.Consumer([queue], callbacks=[on_message]):
                thread = threading.Thread(target=publish)
                thread.start()
                connection.drain_events(timeout=5)
                thread.join()
            print(received)
        """
        finished = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=20
        )
        assert (finished.stdout, finished.returncode) == ("[{'n': 1}]\n", 0), finished.stderr


class TestResources:
    def test_files_and_greenthreads_return_to_where_they_were(self, vhost: str) -> None:
        def use() -> None:
            connection = Connection(vhost)
            connection.connect()
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=0)
            connection.close()

        use()
        files = set(os.listdir("/proc/self/fd"))
        for _ in range(20):
            use()
        assert set(os.listdir("/proc/self/fd")) == files

    def test_a_connection_closed_by_another_thread_leaves_no_files(self, connection: Connection) -> None:
        files = len(os.listdir("/proc/self/fd"))
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0)
        thread = native_threading.Thread(target=connection.close)
        thread.start()
        thread.join()
        concurrency.sleep(0.01)  # the hub of this thread gives them back
        assert len(os.listdir("/proc/self/fd")) == files

    def test_threads_without_greenthreads_leave_no_hubs_behind(
        self, vhost: str, broker: MemoryBroker, channel: Any
    ) -> None:
        declare(channel)

        def use() -> None:
            connection = Connection(vhost)
            connection.connect()
            own = connection.channel()
            for _ in range(200):
                own.basic_publish(message(expiration="60000"), routing_key="a")
            own.confirm_select()
            own.basic_publish(message(), routing_key="a")
            connection.drain_events(timeout=5)
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=0.01)
            connection.close()

        with pytest.raises(TimeoutError):
            channel.connection.drain_events(timeout=0)
        files = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            thread = native_threading.Thread(target=use)
            thread.start()
            thread.join()
        assert len(os.listdir("/proc/self/fd")) == files
        assert broker.queue_info("a").messages_ready == 5 * 201

    def test_channels_are_numbered_and_limited(self, connection: Connection) -> None:
        channels = [connection.channel() for _ in range(2047)]
        assert len({channel.channel_id for channel in channels}) == 2047
        with pytest.raises(ResourceError, match="No free channel ids"):
            connection.channel()
        channels[5].close()
        assert connection.channel().channel_id == channels[5].channel_id == 6
        assert connection.channel(1) is channels[0]


class TestRegistry:
    def test_a_virtual_host_is_one_broker(self, vhost: str, connect: Callable[..., Connection]) -> None:
        assert connect().broker is connect().broker is get_broker(vhost)
        assert get_broker("") is get_broker("/")
        assert get_broker(vhost) is not get_broker("/")

    def test_the_uri_names_it(self, vhost: str) -> None:
        for uri, name in [(f"memory://localhost/{vhost}", vhost), ("memory://localhost", "/"), ("memory://", "/")]:
            with kombu.Connection(uri, transport=Transport) as client:
                assert client.connection.broker.vhost == name
                assert client.connected

    def test_an_empty_one_is_forgotten(self, vhost: str) -> None:
        connection = Connection(vhost)
        connection.connect()
        declare(connection.channel(), exclusive=True)
        gone = weakref.ref(connection.broker)
        connection.close()
        del connection
        gc.collect()
        assert gone() is None

    def test_one_with_something_in_it_is_kept_until_that_is_gone(self, vhost: str) -> None:
        connection = Connection(vhost)
        connection.connect()
        channel = connection.channel()
        declare(channel)
        channel.basic_publish(message("kept"), routing_key="a")
        kept = weakref.ref(connection.broker)
        connection.close()
        del connection, channel
        gc.collect()
        assert kept() is not None

        again = Connection(vhost)
        again.connect()
        channel = again.channel()
        assert channel.basic_get("a", no_ack=True).body == "kept"
        channel.queue_delete("a")
        again.close()
        del again, channel
        gc.collect()
        assert kept() is None

    def test_it_can_be_dropped(self, vhost: str, connection: Connection, channel: Any) -> None:
        declare(channel)
        drop_broker(vhost)
        drop_broker(vhost)
        with pytest.raises(ConnectionForced):
            connection.drain_events(timeout=1)
        assert get_broker(vhost).queue_names == []


class TestInspection:
    def test_queues(self, broker: MemoryBroker, connection: Connection, channel: Any) -> None:
        declare(channel, "b", arguments={"x-max-length": 5})
        declare(channel, "a", exclusive=True, durable=False, auto_delete=True)
        for _ in range(3):
            channel.basic_publish(message(), routing_key="b")
        channel.basic_qos(0, 2, False)
        channel.basic_consume("b", callback=print)
        assert broker.queue_names == ["a", "b"]
        info = broker.queue_info("b")
        assert (info.messages_ready, info.messages_unacknowledged, info.messages, info.consumers) == (1, 2, 3, 1)
        assert (info.durable, info.auto_delete, info.exclusive) == (True, False, False)
        assert info.arguments == {"x-max-length": 5}
        info = broker.queue_info("a")
        assert (info.durable, info.auto_delete, info.exclusive) == (False, True, True)
        with pytest.raises(KeyError):
            broker.queue_info("c")

    def test_bindings_and_exchanges(self, broker: MemoryBroker, channel: Any) -> None:
        channel.exchange_declare("x", "topic", auto_delete=False)
        channel.exchange_declare("y", "headers", auto_delete=False)
        declare(channel)
        channel.queue_bind("a", "x", "k.*")
        channel.queue_bind("a", "x", "k.*")
        channel.exchange_bind("x", "y", "", arguments={"x-match": "any"})
        assert broker.exchange_names == ["x", "y"]
        assert broker.bindings() == [BindingInfo("x", "a", "k.*", {}), BindingInfo("y", "x", "", {"x-match": "any"})]

    def test_public_classes_say_where_they_are_found(self) -> None:
        for cls in (MemoryBroker, BindingInfo, Connection, Transport):
            assert cls.__module__ == "nameko.amqp.memory"


class TestLoss:
    """What a client sees when the broker ends its connection."""

    def test_everybody_is_told_and_messages_go_back(
        self, broker: MemoryBroker, connect: Callable[..., Connection]
    ) -> None:
        one, two = connect(), connect()
        channel = one.channel()
        declare(channel)
        channel.basic_consume("a", callback=print)
        channel.basic_publish(message("unacknowledged"), routing_key="a")
        assert broker.queue_info("a").messages_unacknowledged == 1
        reader = concurrency.spawn(two.drain_events)
        concurrency.sleep(0)
        broker.close_all_connections("maintenance")
        for wait in (reader.wait, lambda: drain_all(one)):
            with pytest.raises(ConnectionForced) as forced:
                wait()
            assert forced.value.reply_text == "CONNECTION_FORCED - maintenance"
        assert not one.connected
        assert not channel.is_open
        info = broker.queue_info("a")
        assert (info.messages_ready, info.messages_unacknowledged, info.consumers) == (1, 0, 0)
        one.connect()
        assert one.channel().basic_get("a").delivery_info["redelivered"]

    def test_until_then_it_is_as_with_a_socket(
        self, broker: MemoryBroker, connection: Connection, channel: Any
    ) -> None:
        declare(channel)
        broker.close_all_connections()
        channel.basic_publish(message(), routing_key="a")  # into the void
        channel.basic_ack(1)
        with pytest.raises(ConnectionForced):
            channel.queue_declare("a", passive=True)
        assert broker.queue_info("a").messages == 0
        connection.close()

    def test_pending_confirms_do_not_come_after_all(
        self, broker: MemoryBroker, connection: Connection, channel: Any
    ) -> None:
        declare(channel)
        channel.confirm_select()
        confirmed: list[int] = []
        channel.events["basic_ack"].add(lambda tag, multiple: confirmed.append(tag))
        channel.basic_publish(message("one"), routing_key="a")
        drain_all(connection)
        channel.close()
        assert confirmed == [1]
        with pytest.raises(RecoverableConnectionError):
            channel.basic_publish(message("two"), routing_key="a")


class TestChannelsThatStayClosed:
    """With `on_closed`, as nameko's own connections use their channels."""

    def test_after_a_publish(self, connection: Connection, channel: Any) -> None:
        errors: list[Exception] = []
        channel.on_closed = errors.append
        channel.basic_publish(message(), exchange="nowhere")
        drain_all(connection)  # raises nothing
        assert [type(error) for error in errors] == [NotFound]
        assert not channel.is_open
        assert channel.closed_by is errors[0]
        with pytest.raises(NotFound):
            channel.basic_publish(message())
        with pytest.raises(NotFound):
            channel.queue_declare("a")
        assert connection.connected

    def test_after_a_method_with_an_answer(self, connection: Connection, channel: Any) -> None:
        errors: list[Exception] = []
        channel.on_closed = errors.append
        with pytest.raises(NotFound) as failed:
            channel.queue_declare("nope", passive=True)
        assert errors == [failed.value]
        assert not channel.is_open
        assert connection.channel().is_open


class TestCancelling:
    def test_what_was_not_seen_yet_goes_back(self, broker: MemoryBroker, connection: Connection, channel: Any) -> None:
        declare(channel)
        seen: list[str] = []
        tag = channel.basic_consume("a", callback=lambda received: seen.append(received.body))
        for body in ("one", "two"):
            channel.basic_publish(message(body), routing_key="a")
        connection.drain_events(timeout=1)
        channel.basic_cancel(tag)
        drain_all(connection)
        assert seen == ["one"]
        info = broker.queue_info("a")
        assert (info.messages_ready, info.messages_unacknowledged) == (1, 1)

    def test_what_needs_no_acknowledgement_is_seen_first(self, connection: Connection, channel: Any) -> None:
        declare(channel)
        seen: list[str] = []
        tag = channel.basic_consume("a", no_ack=True, callback=lambda received: seen.append(received.body))
        for body in ("one", "two"):
            channel.basic_publish(message(body), routing_key="a")
        connection.drain_events(timeout=1)
        channel.basic_cancel(tag)
        assert seen == ["one", "two"]
        drain_all(connection)
        assert seen == ["one", "two"]

    def test_what_comes_for_a_closed_channel_is_dropped(self, broker: MemoryBroker, connection: Connection) -> None:
        channel = connection.channel()
        declare(channel)
        channel.basic_consume("a", callback=pytest.fail)
        channel.basic_publish(message(), routing_key="a")
        channel.close()
        drain_all(connection)
        assert broker.queue_info("a").messages_ready == 1

    def test_a_consumer_without_a_tag_cannot_be_added_without_an_answer(self, channel: Any) -> None:
        declare(channel)
        with pytest.raises(ValueError, match="Consumer tag"):
            channel.basic_consume("a", nowait=True)
        assert channel.basic_consume("a", consumer_tag="t", nowait=True) == "t"


class TestSettling:
    """What py-amqp has no method for, or RabbitMQ is not exact about."""

    def test_negative_acknowledgements(self, broker: MemoryBroker, connection: Connection, channel: Any) -> None:
        declare(channel)
        for number in range(4):
            channel.basic_publish(message(str(number)), routing_key="a")
            channel.basic_get("a")
        channel.basic_nack(2, multiple=True)
        channel.basic_nack(3, requeue=False)
        channel.basic_nack(4)
        assert [channel.basic_get("a", no_ack=True).body for _ in range(3)] == ["0", "1", "3"]
        channel.basic_nack(9)
        with pytest.raises(PreconditionFailed):
            connection.drain_events(timeout=1)

    def test_each_returns_to_its_place_whatever_the_order(self, channel: Any) -> None:
        declare(channel)
        for number in range(6):
            channel.basic_publish(message(str(number)), routing_key="a")
        tags = [channel.basic_get("a").delivery_tag for _ in range(5)]
        for index in (3, 0, 4, 1, 2):
            channel.basic_reject(tags[index], requeue=True)
        assert [channel.basic_get("a").body for _ in range(6)] == list("012345")

    def test_messages_of_a_deleted_queue_are_settled_in_vain(
        self, connect: Callable[..., Connection], connection: Connection, channel: Any
    ) -> None:
        declare(channel)
        for _ in range(3):
            channel.basic_publish(message(), routing_key="a")
            channel.basic_get("a")
        connect().channel().queue_delete("a")
        declare(channel)
        channel.basic_ack(1)
        channel.basic_reject(2, requeue=False)
        channel.basic_reject(3, requeue=True)
        drain_all(connection)
        assert channel.basic_get("a") is None

    def test_a_full_queue_can_dead_letter_what_it_refuses(self, channel: Any) -> None:
        declare(channel, "dead")
        declare(
            channel,
            arguments={
                "x-max-length": 1,
                "x-overflow": "reject-publish-dlx",
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": "dead",
            },
        )
        for body in ("one", "two"):
            channel.basic_publish(message(body), routing_key="a")
        assert channel.basic_get("a").body == "one"
        refused = channel.basic_get("dead")
        assert (refused.body, refused.headers["x-death"][0]["reason"]) == ("two", "maxlen")


class TestMessages:
    def test_receivers_do_not_share_what_they_may_change(self, channel: Any) -> None:
        channel.exchange_declare("x", "fanout")
        for queue in "ab":
            declare(channel, queue)
            channel.queue_bind(queue, "x", "")
        sent = message(application_headers={"list": [1]}, correlation_id="c")
        channel.basic_publish(sent, exchange="x")
        sent.properties["application_headers"]["list"].append("sender")
        first = channel.basic_get("a")
        first.properties["application_headers"]["list"].append("receiver")
        first.properties["correlation_id"] = "changed"
        channel.basic_reject(first.delivery_tag, requeue=True)
        for queue in "ab":
            received = channel.basic_get(queue)
            assert received.properties == {
                "application_headers": {"list": [1]},
                "correlation_id": "c",
                "content_encoding": "utf-8",
            }

    def test_too_large_ones_close_the_channel_as_with_rabbitmq_4(self, connection: Connection, channel: Any) -> None:
        declare(channel)
        channel.basic_publish(message(bytes(MAX_MESSAGE_BYTES)), routing_key="a")
        assert len(channel.basic_get("a").body) == MAX_MESSAGE_BYTES
        channel.basic_publish(message(bytes(MAX_MESSAGE_BYTES + 1)), routing_key="a")
        with pytest.raises(PreconditionFailed, match="16777217 is larger than configured max size 16777216"):
            connection.drain_events(timeout=1)

    @pytest.mark.parametrize(
        ("properties", "error"),
        [
            ({"correlation_id": 5}, TypeError),
            ({"correlation_id": "é" * 128}, ValueError),
            ({"priority": -1}, ValueError),
            ({"priority": "high"}, TypeError),
            ({"timestamp": 2**64}, ValueError),
            ({"application_headers": {"n": 2**63}}, ValueError),
            ({"application_headers": {"k" * 256: 1}}, ValueError),
        ],
    )
    def test_what_would_not_fit_on_the_wire_is_refused(
        self, channel: Any, properties: dict[str, Any], error: type[Exception]
    ) -> None:
        declare(channel)
        with pytest.raises(error):
            channel.basic_publish(message(**properties), routing_key="a")
        assert channel.basic_get("a") is None

    def test_bodies_are_decoded_only_where_they_can_be(self, connection: Connection, channel: Any) -> None:
        declare(channel)
        for body, encoding in [(b"\xe9", "utf-8"), (b"x", "no-such"), (b"\xe9", "latin-1")]:
            channel.basic_publish(message(body, content_encoding=encoding), routing_key="a")
        assert [channel.basic_get("a").body for _ in range(3)] == [b"\xe9", b"x", "é"]


class TestExpiryWithoutTimers:
    def test_where_the_thread_that_published_has_ended(
        self, broker: MemoryBroker, connect: Callable[..., Connection], channel: Any, eventually: Callable[..., Any]
    ) -> None:
        declare(channel)
        declare(channel, "queue", arguments={"x-expires": 50})

        def publish() -> None:
            publishing = connect().channel()
            publishing.basic_publish(message(expiration="50"), routing_key="a")
            publishing.queue_declare("other", auto_delete=False, arguments={"x-expires": 50})

        thread = native_threading.Thread(target=publish)
        thread.start()
        thread.join()
        assert "other" in broker.queue_names
        eventually(lambda: broker.queue_info("a").messages == 0)

        def is_gone() -> bool:
            try:
                channel.queue_declare("other", passive=True)
            except NotFound:
                return True
            concurrency.sleep(0.06)
            return False

        eventually(is_gone)


class TestUnderKombu:
    def test_a_connection_is_a_context_manager(self, vhost: str) -> None:
        with Connection(vhost) as connection:
            assert connection.is_alive()
            connection.send_heartbeat()
            connection.heartbeat_tick()
            with connection.channel() as channel:
                declare(channel)
            assert not channel.is_open
        assert not connection.is_alive()

    def test_what_is_sent_without_a_route_reaches_kombus_handler(self, vhost: str) -> None:
        returned: list[Any] = []
        with kombu.Connection(f"memory://localhost/{vhost}", transport=Transport) as client:
            producer = client.Producer(on_return=lambda *arguments: returned.append(arguments))
            producer.publish("lost", routing_key="nowhere", mandatory=True)
            client.drain_events(timeout=1)
            assert returned[0][2] == "nowhere"
            assert client.transport.driver_version()
            client.collect()
            assert not client.connected

    def test_no_answer_is_given_where_none_is_wanted(self, channel: Any) -> None:
        assert channel.queue_declare("a", nowait=True) is None
        assert channel.queue_purge("a", nowait=True) is None
        assert channel.queue_delete("a", nowait=True) is None

    def test_a_repr_says_what_it_is(self, vhost: str, connection: Connection, channel: Any) -> None:
        assert repr(connection).startswith(f"<memory Connection to '{vhost}'")
        assert repr(channel).startswith("<memory Channel 1 of <memory Connection")

    def test_opening_calls_back(self, connection: Connection) -> None:
        opened: list[Any] = []
        assert [connection.channel(callback=opened.append)] == opened
