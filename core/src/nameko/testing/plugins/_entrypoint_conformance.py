"""What nameko asks of an entrypoint: when it may run its method, and what becomes of workers at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nameko import concurrency
from nameko.containers import ServiceContainer
from nameko.extensions import DependencyProvider
from nameko.testing.plugins import _bench
from nameko.testing.plugins._extension_conformance import ExtensionConformance
from nameko.testing.plugins._waiting import wait_until

#: How long to watch for what must not happen.
_WATCH_S = 0.2

_WORK_WAS_LEFT = (
    "the method was to run before anything was triggered: work for an earlier container is still there; "
    "make_extension() must give an entrypoint whose source is empty"
)


class EntrypointConformance(ExtensionConformance):
    """Tests for an entrypoint, to be inherited by a test class, besides those for every extension.

    ::

        class TestWatch(EntrypointConformance):
            def make_extension(self):
                return Watch(self.directory)

            def trigger(self, container):
                (self.directory / "file").touch()

    The service under test is called `conformance`, its method `run`; it takes any arguments and returns a string.

    `make_extension()` is called once for each container, of which a test has several. What it gives must find its
    source empty: make a new source there, or see to it that what was triggered is consumed, even when a worker fails.
    """

    def trigger(self, container: ServiceContainer) -> None:
        """Have the entrypoint run its method, as what it listens to would.

        Called in a greenthread of its own, which is killed at the end of the test: it may wait for an answer. What it
        raises is ignored, unless the method should have run and did not.
        """
        raise NotImplementedError(f"{type(self).__name__} must say how its entrypoint is triggered: trigger()")

    def _make_service(self, method: _bench.Method, **siblings: DependencyProvider) -> type:
        return _bench.make_service(method, self._declare(), **siblings)

    @contextmanager
    def _triggers(self, container: ServiceContainer) -> Iterator[_Triggers]:
        triggers = _Triggers(self, container)
        try:
            yield triggers
        finally:
            triggers.close()

    @contextmanager
    def _leaving_nothing(self) -> Iterator[None]:
        method = _bench.Method()  # clients of what triggers it may keep something as well
        with self._container(method) as container:
            self._start(container)
            with self._triggers(container) as triggers:
                triggers.fire()
                triggers.wait_for_runs(method, 1)
            self._stop(container)
        with super()._leaving_nothing():
            yield

    def test_runs_its_method(self) -> None:
        """Each trigger runs the method, also after another one."""
        method = _bench.Method()
        with self._leaving_nothing(), self._container(method) as container, self._triggers(container) as triggers:
            self._start(container)
            for number in range(1, 4):
                triggers.fire()
                triggers.wait_for_runs(method, number)
            self._stop(container)

    def test_accepts_no_work_before_everything_is_set_up(self) -> None:
        """While another extension is still being set up, nothing may run the method."""
        method = _bench.Method()
        gate = concurrency.Event()
        sibling = _bench.Saboteur({"setup": gate.wait})
        with self._leaving_nothing(), self._container(method, sibling=sibling) as container:
            starter = concurrency.spawn_task(container.start)
            with self._triggers(container) as triggers:
                triggers.fire()
                concurrency.sleep(_WATCH_S)
                assert not method.started, "the method ran although another extension was not set up: wait for start()"
                gate.send(None)
                _bench.within(self.timeout_s, "ServiceContainer.start()", starter.wait)
                triggers.fire()
                triggers.wait_for_runs(method, 1)
            self._stop(container)

    def test_accepts_no_work_after_stop(self) -> None:
        """What comes after `stop` stays where it is."""
        method = _bench.Method()
        with self._leaving_nothing(), self._container(method) as container, self._triggers(container) as triggers:
            self._start(container)
            self._stop(container)
            runs = method.started
            triggers.fire()
            concurrency.sleep(_WATCH_S)
            assert method.started == runs, "the method ran after stop()"

    def test_stop_lets_a_worker_finish(self) -> None:
        """`stop` waits for the method that is running, whose outcome counts."""
        method = _bench.Method()
        with self._leaving_nothing(), self._container(method) as container, self._triggers(container) as triggers:
            gate = self._start_busy(container, method, triggers)
            stopper = concurrency.spawn_task(container.stop)
            concurrency.sleep(_WATCH_S)
            assert not method.ended, "stop() has ended a worker that was running"
            gate.send(None)
            _bench.within(self.timeout_s, "ServiceContainer.stop()", stopper.wait)
            assert method.ended == method.started

    def test_kill_while_busy(self) -> None:
        """`kill` ends a method that is running, and returns at once."""
        method = _bench.Method()
        with self._leaving_nothing(), self._container(method) as container, self._triggers(container) as triggers:
            self._start_busy(container, method, triggers)
            self._kill(container)
            wait_until(lambda: method.ended == method.started, self.timeout_s, "the worker has ended")

    def _start_busy(self, container: ServiceContainer, method: _bench.Method, triggers: _Triggers) -> Any:
        gate = method.block()
        self._start(container)
        triggers.fire()
        triggers.wait_for_runs(method, 1)
        return gate

    def test_whatever_the_method_raises(self) -> None:
        """A method may raise anything: the container lives on, and the next call finds a free worker."""
        method = _bench.Method()
        with self._leaving_nothing(), self._container(method) as container, self._triggers(container) as triggers:
            self._start(container)
            for make_outcome in _bench.OUTCOMES:
                method.fail(make_outcome())
                triggers.fire()
                triggers.wait_for_runs(method, method.started + 1)
                wait_until(lambda: method.ended == method.started, self.timeout_s, "the worker has ended")
            method.succeed()
            triggers.fire()
            triggers.wait_for_runs(method, method.started + 1)
            assert container.started, "the container has not survived what its method raised"
            self._stop(container)

    def test_more_at_once_than_workers(self) -> None:
        """With one worker, what comes meanwhile waits for it, and is not lost."""
        method = _bench.Method()
        gate = method.block()
        config = {**self.make_config(), "max_workers": 1}
        with (
            _bench.overriding(self, make_config=lambda: config),
            self._leaving_nothing(),
            self._container(method) as container,
        ):
            self._start(container)
            with self._triggers(container) as triggers:
                for _ in range(3):
                    triggers.fire()
                triggers.wait_for_runs(method, 1)
                concurrency.sleep(_WATCH_S)
                assert method.started == 1, f"{method.started} workers ran at once, with max_workers: 1"
                method.succeed()
                gate.send(None)
                triggers.wait_for_runs(method, 3)
            self._stop(container)

    def test_a_dependency_fails(self) -> None:
        """A dependency that fails around the method takes the container down, and the entrypoint with it."""
        for name in _bench.WORKER_METHODS:
            with self._leaving_nothing(), self._container(sibling=_bench.failing(name)) as container:
                try:
                    self._start(container)
                except _bench.Sabotage as exc:
                    raise AssertionError(_WORK_WAS_LEFT) from exc
                with self._triggers(container) as triggers:
                    triggers.fire()
                    wait_until(
                        container._ended.ready,
                        self.timeout_s,
                        lambda name=name: f"the container has ended since {name}() of a dependency failed",  # type: ignore[misc]
                    )


class _Triggers:
    """Runs `trigger` in greenthreads of its own, and ends them."""

    def __init__(self, test: EntrypointConformance, container: ServiceContainer) -> None:
        self._test = test
        self._container = container
        self._threads: list[Any] = []
        self._last_error: BaseException | None = None

    def fire(self) -> None:
        """Trigger the entrypoint."""
        self._threads.append(concurrency.spawn_task(self._run))

    def _run(self) -> None:
        try:
            self._test.trigger(self._container)
        except Exception as exc:
            self._last_error = exc

    def wait_for_runs(self, method: _bench.Method, number: int) -> None:
        """Wait until the method has begun to run `number` times."""
        wait_until(lambda: method.started >= number, self._test.timeout_s, lambda: self._describe(method, number))

    def _describe(self, method: _bench.Method, number: int) -> str:
        hint = f"; the last trigger raised {self._last_error!r}" if self._last_error is not None else ""
        return f"the method has run {number} times: it ran {method.started} times{hint}"

    def close(self) -> None:
        """End what still waits for an answer."""
        for thread in self._threads:
            thread.kill()
