"""Replies when the broker or the network misbehaves: each call has one outcome, and nothing stops for good."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

from nameko import concurrency
from nameko.amqp import memory
from nameko.containers import ServiceContainer
from nameko.exceptions import ReplyLost, RpcTimeout
from nameko.rpc import ReplyListener, RpcConsumer, RpcProxy, rpc
from nameko.standalone.rpc import ClusterRpcProxy
from nameko.testing.services import dummy, entrypoint_hook

Start = Callable[..., ServiceContainer]
Eventually = Callable[..., Any]


class Slow:
    name = "slow"

    @rpc
    def sleep(self, seconds: float) -> float:
        concurrency.sleep(seconds)
        return seconds


class Caller:
    name = "caller"
    slow = RpcProxy("slow", timeout=10)

    @dummy
    def sleep(self, seconds: float) -> float:
        return self.slow.sleep(seconds)

    @dummy
    def sleep_at_most(self, seconds: float, timeout: float) -> float:
        return self.slow.sleep.with_options(timeout=timeout)(seconds)


def extension(container: ServiceContainer, cls: type) -> Any:
    (found,) = [each for each in container.extensions if type(each) is cls]
    return found


def delete_queue(connect: Any, name: str) -> None:
    connect().default_channel.queue_delete(name)


def test_lost_reply_queue_ends_pending_calls_and_is_replaced(
    start: Start, connect: Any, eventually: Eventually
) -> None:
    start(Slow)
    caller = start(Caller)
    listener = extension(caller, ReplyListener)
    first_key = listener.routing_key
    with entrypoint_hook(caller, "sleep") as sleep:
        threads = [concurrency.spawn(sleep, 5) for _ in range(3)]
        eventually(lambda: len(listener.pending) == 3)
        started = time.monotonic()
        delete_queue(connect, listener.queue.name)
        for thread in threads:
            with pytest.raises(ReplyLost, match=f"the reply queue rpc.reply-caller-{first_key} is lost"):
                thread.wait()
        assert time.monotonic() - started < 2
        assert len(listener.pending) == 0
        # The next call waits for the new queue, if need be, and works.
        assert sleep(0) == 0
    assert listener.routing_key != first_key
    assert not caller.not_ready_reasons()


@pytest.mark.rabbitmq
@pytest.mark.parametrize("broker_uri", ["unused"])
def test_calls_go_on_over_a_lost_connection(
    start: Start, rabbitmq_uri: str, network: Any, network_uri: str, eventually: Eventually
) -> None:
    start(Slow, AMQP_URI=rabbitmq_uri)
    caller = start(Caller, AMQP_URI=network_uri)
    listener = extension(caller, ReplyListener)
    key = listener.routing_key
    with entrypoint_hook(caller, "sleep") as sleep:
        thread = concurrency.spawn(sleep, 0.5)
        eventually(lambda: len(listener.pending) == 1)
        network.reset()
        # The reply waits in its queue, which keeps its name.
        assert thread.wait() == 0.5
        assert sleep(0) == 0
    assert network.count("accepted") > 2
    assert listener.routing_key == key


@pytest.mark.rabbitmq
@pytest.mark.parametrize("broker_uri", ["unused"])
def test_reply_goes_out_after_the_service_has_lost_its_connection(
    start: Start, rabbitmq_uri: str, network: Any, network_uri: str, eventually: Eventually
) -> None:
    slow = start(Slow, AMQP_URI=network_uri)
    caller = start(Caller, AMQP_URI=rabbitmq_uri)
    with entrypoint_hook(caller, "sleep") as sleep:
        thread = concurrency.spawn(sleep, 0.5)
        eventually(lambda: len(slow._worker_threads) == 1)
        network.reset()
        assert thread.wait() == 0.5
        assert sleep(0) == 0
    assert not slow._died.ready()


@pytest.mark.rabbitmq
@pytest.mark.parametrize("broker_uri", ["unused"])
def test_silent_network_ends_calls_at_their_deadline_and_no_container(
    start: Start, rabbitmq_uri: str, network: Any, network_uri: str, eventually: Eventually
) -> None:
    slow = start(Slow, AMQP_URI=network_uri, PUBLISH_TIMEOUT=1, HEARTBEAT=1)
    caller = start(Caller, AMQP_URI=network_uri, HEARTBEAT=1)
    consumer = extension(slow, RpcConsumer)
    with entrypoint_hook(caller, "sleep_at_most") as sleep:
        thread = concurrency.spawn(sleep, 0.2, 0.8)
        eventually(lambda: len(slow._worker_threads) == 1)
        network.blackhole()
        started = time.monotonic()
        with pytest.raises(RpcTimeout):
            thread.wait()
        assert time.monotonic() - started < 1.5
        eventually(lambda: not slow._worker_threads, timeout_s=5)
        eventually(lambda: consumer.broker.counters["replies_unconfirmed"] == 1, timeout_s=5)
        network.heal()
        eventually(lambda: not slow.not_ready_reasons() and not caller.not_ready_reasons(), timeout_s=10)
        assert sleep(0, 5) == 0
    assert not slow._died.ready()


@pytest.mark.rabbitmq
@pytest.mark.parametrize("broker_uri", ["unused"])
def test_workers_do_not_wait_until_their_reply_is_safe_and_requests_are_kept_until_then(
    start: Start, rabbitmq_uri: str, network: Any, network_uri: str, eventually: Eventually
) -> None:
    ran: list[int] = []
    gate = concurrency.Event()

    class Counting:
        name = "counting"

        @rpc
        def count(self, number: int) -> int:
            ran.append(number)
            gate.wait()
            return number

    counting = start(Counting, AMQP_URI=network_uri, max_workers=1, PREFETCH_COUNT=3)
    subscription = extension(counting, RpcConsumer)._subscription
    with ClusterRpcProxy({"AMQP_URI": rabbitmq_uri}, timeout=30) as cluster:
        calls = [cluster.counting.count.call_async(number) for number in range(3)]
        eventually(lambda: ran == [0] and subscription.waiting == 1)  # and one more stands in line for the worker
        network.blackhole()  # from now on no reply can leave, and none is confirmed
        gate.send(None)
        eventually(lambda: ran == [0, 1, 2] and not counting._worker_threads)
        network.reset()
        network.heal()
        assert [call.result() for call in calls] == [0, 1, 2]
        # None was acknowledged: the broker delivers each of them again.
        eventually(lambda: sorted(ran) == [0, 0, 1, 1, 2, 2])


def test_the_wait_for_a_reply_queue_counts_for_the_deadline_of_a_call(start: Start) -> None:
    start(Slow)
    caller = start(Caller)
    listener = extension(caller, ReplyListener)
    listener._subscribed = concurrency.Event()  # as while a lost queue is being replaced
    concurrency.spawn_after(0.7, listener._subscribed.send, True)
    with entrypoint_hook(caller, "sleep_at_most") as sleep:
        started = time.monotonic()
        with pytest.raises(RpcTimeout, match="within 1 s"):
            sleep(5, 1)
        assert time.monotonic() - started < 1.4


def test_stop_finishes_what_has_begun_and_gives_back_the_rest(
    start: Start, cluster: Any, connect: Any, eventually: Eventually
) -> None:
    first = start(Slow, max_workers=1, PREFETCH_COUNT=3)
    calls = [cluster.slow.sleep.call_async(0.3) for _ in range(3)]
    eventually(lambda: len(first._worker_threads) == 1)
    first.stop()
    assert calls[0].result() == 0.3
    info = connect().default_channel.queue_declare("rpc-slow", passive=True)
    assert info.message_count in (1, 2)  # one may have stood in line for the worker already, and was served
    start(Slow)
    assert [call.result() for call in calls] == [0.3] * 3


def test_killed_container_gives_its_requests_back(
    start: Start, cluster: Any, connect: Any, eventually: Eventually
) -> None:
    first = start(Slow)
    call = cluster.slow.sleep.call_async(1)
    eventually(lambda: len(first._worker_threads) == 1)
    first.kill()
    eventually(lambda: connect().default_channel.queue_declare("rpc-slow", passive=True).message_count == 1)
    start(Slow)
    assert call.result() == 1


def test_stopping_twice_and_before_starting(start: Start, broker_config: dict[str, Any]) -> None:
    container = ServiceContainer(Slow, broker_config)
    container.stop()
    container = start(Slow)
    container.stop()
    container.stop()


@pytest.mark.parametrize("broker_uri", ["unused"])
def test_broker_that_is_gone_and_comes_back(start: Start, memory_uri: str, eventually: Eventually) -> None:
    start(Slow, AMQP_URI=memory_uri)
    caller = start(Caller, AMQP_URI=memory_uri)
    with entrypoint_hook(caller, "sleep") as sleep:
        thread = concurrency.spawn(sleep, 0.3)
        eventually(lambda: len(extension(caller, ReplyListener).pending) == 1)
        memory.get_broker(memory_uri.rpartition("/")[2]).close_all_connections()
        assert thread.wait() == 0.3
        assert sleep(0) == 0


BLOCKED = struct.pack(">BHIHHB3sB", 1, 0, 8, 10, 60, 3, b"low", 0xCE)
UNBLOCKED = struct.pack(">BHIHHB", 1, 0, 4, 10, 61, 0xCE)


@pytest.mark.rabbitmq
@pytest.mark.parametrize("broker_uri", ["unused"])
@pytest.mark.parametrize("expires", [True, False])
def test_a_reply_waits_for_a_broker_that_takes_no_messages_as_long_as_its_caller(
    start: Start, rabbitmq_uri: str, network: Any, network_uri: str, eventually: Eventually, expires: bool
) -> None:
    slow = start(Slow, AMQP_URI=network_uri, PUBLISH_TIMEOUT=0.2, RPC_TIMEOUT=20)
    caller = start(Caller, AMQP_URI=rabbitmq_uri, RPC_EXPIRE_REQUESTS=expires)
    with entrypoint_hook(caller, "sleep") as sleep:
        network.inject(BLOCKED, "publish")
        eventually(lambda: slow.not_ready_reasons())
        thread = concurrency.spawn(sleep, 0)
        concurrency.sleep(1.5)  # longer than other publications wait
        network.inject(UNBLOCKED, "publish")
        assert thread.wait() == 0


@pytest.mark.rabbitmq
@pytest.mark.parametrize("broker_uri", ["unused"])
def test_a_reply_that_cannot_be_sent_is_given_up_when_its_caller_has_given_up(
    start: Start, network: Any, network_uri: str, rabbitmq_uri: str, eventually: Eventually, caplog: Any
) -> None:
    slow = start(Slow, AMQP_URI=network_uri, PUBLISH_TIMEOUT=0.2)
    caller = start(Caller, AMQP_URI=rabbitmq_uri)
    with entrypoint_hook(caller, "sleep_at_most") as sleep:
        network.inject(BLOCKED, "publish")
        eventually(lambda: slow.not_ready_reasons())
        with pytest.raises(RpcTimeout):
            sleep(0, 1)
    counters = extension(slow, RpcConsumer).broker.counters
    eventually(lambda: counters["replies_unconfirmed"] == 1)
    assert "may be lost: not published in time" in caplog.text


@pytest.mark.rabbitmq
@pytest.mark.parametrize("broker_uri", ["unused"])
def test_a_request_whose_reply_cannot_be_sent_is_given_to_another_instance_at_a_stop(
    start: Start, rabbitmq_uri: str, network: Any, network_uri: str, eventually: Eventually
) -> None:
    ran: list[float] = []

    class Noting(Slow):
        @rpc
        def sleep(self, seconds: float) -> float:
            ran.append(seconds)
            return seconds

    slow = start(Noting, AMQP_URI=network_uri)
    caller = start(Caller, AMQP_URI=rabbitmq_uri)
    with entrypoint_hook(caller, "sleep") as sleep:
        network.inject(BLOCKED, "publish")
        eventually(lambda: slow.not_ready_reasons())
        thread = concurrency.spawn(sleep, 0)
        eventually(lambda: ran == [0])
        start(Slow, AMQP_URI=rabbitmq_uri)
        started = time.monotonic()
        slow.stop()
        assert time.monotonic() - started < 5
        assert thread.wait() == 0
