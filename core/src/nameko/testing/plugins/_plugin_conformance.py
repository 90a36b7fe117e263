"""What nameko asks of a plugin: that it keeps the rules of the hooks, and that no service notices an observer."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nameko import concurrency
from nameko.containers import ServiceContainer
from nameko.extensions import Entrypoint, Extension
from nameko.plugins import ConfigKey, ExtensionInfo, RunOption
from nameko.testing.plugins import _bench
from nameko.testing.plugins._leaks import no_leaks
from nameko.testing.plugins._recorder import HookRecorder
from nameko.testing.plugins._running import plugin_manager, run_service
from nameko.testing.plugins._waiting import wait_until

_DECLARATIONS: dict[str, Any] = {
    "nameko_config_keys": ConfigKey,
    "nameko_extensions": ExtensionInfo,
    "nameko_run_options": RunOption,
}


class _Awkward:
    """A result or argument that cannot be printed, compared or measured."""

    def _refuse(self, *_: object) -> Any:
        raise TypeError("this object cannot be looked at")

    __repr__ = __str__ = __eq__ = __len__ = __iter__ = __bool__ = __hash__ = _refuse


class PluginConformance:
    """Tests for a plugin, an observer above all, to be inherited by a test class.

    ::

        class TestAuditTrail(PluginConformance):
            def make_plugin(self):
                return nameko_audit_trail._plugin

            def make_config(self):
                return {"AUDIT_FILE": str(self.path)}
    """

    #: Seconds that a step may take before it counts as hanging.
    timeout_s = 20.0

    def make_plugin(self) -> Any:
        """The plugin: the module or object that its entry point names."""
        raise NotImplementedError(f"{type(self).__name__} must say what its plugin is: make_plugin()")

    def make_config(self) -> dict[str, Any]:
        """The configuration of the service; empty by default."""
        return {}

    @contextmanager
    def _service(self, method: _bench.Method) -> Iterator[tuple[ServiceContainer, HookRecorder]]:
        recorder = HookRecorder(self.make_plugin())
        service_cls = _bench.make_service(method, Entrypoint())
        with run_service(service_cls, self.make_config(), plugins=[recorder]) as container:
            yield container, recorder

    def _run_worker(self, container: ServiceContainer, *args: Any) -> _bench.Outcome:
        outcome = _bench.start_worker(container, *args)
        _bench.wait_for_workers(container, self.timeout_s)
        return outcome

    # -- tests

    def test_keeps_the_rules_of_the_hooks(self) -> None:
        """Its implementations can be called, and there is at least one."""
        manager = plugin_manager([self.make_plugin()])
        (info,) = manager.loaded
        assert manager.hooks_of(info.name), "the plugin implements no hook: mark functions with @hookimpl"

    def test_its_declarations_are_complete(self) -> None:
        """Extensions, configuration keys and options are what they should be, and each has a line of help."""
        manager = plugin_manager([self.make_plugin()])
        for hook, cls in _DECLARATIONS.items():
            for _, implementation in manager.observers(hook):
                for declared in implementation():
                    assert isinstance(declared, cls), f"{hook} must list objects of {cls.__name__}, not {declared!r}"
                    assert declared.help.strip(), f"{declared!r} has no help"
                    assert "\n" not in declared.help, f"the help of {declared!r} is longer than a line"
                    if isinstance(declared, ExtensionInfo):
                        assert issubclass(declared.cls, Extension), f"{declared.cls!r} is no extension"

    def test_its_hooks_never_raise(self) -> None:
        """Not for a worker that succeeds or fails, in any way, nor for results that cannot be looked at."""
        method = _bench.Method()
        with self._service(method) as (container, recorder):
            self._run_worker(container)
            self._run_worker(container, _Awkward())
            for make_outcome in _bench.OUTCOMES:
                method.fail(make_outcome())
                self._run_worker(container)
        self._check(recorder)

    def test_its_hooks_never_raise_when_the_container_is_killed(self) -> None:
        """A kill reaches the worker in whichever hook it is."""
        method = _bench.Method()
        method.block()
        with self._service(method) as (container, recorder):
            _bench.start_worker(container)
            wait_until(lambda: method.started, self.timeout_s, "the worker has started")
            _bench.within(self.timeout_s, "ServiceContainer.kill()", container.kill)
        self._check(recorder)

    def _check(self, recorder: HookRecorder) -> None:
        failures = [call for call in recorder.calls if call.exception is not None]
        for call in failures:
            if not isinstance(call.exception, concurrency.GreenletExit):
                raise AssertionError(f"{call.hook} has raised") from call.exception

    def test_outcomes_stay_what_they_are(self) -> None:
        """What a method returns or raises is what the entrypoint gets."""
        method = _bench.Method()
        with self._service(method) as (container, _):
            assert self._run_worker(container).result == "done"
            error = ValueError("raised by a conformance test")
            method.fail(error)
            assert self._run_worker(container).exception is error

    def test_keeps_no_worker_alive(self) -> None:
        """Nothing of a worker is kept once it has ended."""
        services: list[weakref.ref[Any]] = []
        method = _bench.Method()
        method.action = lambda service: services.append(weakref.ref(service))
        service_cls = _bench.make_service(method, Entrypoint())
        with run_service(service_cls, self.make_config(), plugins=[self.make_plugin()]) as container:
            self._run_worker(container)
            wait_until(lambda: _is_gone(services[0]), self.timeout_s, "the worker's service instance is gone")

    def test_leaves_nothing_behind(self) -> None:
        """With the container, everything that the plugin has opened or started goes."""
        self._live()
        with no_leaks():
            self._live()

    def _live(self) -> None:
        with self._service(_bench.Method()) as (container, _):
            self._run_worker(container)
        with self._service(_bench.Method()) as (container, _):
            _bench.within(self.timeout_s, "ServiceContainer.kill()", container.kill)


def _is_gone(reference: weakref.ref[Any]) -> bool:
    gc.collect()
    return reference() is None
