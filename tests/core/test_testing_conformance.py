"""The conformance tests notice what is wrong with an extension: each fault here fails the test that is named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest

from nameko import concurrency
from nameko.concurrency import Event
from nameko.containers import ServiceContainer
from nameko.extensions import DependencyProvider, Entrypoint, Extension, SharedExtension
from nameko.plugins import ConfigKey, ExtensionInfo, hookimpl
from nameko.testing.plugins import (
    DependencyProviderConformance,
    EntrypointConformance,
    ExtensionConformance,
    PluginConformance,
    SharedExtensionConformance,
    no_leaks,
)

HANG_S = 0.3
SETTLE_S = 0.2


class Opener:
    """Opens a file in one method and closes it in others."""

    acquire_in = "setup"
    release_in: tuple[str, ...] = ("stop", "kill")

    def _pass(self, method_name: str) -> None:
        if method_name == self.acquire_in:
            self.file = os.open(os.devnull, os.O_RDONLY)
        if method_name in self.release_in and getattr(self, "file", None) is not None:
            os.close(self.file)
            self.file: Any = None

    def setup(self) -> None:
        self._pass("setup")

    def start(self) -> None:
        self._pass("start")

    def stop(self) -> None:
        self._pass("stop")

    def kill(self) -> None:
        self._pass("kill")


class Good(Opener, Extension):
    pass


class OpensOnBinding(Opener, Extension):
    def __init__(self) -> None:
        self._pass("setup")


class ForgetsOnStop(Good):
    release_in = ("kill",)


class ForgetsOnKill(Good):
    release_in = ("stop",)


class StopNeedsSetup(Good):
    def stop(self) -> None:
        os.close(self.file)


class HangsOnKill(Good):
    def kill(self) -> None:
        super().kill()
        Event().wait()


class RaisesOnKill(Good):
    def kill(self) -> None:
        super().kill()
        raise ZeroDivisionError


class LeavesAThread(Good):
    def start(self) -> None:
        concurrency.spawn(Event().wait)


class OneForAll(Good):
    def bind(self, container: ServiceContainer) -> OneForAll:
        self.container = container
        return self


def failures(test_cls: type, among: set[str]) -> set[str]:
    """Those tests of a conformance class that fail, among some, or among all."""
    failed = set()
    with impatience() if among else nullcontext():
        for name in dir(test_cls):
            if name in among or (name.startswith("test_") and not among):
                try:
                    getattr(test_cls(), name)()
                except Exception:
                    failed.add(name)
    return failed


@contextmanager
def impatience() -> Iterator[None]:
    """Tell sooner that something hangs or leaks, where that is expected."""
    with (
        patch.object(ExtensionConformance, "timeout_s", HANG_S),
        patch.object(PluginConformance, "timeout_s", HANG_S),
        patch("nameko.testing.plugins._extension_conformance.no_leaks", partial(no_leaks, settle_s=SETTLE_S)),
        patch("nameko.testing.plugins._plugin_conformance.no_leaks", partial(no_leaks, settle_s=SETTLE_S)),
    ):
        yield


def conformance(cls: type, base: type, **methods: Any) -> type:
    return type("Conformance", (base,), {"make_extension": lambda self: cls(), **methods})


@pytest.mark.parametrize(
    ("cls", "noticed_by"),
    [
        (Good, set()),
        (OpensOnBinding, {"test_making_it_acquires_nothing"}),
        (ForgetsOnStop, {"test_starts_and_stops"}),
        (ForgetsOnKill, {"test_kill_at_any_time", "test_kill_is_clean"}),
        (StopNeedsSetup, {"test_stop_at_any_time"}),
        (HangsOnKill, {"test_kill_at_any_time", "test_kill_is_clean"}),
        (RaisesOnKill, {"test_kill_at_any_time", "test_kill_is_clean"}),
        (LeavesAThread, {"test_starts_and_stops", "test_kill_at_any_time"}),
        (OneForAll, {"test_binding_makes_a_clone"}),
    ],
)
def test_extensions(cls: type, noticed_by: set[str]) -> None:
    failed = failures(conformance(cls, ExtensionConformance), noticed_by)
    assert failed == noticed_by


# -- entrypoints


class Source:
    """What entrypoints listen to: whatever is put there."""

    def __init__(self) -> None:
        self.items: list[object] = []


class GoodEntrypoint(Entrypoint):
    """Takes items in a managed thread."""

    def __init__(self, source: Source, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.thread: Any = None

    def start(self) -> None:
        self.thread = self.container.spawn_managed_thread(self.run)

    def run(self) -> None:
        while True:
            while self.source.items:
                self.fire(self.source.items.pop())
            concurrency.sleep(0.01)

    def fire(self, item: object) -> None:
        self.container.spawn_worker(self, (item,), {})

    def stop(self) -> None:
        if self.thread is not None:
            self.thread.kill()

    kill = stop


class WorksTooEarly(GoodEntrypoint):
    def setup(self) -> None:
        super().start()

    def start(self) -> None:
        pass


class KillsWorkersOnStop(GoodEntrypoint):
    def stop(self) -> None:
        super().stop()
        for thread in list(self.container._worker_threads.values()):
            thread.kill()


class DiesOfFailure(GoodEntrypoint):
    def fire(self, item: object) -> None:
        def handle_result(worker_ctx: Any, result: Any, exc_info: Any) -> Any:
            if exc_info:
                raise exc_info[1]
            return result, exc_info

        self.container.spawn_worker(self, (item,), {}, handle_result=handle_result)


class RunsOnce(GoodEntrypoint):
    def run(self) -> None:
        while not self.source.items:
            concurrency.sleep(0.01)
        self.fire(self.source.items.pop())


@pytest.mark.parametrize(
    ("cls", "noticed_by"),
    [
        (GoodEntrypoint, set()),
        (WorksTooEarly, {"test_accepts_no_work_before_everything_is_set_up"}),
        (KillsWorkersOnStop, {"test_stop_lets_a_worker_finish"}),
        (DiesOfFailure, {"test_whatever_the_method_raises"}),
        (RunsOnce, {"test_runs_its_method"}),
    ],
)
def test_entrypoints(cls: type, noticed_by: set[str]) -> None:
    class Conformance(EntrypointConformance):
        def __init__(self) -> None:
            self.source = Source()

        def make_extension(self) -> Any:
            return cls(self.source)

        def trigger(self, container: ServiceContainer) -> None:
            self.source.items.append("item")

    failed = failures(Conformance, noticed_by)
    assert failed == noticed_by


class LeavesItems(GoodEntrypoint):
    """Reads its source from the beginning, as each container does anew."""

    def run(self) -> None:
        position = 0
        while True:
            for item in self.source.items[position:]:
                position += 1
                self.fire(item)
            concurrency.sleep(0.01)


def test_work_that_is_left_for_the_next_container_is_told() -> None:
    source = Source()

    class Conformance(EntrypointConformance):
        def make_extension(self) -> Any:
            return LeavesItems(source)

        def trigger(self, container: ServiceContainer) -> None:
            source.items.append("item")

    with pytest.raises(AssertionError, match=r"make_extension\(\) must give an entrypoint whose source is empty$"):
        Conformance().test_a_dependency_fails()


# -- dependency providers


class GoodDependency(DependencyProvider):
    """Opens a file for each worker."""

    def __init__(self) -> None:
        self.files: dict[Any, int] = {}

    def get_dependency(self, worker_ctx: Any) -> int:
        self.files[worker_ctx] = os.open(os.devnull, os.O_RDONLY)
        return self.files[worker_ctx]

    def worker_teardown(self, worker_ctx: Any) -> None:
        self.close(worker_ctx)

    def close(self, worker_ctx: Any) -> None:
        file = self.files.pop(worker_ctx, None)
        if file is not None:
            os.close(file)

    def stop(self) -> None:
        for worker_ctx in list(self.files):
            self.close(worker_ctx)

    kill = stop


class ForgetsKilledWorkers(GoodDependency):
    def stop(self) -> None:
        pass

    kill = stop


class ForgetsFailedWorkers(GoodDependency):
    def worker_result(self, worker_ctx: Any, result: Any = None, exc_info: Any = None) -> None:
        if exc_info:
            self.files.pop(worker_ctx)


class SharesOne(GoodDependency):
    def get_dependency(self, worker_ctx: Any) -> int:
        if not self.files:
            super().get_dependency(worker_ctx)
        return next(iter(self.files.values()))


@pytest.mark.parametrize(
    ("cls", "noticed_by"),
    [
        (GoodDependency, set()),
        (ForgetsKilledWorkers, {"test_kill_while_in_use", "test_another_dependency_fails"}),
        (ForgetsFailedWorkers, {"test_whatever_the_method_raises"}),
        (SharesOne, {"test_serves_workers"}),
    ],
)
def test_dependency_providers(cls: type, noticed_by: set[str]) -> None:
    def use(self: Any, dependency: int) -> None:
        concurrency.sleep(0)
        os.fstat(dependency)
        concurrency.sleep(0.01)
        os.fstat(dependency)

    failed = failures(conformance(cls, DependencyProviderConformance, use=use), noticed_by)
    assert failed == noticed_by


# -- shared extensions


class GoodShared(Opener, SharedExtension):
    pass


class NeverShared(GoodShared):
    @property
    def sharing_key(self) -> object:
        return object()


@pytest.mark.parametrize(("cls", "noticed_by"), [(GoodShared, set()), (NeverShared, {"test_is_shared"})])
def test_shared_extensions(cls: type, noticed_by: set[str]) -> None:
    assert failures(conformance(cls, SharedExtensionConformance), noticed_by) == noticed_by


# -- plugins


class GoodPlugin:
    @hookimpl
    def nameko_worker_finished(self, worker_ctx: Any) -> None:
        pass


class NoHook:
    pass


class UnmarkedHook:
    def nameko_ready(self) -> list[str]:
        return []


class WithoutHelp:
    @hookimpl
    def nameko_config_keys(self) -> list[ConfigKey]:
        return [ConfigKey("KEY", "int", 1, " ")]


class NoExtension:
    @hookimpl
    def nameko_extensions(self) -> list[ExtensionInfo]:
        return [ExtensionInfo(int, "Counts.")]


class LooksAtResults:
    @hookimpl
    def nameko_worker_finished(self, worker_ctx: Any) -> None:
        repr(worker_ctx.args)


class KeepsWorkers:
    def __init__(self) -> None:
        self.kept: list[object] = []

    @hookimpl
    def nameko_worker_finished(self, worker_ctx: Any) -> None:
        self.kept.append(worker_ctx)


class KeepsFiles:
    @hookimpl
    def nameko_container_started(self) -> None:
        self.file = os.open(os.devnull, os.O_RDONLY)


class FailsOnKill:
    @hookimpl
    def nameko_container_killed(self, exc_info: Any) -> None:
        raise exc_info[1]


@pytest.mark.parametrize(
    ("cls", "noticed_by"),
    [
        (GoodPlugin, set()),
        (NoHook, {"test_keeps_the_rules_of_the_hooks"}),
        (UnmarkedHook, {"test_keeps_the_rules_of_the_hooks"}),
        (WithoutHelp, {"test_its_declarations_are_complete"}),
        (NoExtension, {"test_its_declarations_are_complete"}),
        (LooksAtResults, {"test_its_hooks_never_raise"}),
        (KeepsWorkers, {"test_keeps_no_worker_alive"}),
        (KeepsFiles, {"test_leaves_nothing_behind"}),
        (FailsOnKill, {"test_its_hooks_never_raise_when_the_container_is_killed"}),
    ],
)
def test_plugins(cls: type, noticed_by: set[str]) -> None:
    failed = failures(type("Conformance", (PluginConformance,), {"make_plugin": lambda self: cls()}), noticed_by)
    assert failed == noticed_by


def test_what_has_to_be_said_is_asked_for() -> None:
    for cls in (ExtensionConformance, EntrypointConformance, DependencyProviderConformance):
        with pytest.raises(NotImplementedError, match="must say how its extension is declared"):
            cls().make_extension()
    with pytest.raises(NotImplementedError, match="must say how its entrypoint is triggered"):
        EntrypointConformance().trigger(None)  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError, match="must say what its plugin is"):
        PluginConformance().make_plugin()
