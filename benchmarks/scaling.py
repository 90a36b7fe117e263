"""What `nameko run --workers N` brings: calls a second of a method that computes, with 1, 2 ... processes in turn."""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from nameko.exceptions import UnknownService
from nameko.rpc import rpc
from nameko.standalone.rpc import ServiceRpcProxy

#: Calls in flight: enough to keep a handful of processes busy.
IN_FLIGHT = 16
#: About eight milliseconds of computing, beside which the client and the broker take little of the same cores.
STEPS = 160_000
START_TIMEOUT_S = 30


class Computing:
    """Computes."""

    name = "computing"

    @rpc
    def compute(self, steps: int) -> int:
        """A sum of so many squares."""
        return sum(number * number for number in range(steps))

    @rpc
    def process_id(self) -> int:
        """Which process answers."""
        return os.getpid()


@contextmanager
def running(uri: str, processes: int) -> Iterator[None]:
    """The service in so many processes, all of them consuming."""
    command = [sys.executable, "-m", "nameko", "run", "--workers", str(processes), "--broker", uri]
    supervisor = subprocess.Popen([*command, "benchmarks.scaling:Computing"], stderr=subprocess.DEVNULL)
    try:
        wait_until_all_answer(uri, processes)
        yield
    finally:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait()


def wait_until_all_answer(uri: str, processes: int) -> None:
    """Wait until each of the processes has answered."""
    deadline = time.monotonic() + START_TIMEOUT_S
    seen: set[int] = set()
    with ServiceRpcProxy("computing", {"AMQP_URI": uri}, timeout=START_TIMEOUT_S) as computing:
        while len(seen) < processes:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(seen)} of {processes} processes answer after {START_TIMEOUT_S} s")
            try:
                seen.add(computing.process_id())
            except UnknownService:  # none is up yet
                time.sleep(0.1)


def calls_per_s(uri: str, seconds: float) -> float:
    """How many calls are answered in a second."""
    with ServiceRpcProxy("computing", {"AMQP_URI": uri}, timeout=60) as computing:
        pending = deque(computing.compute.call_async(STEPS) for _ in range(IN_FLIGHT))
        started, count = time.monotonic(), 0
        while time.monotonic() - started < seconds:
            pending.popleft().result()
            count += 1
            pending.append(computing.compute.call_async(STEPS))
        elapsed = time.monotonic() - started
        for reply in pending:
            reply.result()
    return count / elapsed


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--uri", default="pyamqp://guest:guest@127.0.0.1:5672/", help="the broker")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one run")
    options = parser.parse_args()
    rates: dict[int, list[float]] = {count: [] for count in options.processes}
    for _ in range(options.rounds):
        for count, figures in rates.items():
            with running(options.uri, count):
                figures.append(calls_per_s(options.uri, options.seconds))
    medians = {count: statistics.median(figures) for count, figures in rates.items()}
    least = medians[min(medians)]
    for count, rate in medians.items():
        print(f"{count:2} processes {rate:8.0f} calls/s {rate / least:6.2f} x")


if __name__ == "__main__":
    main()
