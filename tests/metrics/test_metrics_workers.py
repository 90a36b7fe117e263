"""What is counted of workers, and how it stands in the registry of the process."""

from __future__ import annotations

import time
from typing import Any

import pytest
from prometheus_client import REGISTRY, Counter

from nameko.concurrency import Event, spawn_task
from nameko.containers import ServiceContainer
from nameko.exceptions import ConfigurationError
from nameko.extensions import Entrypoint
from nameko.metrics import _plugin as metrics_plugin
from nameko.metrics._workers import WorkerObserver
from nameko.plugins import PluginManager, Stat, hookimpl

direct = Entrypoint.decorator


class Expected(Exception):
    pass


class Shop:
    name = "shop"

    @direct(expected_exceptions=Expected)
    def sell(self, exc: BaseException | None = None) -> None:
        if exc is not None:
            raise exc

    @direct
    def wait(self, event: Any) -> None:
        event.wait()


SELL = {"service": "shop", "method": "sell", "entrypoint": "Entrypoint"}
WAIT = {**SELL, "method": "wait"}


def test_workers_are_counted_by_their_outcome(run_container, call, registered, eventually):
    shop = run_container(Shop)
    outcomes = ("success", "expected_error", "error")
    assert [registered()("nameko_workers_total", **SELL, outcome=each) for each in outcomes] == [0, 0, 0]
    for exc in (None, None, None, Expected(), Expected(), ValueError()):
        call(shop, "sell", exc)
    shop._worker_pool.waitall()
    metrics = registered()
    assert [metrics("nameko_workers_total", **SELL, outcome=each) for each in outcomes] == [3, 2, 1]
    assert metrics("nameko_worker_duration_seconds_count", **SELL) == 6
    assert metrics("nameko_workers_total", **WAIT, outcome="success") == 0


class Gate:
    """Holds up whoever waits for it, and says when somebody does."""

    def __init__(self) -> None:
        self.entered, self.opened = Event(), Event()

    def wait(self) -> None:
        self.entered.send(None)
        self.opened.wait()


def test_durations_and_waits_fall_into_buckets(run_container, call, registered):
    shop, gate = run_container(Shop, METRICS_BUCKETS=[0.02, 0.5, 60]), Gate()
    call(shop, "wait", gate, fired_at=time.perf_counter() - 5)
    call(shop, "sell", fired_at=time.perf_counter() - 100)
    gate.entered.wait()
    time.sleep(0.05)
    gate.opened.send(None)
    shop._worker_pool.waitall()
    metrics = registered()

    def buckets(name: str, labels: dict[str, str]) -> list[float | None]:
        return [metrics(f"{name}_bucket", **labels, le=le) for le in ("0.02", "0.5", "60.0", "+Inf")]

    assert buckets("nameko_worker_wait_seconds", WAIT) == [0, 0, 1, 1]
    assert buckets("nameko_worker_wait_seconds", SELL) == [0, 0, 0, 1]
    assert buckets("nameko_worker_duration_seconds", WAIT)[0] == 0
    assert buckets("nameko_worker_duration_seconds", WAIT)[2:] == [1, 1]
    assert 5 < metrics("nameko_worker_wait_seconds_sum", **WAIT) < 60
    assert 0.05 <= metrics("nameko_worker_duration_seconds_sum", **WAIT) < 60


def test_a_bound_belongs_to_its_bucket():
    class Worker:
        entrypoint = Entrypoint()

    observer = WorkerObserver([Worker.entrypoint], [0.5, 1])
    for duration_s in (0.5, 0.75, 1, 1.5):
        observer.worker_finished(Worker, None, None, duration_s)  # type: ignore[arg-type]
    (counts,) = observer.counts.values()
    assert counts.durations.counts == [1, 2, 1]


def test_workers_in_flight_and_the_wait_for_one(run_container, call, registered, eventually):
    shop, release = run_container(Shop, max_workers=2), Event()
    for _ in range(3):
        spawn_task(call, shop, "wait", release)
    eventually(lambda: registered()("nameko_worker_wait_seconds_count", **WAIT) == 2)
    metrics = registered()
    assert metrics("nameko_workers_in_flight", service="shop") == 2
    assert metrics("nameko_workers_max", service="shop") == 2
    release.send(None)
    eventually(lambda: registered()("nameko_worker_wait_seconds_count", **WAIT) == 3)
    eventually(lambda: registered()("nameko_workers_in_flight", service="shop") == 0)


def test_a_worker_that_is_killed_is_in_flight_no_more(run_container, call, registered, eventually):
    shop = run_container(Shop, SHUTDOWN_TIMEOUT=0)
    other = run_container(type("Other", (Shop,), {"name": "other"}))
    call(shop, "wait", Event())
    eventually(lambda: registered()("nameko_workers_in_flight", service="shop") == 1)
    shop.stop()
    metrics = registered()
    assert metrics("nameko_workers_in_flight", service="shop") is None
    assert metrics("nameko_workers_in_flight", service="other") == 0
    other.stop()


def test_entrypoints_of_one_kind_on_one_method_are_counted_together(run_container, call, registered):
    class Twice:
        name = "twice"

        @direct
        @direct
        def method(self) -> None:
            pass

    twice = run_container(Twice)
    for entrypoint in twice.entrypoints:
        twice.spawn_worker(entrypoint, (), {})
    later = Entrypoint().bind(twice, "method")  # as the test kit attaches one
    twice.spawn_worker(later, (), {})
    twice._worker_pool.waitall()
    labels = {"service": "twice", "method": "method", "entrypoint": "Entrypoint", "outcome": "success"}
    assert registered()("nameko_workers_total", **labels) == 3


