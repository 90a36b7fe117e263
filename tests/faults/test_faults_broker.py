"""Rows 6 to 10 and 12 to 15: what the broker does to services, and what an operator does to the broker."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import amqp
import pytest

from harness import procfs
from harness.checker import judge
from harness.journal import Log
from harness.node import Node, QueueCounts
from harness.node_fixtures import HEARTBEAT_S
from harness.process import Process, Processes
from harness.proxy import Proxy
from harness.sink import SINK, effects, send
from nameko.standalone.events import event_dispatcher
from nameko.standalone.rpc import ClusterRpcProxy

Eventually = Callable[..., Any]
Figure = Callable[[str, float, float], None]

PREFETCH = 10  # what `max_workers` makes it
BACK_AFTER_RESTART_S = 6.0
BACK_S = 2.0
SHUTDOWN_TIMEOUT_S = 3

CALLER = """
class Caller:
    name = "caller"
    cluster = ClusterRpc()

    @event_handler("source", "ask")
    def ask(self, seconds):
        log("outcome", self.cluster.sink.work(seconds))
"""


HAPPENED = "evt-source-happened--sink.handle"

# From the fiftieth event on it takes its time, so that as many are in its hands as it may have.
HOLDING_SINK = """
class Sink:
    name = "sink"

    @event_handler("source", "happened")
    def handle(self, number):
        concurrency.sleep(6 if 50 < number <= 60 else 0.05)
        log("effect", number)

    @rpc
    def work(self, seconds):
        log("working")
        concurrency.sleep(seconds)
        return seconds
"""


@pytest.mark.faults
@pytest.mark.timeout(240)
def test_row_6_broker_is_killed_and_starts_again(
    node: Node, vhost: str, run_services: Any, node_uri: str, log: Log, figure: Figure, eventually: Eventually
) -> None:
    services = [run_services(HOLDING_SINK, AMQP_URI=node_uri), run_services(CALLER, AMQP_URI=node_uri)]
    event_dispatcher({"AMQP_URI": node_uri})("source", "ask", 8)
    eventually(lambda: log("working"))
    send(node_uri, log, range(1, 101))
    eventually(lambda: len(effects(log)) == 50)
    eventually(lambda: node.queues(vhost)[HAPPENED].unacked == PREFETCH)
    # The broker writes acknowledgements to disk with the next message to the queue that it confirms: without one it has
    # forgotten all of them when it is killed.
    send(node_uri, log, [101])
    node.kill()
    struck_with = len(effects(log))
    node.start()
    open_at = time.monotonic()
    queues = ("rpc-sink", "evt-source-ask--caller.ask")
    eventually(lambda: all(node.consumers(vhost, queue) for queue in queues), timeout_s=60)
    figure("seconds until it is back, once the port is open", time.monotonic() - open_at, BACK_AFTER_RESTART_S)
    send(node_uri, log, range(102, 121))
    eventually(lambda: len(effects(log)) == 120 and log("outcome", "8"), timeout_s=60)
    eventually(lambda: node.queues(vhost)[HAPPENED] == QueueCounts(ready=0, unacked=0, consumers=1))
    assert struck_with == 50  # there was work left
    verdict = judge(log)
    figure("confirmed messages lost", len(verdict.lost), 0)
    figure("duplicates", verdict.duplicates, PREFETCH)
    figure("processes that ended", sum(each.status is not None for each in services), 0)
    assert verdict.clean


AWAY_S = 300


@pytest.mark.matrix
@pytest.mark.timeout(AWAY_S + 240)
def test_row_7_broker_is_away_for_minutes(
    node: Node, vhost: str, run_services: Any, node_uri: str, log: Log, figure: Figure, eventually: Eventually
) -> None:
    service = run_services(SINK, AMQP_URI=node_uri)
    send(node_uri, log, range(1, 11))
    eventually(lambda: len(effects(log)) == 10)
    memory, lines = procfs.resident_bytes(service.pid), service.output.count("\n")
    node.kill()
    time.sleep(AWAY_S)
    figure("lines of log a minute", (service.output.count("\n") - lines) / (AWAY_S / 60), 20)
    figure("MB of memory more", (procfs.resident_bytes(service.pid) - memory) / 1e6, 5)
    node.start()
    open_at = time.monotonic()
    eventually(lambda: node.consumers(vhost, "rpc-sink"), timeout_s=60)
    figure("seconds until it is back, once the port is open", time.monotonic() - open_at, BACK_AFTER_RESTART_S)
    send(node_uri, log, range(11, 21))
    eventually(lambda: len(effects(log)) == 20)
    assert judge(log).clean
    assert service.status is None


@pytest.mark.matrix
def test_row_8_broker_is_down_at_start(processes: Processes, figure: Figure) -> None:
    start_timeout_s = 4
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    config = {"AMQP_URI": f"pyamqp://guest:guest@127.0.0.1:{port}/", "START_TIMEOUT": start_timeout_s}
    service = processes.run_services(SINK, config, ready=False)
    service.expect("starting services")
    started_at = time.monotonic()
    service.expect("\nError: ")
    figure("seconds away from START_TIMEOUT", abs(time.monotonic() - started_at - start_timeout_s), 1)
    assert service.wait() == 75
    figure("lines of error", len(re.findall("^Error: ", service.output, re.MULTILINE)), 1)
    assert service.output.splitlines()[-1].startswith("Error: the broker pyamqp://guest:********@127.0.0.1")
    assert "Traceback" not in service.output


# Their messages are with them before the alarm: what is sent later waits for its end.
BLOCKED = """
class Relay:
    name = "relay"
    dispatch = EventDispatcher()
    sink = RpcProxy("sink", timeout=2)
    readiness = Readiness()

    @event_handler("source", "relay")
    def relay(self, number):
        self.measure(("alarm",), "relay", number, lambda: self.dispatch("relayed", number))

    @event_handler("source", "ask")
    def ask(self, number):
        # By then it is known. What was on its way before arrives when the alarm ends.
        known = ("unready", "the_broker_takes_no_messages:_low_on_RESOURCE")
        self.measure(known, "ask", number, lambda: self.sink.echo(number))

    @event_handler("source", "happened")
    def handle(self, number):
        self.wait_for("alarm")
        log("effect", number)

    def measure(self, after, what, number, fn):
        self.wait_for(*after)
        started_at = time.monotonic()
        try:
            fn()
        except Exception as exc:
            log(what, number, type(exc).__name__, time.monotonic() - started_at)
        else:
            log(what, number, "ok", time.monotonic() - started_at)

    def wait_for(self, *words):
        while not logged(*words):
            concurrency.sleep(0.05)
