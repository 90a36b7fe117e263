"""Fixtures for tests that run services in processes of their own, or break the network in front of the broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from harness.journal import Log
from harness.process import Process, Processes
from harness.proxy import Proxy

ServiceProcess = Callable[..., Process]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """What the processes of the test have written with `harness.journal.log`."""
    return Log(tmp_path / "journal")


@pytest.fixture
def processes(tmp_path: Path, log: Log) -> Iterator[Processes]:
    """Starts services and scripts, which are gone after the test."""
    processes = Processes(tmp_path, log.path)
    yield processes
    processes.close()


@pytest.fixture
def service_process(processes: Processes, rabbitmq_uri: str) -> ServiceProcess:
    """`service_process(source, **config)` runs the services of a module in a process; started when it returns."""

    def run(source: str, **config: Any) -> Process:
        return processes.run_services(source, {"AMQP_URI": rabbitmq_uri, **config})

    return run


@pytest.fixture
def network(rabbitmq_uri: str) -> Iterator[Proxy]:
    """A network in front of RabbitMQ that can be broken."""
    parts = urlsplit(rabbitmq_uri)
    proxy = Proxy(parts.hostname or "127.0.0.1", parts.port or 5672)
    yield proxy
    proxy.close()


@pytest.fixture
def network_uri(rabbitmq_uri: str, network: Proxy) -> str:
    """RabbitMQ through `network`."""
    vhost = rabbitmq_uri.rpartition("/")[2]
    return f"pyamqp://guest:guest@127.0.0.1:{network.port}/{vhost}"
