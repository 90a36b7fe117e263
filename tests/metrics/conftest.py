"""Services whose metrics are asked for as Prometheus does."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from nameko.containers import ServiceContainer


class Metrics:
    """One answer to a scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples: dict[Any, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self._samples, f"twice: {key}"
                self._samples[key] = sample.value

    def __call__(self, name: str, **labels: str) -> float | None:
        """The value of the sample with these labels; None when there is none."""
        return self._samples.get((name, frozenset(labels.items())))

    def names(self) -> set[str]:
        return {name for name, _ in self._samples}


@pytest.fixture
def scrape() -> Callable[[str], Metrics]:
    """`scrape(url)`: the metrics there."""

    def get(url: str) -> Metrics:
        with urllib.request.urlopen(url, timeout=20) as response:
            return Metrics(response.read().decode())

    return get


@pytest.fixture
def registered() -> Callable[[], Metrics]:
    """`registered()`: the metrics of this process."""
    return lambda: Metrics(generate_latest().decode())


@pytest.fixture
def run_container(start_container: Callable[..., ServiceContainer]) -> Callable[..., ServiceContainer]:
    """`run_container(service_cls, plugins=None, **config)`: a started container."""
    return lambda service_cls, plugins=None, **config: start_container(service_cls, config, plugins)


@pytest.fixture
def call() -> Callable[..., Any]:
    """`call(container, method_name, *args, **options)` runs a worker, and waits for nothing."""

    def spawn(container: ServiceContainer, method_name: str, *args: Any, **options: Any) -> Any:
        entrypoint = next(each for each in container.entrypoints if each.method_name == method_name)
        return container.spawn_worker(entrypoint, args, {}, **options)

    return spawn
