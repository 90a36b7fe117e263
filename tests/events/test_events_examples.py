"""The examples, as a user runs them: every service in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest

from nameko import concurrency
from nameko.standalone.rpc import ClusterRpcProxy

pytestmark = pytest.mark.rabbitmq

Eventually = Callable[..., Any]
ROOT = Path(__file__).parents[2]
COMMANDS = Path(sys.executable).parent


@pytest.fixture
def nameko_run(rabbitmq_uri: str, tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """`nameko_run(service)` runs a service in a process of its own; the file with what it prints."""
    processes: list[subprocess.Popen[bytes]] = []
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"AMQP_URI": rabbitmq_uri}))

    def run(service: str) -> Path:
        output = tmp_path / f"output_{len(processes)}.txt"
        with output.open("wb") as stream:
            command = [COMMANDS / "nameko", "run", "--config", config, service]
            processes.append(subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, env=environ))
        return output

    yield run
    for process in processes:
        process.terminate()
    assert [concurrency.run_in_native_thread(process.wait, 20) for process in processes] == [0] * len(processes)


@pytest.fixture
def wait_for_consumer(rabbitmq_uri: str, eventually: Eventually) -> Callable[[str], None]:
    """`wait_for_consumer(queue)`: until there is one."""

    def consumers(queue: str) -> int:
        with kombu.Connection(rabbitmq_uri) as connection:
            try:
                return int(connection.default_channel.queue_declare(queue, passive=True).consumer_count)
            except connection.channel_errors:
                return 0

    return lambda queue: eventually(lambda: consumers(queue), timeout_s=20, interval_s=0.05)


def test_event_travels_from_one_process_to_another(
    nameko_run: Any, wait_for_consumer: Any, rabbitmq_uri: str, eventually: Eventually
) -> None:
    dispatching = nameko_run("examples.events_services:ServiceA")
    listening = nameko_run("examples.events_services:ServiceB")
    wait_for_consumer("rpc-service_a")
    wait_for_consumer("evt-service_a-event_type--service_b.handle_event")
    with ClusterRpcProxy({"AMQP_URI": rabbitmq_uri}, timeout=10) as cluster_rpc:
        cluster_rpc.service_a.dispatching_method("a payload")
    eventually(lambda: "service b received: a payload" in listening.read_text())
    assert "starting services: service_a" in dispatching.read_text()


def test_broadcast_reaches_every_process(nameko_run: Any, rabbitmq_uri: str, eventually: Eventually) -> None:
    listeners = [nameko_run("examples.events_broadcast") for _ in range(3)]

    def ping() -> bool:
        # Whoever is not there yet misses an event: that is what unreliable delivery means.
        command = [COMMANDS / "python", ROOT / "examples" / "events_dispatch.py", rabbitmq_uri]
        subprocess.run(command, timeout=20, check=False, stderr=subprocess.DEVNULL)
        return all("pong from listener" in output.read_text() for output in listeners)

    eventually(ping, timeout_s=30, interval_s=0.2)
