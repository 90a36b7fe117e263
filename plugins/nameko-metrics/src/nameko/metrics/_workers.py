"""What is counted of the workers of one service.

Counted here rather than with the classes of prometheus_client, whose locks would take a worker several times as long:
a container's workers all run in one thread, so that plain numbers will do. They are turned into metrics when asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nameko.containers import WorkerContext
    from nameko.extensions import Entrypoint, ExcInfo

#: (method, class of the entrypoint): what tells the workers of a service apart.
WorkerKind = tuple[str, str]


class Histogram:
    """How many values fell into which bucket, and their sum.

    :param bounds: the upper bound of each bucket, which belongs to it, in ascending order; one more takes the rest
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add(self, other: Histogram) -> None:
        """Count what another one with the same bounds has counted."""
        self.counts = [ours + theirs for ours, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


class WorkerCounts:
    """The numbers of workers of one kind.

    :param bounds: of the histograms' buckets
    """

    __slots__ = ("durations", "errors", "expected_errors", "successes", "waits")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.successes = 0
        self.expected_errors = 0
        self.errors = 0
        self.durations = Histogram(bounds)
        self.waits = Histogram(bounds)

    def add(self, other: WorkerCounts) -> None:
        """Count what another one has counted."""
        self.successes += other.successes
        self.expected_errors += other.expected_errors
        self.errors += other.errors
        self.durations.add(other.durations)
        self.waits.add(other.waits)


class WorkerObserver:
    """Counts the workers of one container, as an observer of them.

    :param entrypoints: those of the container, whose counts are there from the start, as zeros
    :param bounds: of the histograms' buckets
    """

    def __init__(self, entrypoints: Iterable[Entrypoint], bounds: Sequence[float]) -> None:
        self.counts: dict[WorkerKind, WorkerCounts] = {}
        self._bounds = bounds
        self._by_entrypoint = {each: self._counts_of_kind(each) for each in entrypoints}

    def worker_started(self, worker_ctx: WorkerContext) -> None:
        """Count how long the work has waited."""
        self._counts_of(worker_ctx.entrypoint).waits.observe(worker_ctx.started_at - worker_ctx.fired_at)  # type: ignore[operator]

    def worker_finished(
        self, worker_ctx: WorkerContext, result: Any, exc_info: ExcInfo | None, duration_s: float
    ) -> None:
        """Count the outcome and the duration."""
        entrypoint = worker_ctx.entrypoint
        counts = self._counts_of(entrypoint)
        counts.durations.observe(duration_s)
        if exc_info is None:
            counts.successes += 1
        elif isinstance(exc_info[1], entrypoint.expected_exceptions):
            counts.expected_errors += 1
        else:
            counts.errors += 1

    def _counts_of(self, entrypoint: Entrypoint) -> WorkerCounts:
        return self._by_entrypoint.get(entrypoint) or self._counts_of_kind(entrypoint)

    def _counts_of_kind(self, entrypoint: Entrypoint) -> WorkerCounts:
        kind = (str(entrypoint.method_name), type(entrypoint).__name__)
        return self.counts.get(kind) or self.counts.setdefault(kind, WorkerCounts(self._bounds))
