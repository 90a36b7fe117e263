"""The service container, which runs one service class, and the worker context, which is one call.

A container binds the extensions that a service class declares and takes them through their life. A *worker* is one
call of one service method, by one entrypoint, in a greenthread and with a service instance of its own.
"""

from __future__ import annotations

import inspect
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from logging import getLogger
from typing import Any

from nameko import concurrency, serialization
from nameko.concurrency import Event, GreenletExit, GreenPool, SpawningProxy, SpawningSet, Timeout
from nameko.config import config as global_config
from nameko.constants import (
    CALL_ID_STACK_CONTEXT_KEY,
    DEFAULT_MAX_WORKERS,
    DEFAULT_PARENT_CALLS_TRACKED,
    MAX_WORKERS_CONFIG_KEY,
    PARENT_CALLS_CONFIG_KEY,
    SERVICE_CONTAINER_CONFIG_KEY,
)
from nameko.exceptions import ConfigurationError, ContainerBeingKilled
from nameko.extensions import (
    ENTRYPOINT_EXTENSIONS_ATTR,
    DependencyProvider,
    Entrypoint,
    ExcInfo,
    Extension,
    is_dependency,
    iter_extensions,
)
from nameko.observers import Observers, notify
from nameko.plugins import PluginManager, plugins_for
from nameko.utils import import_from_path

_log = getLogger(__name__)

#: Called with (worker_ctx, result, exc_info) after the method; what it returns replaces result and exc_info.
ResultHandler = Callable[["WorkerContext", Any, ExcInfo | None], tuple[Any, ExcInfo | None]]

# How many timeouts that a method left behind may strike one step of its worker's completion before it counts as failed.
_STRAY_TIMEOUTS_TOLERATED = 10


def get_service_name(service_cls: type) -> str:
    """The `name` of a service class.

    :raises ConfigurationError: when it has none, or one that is not a string
    """
    name = getattr(service_cls, "name", None)
    if name is None:
        raise ConfigurationError(f"Service class {service_cls.__name__} has no `name`: give it one, as a string.")
    if not isinstance(name, str):
        raise ConfigurationError(f"Service class {service_cls.__name__}: `name` must be a string, not {name!r}.")
    return name


def get_container_cls(config: Mapping[str, Any] | None = None) -> type[ServiceContainer]:
    """The container class that the configuration names (`SERVICE_CONTAINER_CLS`), or `ServiceContainer`."""
    path = (global_config if config is None else config).get(SERVICE_CONTAINER_CONFIG_KEY)
    return import_from_path(path) or ServiceContainer


def new_call_id() -> str:
    """A unique id for a call."""
    return str(uuid.uuid4())


