"""What the tests of the core share: extensions that record what happens to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from nameko import concurrency
from nameko.containers import ServiceContainer
from nameko.extensions import DependencyProvider, Entrypoint, Extension, SharedExtension


class Recording:
    """Mix-in: notes each life cycle call in a list, and then does what `behaviour` says for it.

    :param label: how the extension is called in the list
    :param log: the list
    :param behaviour: by method name, what to call
    """

    def __init__(self, label: str, log: list[str], **behaviour: Callable[[], Any]) -> None:
        self.label = label
        self.log = log
        self.behaviour = behaviour

    def _note(self, method_name: str) -> None:
        self.log.append(f"{self.label}.{method_name}")
        self.behaviour.get(method_name, lambda: None)()

    def setup(self) -> None:
        self._note("setup")

    def start(self) -> None:
        self._note("start")

    def stop(self) -> None:
        self._note("stop")

    def kill(self) -> None:
        self._note("kill")


class RecordingExtension(Recording, Extension):
    """A plain one."""


class RecordingShared(Recording, SharedExtension):
    """One for all that hold it."""


class RecordingEntrypoint(Recording, Entrypoint):
    """Triggered by the tests."""


class RecordingDependency(Recording, DependencyProvider):
    """Notes worker calls as well."""

    def get_dependency(self, worker_ctx: Any) -> Any:
        self._note("get_dependency")
        return self.label

    def worker_setup(self, worker_ctx: Any) -> None:
        self._note("worker_setup")

    def worker_result(self, worker_ctx: Any, result: Any = None, exc_info: Any = None) -> None:
        self._note("worker_result")

    def worker_teardown(self, worker_ctx: Any) -> None:
        self._note("worker_teardown")


class Calls:
    """Runs the entrypoints of a container and keeps the outcomes."""

    def __init__(self, container: ServiceContainer) -> None:
        self.container = container
        self.outcomes: list[tuple[Any, BaseException | None]] = []

    def __call__(self, method_name: str, *args: Any, **kwargs: Any) -> Any:
        """Run a worker; returns its context."""
        entrypoint = next(each for each in self.container.entrypoints if each.method_name == method_name)
        return self.container.spawn_worker(entrypoint, args, kwargs, handle_result=self._handle_result)

    def _handle_result(self, worker_ctx: Any, result: Any, exc_info: Any) -> Any:
        self.outcomes.append((result, exc_info and exc_info[1]))
        return result, exc_info


def _make_service(log: list[str], method: Callable[..., Any] = lambda: None, **behaviour: Any) -> type:
    """A service with one of each: entrypoint, dependency with a shared sub-extension; `method` is what its method does.

    :param behaviour: as `entrypoint_stop=fn`
    """

    def of(label: str) -> dict[str, Any]:
        return {key.partition("_")[2]: fn for key, fn in behaviour.items() if key.startswith(label + "_")}

    class Holder(RecordingDependency):
        def __init__(self) -> None:
            super().__init__("dependency", log, **of("dependency"))
            self.sub = RecordingShared("shared", log, **of("shared"))

    class Service:
        name = "service"

        dependency = Holder()

        @RecordingEntrypoint.decorator("entrypoint", log, **of("entrypoint"))
        def method(self, *args: Any) -> Any:
            log.append("worker begins")
            result = method(*args)
            log.append("worker ends")
            return result

    return Service


@pytest.fixture
def log() -> list[str]:
    """What happened, in order."""
    return []


@pytest.fixture
def spawn() -> Iterator[Callable[..., Any]]:
    """`spawn(fn, *args)` runs something at the same time; it is killed after the test."""
    threads: list[Any] = []

    def spawn(fn: Callable[..., Any], *args: Any) -> Any:
        threads.append(concurrency.spawn_task(fn, *args))
        return threads[-1]

    yield spawn
    for thread in threads:
        thread.kill()


@pytest.fixture
def make_service(log: list[str]) -> Callable[..., type]:
    """`make_service(method, **behaviour)`: a service class that notes in `log` what happens."""
    return partial(_make_service, log)


@pytest.fixture
def calls_of() -> Callable[..., Any]:
    """`calls_of(container)` runs its entrypoints: `calls("method", *args)`, `calls.outcomes`."""
    return Calls


@pytest.fixture
def recording() -> Any:
    """The recording extensions: `recording.Dependency(label, log, **behaviour)` and so on."""
    return SimpleNamespace(Dependency=RecordingDependency, Entrypoint=RecordingEntrypoint, Extension=RecordingExtension)
