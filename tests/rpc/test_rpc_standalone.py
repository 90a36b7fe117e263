"""Standalone proxies: calls from outside of services, in processes as they are."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from nameko import concurrency, config
from nameko.containers import ServiceContainer
from nameko.exceptions import ConfigurationError, MethodNotFound, ReplyLost, RpcTimeout, UnknownService
from nameko.rpc import Rpc, rpc
from nameko.standalone.rpc import (
    ClusterRpcClient,
    ClusterRpcProxy,
    ConnectionLost,
    ServiceRpcClient,
    ServiceRpcProxy,
    SingleThreadedReplyListener,
)

Start = Callable[..., ServiceContainer]
Eventually = Callable[..., Any]


class Echo:
    name = "echo"

    @rpc
    def echo(self, value: Any = None) -> Any:
        return value

    @rpc
    def sleep(self, seconds: float) -> float:
        concurrency.sleep(seconds)
        return seconds


# -- use


def test_service_proxy(start: Start, broker_config: dict[str, Any]) -> None:
    start(Echo)
    with ServiceRpcProxy("echo", broker_config) as echo:
        assert echo.echo("hellø") == "hellø"
        assert echo["echo"](value=1) == 1


def test_cluster_proxy(start: Start, broker_config: dict[str, Any]) -> None:
    start(Echo)
    with ClusterRpcProxy(broker_config) as cluster:
        assert cluster.echo.echo(1) == 1
        assert cluster["echo"].echo(2) == 2


def test_configuration_of_the_process(start: Start, broker_config: dict[str, Any]) -> None:
    start(Echo)
    with config.patch(broker_config):
        with ServiceRpcProxy("echo") as echo, ClusterRpcProxy(timeout=5) as cluster:
            assert (echo.echo(1), cluster.echo.echo(2)) == (1, 2)
        with ServiceRpcClient("echo", {"user_id": 1}, 5) as echo, ClusterRpcClient(timeout=5) as cluster:
            assert (echo.echo(1), cluster.echo.echo(2)) == (1, 2)
    with ServiceRpcClient("echo", config=broker_config) as echo, ClusterRpcClient(config=broker_config) as cluster:
        assert (echo.echo(1), cluster.echo.echo(2)) == (1, 2)


def test_results_in_any_order(start: Start, cluster: Any) -> None:
    start(Echo)
    calls = [cluster.echo.echo.call_async(number) for number in range(20)]
    assert [call.result() for call in reversed(calls)] == list(reversed(range(20)))
    assert calls[3].result() == 3


def test_errors(start: Start, cluster: Any) -> None:
    start(Echo)
    with pytest.raises(MethodNotFound):
        cluster.echo.nothing()
    with pytest.raises(UnknownService, match="Unknown service `nobody`"):
        cluster.nobody.method()
    with pytest.raises(UnknownService):
        cluster.nobody.method.call_async()
    with pytest.raises(Exception, match="cannot serialize"):
        cluster.echo.echo(object())
    assert cluster.echo.echo(1) == 1


def test_start_and_stop(start: Start, broker_config: dict[str, Any]) -> None:
    start(Echo)
    proxy = ServiceRpcProxy("echo", broker_config, timeout=5)
    first = proxy.start()
    call = first.echo.call_async(1)
    assert first.echo(2) == 2
    proxy.stop()
    proxy.stop()
    with pytest.raises(RuntimeError, match="can no longer be used"):
        first.echo(3)
    assert call.result() == 1  # it had arrived before
    second = proxy.start()
    assert second.echo(4) == 4
    with pytest.raises(RuntimeError, match="can no longer be used"):
        first.echo(5)
    proxy.stop()


def test_call_that_is_not_answered_before_the_stop_cannot_be(start: Start, broker_config: dict[str, Any]) -> None:
    start(Echo)
    with ServiceRpcProxy("echo", broker_config, timeout=5) as echo:
        call = echo.sleep.call_async(1)
    with pytest.raises(RuntimeError, match="can no longer be used"):
        call.result()


def test_disconnected_proxy_connects_again(start: Start, broker_config: dict[str, Any]) -> None:
    start(Echo)
    proxy = ClusterRpcProxy(broker_config, timeout=5)
    cluster = proxy.connect_later()
    assert cluster.echo.echo(1) == 1
    proxy.disconnect()
    proxy.disconnect()
    assert cluster.echo.echo(2) == 2
    proxy.stop()


def test_own_reply_listener(start: Start, broker_config: dict[str, Any]) -> None:
    start(Echo)
    made = []

    class Listener(SingleThreadedReplyListener):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            made.append(self)

    with ServiceRpcProxy("echo", broker_config, None, 5, Listener) as echo:
        assert echo.echo(1) == 1
    assert len(made) == 1


def test_other_serializer(start: Start, broker_config: dict[str, Any]) -> None:
    both = {**broker_config, "ACCEPT": ["json", "pickle"], "ALLOW_PICKLE": True}
    start(Echo, **both)
    with ServiceRpcProxy("echo", {**both, "serializer": "pickle"}, timeout=5) as echo:
        assert echo.echo((1, b"2")) == (1, b"2")
    with ServiceRpcProxy("echo", both, timeout=5, serializer="pickle") as echo:
        assert echo.echo((1, b"2")) == (1, b"2")


@pytest.mark.parametrize("values", [{"RPC_TIMEOUT": 0}, {"RPC_TIMEOUT": "soon"}, {"AMQP_URI": "nonsense://x"}])
def test_configuration_that_cannot_work(values: dict[str, Any], memory_uri: str) -> None:
    with pytest.raises(ConfigurationError), ClusterRpcProxy({"AMQP_URI": memory_uri, **values}):
        pass


# -- deadlines


def test_timeout(start: Start, broker_config: dict[str, Any]) -> None:
    start(Echo)
    with ServiceRpcProxy("echo", broker_config, timeout=1) as echo:
        started = time.monotonic()
        with pytest.raises(RpcTimeout, match=r"no reply from `echo\.sleep` within 1 s"):
            echo.sleep(3)
        assert 0.95 < time.monotonic() - started < 2
        assert echo.echo(1) == 1
        assert echo.sleep.with_options(timeout=5)(0.5) == 0.5


def test_timeout_is_not_put_off_by_other_replies(start: Start, broker_config: dict[str, Any]) -> None:
    start(Echo, max_workers=100)
    with ServiceRpcProxy("echo", broker_config, timeout=5) as echo:
        others = [echo.sleep.call_async(number * 0.1) for number in range(30)]
        started = time.monotonic()
        with pytest.raises(RpcTimeout):
            echo.sleep.with_options(timeout=0.5)(4)
        assert time.monotonic() - started < 0.9
        assert [call.result() for call in others] == [number * 0.1 for number in range(30)]


def test_late_reply_is_dropped_and_acknowledged(
    start: Start, broker_config: dict[str, Any], connect: Any, eventually: Eventually
) -> None:
    start(Echo)
    made: list[SingleThreadedReplyListener] = []

    class Listener(SingleThreadedReplyListener):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            made.append(self)

    with ServiceRpcProxy("echo", broker_config, None, 0.2, Listener) as echo:
        for _ in range(3):
            with pytest.raises(RpcTimeout):
                echo.sleep(0.3)
        assert echo.sleep.with_options(timeout=5)(0.3) == 0.3  # which ends after them
        assert len(made[0]._pending) == 0
    # Everything was acknowledged: nothing is left in the queue once its consumer is gone.
    channel = connect().default_channel
    eventually(lambda: channel.queue_declare(made[0].queue.name, passive=True).consumer_count == 0)
    assert channel.queue_declare(made[0].queue.name, passive=True).message_count == 0


def test_result_that_came_in_time_can_be_fetched_after_the_deadline(
    start: Start, broker_config: dict[str, Any]
) -> None:
    start(Echo)
    with ServiceRpcProxy("echo", broker_config, timeout=1) as echo:
        call = echo.echo.call_async("in time")
        late = echo.sleep.call_async(2)
        with pytest.raises(RpcTimeout):
            late.result()
        assert call.result() == "in time"
        with pytest.raises(RpcTimeout):
            late.result()


def test_peer_that_accepts_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"pyamqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}/"
        started = time.monotonic()
        with pytest.raises(OSError), ClusterRpcProxy({"AMQP_URI": uri}, timeout=0.5):  # noqa: PT011
            pass
        assert time.monotonic() - started < 1.5


@pytest.mark.rabbitmq
@pytest.mark.parametrize("broker_uri", ["unused"])
def test_network_that_goes_silent(start: Start, rabbitmq_uri: str, network: Any, network_uri: str) -> None:
    start(Echo, AMQP_URI=rabbitmq_uri)
    started = time.monotonic()
    with ClusterRpcProxy({"AMQP_URI": network_uri}, timeout=1) as cluster:
        assert cluster.echo.echo(1) == 1
        network.blackhole()
        started = time.monotonic()
        with pytest.raises(RpcTimeout):
            cluster.echo.echo(2)
        with pytest.raises(RpcTimeout):
            cluster.echo.echo.call_async(2)
        with pytest.raises(RpcTimeout):
            cluster.echo.echo("x" * 10_000_000)  # more than fits into the buffers on the way
        assert time.monotonic() - started < 4.5
    assert time.monotonic() - started < 6  # closing included


@pytest.mark.rabbitmq
@pytest.mark.parametrize("broker_uri", ["unused"])
def test_request_expires_with_its_call_however_long_it_took_to_connect(
    start: Start, rabbitmq_uri: str, network: Any, network_uri: str
) -> None:
    expirations_ms: list[int] = []

    class Looking(Rpc):
        def handle_message(self, body: Any, message: Any) -> None:
            expirations_ms.append(int(message.properties["expiration"]))
            super().handle_message(body, message)

    class Service:
        name = "service"

        @Looking.decorator
        def method(self) -> None: ...

    start(Service, AMQP_URI=rabbitmq_uri)
    proxy = ClusterRpcProxy({"AMQP_URI": network_uri}, timeout=10)
    with proxy as cluster:
        cluster.service.method()
        network.delay(up_s=0.05, down_s=0.05)
        proxy.disconnect()
        cluster.service.method()
        proxy.disconnect()
        cluster.service.method.with_options(expiration=5)()
    connected, connecting, with_expiration = expirations_ms
    assert 9_500 < connected <= 10_000
    # To connect takes half a dozen ways to and fro at least.
    assert 0 < connecting <= 9_500
    assert 0 < with_expiration <= 4_500


# -- loss


@pytest.mark.rabbitmq
@pytest.mark.parametrize("broker_uri", ["unused"])
def test_lost_connection_fails_the_call_that_waits_and_no_later_one(
    start: Start, rabbitmq_uri: str, network: Any, network_uri: str
) -> None:
    start(Echo, AMQP_URI=rabbitmq_uri)
    with ClusterRpcProxy({"AMQP_URI": network_uri}, timeout=5) as cluster:
        other = cluster.echo.sleep.call_async(0.5)
        waiting = cluster.echo.sleep.call_async(1)
        concurrency.spawn_after(0.2, network.reset)
        with pytest.raises(ConnectionLost, match="was lost"):
            waiting.result()
        assert cluster.echo.echo(1) == 1
        # Their replies came to the queue meanwhile.
        assert other.result() == 0.5
        assert waiting.result() == 1
        network.reset()
        with suppress(ConnectionLost):  # unless it is found out before anything is sent
            assert cluster.echo.echo(2) == 2
        assert cluster.echo.echo(3) == 3


@pytest.mark.rabbitmq
@pytest.mark.parametrize("broker_uri", ["unused"])
def test_broker_that_cannot_be_reached_any_more(
    start: Start, rabbitmq_uri: str, network: Any, network_uri: str
) -> None:
    start(Echo, AMQP_URI=rabbitmq_uri)
    with ClusterRpcProxy({"AMQP_URI": network_uri}, timeout=5) as cluster:
        assert cluster.echo.echo(1) == 1
        network.close_listener()
        network.reset()
        with pytest.raises(ConnectionError):  # lost, or found out before anything is sent
            cluster.echo.echo(2)
        with pytest.raises(ConnectionRefusedError, match="AMQP_URI"):
            cluster.echo.echo(3)


@pytest.mark.parametrize(
    "make",
    [
        lambda config: ClusterRpcProxy(config),
        lambda config: ServiceRpcProxy("echo", config),
        lambda config: ClusterRpcClient(config=config),
        lambda config: ServiceRpcClient("echo", config=config),
    ],
)
def test_configuration_that_is_a_uri(make: Callable[[Any], Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"Rpc(Proxy|Client): .* mapping, .*AMQP_URI.*, not str") as caught:
        make("pyamqp://shop:secret@localhost")
    assert "secret" not in str(caught.value)


def test_broker_that_cannot_be_reached_at_all() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    refused = pytest.raises(ConnectionRefusedError, match=rf"the broker pyamqp://guest@127\.0\.0\.1:{port}/ .*AMQP_URI")
    with refused, ClusterRpcProxy({"AMQP_URI": f"pyamqp://guest@127.0.0.1:{port}/"}):
        pass


def test_lost_reply_queue(start: Start, broker_config: dict[str, Any], connect: Any) -> None:
    start(Echo)
    made: list[SingleThreadedReplyListener] = []

    class Listener(SingleThreadedReplyListener):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            made.append(self)

    with ServiceRpcProxy("echo", broker_config, None, 5, Listener) as echo:
        key = made[0].routing_key
        call, other = echo.sleep.call_async(1), echo.sleep.call_async(1)
        connect().default_channel.queue_delete(made[0].queue.name)
        for each in (call, other):
            with pytest.raises(ReplyLost, match=f"the reply queue rpc.reply-standalone_rpc_proxy-{key} is lost"):
                each.result()
        assert echo.echo(1) == 1
        assert made[0].routing_key != key


def test_deleted_exchange_is_an_unknown_service(start: Start, cluster: Any, connect: Any) -> None:
    start(Echo)
    assert cluster.echo.echo(1) == 1
    connect().default_channel.exchange_delete("nameko-rpc")
    with pytest.raises(UnknownService):
        cluster.echo.echo(1)


def test_interrupted_call_leaves_the_proxy_usable(start: Start, broker_config: dict[str, Any]) -> None:
    start(Echo)
    with ServiceRpcProxy("echo", broker_config, timeout=5) as echo:
        pending = echo.sleep.call_async(0.5)
        with pytest.raises(concurrency.Timeout), concurrency.Timeout(0.1):
            echo.sleep(5)
        assert echo.echo(1) == 1
        assert pending.result() == 0.5


# -- processes as they are

STRICT = [
    *("-W", "error"),
    # Both are eventlet's: the notice of its retirement, and a warning of what its users do in a child process.
    *("-W", r"ignore:\s*Eventlet is deprecated:Warning"),
    *("-W", "ignore:Using fork:DeprecationWarning"),
]

UNPATCHED = """
import os, signal, sys, threading, time
from nameko.standalone.rpc import ClusterRpcProxy
from nameko.concurrency import is_monkey_patched
assert not is_monkey_patched()
config = {"AMQP_URI": sys.argv[1]}
"""


@pytest.fixture
def run_unpatched(tmp_path: Path, rabbitmq_uri: str) -> Callable[[str], str]:
    """Run code in a process that is not monkey patched; what it prints."""

    def run(source: str) -> str:
        script = tmp_path / "unpatched.py"
        script.write_text(UNPATCHED + textwrap.dedent(source))
        process = subprocess.Popen(
            [sys.executable, *STRICT, script, rabbitmq_uri],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output, _ = concurrency.run_in_native_thread(process.communicate, timeout=30)
        assert process.returncode == 0, output
        return str(output)

    return run


@pytest.fixture
def echo_on_rabbitmq(start: Start, rabbitmq_uri: str) -> None:
    start(Echo, AMQP_URI=rabbitmq_uri)


unpatched = pytest.mark.parametrize("broker_uri", ["unused"])


@pytest.mark.rabbitmq
@unpatched
@pytest.mark.usefixtures("echo_on_rabbitmq")
def test_unpatched_process(run_unpatched: Callable[[str], str]) -> None:
    output = run_unpatched("""
        with ClusterRpcProxy(config, timeout=5) as cluster:
            print(cluster.echo.echo("hellø"))
            print([call.result() for call in [cluster.echo.echo.call_async(number) for number in range(5)]])
    """)
    assert output.split("\n")[:2] == ["hellø", "[0, 1, 2, 3, 4]"]


@pytest.mark.rabbitmq
@unpatched
@pytest.mark.usefixtures("echo_on_rabbitmq")
def test_ctrl_c_while_waiting(run_unpatched: Callable[[str], str]) -> None:
    output = run_unpatched("""
        with ClusterRpcProxy(config, timeout=5) as cluster:
            pending = cluster.echo.sleep.call_async(1)
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                cluster.echo.sleep(3)
            except KeyboardInterrupt:
                print("interrupted")
            print(cluster.echo.echo(1), pending.result())
    """)
    assert output.split() == ["interrupted", "1", "1"]


@pytest.mark.rabbitmq
@unpatched
@pytest.mark.usefixtures("echo_on_rabbitmq")
def test_a_proxy_in_each_thread(run_unpatched: Callable[[str], str]) -> None:
    output = run_unpatched("""
        results = []
        def work(number):
            with ClusterRpcProxy(config, timeout=10) as cluster:
                results.append([cluster.echo.echo(number) for _ in range(20)] == [number] * 20)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(results)
    """)
    assert output.strip() == str([True] * 5)


@pytest.mark.rabbitmq
@unpatched
@pytest.mark.usefixtures("echo_on_rabbitmq")
def test_parent_and_child_of_a_fork_do_not_disturb_each_other(run_unpatched: Callable[[str], str]) -> None:
    output = run_unpatched("""
        with ClusterRpcProxy(config, timeout=5) as cluster:
            print(cluster.echo.echo("before"), flush=True)
            child = os.fork()
            if child == 0:
                try:
                    print(cluster.echo.echo("child"), flush=True)
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            print(cluster.echo.echo("parent"), flush=True)
    """)
    assert output.split() == ["before", "child", "parent"]


@pytest.mark.rabbitmq
@unpatched
@pytest.mark.usefixtures("echo_on_rabbitmq")
def test_idle_for_longer_than_the_broker_waits(run_unpatched: Callable[[str], str]) -> None:
    output = run_unpatched("""
        with ClusterRpcProxy({**config, "HEARTBEAT": 1}, timeout=8) as cluster:
            print(cluster.echo.echo(1))
            time.sleep(3)  # the broker closes the connection after about two
            print(cluster.echo.echo(2))
            print(cluster.echo.sleep(3))  # while it waits, heartbeats are kept up
    """)
    assert output.split() == ["1", "2", "3"]
