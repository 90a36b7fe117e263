"""What Prometheus is told about all services of the process, put together when it asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from logging import getLogger
from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from nameko.exceptions import ConfigurationError
from nameko.metrics._settings import BUCKETS_KEY
from nameko.metrics._workers import Histogram, WorkerCounts, WorkerKind

if TYPE_CHECKING:
    from nameko.metrics._extension import ServiceMetrics

_log = getLogger("nameko.metrics")

# Of the sample of a counter; the metric itself is called without it.
_COUNTER_SUFFIX = "_total"
_WORKER_LABELS = ("service", "method", "entrypoint")


class ServicesCollector:
    """Collects the metrics of the services that run, for a registry; it is in there as long as there is one.

    Services of one name, in several containers, are shown as one.

    :param registry: the registry
    """

    def __init__(self, registry: Any) -> None:
        self._registry = registry
        self._registered = False
        self._services: list[ServiceMetrics] = []
        self._complained_about: set[str] = set()

    def add(self, service: ServiceMetrics) -> None:
        """Show the service from now on.

        :raises ConfigurationError: when it has other buckets than those that are here already
        """
        self._services = [each for each in self._services if each.is_alive]
        if any(each.buckets_s != service.buckets_s for each in self._services):
            raise ConfigurationError(f"{BUCKETS_KEY} must be the same for all services of a process")
        if not self._registered:
            self._registered = True
            self._registry.register(self)
        self._services.append(service)

    def remove(self, service: ServiceMetrics) -> None:
        """Show it no more. Harmless when called again."""
        if service in self._services:
            self._services.remove(service)
        if self._registered and not self._services:
            self._registered = False
            self._registry.unregister(self)

    def describe(self) -> Iterable[Metric]:
        """Nothing: which metrics there will be, plugins decide later."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        services = [each for each in self._services if each.is_alive]
        yield from _worker_metrics(services)
        yield from _container_metrics(services)
        yield from self._plugin_metrics(services)

    def _plugin_metrics(self, services: Iterable[ServiceMetrics]) -> Iterable[Metric]:
        metrics: dict[str, Metric] = {}
        values: dict[tuple[str, str, frozenset[tuple[str, str]]], float] = {}
        for service in services:
            for stat in service.stats():
                name = stat.name.removesuffix(_COUNTER_SUFFIX) if stat.kind == "counter" else stat.name
                metric = metrics.setdefault(name, Metric(name, stat.help, stat.kind))
                if metric.type != stat.kind:
                    self._complain(name, f"is a {stat.kind} and a {metric.type}")
                    continue
                key = (name, service.name, frozenset(stat.labels.items()))
                values[key] = values.get(key, 0.0) + stat.value
        for (name, service_name, labels), value in values.items():
            metric = metrics[name]
            sample = f"{name}{_COUNTER_SUFFIX}" if metric.type == "counter" else name
            metric.add_sample(sample, {**dict(labels), "service": service_name}, value)
        return metrics.values()

    def _complain(self, name: str, what: str) -> None:
        if name not in self._complained_about:
            self._complained_about.add(name)
            _log.error("metric %s %s, as different plugins have it: the first one is shown", name, what)


def _worker_metrics(services: Iterable[ServiceMetrics]) -> Iterator[Metric]:
    outcomes = CounterMetricFamily(
        "nameko_workers", "Workers that have ended, by their outcome.", labels=(*_WORKER_LABELS, "outcome")
    )
    durations = HistogramMetricFamily(
        "nameko_worker_duration_seconds", "How long workers took, dependencies included.", labels=_WORKER_LABELS
    )
    waits = HistogramMetricFamily(
        "nameko_worker_wait_seconds",
        "From the arrival of work in the process to its worker.",
        labels=_WORKER_LABELS,
    )
    for (service_name, (method, entrypoint)), counts in _counts(services).items():
        labels = (service_name, method, entrypoint)
        outcomes.add_metric((*labels, "success"), counts.successes)
        outcomes.add_metric((*labels, "expected_error"), counts.expected_errors)
        outcomes.add_metric((*labels, "error"), counts.errors)
        durations.add_metric(labels, _cumulated(counts.durations), counts.durations.sum)
        waits.add_metric(labels, _cumulated(counts.waits), counts.waits.sum)
    yield from (outcomes, durations, waits)


def _counts(services: Iterable[ServiceMetrics]) -> Mapping[tuple[str, WorkerKind], WorkerCounts]:
    found: dict[tuple[str, WorkerKind], WorkerCounts] = {}
    for service in services:
        for kind, counts in list(service.workers.counts.items()):
            total = found.setdefault((service.name, kind), WorkerCounts(service.buckets_s))
            total.add(counts)
    return found


def _cumulated(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*(repr(float(bound)) for bound in histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))


def _container_metrics(services: Iterable[ServiceMetrics]) -> Iterator[Metric]:
    in_flight = GaugeMetricFamily("nameko_workers_in_flight", "Workers that are running.", labels=["service"])
    limit = GaugeMetricFamily("nameko_workers_max", "How many workers may run at once.", labels=["service"])
    ready = GaugeMetricFamily("nameko_ready", "How many of the service are ready in the process.", labels=["service"])
    by_name: dict[str, list[ServiceMetrics]] = {}
    for service in services:
        by_name.setdefault(service.name, []).append(service)
    for name, namesakes in by_name.items():
        in_flight.add_metric([name], sum(each.container.running_workers for each in namesakes))
        limit.add_metric([name], sum(each.container.max_workers for each in namesakes))
        ready.add_metric([name], sum(not each.container.not_ready_reasons() for each in namesakes))
    yield from (in_flight, limit, ready)


#: That of this process.
collector = ServicesCollector(REGISTRY)
