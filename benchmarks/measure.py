"""Runs one peer's service and client as processes and reads what they cost."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import HERE, python_of

TICKS_PER_S = os.sysconf("SC_CLK_TCK")

SCRIPTS = {
    "nameko 3": "nameko_peer.py",
    "nameko-2.14.1": "nameko_peer.py",
    "nameko-3.0.0rc11": "nameko_peer.py",
    "faststream": "faststream_peer.py",
    "bare py-amqp": "pyamqp_peer.py",
}


@dataclass(frozen=True)
class Case:
    """What is measured.

    :param work: `rpc`, `nested` or `events`
    :param concurrency: calls in flight
    :param size_bytes: length of the payload
    """

    name: str
    work: str
    concurrency: int
    size_bytes: int = 100


@dataclass(frozen=True)
class Run:
    """One run of one peer: rates in calls a second, times in microseconds; processor time is per call."""

    rate: float
    median_us: float
    p99_us: float
    client_cpu_us: float
    service_cpu_us: float
    broker_cpu_us: float


def cpu_s(pid: int) -> float:
    """Processor seconds that the process `pid` has used, from /proc/<pid>/stat (fields 14 and 15, see proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def broker_pid() -> int | None:
    """The process of the RabbitMQ node on this machine."""
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text().strip() == "beam.smp":
                return int(path.parent.name)
        except OSError:
            continue
    return None


@contextmanager
def service_of(peer: str, arguments: list[str]) -> Iterator[int]:
    """The peer's service, consuming; its process id."""
    command = [str(python_of(peer)), str(HERE / "peers" / SCRIPTS[peer]), "service", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "READY":
                break
        else:
            raise RuntimeError(f"{peer}: its service ended with status {process.wait()} before it was ready")
        yield process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def run(peer: str, case: Case, uri: str, seconds: float) -> Run:
    """Measure `peer` at `case` for `seconds`.

    :raises subprocess.CalledProcessError: when its client fails
    """
    arguments = [case.work, uri, str(case.concurrency), str(seconds), str(case.size_bytes)]
    broker = broker_pid()
    with service_of(peer, arguments) as service:
        before = cpu_s(service), cpu_s(broker) if broker else 0.0
        command = [str(python_of(peer)), str(HERE / "peers" / SCRIPTS[peer]), "client", *arguments]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=seconds * 4 + 60)
        after = cpu_s(service), cpu_s(broker) if broker else 0.0
    measured = json.loads(answer.stdout.strip().splitlines()[-1])
    calls, latencies = measured["calls"], sorted(measured["latencies_us"])
    # The service and the broker also worked during the client's warm-up of one second.
    share = measured["seconds"] / (measured["seconds"] + 1.0)
    return Run(
        rate=calls / measured["seconds"],
        median_us=statistics.median(latencies),
        p99_us=latencies[int(len(latencies) * 0.99)],
        client_cpu_us=measured["cpu_s"] / calls * 1e6,
        service_cpu_us=(after[0] - before[0]) * share / calls * 1e6,
        broker_cpu_us=(after[1] - before[1]) * share / calls * 1e6,
    )
