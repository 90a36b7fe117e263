"""What the conformance tests run extensions in: a service whose method and other extensions do as they are told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nameko import concurrency
from nameko.containers import ServiceContainer, WorkerContext
from nameko.extensions import DependencyProvider, Entrypoint, ExcInfo, Extension, register_entrypoint
from nameko.testing.plugins._waiting import wait_until

SERVICE_NAME = "conformance"
METHOD_NAME = "run"

#: What a method may raise that must neither cost the service a worker nor the process its life.
OUTCOMES: tuple[Callable[[], BaseException], ...] = (
    lambda: ValueError("raised by a conformance test"),
    lambda: RecursionError("raised by a conformance test"),
    lambda: concurrency.Timeout(),
    lambda: SystemExit(3),
    lambda: KeyboardInterrupt(),
    lambda: concurrency.GreenletExit(),
)

WORKER_METHODS = ("get_dependency", "worker_setup", "worker_result", "worker_teardown")


class Sabotage(Exception):
    """What the extensions that are told to fail raise."""


class Method:
    """The service's method: counts its runs, and does what it is told."""

    def __init__(self) -> None:
        self.started = 0
        self.ended = 0
        self.action: Callable[[Any], Any] = lambda service: None

    def __call__(self, service: Any, *args: Any, **kwargs: Any) -> str:
        """Run."""
        self.started += 1
        try:
            self.action(service)
        finally:
            self.ended += 1
        return "done"

    def block(self) -> Any:
        """Have each run wait from now on; the event that lets them go on."""
        gate = concurrency.Event()
        self.action = lambda service: gate.wait()
        return gate

    def fail(self, exc: BaseException) -> None:
        """Have each run raise `exc` from now on."""

        def action(service: Any) -> None:
            raise exc

        self.action = action

    def succeed(self) -> None:
        """Have each run do nothing from now on."""
        self.action = lambda service: None


class Saboteur(DependencyProvider):
    """Another extension of the service: what it is told to do in a method, it does there.

    :param actions: by method name
    """

    def __init__(self, actions: Mapping[str, Callable[[], Any]]) -> None:
        self._actions = actions

    def _act(self, name: str) -> None:
        self._actions.get(name, lambda: None)()

    def setup(self) -> None:
        """Act."""
        self._act("setup")

    def start(self) -> None:
        """Act."""
        self._act("start")

    def stop(self) -> None:
        """Act."""
        self._act("stop")

    def kill(self) -> None:
        """Act."""
        self._act("kill")

    def get_dependency(self, worker_ctx: WorkerContext) -> None:
        """Act."""
        self._act("get_dependency")

    def worker_setup(self, worker_ctx: WorkerContext) -> None:
        """Act."""
        self._act("worker_setup")

    def worker_result(self, worker_ctx: WorkerContext, result: Any = None, exc_info: ExcInfo | None = None) -> None:
        """Act."""
        self._act("worker_result")

    def worker_teardown(self, worker_ctx: WorkerContext) -> None:
        """Act."""
        self._act("worker_teardown")


def failing(method_name: str) -> Saboteur:
    """A sibling extension that raises in one method."""
    return Saboteur({method_name: fail})


def fail() -> None:
    """Raise `Sabotage`."""
    raise Sabotage("raised by a conformance test")


def make_service(method: Method, entrypoint: Entrypoint, **dependencies: DependencyProvider) -> type:
    """A service class with one method, `run`, that does what `method` says."""

    def run(self: Any, *args: Any, **kwargs: Any) -> str:
        return method(self, *args, **kwargs)

    register_entrypoint(run, entrypoint)
    return type("Conformance", (), {"name": SERVICE_NAME, METHOD_NAME: run, **dependencies})


def holder(make_extension: Callable[[], Extension]) -> DependencyProvider:
    """A dependency provider that holds an extension."""

    class Holder(DependencyProvider):
        def __init__(self) -> None:
            self.held = make_extension()

    return Holder()


class Outcome:
    """What a worker's method has returned or raised."""

    def __init__(self) -> None:
        self.result: Any = None
        self.exception: BaseException | None = None
        self.known = False

    def handle_result(
        self, worker_ctx: WorkerContext, result: Any, exc_info: ExcInfo | None
    ) -> tuple[Any, ExcInfo | None]:
        """Keep it."""
        self.result, self.exception, self.known = result, exc_info[1] if exc_info else None, True
        return result, exc_info

    def check_success(self) -> None:
        """Fail unless the method has returned."""
        assert self.known, "the worker has ended without an outcome"
        if self.exception is not None:
            raise AssertionError("a worker could not use what was injected") from self.exception


def start_worker(container: ServiceContainer, *args: Any) -> Outcome:
    """Run the service's method in a worker."""
    entrypoint = next(each for each in container.entrypoints if each.method_name == METHOD_NAME)
    outcome = Outcome()
    container.spawn_worker(entrypoint, args, {}, handle_result=outcome.handle_result)
    return outcome


def wait_for_workers(container: ServiceContainer, timeout_s: float) -> None:
    """Wait until no worker is running."""
    wait_until(lambda: not container._worker_threads, timeout_s, "all workers have ended")


def fail_afterwards(extension: Extension, method_name: str) -> None:
    """Have a bound extension raise after it has done its part in one of its methods."""
    original = getattr(extension, method_name)

    def call(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)
        fail()

    setattr(extension, method_name, call)


def within(timeout_s: float, what: str, fn: Callable[[], Any]) -> Any:
    """What `fn()` returns or raises; an AssertionError when it takes longer than `timeout_s` seconds."""
    thread = concurrency.spawn_task(fn)
    if concurrency.wait_all([thread], timeout_s):
        thread.kill()
        raise AssertionError(f"{what} has not returned within {timeout_s:g} s")
    return thread.wait()


@contextmanager
def overriding(test: object, **methods: Callable[[], Any]) -> Iterator[None]:
    """Have a test object answer otherwise while the block runs."""
    vars(test).update(methods)
    try:
        yield
    finally:
        for name in methods:
            del vars(test)[name]


@contextmanager
def container_complaints() -> Iterator[list[str]]:
    """What containers log from WARNING on while the block runs: they go on when an extension fails to stop."""
    complaints: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: complaints.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("nameko.containers")
    logger.addHandler(handler)
    try:
        yield complaints
    finally:
        logger.removeHandler(handler)


def end(container: ServiceContainer, timeout_s: float) -> None:
    """Kill the container and wait until all of its workers have ended."""
    within(timeout_s, "ServiceContainer.kill()", container.kill)
    wait_for_workers(container, timeout_s)
