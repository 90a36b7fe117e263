"""Fixtures for tests that kill RabbitMQ: a node of their own, the network in front of it, services behind that."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.fixtures import log, processes
from harness.node import Node, why_no_node
from harness.process import Process, Processes
from harness.proxy import Proxy

__all__ = [
    "_node",
    "figure",
    "log",
    "node",
    "node_uri",
    "processes",
    "proxy",
    "proxy_uri",
    "pytest_terminal_summary",
    "run_services",
    "vhost",
]

#: The heartbeat of all connections, in seconds; the limits of the fault matrix are told in it.
HEARTBEAT_S = int(os.environ.get("NAMEKO_FAULTS_HEARTBEAT", "4"))


@pytest.fixture(scope="session")
def _node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    reason = why_no_node()
    if reason is not None:
        if os.environ.get("CI"):
            pytest.fail(f"{reason}: in CI, where one must be, that is a failure", pytrace=False)
        pytest.skip(reason)
    node = Node(tmp_path_factory.mktemp("node"))
    try:
        node.start()
        yield node
    finally:
        node.close()


@pytest.fixture
def node(_node: Node) -> Iterator[Node]:
    """A RabbitMQ node that runs; whatever the test does to it, it is undone afterwards."""
    _node.heal()
    yield _node
    _node.heal()


@pytest.fixture
def vhost(node: Node) -> Iterator[str]:
    """The name of a virtual host on `node`."""
    name = f"faults-{uuid.uuid4().hex[:8]}"
    node.management.add_vhost(name)
    yield name
    node.heal()
    node.management.delete_vhost(name)


@pytest.fixture
def node_uri(node: Node, vhost: str) -> str:
    """Leads to `node` directly."""
    return node.uri(vhost)


@pytest.fixture
def proxy(node: Node) -> Iterator[Proxy]:
    """A network in front of `node` that can be broken."""
    proxy = Proxy("127.0.0.1", node.port)
    yield proxy
    proxy.close()


@pytest.fixture
def proxy_uri(node: Node, vhost: str, proxy: Proxy) -> str:
    """Leads to `node` through `proxy`."""
    return node.uri(vhost, port=proxy.port)


@pytest.fixture
def run_services(processes: Processes, proxy_uri: str) -> Callable[..., Process]:
    """`run_services(source, ready=True, **config)`: `nameko run` with the services of a module, behind the proxy."""

    def run(source: str, ready: bool = True, **config: Any) -> Process:
        return processes.run_services(source, {"AMQP_URI": proxy_uri, "HEARTBEAT": HEARTBEAT_S, **config}, ready=ready)

    return run


Figure = Callable[[str, float, float], None]


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """`figure(what, measured, at_most)`: a number of the fault matrix, checked, and shown at the end of the run."""

    def check(what: str, measured: float, at_most: float) -> None:
        record_property("figure", f"{what}: {measured:.3g} (at most {at_most:g})")
        assert measured <= at_most, f"{what}: {measured:.3g}, and not at most {at_most:g}"

    return check


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show the figures that were measured."""
    reports = [each for outcome in ("passed", "failed") for each in terminalreporter.getreports(outcome)]
    lines = [
        f"{report.nodeid.rpartition('::')[2]}: {value}"
        for report in reports
        if report.when == "call"
        for name, value in report.user_properties
        if name == "figure"
    ]
    if lines:
        terminalreporter.section("figures of the fault matrix")
        terminalreporter.line("\n".join(lines))
