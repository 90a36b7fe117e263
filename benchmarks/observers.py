"""What plugins that observe workers cost each worker: CPU time with each of them, compared with none, in turn."""

from __future__ import annotations

import argparse
import resource
import statistics
from contextlib import ExitStack

from nameko.containers import ServiceContainer
from nameko.extensions import Entrypoint
from nameko.testing.plugins import run_service


class Service:
    """Does nothing, which makes the cost of everything around it visible."""

    name = "service"

    @Entrypoint.decorator
    def method(self) -> None:
        """Do nothing."""


def cpu_us_per_worker(container: ServiceContainer, workers: int) -> float:
    """CPU microseconds for each of so many workers."""
    (entrypoint,) = container.entrypoints
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(workers):
        container.spawn_worker(entrypoint, (), {})
    container._worker_pool.waitall()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / workers * 1e6


def main() -> None:
    """Measure the plugins that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.observers", description=__doc__)
    parser.add_argument("plugins", nargs="*", default=["metrics", "health"], help="names of installed plugins")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--workers", type=int, default=20_000, help="in each round")
    options = parser.parse_args()
    with ExitStack() as stack:
        containers = {"none": stack.enter_context(run_service(Service))}
        for name in options.plugins:
            containers[name] = stack.enter_context(run_service(Service, plugins=[name]))
        figures: dict[str, list[float]] = {name: [] for name in containers}
        for _ in range(options.rounds + 1):
            for name, container in containers.items():
                figures[name].append(cpu_us_per_worker(container, options.workers))
    medians = {name: statistics.median(each[1:]) for name, each in figures.items()}  # the first one warms up
    for name, median in medians.items():
        print(f"{name:12} {median:8.2f} us a worker {median - medians['none']:+8.2f} us")


if __name__ == "__main__":
    main()