"""
PUBLISH_TIMEOUT_S = 3


LIMITS = {
    "memory": ("set_vm_memory_high_watermark", "absolute", "1MB"),
    "disk": ("set_disk_free_limit", "900000GB"),
}
NO_LIMITS = {"memory": ("set_vm_memory_high_watermark", "0.9"), "disk": ("set_disk_free_limit", "1MB")}


def raise_alarm(node: Node, log: Log, resource: str) -> None:
    """Let the broker be short of memory or disk, and handlers know."""
    node.ctl(*LIMITS[resource])
    with log.path.open("a") as journal:
        print("alarm 0", file=journal)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "resource", [pytest.param("memory", marks=pytest.mark.faults), pytest.param("disk", marks=pytest.mark.matrix)]
)
def test_row_9_alarm(
    resource: str,
    node: Node,
    proxy: Proxy,
    run_services: Any,
    node_uri: str,
    log: Log,
    figure: Figure,
    eventually: Eventually,
) -> None:
    services = [
        run_services(SINK),
        run_services(BLOCKED.replace("RESOURCE", resource), PUBLISH_TIMEOUT=PUBLISH_TIMEOUT_S),
    ]
    dispatch = event_dispatcher({"AMQP_URI": node_uri})
    for kind in ("relay", "ask"):
        for number in (1, 2):
            dispatch("source", kind, number)
    send(node_uri, log, range(1, 3 * PREFETCH + 1))
    accepted = proxy.count("accepted")
    try:
        raise_alarm(node, log, resource)
        eventually(lambda: len(log("relay")) == len(log("ask")) == 2, timeout_s=20)
        eventually(lambda: len(effects(log)) == 3 * PREFETCH)  # consumes on, and its acknowledgements arrive
        time.sleep(2 * HEARTBEAT_S + 2)
        assert proxy.count("accepted") == accepted  # heartbeats go on
    finally:
        lift_alarm(node, resource)
    assert {line[2] for line in log("relay")} == {"PublishTimeout"}
    assert {line[2] for line in log("ask")} == {"RpcTimeout"}
    figure("seconds until publish raises", max(float(line[3]) for line in log("relay")), PUBLISH_TIMEOUT_S + 0.5)
    figure("seconds until a call raises", max(float(line[3]) for line in log("ask")), 2 + 0.5)
    assert any("takes_no_messages" in word for line in log("unready") for word in line)
    eventually(lambda: log("ready")[1:], timeout_s=20)
    with ClusterRpcProxy({"AMQP_URI": node_uri}, timeout=20) as cluster:
        assert cluster.sink.echo("after") == "after"
    figure("executions after the caller gave up", len(log("echo")) - 1, 0)
    assert "connection blocked" in services[1].output
    assert "connection unblocked" in services[1].output
    assert judge(log).clean
    assert all(each.status is None for each in services)


def lift_alarm(node: Node, resource: str) -> None:
    """Let it have enough again."""
    node.ctl(*NO_LIMITS[resource])


# -- row 10: SIGTERM in these states


def assert_ends_in_time(service: Process, figure: Figure) -> None:
    told_at = time.monotonic()
    service.send_signal(signal.SIGTERM)
    status = service.wait(timeout_s=30)
    figure("seconds from SIGTERM to the end", time.monotonic() - told_at, SHUTDOWN_TIMEOUT_S + 2)
    assert status in (0, 1)


@pytest.fixture
def busy(run_services: Any, node_uri: str, log: Log, eventually: Eventually) -> Process:
    """A service with a handler at work that takes longer than it may, and one that waits for a call."""
    service: Process = run_services(SINK + CALLER, SHUTDOWN_TIMEOUT=SHUTDOWN_TIMEOUT_S)
    event_dispatcher({"AMQP_URI": node_uri})("source", "ask", 60)
    eventually(lambda: log("working"))
    return service


@pytest.mark.matrix
def test_row_10_sigterm_while_the_network_is_silent(proxy: Proxy, busy: Process, figure: Figure) -> None:
    proxy.blackhole()
    assert_ends_in_time(busy, figure)
    assert proxy.count("held_up") > 0


@pytest.mark.matrix
@pytest.mark.timeout(120)
def test_row_10_sigterm_while_the_broker_is_down(node: Node, busy: Process, figure: Figure) -> None:
    node.kill()
    assert not node.accepts_connections()
    assert_ends_in_time(busy, figure)


@pytest.mark.matrix
@pytest.mark.timeout(120)
def test_row_10_sigterm_during_a_memory_alarm(
    node: Node, node_uri: str, log: Log, run_services: Any, figure: Figure
) -> None:
    busy = run_services(BLOCKED, SHUTDOWN_TIMEOUT=SHUTDOWN_TIMEOUT_S, PUBLISH_TIMEOUT=60)
    event_dispatcher({"AMQP_URI": node_uri})("source", "relay", 1)
    try:
        raise_alarm(node, log, "memory")
        busy.expect("connection blocked")
        assert_ends_in_time(busy, figure)
    finally:
        lift_alarm(node, "memory")


@pytest.mark.matrix
@pytest.mark.timeout(120)
def test_row_10_a_second_sigterm_ends_at_once(node: Node, busy: Process, figure: Figure) -> None:
    node.kill()
    busy.send_signal(signal.SIGTERM)
    busy.expect("SIGTERM: stopping")
    told_at = time.monotonic()
    busy.send_signal(signal.SIGTERM)
    assert busy.wait() == 128 + signal.SIGTERM
    figure("seconds from the second SIGTERM to the end", time.monotonic() - told_at, 1.5)


# -- rows 12 to 15: an operator changes the broker


def channel_of(uri: str, vhost: str) -> Any:
    host_and_port = uri.rpartition("@")[2].partition("/")[0]
    connection = amqp.Connection(host_and_port, "guest", "guest", virtual_host=vhost)
    connection.connect()
    return connection.channel()


@pytest.mark.faults
def test_row_12_queue_is_deleted_under_its_consumer(
    node: Node, run_services: Any, node_uri: str, vhost: str, log: Log, figure: Figure, eventually: Eventually
) -> None:
    service = run_services(SINK)
    queue = "evt-source-happened--sink.handle"
    channel = channel_of(node_uri, vhost)
    with ClusterRpcProxy({"AMQP_URI": node_uri}, timeout=20) as cluster:
        working = cluster.sink.work.call_async(1)
        eventually(lambda: log("working"))
        channel.queue_delete(queue)
        deleted_at = time.monotonic()
        eventually(lambda: node.consumers(vhost, queue))
        figure("seconds until it is consumed again", time.monotonic() - deleted_at, BACK_S)
        assert working.result() == 1  # the consumer beside it is not affected
    send(node_uri, log, range(1, 11))
    eventually(lambda: len(effects(log)) == 10)
    assert judge(log).clean
    assert service.status is None


@pytest.mark.matrix
def test_row_13_exchange_is_deleted(
    proxy: Proxy, run_services: Any, node_uri: str, vhost: str, log: Log, figure: Figure, eventually: Eventually
) -> None:
    caller = """
