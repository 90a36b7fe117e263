"""What nameko asks of every extension: a life cycle that can be cut short anywhere and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nameko import concurrency
from nameko.config import config as global_config
from nameko.containers import ServiceContainer
from nameko.extensions import DependencyProvider, Entrypoint, Extension, SharedExtension
from nameko.testing.plugins import _bench
from nameko.testing.plugins._leaks import no_leaks
from nameko.testing.plugins._running import plugin_manager

LIFE_CYCLE = ("setup", "start", "stop", "kill")


class ExtensionConformance:
    """Tests for any extension, to be inherited by a test class.

    ::

        class TestCache(ExtensionConformance):
            def make_extension(self):
                return Cache(size=3)

    The extension is held by a dependency provider of the service under test. pytest fixtures come in through an autouse
    fixture of the test class. `nameko.config` holds the configuration while a test runs.
    """

    #: Seconds that a step may take before it counts as hanging.
    timeout_s = 20.0

    def make_extension(self) -> Any:
        """A new declaration of the extension, as it would stand on a service class."""
        raise NotImplementedError(f"{type(self).__name__} must say how its extension is declared: make_extension()")

    def make_config(self) -> dict[str, Any]:
        """The configuration of the service; empty by default."""
        return {}

    def plugins(self) -> tuple[object, ...]:
        """The plugins that the service runs with, as for `run_service`; none by default."""
        return ()

    # -- the service under test

    _extension_cls: type[Extension] = Extension

    def _declare(self) -> Any:
        extension = self.make_extension()
        self._extension_cls = type(extension)
        return extension

    def _make_service(self, method: _bench.Method, **siblings: DependencyProvider) -> type:
        return _bench.make_service(method, Entrypoint(), holder=_bench.holder(self._declare), **siblings)

    @contextmanager
    def _container(
        self, method: _bench.Method | None = None, **siblings: DependencyProvider
    ) -> Iterator[ServiceContainer]:
        """A container that is not started; killed at the end."""
        config = self.make_config()
        with global_config.patch(config, clear=True):
            container = self._build(config, method or _bench.Method(), **siblings)
            try:
                yield container
            finally:
                _bench.end(container, self.timeout_s)

    def _build(self, config: dict[str, Any], method: _bench.Method, **siblings: DependencyProvider) -> ServiceContainer:
        service_cls = self._make_service(method, **siblings)
        return ServiceContainer(service_cls, config, plugins=plugin_manager(self.plugins()))

    def _start(self, container: ServiceContainer) -> None:
        _bench.within(self.timeout_s, "ServiceContainer.start()", container.start)

    def _stop(self, container: ServiceContainer) -> None:
        _bench.within(self.timeout_s, "ServiceContainer.stop()", container.stop)

    def _kill(self, container: ServiceContainer) -> None:
        _bench.within(self.timeout_s, "ServiceContainer.kill()", container.kill)

    def _bound(self, container: ServiceContainer) -> Extension:
        cls = self._extension_cls
        found: list[Extension] = [each for each in container.extensions if type(each) is cls]
        assert found, f"the container has no {cls.__name__}: make_extension() must return what binds to its own class"
        return found[0]

    @contextmanager
    def _leaving_nothing(self) -> Iterator[None]:
        with self._container() as container:  # what is made once for the process is made now
            self._start(container)
            self._stop(container)
        with no_leaks():
            yield

    # -- tests

    def test_binding_makes_a_clone(self) -> None:
        """Each container has an extension of its own; the declaration stays what it is, and acquires nothing."""
        declaration = self.make_extension()
        with (
            _bench.overriding(self, make_extension=lambda: declaration),
            self._container() as first,
            self._container() as second,
        ):
            bound = self._bound(first), self._bound(second)
            assert bound[0] is not bound[1], "two containers share one extension: bind() must make a clone"
            assert all(each.is_bound() for each in bound), "bind() must set the container of the clone"
        assert not declaration.is_bound(), "the declaration is bound: bind() must leave it as it is"

    def test_making_it_acquires_nothing(self) -> None:
        """`__init__` and `bind` open no file and start no greenthread: services are also made to be looked at."""
        with self._container():  # what is made once for the process is made now
            with no_leaks():
                container = self._build(self.make_config(), _bench.Method())
            _bench.end(container, self.timeout_s)

    def test_starts_and_stops(self) -> None:
        """An orderly life leaves nothing behind, and can be lived again."""
        with self._leaving_nothing():
            for _ in range(2):
                with self._container() as container, _bench.container_complaints() as complaints:
                    self._start(container)
                    self._stop(container)
                    assert not complaints, f"stopping did not go well: {complaints}"

    def test_stop_at_any_time(self) -> None:
        """`stop` may come when neither `setup` nor `start` did, and more than once."""
        with self._leaving_nothing():
            for steps in ((), ("setup",), ("setup", "start")):
                with self._container() as container:
                    for step in (*steps, "stop", "stop"):
                        self._call(container, step, f"{step}() after {steps}")

    def test_kill_at_any_time(self) -> None:
        """`kill` may come at any time, and more than once; it does not raise."""
        with self._leaving_nothing():
            for steps in ((), ("setup",), ("setup", "start"), ("setup", "start", "stop")):
                with self._container() as container:
                    for step in (*steps, "kill", "kill"):
                        self._call(container, step, f"{step}() after {steps}")

    def _call(self, container: ServiceContainer, method_name: str, what: str) -> None:
        # Of all extensions, in the container's order: this one may need those that it holds.
        def call_each() -> None:
            groups = [container.extensions]
            if method_name == "stop":
                groups = [container.entrypoints, container.dependencies, container.subextensions]
            for group in groups:
                concurrency.join_all([concurrency.spawn_task(getattr(each, method_name)) for each in group])

        _bench.within(self.timeout_s, what, call_each)

    def test_kill_is_clean(self) -> None:
        """The container has nothing to complain of when it kills the extension."""
        with self._leaving_nothing(), self._container() as container, _bench.container_complaints() as complaints:
            self._start(container)
            self._kill(container)
            name = type(self._bound(container)).__name__
            assert not [each for each in complaints if name in each], f"kill did not go well: {complaints}"

    def test_another_extension_fails(self) -> None:
        """Whichever other extension fails, in whichever method, the container ends and nothing is left."""
        for name in LIFE_CYCLE:
            with self._leaving_nothing(), self._container(sibling=_bench.failing(name)) as container:
                self._live_with_failure(container, name)

    def test_it_fails_itself(self) -> None:
        """Where the extension's own method raises after all, what it has acquired by then is released."""
        for name in LIFE_CYCLE:
            with self._leaving_nothing(), self._container() as container:
                _bench.fail_afterwards(self._bound(container), name)
                self._live_with_failure(container, name)

    def _live_with_failure(self, container: ServiceContainer, method_name: str) -> None:
        try:
            self._start(container)
        except _bench.Sabotage:
            assert method_name in ("setup", "start"), f"a failure in {method_name}() came out of start()"
        else:
            assert method_name in ("stop", "kill"), f"a failure in {method_name}() did not come out of start()"
        if method_name == "kill":
            self._kill(container)
        else:
            self._stop(container)


class SharedExtensionConformance(ExtensionConformance):
    """Tests for a `SharedExtension`: those of every extension, and that two holders share one."""

    def _make_service(self, method: _bench.Method, **siblings: DependencyProvider) -> type:
        holders = {name: _bench.holder(self._declare) for name in ("holder", "other")}
        return _bench.make_service(method, Entrypoint(), **holders, **siblings)

    def test_is_shared(self) -> None:
        """Two that declare the same are bound to one object, which has one life."""
        assert isinstance(self.make_extension(), SharedExtension)
        with self._container() as container:
            held = {id(provider.held) for provider in container.dependencies}
            assert len(held) == 1, "two equal declarations are bound to two objects: see `sharing_key`"
            bound = self._bound(container)
            assert [each for each in container.extensions if each is bound] == [bound]
