"""Whether the cost of a call grows: with the services in a process, with the messages that wait, with their size."""

from __future__ import annotations

import os
import signal
import statistics
from collections.abc import Callable, Mapping

from benchmarks.broker import delete_queues, publish_events
from benchmarks.figures import OURS
from benchmarks.measure import Case, run, service_of
from benchmarks.processes import cpu_s

SERVICES = (1, 50)
WAITING = (1, 100, 1_000, 10_000)
SIZES_BYTES = (100, 1_000, 10_000)

# Events handled for each figure.
_EVENTS = 10_000


def of_services(uri: str, rounds: int, seconds: float) -> dict[int, float]:
    """Processor time of a call in the service's process, in microseconds, by the number of services there."""

    def cost_us(services: int) -> float:
        return run(OURS, Case(f"{services} services", "rpc", 50, services=services), uri, seconds).service_cpu_us

    return _in_turn(SERVICES, cost_us, rounds)


def of_sizes(uri: str, rounds: int, seconds: float) -> dict[int, float]:
    """Processor time of a call in client and service together, in microseconds, by the bytes of its argument."""

    def cost_us(size_bytes: int) -> float:
        figures = run(OURS, Case(f"{size_bytes} bytes", "rpc", 50, size_bytes), uri, seconds)
        return figures.client_cpu_us + figures.service_cpu_us

    return _in_turn(SIZES_BYTES, cost_us, rounds)


def of_waiting(uri: str, rounds: int, seconds: float) -> dict[int, float]:
    """Processor time to handle an event, in microseconds, by how many wait when the service begins."""

    def cost_us(waiting: int) -> float:
        if waiting == 1:
            return run(OURS, Case("one waits", "events", 1), uri, seconds).service_cpu_us
        return _backlog_us(uri, waiting)

    return _in_turn(WAITING, cost_us, rounds)


def _backlog_us(uri: str, waiting: int) -> float:
    # The service is halted while the events come in, so that they all wait.
    delete_queues(uri)
    with service_of(OURS, Case("backlog", "events", 1).arguments(uri, 1)) as service:
        before = cpu_s(service.pid)
        for done in range(waiting, _EVENTS + 1, waiting):
            os.kill(service.pid, signal.SIGSTOP)
            publish_events(uri, waiting)
            os.kill(service.pid, signal.SIGCONT)
            service.wait_handled(done)
        return (cpu_s(service.pid) - before) / _EVENTS * 1e6


def _in_turn(keys: tuple[int, ...], cost_us: Callable[[int], float], rounds: int) -> dict[int, float]:
    costs: Mapping[int, list[float]] = {key: [] for key in keys}
    for _ in range(rounds):
        for key in keys:
            costs[key].append(cost_us(key))
    return {key: statistics.median(each) for key, each in costs.items()}