def test_several_containers_and_starts_share_the_registry(run_container, call, registered):
    first, second = run_container(Shop), run_container(Shop)
    run_container(type("Other", (Shop,), {"name": "other"}))
    for container in (first, second):
        call(container, "sell")
        container._worker_pool.waitall()
    metrics = registered()  # which asserts that no sample is there twice
    assert metrics("nameko_workers_total", **SELL, outcome="success") == 2
    assert metrics("nameko_workers_max", service="shop") == 20
    assert metrics("nameko_ready", service="shop") == 2
    first.stop()
    assert registered()("nameko_workers_total", **SELL, outcome="success") == 1
    second.kill()
    assert registered()("nameko_workers_total", **SELL, outcome="success") is None
    run_container(Shop)
    assert registered()("nameko_workers_total", **SELL, outcome="success") == 0


def test_nothing_of_ours_stays_behind(registered):
    for _ in range(3):
        container = ServiceContainer(Shop, {})
        container.start()
        assert "nameko_workers_total" in registered().names()
        container.stop()
        container.kill()
    assert not [name for name in registered().names() if name.startswith("nameko_")]


def test_a_container_that_was_given_up_is_not_shown(registered):
    container = ServiceContainer(Shop, {})
    container.start()
    assert registered()("nameko_workers_max", service="shop") == 10
    del container
    assert registered()("nameko_workers_max", service="shop") is None
    next_one = ServiceContainer(Shop, {"METRICS_BUCKETS": [1]})  # what is gone does not object
    next_one.start()
    next_one.stop()
    assert "nameko_ready" not in registered().names()


def test_metrics_of_the_process_and_of_the_service_itself_are_there(run_container, registered):
    own = Counter("shop_articles_sold", "Sold.")
    try:
        own.inc()
        run_container(Shop)
        metrics = registered()
    finally:
        REGISTRY.unregister(own)
    assert metrics("shop_articles_sold_total") == 1
    assert metrics("process_open_fds") > 0
    assert {"python_info", "python_gc_collections_total"} <= metrics.names()


def test_an_observer_that_fails_changes_nothing_for_the_worker(run_container, call, monkeypatch, caplog):
    monkeypatch.setattr(WorkerObserver, "worker_finished", lambda *args, **kwargs: 1 / 0)
    shop, outcomes = run_container(Shop), []
    call(shop, "sell", handle_result=lambda ctx, *outcome: (outcomes.append(outcome), outcome)[1])
    shop._worker_pool.waitall()
    assert outcomes == [(None, None)]
    assert "plugin metrics (nameko-metrics): observer" in caplog.text


# -- numbers of plugins


class Numbers:
    """A plugin that tells `stats`."""

    def __init__(self, *stats: Stat) -> None:
        self.stats = stats

    @hookimpl
    def nameko_stats(self) -> list[Stat]:
        return list(self.stats)


def test_numbers_that_plugins_give(run_container, registered, caplog):
    plugins = PluginManager.with_plugins(
        {
            "metrics": metrics_plugin,
            "a": Numbers(
                Stat("acme_hits", "counter", "Hits.", 3, {"cache": "x"}),
                Stat("acme_hits_total", "counter", "Hits.", 4, {"cache": "y"}),
                Stat("acme_full", "gauge", "Full.", True),
            ),
            "b": Numbers(Stat("acme_full", "counter", "Another.", 1)),
        }
    )
    run_container(Shop, plugins)
    run_container(Shop, plugins)
    for _ in range(2):
        metrics = registered()
    assert metrics("acme_hits_total", service="shop", cache="x") == 6
    assert metrics("acme_hits_total", service="shop", cache="y") == 8
    assert metrics("acme_full", service="shop") == 2
    assert "# TYPE acme_hits_total counter" in metrics.text
    assert caplog.text.count("metric acme_full is a counter and a gauge") == 1


def test_a_plugin_that_fails_to_give_numbers_takes_nothing_else_away(run_container, registered, caplog):
    class Broken:
        @hookimpl
        def nameko_stats(self) -> list[Stat]:
            return [Stat("no-name", "gauge", "", 1)]

    run_container(Shop, PluginManager.with_plugins({"metrics": metrics_plugin, "broken": Broken()}))
    assert registered()("nameko_ready", service="shop") == 1
    assert "plugin broken" in caplog.text


# -- configuration


@pytest.mark.parametrize(
    "buckets", [[], [1, 1], [2, 1], [0, 1], [-1], ["1"], [True], [float("inf")], "1", 3, list(range(1, 102))]
)
def test_buckets_that_are_none(run_container, buckets):
    with pytest.raises(ConfigurationError, match="METRICS_BUCKETS must be a list of 1 to 100 numbers"):
        run_container(Shop, METRICS_BUCKETS=buckets)


def test_all_services_of_a_process_have_the_same_buckets(run_container, registered):
    run_container(Shop)
    with pytest.raises(ConfigurationError, match="must be the same for all services"):
        run_container(type("Other", (Shop,), {"name": "other"}), METRICS_BUCKETS=[1])
    assert registered()("nameko_ready", service="shop") == 1
    assert registered()("nameko_ready", service="other") is None


@pytest.mark.parametrize("path", [3, True, "metrics", "/", "/a b"])
def test_a_path_that_is_none(run_container, path):
    with pytest.raises(ConfigurationError, match="METRICS_PATH must be a path"):
        run_container(Shop, METRICS_PATH=path)
