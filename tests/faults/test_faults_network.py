"""Rows 1 to 5, 11 and 28: connections that break or fall silent, and processes that stand still."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness import procfs
from harness.checker import judge
from harness.journal import Log
from harness.node import Node
from harness.node_fixtures import HEARTBEAT_S
from harness.process import Processes
from harness.proxy import Proxy
from harness.sink import SINK, effects, send
from nameko.standalone.rpc import ClusterRpcProxy

Eventually = Callable[..., Any]
Figure = Callable[[str, float, float], None]

PREFETCH = 10  # what `max_workers` makes it
# So long a test takes at most that waits for heartbeats to be missed.
TIMEOUT_S = 80 + 10 * HEARTBEAT_S
#: Within this a connection that fell silent has to be given up.
DETECT_S = 2 * HEARTBEAT_S + 2
BACK_S = 2.0


@pytest.fixture
def cluster(node_uri: str) -> Iterator[Any]:
    """A caller with a connection of its own, which no fault is meant for."""
    with ClusterRpcProxy({"AMQP_URI": node_uri}, timeout=60) as proxy:
        yield proxy


def seconds_until(condition: Callable[[], object], eventually: Eventually, timeout_s: float = TIMEOUT_S) -> float:
    started_at = time.monotonic()
    eventually(condition, timeout_s=timeout_s)
    return time.monotonic() - started_at


@pytest.mark.faults
def test_row_1_reset_while_idle(
    proxy: Proxy, run_services: Any, cluster: Any, figure: Figure, eventually: Eventually
) -> None:
    service = run_services(SINK)
    assert cluster.sink.echo(1) == 1
    assert proxy.reset() == 2
    back_s = seconds_until(lambda: cluster.sink.echo(2) == 2, eventually)
    figure("seconds until it is back", back_s, BACK_S)
    assert proxy.count("reset") == 2
    assert service.status is None


@pytest.mark.matrix
@pytest.mark.timeout(300)
def test_row_2_reset_under_load(
    proxy: Proxy,
    run_services: Any,
    processes: Processes,
    node_uri: str,
    log: Log,
    figure: Figure,
    eventually: Eventually,
) -> None:
    resets = 50
    service = run_services(SINK)
    fds = procfs.descriptors(service.pid)
    load = processes.run_module("harness.load", node_uri, 5500, 100)  # events, and as many calls, each second
    eventually(lambda: len(log("effect")) > 100, timeout_s=60)
    struck = 0
    for _ in range(resets):
        eventually(lambda: sorted(proxy.open) == ["consume", "publish"], timeout_s=20)
        struck += proxy.reset() == 2
        time.sleep(1)
    assert struck == resets
    assert load.wait(timeout_s=150) == 0, load.output
    eventually(lambda: len(effects(log)) == 5500, timeout_s=30)
    verdict = judge(log)
    figure("messages lost", len(verdict.lost), 0)
    figure("duplicates for each reset", verdict.duplicates / resets, PREFETCH)
    figure("times the process ended", service.status is not None, 0)
    assert verdict.clean
    assert {line[2] for line in log("outcome")} == {"ok"}
    assert len(log("outcome")) == 5500
    figure("descriptors more than before", abs(procfs.descriptors(service.pid) - fds), 2)


def blackhole_and_heal(
    proxy: Proxy,
    log: Log,
    node_uri: str,
    figure: Figure,
    eventually: Eventually,
    detect_s: float = DETECT_S,
    **directions: bool,
) -> None:
    send(node_uri, log, range(1, 21))
    accepted = proxy.count("accepted")
    proxy.blackhole(**directions)
    send(node_uri, log, range(21, 61))
    drop_s = seconds_until(lambda: proxy.count("accepted") >= accepted + 2, eventually)
    figure("seconds until both connections are given up", drop_s, detect_s)
    assert proxy.count("held_up") + proxy.count("held_down") > 0
    proxy.heal()
    send(node_uri, log, range(61, 62))
    back_s = seconds_until(lambda: "61" in effects(log), eventually)
    figure("seconds until it is back", back_s, BACK_S)
    eventually(lambda: len(effects(log)) == 61, timeout_s=30)
    verdict = judge(log)
    figure("messages lost", len(verdict.lost), 0)
    figure("duplicates", verdict.duplicates, PREFETCH)
    assert verdict.clean


@pytest.mark.faults
@pytest.mark.timeout(TIMEOUT_S)
def test_row_3_half_open_both_ways(
    proxy: Proxy, run_services: Any, log: Log, node_uri: str, figure: Figure, eventually: Eventually
) -> None:
    service = run_services(SINK)
    blackhole_and_heal(proxy, log, node_uri, figure, eventually)
    assert service.status is None


@pytest.mark.matrix
@pytest.mark.timeout(TIMEOUT_S)
def test_row_3_broker_stands_still(
    node: Node, proxy: Proxy, run_services: Any, log: Log, node_uri: str, figure: Figure, eventually: Eventually
) -> None:
    service = run_services(SINK)
    send(node_uri, log, range(1, 21))
    accepted = proxy.count("accepted")
    node.suspend()
    drop_s = seconds_until(lambda: proxy.count("accepted") >= accepted + 2, eventually)
    figure("seconds until both connections are given up", drop_s, DETECT_S)
    node.resume()
    send(node_uri, log, range(21, 22))
    back_s = seconds_until(lambda: "21" in effects(log), eventually)
    figure("seconds until it is back", back_s, BACK_S)
    assert judge(log).clean
    assert service.status is None


@pytest.mark.matrix
@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("direction", ["up", "down"])
def test_row_4_half_open_one_way(
    direction: str, proxy: Proxy, run_services: Any, log: Log, node_uri: str, figure: Figure, eventually: Eventually
) -> None:
    service = run_services(SINK)
    if direction == "down":
        blackhole_and_heal(proxy, log, node_uri, figure, eventually, up=False)
    else:
        # We hear the broker, and the proxy takes what we send: only the broker can find out, and it looks each
        # interval whether there was anything in the last two. Where packets are lost, the kernel finds out.
        blackhole_and_heal(proxy, log, node_uri, figure, eventually, down=False, detect_s=3 * HEARTBEAT_S + 2)
    assert service.status is None


PUBLISHER = """
class Relay:
    name = "relay"
    dispatch = EventDispatcher()

    @event_handler("source", "happened")
    def handle(self, number):
        started_at = time.monotonic()
        try:
            self.dispatch("relayed", number)
        except Exception as exc:
            log("raised", number, type(exc).__name__, time.monotonic() - started_at)
        else:
            log("effect", number)