class WorkerContext:
    """One call of one service method.

    :param container: the container that runs it
    :param service: the instance of the service class, made for this call alone
    :param entrypoint: what caused the call
    :param args: positional arguments of the method
    :param kwargs: keyword arguments of the method
    :param data: context data: what travels with the call from service to service
    """

    def __init__(
        self,
        container: ServiceContainer,
        service: Any,
        entrypoint: Entrypoint,
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        self.container = container
        self.service = service
        self.entrypoint = entrypoint
        self.service_name = container.service_name
        self.args = args if args is not None else ()
        self.kwargs = kwargs if kwargs is not None else {}
        self.data: dict[str, Any] = dict(data) if data else {}
        self._parent_call_ids: list[str] = self.data.pop(CALL_ID_STACK_CONTEXT_KEY, None) or []
        self._call_id: str | None = None

    @property
    def config(self) -> Mapping[str, Any]:
        """The container's configuration."""
        return self.container.config

    @property
    def call_id(self) -> str:
        """`<service>.<method>.<unique id>`."""
        if self._call_id is None:
            self._call_id = f"{self.service_name}.{self.entrypoint.method_name}.{new_call_id()}"
        return self._call_id

    @property
    def call_id_stack(self) -> list[str]:
        """The ids of the calls that led here, oldest first, and this one's; `parent_calls_tracked` + 1 at most."""
        tracked = self.container.parent_calls_tracked
        return [*(self._parent_call_ids[-tracked:] if tracked else ()), self.call_id]

    @property
    def context_data(self) -> dict[str, Any]:
        """What the calls that this worker makes carry: its data and its call id stack."""
        return {**self.data, CALL_ID_STACK_CONTEXT_KEY: self.call_id_stack}

    @property
    def origin_call_id(self) -> str | None:
        """The id of the first call of the chain that is still known; None when this is it."""
        stack = self.call_id_stack
        return stack[0] if len(stack) > 1 else None

    @property
    def immediate_parent_call_id(self) -> str | None:
        """The id of the calling worker; None when the call came from outside."""
        stack = self.call_id_stack
        return stack[-2] if len(stack) > 1 else None

    def __repr__(self) -> str:
        return f"<WorkerContext [{self.service_name}.{self.entrypoint.method_name}] at 0x{id(self):x}>"


class ServiceContainer:
    """Runs one service class.

    :param service_cls: the service class; its `name` names the service
    :param config: configuration keys; the process-wide `nameko.config` when not given
    :param plugins: the plugins that may observe and extend the service; by default those installed, as the
        configuration selects them
    :raises ConfigurationError: when the class or one of its declarations cannot work with this configuration
    """

    def __init__(
        self,
        service_cls: type,
        config: MutableMapping[str, Any] | None = None,
        *,
        plugins: PluginManager | None = None,
    ) -> None:
        self.service_cls = service_cls
        self.config: MutableMapping[str, Any] = global_config if config is None else config
        self.service_name = get_service_name(service_cls)
        self.plugins = plugins_for(self.config) if plugins is None else plugins
        self.observers = Observers(self.plugins.observers)
        self.max_workers: int = self.config.get(MAX_WORKERS_CONFIG_KEY) or DEFAULT_MAX_WORKERS
        self.parent_calls_tracked: int = self.config.get(PARENT_CALLS_CONFIG_KEY, DEFAULT_PARENT_CALLS_TRACKED)
        self.serializer, self.accept = serialization.setup(self.config)

        self.shared_extensions: dict[Any, Extension] = {}
        self.dependencies = SpawningSet()
        self.entrypoints = SpawningSet()
        self.subextensions = SpawningSet()
        self._bind_extensions()

        self.started = False
        self._being_killed = False
        self._died = Event()
        self._worker_pool = GreenPool(self.max_workers)
        self._worker_threads: dict[WorkerContext, Any] = {}
        self._managed_threads: dict[Any, str] = {}

    # -- binding

    def _bind_extensions(self) -> None:
        for attr_name, dependency in inspect.getmembers(self.service_cls, is_dependency):
            self._add_dependency(dependency, attr_name)
        for method_name, method in inspect.getmembers(self.service_cls, inspect.isfunction):
            for entrypoint in getattr(method, ENTRYPOINT_EXTENSIONS_ATTR, ()):
                self._add(self.entrypoints, entrypoint.bind(self.interface, method_name))
        for name, extension in self.plugins.service_extensions(self.service_cls, self.config):
            self._add_from_plugin(name, extension)

    def _add_dependency(self, dependency: DependencyProvider, attr_name: str) -> None:
        self._add(self.dependencies, dependency.bind(self.interface, attr_name))

    def _add_from_plugin(self, name: str, extension: Extension) -> None:
        if isinstance(extension, DependencyProvider):
            self._add_dependency(extension, name)
        elif isinstance(extension, Entrypoint):
            self._add(self.entrypoints, extension.bind(self.interface, name))
        else:
            bound = extension.bind(self.interface)
            self.subextensions.update([*iter_extensions(bound), bound])

    def _add(self, group: SpawningSet, bound: Extension) -> None:
        group.add(bound)
        self.subextensions.update(iter_extensions(bound))

    @property
    def extensions(self) -> SpawningSet:
        """Every bound extension of the container."""
        return SpawningSet(self.entrypoints | self.dependencies | self.subextensions)

    @property
    def interface(self) -> ServiceContainer:
        """What extensions see of the container: itself."""
        return self

    # -- life cycle

    def start(self) -> None:
        """Set up every extension, then start every extension; each phase runs all of them at once.

        :raises: what the first extension that fails raises
        """
        _log.debug("starting %s", self)
        self.started = True
        extensions = SpawningProxy(self.extensions, abort_on_error=True)
        extensions.setup()
        extensions.start()
        if self.observers.container_started:
            notify(self.observers.container_started, container=self)

    def stop(self) -> None:
        """Stop in order: entrypoints, running workers, dependencies, the rest. Returns when all is done.

        Harmless when called again, or while the container is being killed.
        """
        if self._died.ready():
            return
        if self._being_killed:
            self._wait_quietly()
            return
        _log.debug("stopping %s", self)
        self._stop_each(self.entrypoints)
        self._worker_pool.waitall()
        self._stop_each(self.dependencies)
        self._stop_each(self.subextensions)
        self._kill_managed_threads()
        self.started = False
        if not self._died.ready():
            self._died.send(None)
            if self.observers.container_stopped:
                notify(self.observers.container_stopped, container=self)

    def kill(self, exc_info: ExcInfo | None = None) -> None:
        """Give up at once: kill entrypoints, workers, all extensions and managed threads.

        Exceptions on the way are logged. A second call waits for the first.

        :param exc_info: the reason, which `wait()` raises
        """
        if self._being_killed:
            self._wait_quietly()
            return
        self._being_killed = True
        if self._died.ready():
            return
        if exc_info is not None:
            _log.error("killing %s due to %r", self, exc_info[1])
        else:
            _log.info("killing %s", self)
        self._kill_each(self.entrypoints)
        self._kill_worker_threads()
        self._kill_each(self.extensions)
        self._kill_managed_threads()
        self.started = False
        if self._died.ready():  # `stop` was under way and has finished meanwhile
            return
        if exc_info is not None:
            self._died.send_exception(*exc_info)
        else:
            self._died.send(None)
        if self.observers.container_killed:
            notify(self.observers.container_killed, container=self, exc_info=exc_info)

    def wait(self) -> None:
        """Wait until the container has stopped.

        :raises: the exception that killed it, if one did
        """
        self._died.wait()

    def _wait_quietly(self) -> None:
        try:
            self._died.wait()
        except Exception:  # it is reported by whoever owns `wait()`
            pass

    def _stop_each(self, extensions: Iterable[Extension]) -> None:
        threads = [concurrency.spawn(_stop_or_log, extension) for extension in extensions]
        for thread in threads:
            thread.wait()

    def _kill_each(self, extensions: Iterable[Extension]) -> None:
        for extension in extensions:
            try:
                extension.kill()
            except Exception:
                _log.warning("%r failed in kill()", extension, exc_info=True)

    def _kill_worker_threads(self) -> None:
        if self._worker_threads:
            _log.warning("killing %d active workers of %s", len(self._worker_threads), self)
            for thread in list(self._worker_threads.values()):
                thread.kill()

    def _kill_managed_threads(self) -> None:
        current = concurrency.current()
        for thread, identifier in list(self._managed_threads.items()):
            if thread is not current:
                _log.warning("killing managed thread `%s` of %s", identifier, self)
                thread.kill()

    # -- readiness

    def not_ready_reasons(self) -> list[str]:
        """Why the container cannot serve right now, one line each; empty when it can. Asks every `nameko_ready`."""
        reasons = [] if self.started else [f"{self.service_name} is not started"]
        return reasons + self.plugins.not_ready_reasons(self)

    # -- workers

    def spawn_worker(
        self,
        entrypoint: Entrypoint,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        context_data: Mapping[str, Any] | None = None,
        handle_result: ResultHandler | None = None,
    ) -> WorkerContext:
        """Run the entrypoint's method in a worker. Blocks while `max_workers` of them are running.

        :param context_data: what came with the call, `call_id_stack` included
        :param handle_result: called with the outcome in the worker's greenthread, before the dependencies see it
        :raises ContainerBeingKilled: when the container is going down
        """
        self._refuse_when_killed()
        service = self.service_cls()
        worker_ctx = WorkerContext(self, service, entrypoint, args, kwargs, data=context_data)
        thread = self._worker_pool.spawn(self._run_worker, worker_ctx, handle_result)
        if self._being_killed:  # meanwhile, while it waited for a slot
            thread.kill()
            self._refuse_when_killed()
        self._worker_threads[worker_ctx] = thread
        thread.link(self._handle_worker_exited, worker_ctx)
        return worker_ctx

    def _refuse_when_killed(self) -> None:
        if self._being_killed:
            raise ContainerBeingKilled(f"{self.service_name} is being killed")

    def _run_worker(self, worker_ctx: WorkerContext, handle_result: ResultHandler | None) -> None:
        observers = self.observers
        started_at = time.perf_counter()
        self._worker_setup(worker_ctx)
        if observers.worker_started:
            notify(observers.worker_started, worker_ctx=worker_ctx)
        result, exc_info = self._call_method(worker_ctx)
        try:
            if handle_result is not None:
                result, exc_info = _despite_stray_timeouts(handle_result, worker_ctx, result, exc_info)
            if observers.worker_result:
                notify(observers.worker_result, worker_ctx=worker_ctx, result=result, exc_info=exc_info)
            _despite_stray_timeouts(self._worker_result, worker_ctx, result, exc_info)
            _despite_stray_timeouts(self._worker_teardown, worker_ctx)
            if observers.worker_finished:
                notify(
                    observers.worker_finished,
                    worker_ctx=worker_ctx,
                    result=result,
                    exc_info=exc_info,
                    duration_s=time.perf_counter() - started_at,
                )
        finally:
            del exc_info  # its traceback refers to this frame

    def _call_method(self, worker_ctx: WorkerContext) -> tuple[Any, ExcInfo | None]:
        method = getattr(worker_ctx.service, worker_ctx.entrypoint.method_name)  # type: ignore[arg-type]
        try:
            return method(*worker_ctx.args, **worker_ctx.kwargs), None
        except BaseException as exc:
            # Whatever a method raises is its outcome: a leaked Timeout, SystemExit or KeyboardInterrupt takes neither
            # the worker's slot nor the process. Only being killed together with the container is obeyed.
            if isinstance(exc, GreenletExit) and self._being_killed:
                raise
            self._log_failure(worker_ctx, exc)
            exc_type, value, traceback = sys.exc_info()
            return None, (exc_type, value, traceback)  # type: ignore[return-value]

    def _log_failure(self, worker_ctx: WorkerContext, exc: BaseException) -> None:
        expected = worker_ctx.entrypoint.expected_exceptions
        if isinstance(exc, expected):
            _log.warning("(expected) error handling worker %s: %s", worker_ctx, exc, exc_info=True)
        else:
            _log.exception("error handling worker %s: %s", worker_ctx, exc)

    def _worker_setup(self, worker_ctx: WorkerContext) -> None:
        service = worker_ctx.service
        for provider in self.dependencies:
            setattr(service, provider.attr_name, provider.get_dependency(worker_ctx))
        for provider in self.dependencies:
            provider.worker_setup(worker_ctx)

    def _worker_result(self, worker_ctx: WorkerContext, result: Any, exc_info: ExcInfo | None) -> None:
        for provider in self.dependencies:
            provider.worker_result(worker_ctx, result, exc_info)

    def _worker_teardown(self, worker_ctx: WorkerContext) -> None:
        for provider in self.dependencies:
            provider.worker_teardown(worker_ctx)

    def _handle_worker_exited(self, thread: Any, worker_ctx: WorkerContext) -> None:
        self._worker_threads.pop(worker_ctx, None)
        self._kill_if_failed(thread, repr(worker_ctx))

    # -- managed threads

    def spawn_managed_thread(self, fn: Callable[[], Any], identifier: str | None = None) -> Any:
        """Run `fn()` in a greenthread that lives no longer than the container; if it raises, the container is killed.

        :param identifier: what to call it in the log; the function's name by default
        """
        thread = concurrency.spawn(fn)
        self._managed_threads[thread] = identifier or getattr(fn, "__name__", repr(fn))
        thread.link(self._handle_managed_thread_exited)
        return thread

    def _handle_managed_thread_exited(self, thread: Any) -> None:
        identifier = self._managed_threads.pop(thread, "<unknown>")
        self._kill_if_failed(thread, f"managed thread `{identifier}`")

    def _kill_if_failed(self, thread: Any, what: str) -> None:
        try:
            thread.wait()
        except GreenletExit:
            _log.debug("%s of %s was killed", what, self)
        except BaseException as exc:
            _log.critical("%s of %s failed: the container is killed", what, self, exc_info=True)
            exc_info = (type(exc), exc, exc.__traceback__)
            # In a thread of its own: this one is about to end, and may be among those that `kill` kills.
            concurrency.spawn_detached(self.kill, exc_info)

    def __repr__(self) -> str:
        return f"<ServiceContainer [{self.service_name}] at 0x{id(self):x}>"


def _stop_or_log(extension: Extension) -> None:
    try:
        extension.stop()
    except Exception:  # the shutdown goes on: what comes after must be released too
        _log.exception("%r failed in stop()", extension)


def _despite_stray_timeouts(step: Callable[..., Any], *args: Any) -> Any:
    # A `Timeout` that the method started and never cancelled strikes whatever the worker does later. Each strikes
    # once, so the step is simply done again.
    for _ in range(_STRAY_TIMEOUTS_TOLERATED):
        try:
            return step(*args)
        except Timeout as timeout:
            _log.warning("a timeout that a service method left running (%s) struck its worker; going on", timeout)
    return step(*args)
