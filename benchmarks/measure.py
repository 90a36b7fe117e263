"""Runs one peer's service and client as processes and reads what they cost."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.broker import broker_pid, delete_queues
from benchmarks.environments import HERE, python_of
from benchmarks.processes import cpu_s

SCRIPTS = {
    "nameko 3": "nameko_peer.py",
    "guaranteed loop": "guaranteed_peer.py",
    "nameko-2.14.1": "nameko_peer.py",
    "nameko-3.0.0rc11": "nameko_peer.py",
    "faststream": "faststream_peer.py",
    "bare py-amqp": "pyamqp_peer.py",
}

# Seconds until a service is to be ready, and until it is to have handled what was sent to it.
_READY_TIMEOUT_S = 60
_HANDLED_TIMEOUT_S = 60


@dataclass(frozen=True)
class Case:
    """What is measured.

    :param work: `rpc`, `nested` or `events`
    :param concurrency: calls in flight
    :param size_bytes: length of the payload
    :param services: how many services share the work, in one process
    :param workers: how many calls each service has in hand: its `max_workers` and its prefetch. FastStream knows no
        such limit
    """

    name: str
    work: str
    concurrency: int
    size_bytes: int = 100
    services: int = 1
    workers: int = 10

    def arguments(self, uri: str, seconds: float) -> list[str]:
        """For the scripts of the peers."""
        numbers = (self.concurrency, seconds, self.size_bytes, self.services, self.workers)
        return [self.work, uri, *map(str, numbers)]


@dataclass(frozen=True)
class Run:
    """One run of one peer: rates in calls a second, times in microseconds; processor time is per call.

    :param handled_rate: events handled a second; 0 where there are none
    """

    rate: float
    median_us: float
    p99_us: float
    client_cpu_us: float
    service_cpu_us: float
    broker_cpu_us: float
    handled_rate: float


class Service:
    """A peer's service, running."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def wait_for(self, word: str) -> list[str]:
        """The rest of the next line that starts with `word`.

        :raises RuntimeError: when the service ends before
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            first, *rest = line.split()
            if first == word:
                return rest
        raise RuntimeError(f"the service ended with status {self._process.wait()} before it said {word}")

    def wait_handled(self, count: int) -> float:
        """Wait until it has handled so many events; how many a second, from the first to the last.

        :raises TimeoutError: when it does not
        """
        deadline = time.monotonic() + _HANDLED_TIMEOUT_S
        while time.monotonic() < deadline:
            self._process.send_signal(signal.SIGUSR1)
            handled, seconds = self.wait_for("HANDLED")
            if int(handled) >= count:
                return int(handled) / float(seconds)
            time.sleep(0.1)
        raise TimeoutError(f"{handled} of {count} events were handled in time")


@contextmanager
def service_of(peer: str, arguments: list[str]) -> Iterator[Service]:
    """The peer's service, consuming."""
    command = [str(python_of(peer)), str(HERE / "peers" / SCRIPTS[peer]), "service", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    service = Service(process)
    try:
        service.wait_for("READY")
        yield service
    finally:
        process.kill()
        process.wait()


def drive(peer: str, arguments: list[str], timeout_s: float) -> dict[str, float]:
    """What the peer's client has measured.

    :raises subprocess.CalledProcessError: when it fails
    """
    command = [str(python_of(peer)), str(HERE / "peers" / SCRIPTS[peer]), "client", *arguments]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=timeout_s)
    measured: dict[str, float] = json.loads(answer.stdout.strip().splitlines()[-1])
    return measured


def run(peer: str, case: Case, uri: str, seconds: float) -> Run:
    """Measure `peer` at `case` for `seconds`.

    :raises subprocess.CalledProcessError: when its client fails
    """
    delete_queues(uri)
    arguments = case.arguments(uri, seconds)
    broker = broker_pid(uri)
    with service_of(peer, arguments) as service:
        before = cpu_s(service.pid), cpu_s(broker) if broker else 0.0
        measured = drive(peer, arguments, seconds * 4 + _READY_TIMEOUT_S)
        handled_rate = service.wait_handled(int(measured["all_calls"])) if case.work == "events" else 0.0
        after = cpu_s(service.pid), cpu_s(broker) if broker else 0.0
    calls, latencies = measured["calls"], sorted(measured["latencies_us"])  # type: ignore[call-overload]
    return Run(
        rate=calls / measured["seconds"],
        median_us=statistics.median(latencies),
        p99_us=latencies[int(len(latencies) * 0.99)],
        client_cpu_us=measured["cpu_s"] / calls * 1e6,
        service_cpu_us=(after[0] - before[0]) / measured["all_calls"] * 1e6,
        broker_cpu_us=(after[1] - before[1]) / measured["all_calls"] * 1e6,
        handled_rate=handled_rate,
    )
