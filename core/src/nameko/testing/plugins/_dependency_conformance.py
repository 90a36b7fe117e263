"""What nameko asks of a dependency provider: that it serves many workers at once, however each of them ends."""

from __future__ import annotations

from typing import Any

from nameko import concurrency
from nameko.containers import ServiceContainer
from nameko.extensions import DependencyProvider, Entrypoint
from nameko.testing.plugins import _bench
from nameko.testing.plugins._extension_conformance import ExtensionConformance
from nameko.testing.plugins._waiting import wait_until

_WORKERS = 5
_ATTRIBUTE = "dependency"


class DependencyProviderConformance(ExtensionConformance):
    """Tests for a dependency provider, to be inherited by a test class, besides those for every extension.

    ::

        class TestSession(DependencyProviderConformance):
            def make_extension(self):
                return Session()

            def make_config(self):
                return {"DATABASE_URL": "sqlite://"}

            def use(self, dependency):
                dependency.execute(text("SELECT 1"))
    """

    def use(self, dependency: Any) -> None:
        """What the method of a service does with what is injected; nothing by default. May block."""

    def _make_service(self, method: _bench.Method, **siblings: DependencyProvider) -> type:
        return _bench.make_service(method, Entrypoint(), **{_ATTRIBUTE: self._declare()}, **siblings)

    def _using(self, method: _bench.Method, then: Any = lambda: None) -> None:
        def action(service: Any) -> None:
            self.use(getattr(service, _ATTRIBUTE))
            then()

        method.action = action

    def _run_workers(self, container: ServiceContainer, number: int) -> list[_bench.Outcome]:
        outcomes = [_bench.start_worker(container) for _ in range(number)]
        _bench.wait_for_workers(container, self.timeout_s)
        return outcomes

    def test_serves_workers(self) -> None:
        """Workers use what is injected, one after the other and many at once."""
        method = _bench.Method()
        self._using(method)
        with self._leaving_nothing(), self._container(method) as container:
            self._start(container)
            outcomes = self._run_workers(container, 1) + self._run_workers(container, _WORKERS)
            for outcome in outcomes:
                outcome.check_success()
            assert container.started, "the container has not survived its workers"
            self._stop(container)

    def test_whatever_the_method_raises(self) -> None:
        """A method may raise anything: the dependency is released, and the next worker has one."""
        method = _bench.Method()
        with self._leaving_nothing(), self._container(method) as container:
            self._start(container)
            for make_outcome in _bench.OUTCOMES:
                exc = make_outcome()
                self._using(method, lambda exc=exc: _raise(exc))
                self._run_workers(container, 2)
                assert container.started, f"the container has not survived that its method raised {exc!r}"
            self._using(method)
            self._run_workers(container, 1)[0].check_success()
            self._stop(container)

    def test_stop_while_in_use(self) -> None:
        """`stop` of the container comes when workers are done; those that run can still use what they have."""
        method = _bench.Method()
        gate = concurrency.Event()
        with self._leaving_nothing(), self._container(method) as container:
            self._start(container)

            def wait_and_use_again(service: Any) -> None:
                self.use(getattr(service, _ATTRIBUTE))
                gate.wait()
                self.use(getattr(service, _ATTRIBUTE))

            method.action = wait_and_use_again
            outcome = _bench.start_worker(container)
            wait_until(lambda: method.started, self.timeout_s, "the worker has started")
            stopper = concurrency.spawn_task(container.stop)
            concurrency.sleep(0)
            gate.send(None)
            _bench.within(self.timeout_s, "ServiceContainer.stop()", stopper.wait)
            outcome.check_success()

    def test_kill_while_in_use(self) -> None:
        """`kill` may come while workers use what is injected, which is released all the same."""
        method = _bench.Method()
        gate = concurrency.Event()
        with self._leaving_nothing(), self._container(method) as container:
            self._start(container)
            using: list[bool] = []

            def stay() -> None:
                using.append(True)
                gate.wait()

            self._using(method, stay)
            for _ in range(_WORKERS):
                _bench.start_worker(container)
            wait_until(lambda: len(using) == _WORKERS, self.timeout_s, "all workers use what is injected")
            self._kill(container)

    def test_another_dependency_fails(self) -> None:
        """Another dependency that fails around the method takes the container down: nothing is left of this one."""
        for name in _bench.WORKER_METHODS:
            method = _bench.Method()
            self._using(method)
            with self._leaving_nothing(), self._container(method, sibling=_bench.failing(name)) as container:
                self._start(container)
                self._run_until_killed(container, name)

    def test_it_fails_around_the_method(self) -> None:
        """Where its own method raises after all, the container is killed, and what it has acquired is released."""
        for name in _bench.WORKER_METHODS:
            method = _bench.Method()
            self._using(method)
            with self._leaving_nothing(), self._container(method) as container:
                _bench.fail_afterwards(self._bound(container), name)
                self._start(container)
                self._run_until_killed(container, name)

    def _run_until_killed(self, container: ServiceContainer, name: str) -> None:
        _bench.start_worker(container)
        message = f"the container has ended since {name}() of a dependency failed"
        wait_until(container._ended.ready, self.timeout_s, message)


def _raise(exc: BaseException) -> None:
    raise exc