"""
PUBLISH_TIMEOUT_S = 3


@pytest.mark.matrix
@pytest.mark.timeout(TIMEOUT_S)
def test_row_5_half_open_publisher(
    proxy: Proxy, run_services: Any, log: Log, node_uri: str, figure: Figure, eventually: Eventually
) -> None:
    service = run_services(PUBLISHER, PUBLISH_TIMEOUT=PUBLISH_TIMEOUT_S)
    send(node_uri, log, range(1, 2))
    eventually(lambda: log("effect"))
    fds = procfs.descriptors(service.pid)
    accepted = proxy.count("accepted")
    proxy.blackhole(name="publish")
    send(node_uri, log, range(2, 6))
    eventually(lambda: len(log("raised")) == 4, timeout_s=20)
    assert {line[2] for line in log("raised")} == {"PublishTimeout"}
    figure("seconds until publish raises", max(float(line[3]) for line in log("raised")), PUBLISH_TIMEOUT_S + 0.5)
    drop_s = seconds_until(lambda: proxy.count("accepted") > accepted, eventually)
    assert drop_s < DETECT_S
    assert proxy.count("held_up") > 0
    proxy.heal()
    send(node_uri, log, range(6, 21))  # more than there are workers
    eventually(lambda: {str(number) for number in range(6, 21)} <= effects(log), timeout_s=20)
    figure("descriptors more than before", abs(procfs.descriptors(service.pid) - fds), 2)


@pytest.mark.matrix
def test_row_11_the_broker_closes_all_connections(
    node: Node, proxy: Proxy, vhost: str, run_services: Any, cluster: Any, figure: Figure, eventually: Eventually
) -> None:
    service = run_services(SINK)
    assert cluster.sink.echo(1) == 1
    accepted = proxy.count("accepted")
    node.ctl("close_all_connections", "-p", vhost, "row 11")
    closed_at = time.monotonic()
    eventually(lambda: proxy.count("accepted") == accepted + 2 and node.consumers(vhost, "rpc-sink") == 1)
    figure("seconds until it is back", time.monotonic() - closed_at, BACK_S)
    with ClusterRpcProxy({"AMQP_URI": node.uri(vhost)}, timeout=20) as again:
        assert again.sink.echo(2) == 2
    assert service.status is None


@pytest.mark.matrix
@pytest.mark.timeout(TIMEOUT_S)
def test_row_28_process_stands_still(
    node: Node, proxy: Proxy, run_services: Any, log: Log, node_uri: str, figure: Figure, eventually: Eventually
) -> None:
    service = run_services(SINK.replace("sleep(0.05)", "sleep(0.2)"))
    send(node_uri, log, range(1, 41))
    eventually(lambda: log("effect"))
    accepted = proxy.count("accepted")
    service.send_signal(signal.SIGSTOP)
    time.sleep(3 * HEARTBEAT_S)
    service.send_signal(signal.SIGCONT)
    back_s = seconds_until(lambda: len(effects(log)) == 40, eventually)
    figure("seconds until all is done", back_s, DETECT_S)
    assert proxy.count("accepted") > accepted
    verdict = judge(log)
    figure("messages lost", len(verdict.lost), 0)
    figure("duplicates", verdict.duplicates, PREFETCH)
    assert verdict.clean
    assert "unknown delivery tag" not in node.log_text
    assert service.status is None
