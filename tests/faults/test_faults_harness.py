"""The harness itself: each fault strikes, is counted, and is undone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness import procfs
from harness.checker import compare, judge
from harness.journal import Log
from harness.node import Node, QueueCounts
from harness.proxy import Proxy
from harness.sink import SINK, effects, send
from nameko import concurrency

pytestmark = pytest.mark.faults

Eventually = Callable[..., Any]


# As the operating system has them: eventlet's sockets do not tell a reset from an end.
socket, threading = concurrency.original("socket"), concurrency.original("threading")


def connect(port: int) -> Any:
    client = socket.create_connection(("127.0.0.1", port), timeout=5)
    client.settimeout(1)
    return client


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a TCP server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(client: Any) -> None:
        try:
            while data := client.recv(1000):
                client.sendall(data)
        except OSError:
            pass
        client.close()

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def link(echo: int) -> Iterator[Proxy]:
    proxy = Proxy("127.0.0.1", echo)
    yield proxy
    proxy.close()


def test_passes_on_and_counts(link: Proxy) -> None:
    with connect(link.port) as client:
        client.sendall(b"hello")
        assert client.recv(10) == b"hello"
    assert [link.count(name) for name in ("accepted", "passed_up", "passed_down", "reset")] == [1, 5, 5, 0]


def test_resets(link: Proxy, eventually: Eventually) -> None:
    with connect(link.port) as client:
        eventually(lambda: link.open)
        assert link.reset() == 1
        with pytest.raises(ConnectionResetError):
            client.recv(10)
    assert link.open == []


@pytest.mark.parametrize(("up", "down"), [(True, True), (True, False), (False, True)])
def test_blackhole_holds_back_until_healed(link: Proxy, up: bool, down: bool, eventually: Eventually) -> None:
    with connect(link.port) as client:
        link.blackhole(up, down)
        client.sendall(b"hello")
        with pytest.raises(TimeoutError):
            client.recv(10)
        assert link.count("held_up" if up else "held_down") == 5
        link.heal()
        assert client.recv(10) == b"hello"


def test_faults_for_connections_of_a_name(link: Proxy, eventually: Eventually) -> None:
    with connect(link.port) as publish, connect(link.port) as consume:
        for client, name in ((publish, b"nameko publish (pid 1)"), (consume, b"nameko consume (pid 1)")):
            client.sendall(name)
            assert client.recv(100) == name
        link.blackhole(name="publish")
        consume.sendall(b"x")
        assert consume.recv(10) == b"x"
        publish.sendall(b"y")
        eventually(lambda: link.count("held_up"))
        assert link.reset("consume") == 1
        link.heal()
        assert publish.recv(10) == b"y"


def test_refuses_and_rejects(link: Proxy) -> None:
    link.close_listener()
    with pytest.raises(ConnectionRefusedError):
        connect(link.port)
    link.reject()
    with pytest.raises(ConnectionResetError), connect(link.port) as client:
        client.recv(10)
    assert link.count("rejected") == 1
    link.heal()
    connect(link.port).close()


def test_delays(link: Proxy) -> None:
    link.delay(up_s=0.3)
    with connect(link.port) as client:
        sent_at = time.monotonic()
        client.sendall(b"x")
        assert client.recv(10) == b"x"
        assert time.monotonic() - sent_at > 0.3
    assert link.count("delayed_up") == 1


def test_injects(link: Proxy, eventually: Eventually) -> None:
    with connect(link.port) as client:
        eventually(lambda: link.open)
        link.inject(b"garbage")
        assert client.recv(10) == b"garbage"


def test_a_service_behind_the_proxy_is_seen_from_outside(
    node: Node, vhost: str, proxy: Proxy, run_services: Any, node_uri: str, log: Log, eventually: Eventually
) -> None:
    service = run_services(SINK)
    assert sorted(proxy.open) == ["consume", "publish"]
    assert node.consumers(vhost, "rpc-sink") == 1
    send(node_uri, log, range(3))
    eventually(lambda: effects(log) == {"0", "1", "2"})
    assert {line[-1] for line in log("effect")} == {str(service.pid)}
    assert judge(log).clean
    assert node.queues(vhost)["rpc-sink"] == QueueCounts(ready=0, unacked=0, consumers=1)
    assert procfs.environ(node.pid)["RABBITMQ_NODE_PORT"] == str(node.port)


def test_checker_tells_lost_duplicated_and_phantom() -> None:
    verdict = compare(sent=["a", "b", "c", "d"], confirmed=["a", "b", "c"], observed=["a", "b", "b", "b", "x"])
    assert verdict.lost == {"c"}
    assert verdict.duplicated == {"b": 2}
    assert verdict.duplicates == 2
    assert verdict.phantom == {"x"}
    assert verdict.unconfirmed == {"d"}
    assert not verdict.clean