class Caller:
    name = "caller"
    sink = RpcProxy("sink")

    @event_handler("source", "ask")
    def ask(self, number):
        started_at = time.monotonic()
        try:
            self.sink.echo(number)
        except Exception as exc:
            log("outcome", number, type(exc).__name__, time.monotonic() - started_at)
        else:
            log("outcome", number, "ok", time.monotonic() - started_at)
"""
    service = run_services(SINK + caller)
    dispatch = event_dispatcher({"AMQP_URI": node_uri})
    dispatch("source", "ask", 1)
    eventually(lambda: log("outcome", "1", "ok"))
    channel_of(node_uri, vhost).exchange_delete("nameko-rpc")
    dispatch("source", "ask", 2)
    eventually(lambda: log("outcome", "2"))
    assert log("outcome", "2")[0][2] == "UnknownService"
    figure("seconds until a call raises", float(log("outcome", "2")[0][3]), BACK_S)
    assert proxy.reset() == 2
    reset_at = time.monotonic()
    dispatch("source", "ask", 3)
    eventually(lambda: log("outcome", "3"))
    assert log("outcome", "3")[0][2] == "ok"
    figure("seconds from the reconnect to a result", time.monotonic() - reset_at, BACK_S)
    assert service.status is None


@pytest.mark.matrix
def test_row_14_queue_with_other_properties(processes: Processes, node_uri: str, vhost: str, figure: Figure) -> None:
    channel_of(node_uri, vhost).queue_declare(
        "rpc-sink", durable=True, auto_delete=False, arguments={"x-max-length": 7}
    )
    service = processes.run_services(SINK, {"AMQP_URI": node_uri}, ready=False)
    service.expect("starting services")
    started_at = time.monotonic()
    assert service.wait() == 1
    figure("seconds until the start is refused", time.monotonic() - started_at, 5)
    (error,) = re.findall("^Error: .*$", service.output, re.MULTILINE)
    assert "rpc-sink" in error
    assert "x-max-length" in error
    assert "Traceback" not in service.output


@pytest.mark.matrix
@pytest.mark.timeout(180)
def test_row_15_password_is_changed_and_permissions_are_cleared(
    node: Node, vhost: str, proxy: Proxy, run_services: Any, log: Log, figure: Figure, eventually: Eventually
) -> None:
    node.management.add_user("worker", "old")
    node.management.allow(vhost, "worker")
    service = run_services(SINK, AMQP_URI=node.uri(vhost, proxy.port, "worker", "old"))
    for what in ("password", "permission"):
        if what == "permission":
            node.management.request("DELETE", f"permissions/{vhost}/worker")
        else:
            node.management.add_user("worker", "new")
        accepted, lines = proxy.count("accepted"), service.output.count("\n")
        assert proxy.reset() == 2
        time.sleep(30)
        tries = proxy.count("accepted") - accepted
        assert tries >= 4  # it does not give up
        figure(f"tries a minute with another {what}, for each of the two connections", tries, 12)
        figure("lines of log for each try", (service.output.count("\n") - lines) / tries, 1.5)
        assert service.status is None
        node.management.add_user("worker", "old")
        node.management.allow(vhost, "worker")
        eventually(lambda: sorted(proxy.open) == ["consume", "publish"], timeout_s=20)
        eventually(lambda: node.consumers(vhost, "rpc-sink") == 1)
    node.management.delete_user("worker")
