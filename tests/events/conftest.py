"""Containers that are stopped afterwards, and service processes that are gone afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nameko import concurrency
from nameko.containers import ServiceContainer
from nameko.testing.rabbit import Client

Eventually = Callable[..., Any]


@pytest.fixture
def start(broker_config: dict[str, Any]) -> Iterator[Callable[..., ServiceContainer]]:
    """`start(service_cls, **config)` runs a service on the broker of this test."""
    containers: list[ServiceContainer] = []

    def start_service(service_cls: type, **config: Any) -> ServiceContainer:
        container = ServiceContainer(service_cls, {**broker_config, **config})
        containers.append(container)
        container.start()
        return container

    yield start_service
    for container in containers:
        container.kill()


class Log:
    """A file that several processes write lines to: what they really did, whatever became of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def __call__(self, *starting_with: str) -> list[list[str]]:
        """The lines, each split at blanks, of those that start with the given words."""
        lines = [line.split() for line in self.path.read_text().splitlines()]
        return [line for line in lines if line[: len(starting_with)] == list(starting_with)]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


PREAMBLE = """
import os, signal, sys
from nameko import concurrency
concurrency.monkey_patch()
from nameko.events import *
from nameko.runners import ServiceRunner

def log(*words):
    # One write to a file opened for appending is whole, whichever process does it.
    os.write(log_fd, (" ".join(map(str, (*words, os.getpid()))) + "\\n").encode())

log_fd = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND)
"""

MAIN = """
runner = ServiceRunner({"AMQP_URI": sys.argv[1]})
for value in list(globals().values()):
    if isinstance(value, type) and value.__module__ == "__main__" and hasattr(value, "name"):
        runner.add_service(value)
runner.start()
log("started", *runner.service_names)
signal.signal(signal.SIGTERM, lambda signum, frame: concurrency.spawn_detached(runner.stop))
runner.wait()
log("stopped")
"""


@pytest.fixture
def service_process(
    rabbitmq_uri: str, tmp_path: Path, log: Log, eventually: Eventually
) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """`service_process(source)` runs the services of a module in a process of their own; started when it returns."""
    processes: list[subprocess.Popen[bytes]] = []

    def run(source: str) -> subprocess.Popen[bytes]:
        module = tmp_path / f"services_{len(processes)}.py"
        module.write_text(PREAMBLE + textwrap.dedent(source) + MAIN)
        process = subprocess.Popen([sys.executable, str(module), rabbitmq_uri, str(log.path)])
        processes.append(process)
        eventually(lambda: [line for line in log("started") if line[-1] == str(process.pid)], timeout_s=20)
        return process

    yield run
    for process in processes:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
    for process in processes:
        concurrency.run_in_native_thread(process.wait)


@pytest.fixture
def manager(rabbitmq_uri: str) -> Client:
    """RabbitMQ's management API; without one, the test is skipped."""
    client = Client(os.environ.get("NAMEKO_TEST_MANAGEMENT_URL", "http://guest:guest@127.0.0.1:15672"))
    try:
        client.get_overview()
    except OSError as exc:
        reason = f"this RabbitMQ has no management API ({exc}): enable rabbitmq_management"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return client
