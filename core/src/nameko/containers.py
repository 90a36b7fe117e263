"""The service container: runs one service class.

A container binds the extensions that a service class declares and takes them through their life. A *worker* is one
call of one service method, by one entrypoint, in a greenthread and with a service instance of its own.
"""

from __future__ import annotations

import inspect
import logging
import sys
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from nameko import concurrency, serialization
from nameko._worker_context import UNMADE, Headers, WorkerContext, new_call_id
from nameko.concurrency import Event, GreenletExit, SpawningSet, WorkerPool, WorkerThread
from nameko.config import config as global_config
from nameko.constants import (
    DEFAULT_MAX_WORKERS,
    DEFAULT_PARENT_CALLS_TRACKED,
    DEFAULT_SHUTDOWN_TIMEOUT_S,
    MAX_WORKERS_CONFIG_KEY,
    PARENT_CALLS_CONFIG_KEY,
    SERVICE_CONTAINER_CONFIG_KEY,
    SHUTDOWN_TIMEOUT_CONFIG_KEY,
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
from nameko.observers import Observer, Observers, notify
from nameko.plugins import PluginManager, plugins_for
from nameko.utils import import_from_path

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Headers", "ServiceContainer", "WorkerContext", "get_container_cls", "get_service_name", "new_call_id"]

_log = logging.getLogger(__name__)

#: Called with (worker_ctx, result, exc_info) after the method; what it returns replaces result and exc_info.
ResultHandler = Callable[["WorkerContext", Any, "ExcInfo | None"], "tuple[Any, ExcInfo | None]"]

#: Called with (worker_ctx); whether that worker is to run.
Wanted = Callable[["WorkerContext"], bool]

# What each step of a shutdown may still take when SHUTDOWN_TIMEOUT is used up: long enough to drop connections, and
# short enough for all five steps together to stay within the two seconds that a shutdown may run over.
_GRACE_S = 0.3


class Origin(TypedDict, total=False):
    """Where the work of a worker has come from; see `ServiceContainer.spawn_worker`."""

    fired_at: float | None
    headers: Headers | None


def get_service_name(service_cls: type) -> str:
    """The `name` of a service class.

    :raises ConfigurationError: when it has none, or one that is not a string
    """
    name = getattr(service_cls, "name", None)
    if not name:
        raise ConfigurationError(f"Service class {service_cls.__name__} has no `name`: give it one, as a string.")
    if not isinstance(name, str):
        raise ConfigurationError(f"Service class {service_cls.__name__}: `name` must be a string, not {name!r}.")
    return name


def get_container_cls(config: Mapping[str, Any] | None = None) -> type[ServiceContainer]:
    """The container class that the configuration names (`SERVICE_CONTAINER_CLS`), or `ServiceContainer`.

    A function that makes containers will do in place of a class.

    :raises ConfigurationError: when there is no such class
    """
    path = (global_config if config is None else config).get(SERVICE_CONTAINER_CONFIG_KEY)
    try:
        cls = import_from_path(path) or ServiceContainer
    except ImportError as exc:
        raise ConfigurationError(f"{SERVICE_CONTAINER_CONFIG_KEY}: {exc}") from exc
    if not callable(cls) or (isinstance(cls, type) and not issubclass(cls, ServiceContainer)):
        raise ConfigurationError(
            f"{SERVICE_CONTAINER_CONFIG_KEY}: `{path}` is no subclass of nameko.containers.ServiceContainer."
        )
    return cls  # type: ignore[no-any-return]


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
        self._constructs_plainly = _constructs_plainly(service_cls)
        self.plugins = plugins_for(self.config) if plugins is None else plugins
        self.observers = Observers(self.plugins.observers)
        self.serializer, self.accept = serialization.setup(self.config)
        self.max_workers = int(_number(self.config, MAX_WORKERS_CONFIG_KEY, DEFAULT_MAX_WORKERS, minimum=1))
        self.parent_calls_tracked = int(_number(self.config, PARENT_CALLS_CONFIG_KEY, DEFAULT_PARENT_CALLS_TRACKED))
        self.shutdown_timeout_s = _number(self.config, SHUTDOWN_TIMEOUT_CONFIG_KEY, DEFAULT_SHUTDOWN_TIMEOUT_S)

        self.started = False
        self._start_completed = False
        self._being_killed = False
        self._takes_workers = True
        self._died = Event()  # raises what killed the container, for `wait()`
        self._ended = Event()  # the same moment, without an exception
        self._worker_pool = WorkerPool(self.max_workers)
        self._worker_threads: dict[WorkerContext, Any] = {}
        self._managed_threads: dict[Any, str] = {}
        self._life_cycle_threads: set[Any] = set()  # run an extension's setup, start, stop or kill
        self._stopper: Any = None  # the thread that runs `_stop_in_order`
        self._waiting_for_end: set[Any] = set()

        self.shared_extensions: dict[Any, Extension] = {}
        self.dependencies = SpawningSet()
        self.entrypoints = SpawningSet()
        self.subextensions = SpawningSet()
        self._bind_extensions()

    # -- binding

    def _bind_extensions(self) -> None:
        for attr_name, dependency in inspect.getmembers(self.service_cls, is_dependency):
            self._add_dependency(dependency, attr_name)
        for method_name, method in inspect.getmembers(self.service_cls, inspect.isfunction):
            for entrypoint in getattr(method, ENTRYPOINT_EXTENSIONS_ATTR, ()):
                self._add(self.entrypoints, entrypoint.bind(self.interface, method_name))
        for plugin, name, extension in self.plugins.service_extensions(self.service_cls, self.config):
            try:
                self._add_from_plugin(name, extension)
            except ConfigurationError:
                raise
            except Exception:
                _log.exception("plugin %s: `%s` is left out, it cannot be bound to %s", plugin, name, self)

    def _add_dependency(self, dependency: DependencyProvider, attr_name: str) -> None:
        self._add(self.dependencies, dependency.bind(self.interface, attr_name))

    def _add_from_plugin(self, name: str, extension: Extension) -> None:
        if isinstance(extension, DependencyProvider):
            self._add_dependency(extension, name)
        elif isinstance(extension, Entrypoint):
            self._add(self.entrypoints, extension.bind(self.interface, name))
        else:
            self._add(self.subextensions, extension.bind(self.interface))

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

        When the container is stopped or killed meanwhile, this gives up and ends as `wait()` does.

        :raises: what the first extension that fails raises; the container is then killed
        """
        _log.debug("starting %s", self)
        self.started = not self._is_going_down()
        try:
            for phase in ("setup", "start"):
                if not self._is_going_down():
                    self._call_each_or_raise(phase)
        except BaseException:
            if not self._is_going_down():
                exc_info: ExcInfo = sys.exc_info()  # type: ignore[assignment]
                self._begin_kill(None if isinstance(exc_info[1], GreenletExit) else exc_info)
                self._wait_for_end()
                raise
            _log.debug("starting %s was given up", self, exc_info=True)
        if self._is_going_down():
            self._wait_for_end()
            self._died.wait()
            return
        self._start_completed = True
        if self.observers.container_started:
            notify(self.observers.container_started, container=self)

    def stop(self) -> None:
        """Stop in order: entrypoints, running workers, dependencies, the rest. Returns when all is done.

        That takes at most `SHUTDOWN_TIMEOUT` seconds and two more: workers that run longer are killed, and an
        extension whose `stop()` takes longer is given up. Harmless when called again, or while the container is being
        killed.
        """
        if not self._is_going_down():
            _log.debug("stopping %s", self)
            self._stopper = concurrency.spawn_task(self._stop_in_order)
            self._stopper.link(self._kill_if_failed, "stopping")
        self._wait_for_end()

    def kill(self, exc_info: ExcInfo | None = None) -> None:
        """Give up at once: kill entrypoints, workers, all extensions and managed threads.

        Exceptions on the way are logged. A second call waits for the first.

        :param exc_info: the reason, which `wait()` raises
        """
        if not self._being_killed and not self._ended.ready():
            if exc_info is not None:
                _log.error("killing %s due to %r", self, exc_info[1])
            else:
                _log.log(self._kill_level(logging.INFO), "killing %s", self)
            self._begin_kill(exc_info)
        self._wait_for_end()

    def abandon_start(self) -> None:
        """Kill what has started, or is about to, because something that it was started together with has failed.

        As for a start that itself fails, the log is spared: one error is to be seen, rather than all that goes with it.
        """
        self._start_completed = False
        self.kill()

    def _kill_level(self, level: int) -> int:
        return level if self._start_completed else logging.DEBUG

    def wait(self) -> None:
        """Wait until the container has stopped.

        :raises: the exception that killed it, if one did
        """
        self._died.wait()

    def _is_going_down(self) -> bool:
        return self._being_killed or self._stopper is not None or self._ended.ready()

    def _wait_for_end(self) -> None:
        # Whoever waits here is spared by the shutdown, which would otherwise wait for, or kill, the worker or managed
        # thread that has asked for it.
        thread = concurrency.current()
        self._waiting_for_end.add(thread)
        try:
            self._ended.wait()
        finally:
            self._waiting_for_end.discard(thread)

    def _stop_in_order(self) -> None:
        deadline = time.monotonic() + self.shutdown_timeout_s
        self._kill_threads(self._life_cycle_threads)  # of a start that is under way
        self._stop_each(self.entrypoints, deadline)
        self._finish_workers(deadline)
        self._stop_each(self.dependencies, deadline)
        self._stop_each(self.subextensions, deadline)
        self._kill_managed_threads()
        self._notify_in_time(self.observers.container_stopped, deadline, container=self)
        self._end(None)

    def _begin_kill(self, exc_info: ExcInfo | None) -> None:
        self._being_killed = True
        self._takes_workers = False
        concurrency.spawn_task(self._kill_in_order, exc_info)

    def _kill_in_order(self, exc_info: ExcInfo | None) -> None:
        try:
            self._kill_threads(self._life_cycle_threads)
            if self._stopper is not None:
                self._stopper.kill()
            self._call_each("kill", self.entrypoints, _GRACE_S)
            self._kill_workers("being killed")
            self._call_each("kill", self.extensions, _GRACE_S)
            self._kill_managed_threads()
            self._notify_in_time(self.observers.container_killed, 0, container=self, exc_info=exc_info)
        finally:
            self._end(exc_info)

    def _end(self, exc_info: ExcInfo | None) -> None:
        self.started = False
        self._takes_workers = False
        self.observers.tell_failures()
        if not self._died.ready():
            if exc_info is not None:
                self._died.send_exception(*exc_info)
            else:
                self._died.send(None)
        if not self._ended.ready():
            self._ended.send(None)

    def _call_each_or_raise(self, method_name: str) -> None:
        threads = [concurrency.spawn_task(getattr(extension, method_name)) for extension in self.extensions]
        self._life_cycle_threads.update(threads)
        try:
            concurrency.join_all(threads)
        finally:
            self._life_cycle_threads.difference_update(threads)

    def _stop_each(self, extensions: Iterable[Extension], deadline: float) -> None:
        self._call_each("stop", extensions, max(deadline - time.monotonic(), _GRACE_S))

    def _call_each(self, method_name: str, extensions: Iterable[Extension], timeout_s: float) -> None:
        threads = {
            concurrency.spawn_task(_call_or_log, each, f"{method_name}()", getattr(each, method_name)): each
            for each in extensions
        }
        self._life_cycle_threads.update(threads)
        try:
            for thread in concurrency.wait_all(threads, timeout_s):
                if thread not in self._waiting_for_end:
                    _log.warning("%r: %s() has not returned and is given up", threads[thread], method_name)
                    thread.kill()
        finally:
            self._life_cycle_threads.difference_update(threads)

    def _notify_in_time(self, observers: tuple[Observer, ...], deadline: float, **arguments: Any) -> None:
        if observers:
            thread = concurrency.spawn_task(_call_or_log, self, "an observer", notify, observers, **arguments)
            if concurrency.wait_all([thread], max(deadline - time.monotonic(), _GRACE_S)):
                _log.warning("observers of the end of %s have not returned and are given up", self)
                thread.kill()

    def _finish_workers(self, deadline: float) -> None:
        while threads := self._sparing_waiters(self._worker_threads.values()):
            if concurrency.wait_all(threads, max(deadline - time.monotonic(), 0)):
                self._kill_workers(f"still running after {SHUTDOWN_TIMEOUT_CONFIG_KEY} ({self.shutdown_timeout_s} s)")
                break
        self._takes_workers = False

    def _kill_workers(self, reason: str) -> None:
        self._takes_workers = False
        threads = self._sparing_waiters(self._worker_threads.values())
        if not threads:
            return
        names = ", ".join(str(each.label) for each in threads)
        _log.warning("killing %d active workers of %s, %s: %s", len(threads), self, reason, names)
        self._kill_threads(threads)
        for thread in concurrency.wait_all(threads, _GRACE_S):
            _log.error("%s does not end although it was killed; going on without it", thread.label)

    def _kill_managed_threads(self) -> None:
        for thread, identifier in list(self._managed_threads.items()):
            if thread not in self._waiting_for_end:
                _log.log(self._kill_level(logging.WARNING), "killing managed thread `%s` of %s", identifier, self)
                thread.kill()

    def _kill_threads(self, threads: Iterable[Any]) -> None:
        for thread in self._sparing_waiters(threads):
            thread.kill()

    def _sparing_waiters(self, threads: Iterable[Any]) -> list[Any]:
        return [thread for thread in threads if thread not in self._waiting_for_end]

    # -- readiness

    def not_ready_reasons(self) -> list[str]:
        """Why the container cannot serve right now, one line each; empty when it can. Asks every `nameko_ready`."""
        reasons = []
        if not self.started:
            reasons.append(f"{self.service_name} is not started")
        elif self._is_going_down():
            reasons.append(f"{self.service_name} is stopping")
        elif not self._start_completed:
            reasons.append(f"{self.service_name} is starting")
        return reasons + self.plugins.not_ready_reasons(self)

    # -- workers

    @property
    def running_workers(self) -> int:
        """How many workers are running; `max_workers` at most."""
        return len(self._worker_threads)

    def spawn_worker(
        self,
        entrypoint: Entrypoint,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        context_data: Mapping[str, Any] | None = None,
        handle_result: ResultHandler | None = None,
        fired_at: float | None = None,
        headers: Headers | None = None,
        message: Any = None,
        still_wanted: Wanted | None = None,
    ) -> WorkerContext:
        """Run the entrypoint's method in a worker. Blocks while `max_workers` of them are running.

        :param context_data: what came with the call, `call_id_stack` included
        :param handle_result: called with the outcome in the worker's greenthread, before the dependencies see it. It is
            not called when the worker is killed together with the container: the work is to be given back. What the
            constructor of the service class raises is an outcome, too, which dependencies and observers do not see
        :param fired_at: when the work arrived in this process, in seconds by `time.perf_counter()`; now, by default
        :param headers: the headers of the message or request that the call came in, for `WorkerContext.headers`
        :param message: what the entrypoint has received, where that is a message
        :param still_wanted: asked in the worker's greenthread right before the method's worker begins, which may be
            long after the work was fired (`fired_at` and `started_at` tell). When it says no, nothing runs and
            `handle_result` is not called: whoever was asked has settled the work
        :raises ContainerBeingKilled: when the container is going down
        """
        self._refuse_when_going_down()
        worker_ctx = self._worker_context(entrypoint, args, kwargs, context_data, fired_at, headers)
        worker_ctx.message = message
        thread = self._worker_pool.spawn(self._run_worker, worker_ctx, handle_result, still_wanted)
        self._take_in(thread, worker_ctx)
        return worker_ctx

    def run_worker(
        self,
        entrypoint: Entrypoint,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        context_data: Mapping[str, Any] | None = None,
        handle_result: ResultHandler | None = None,
        **origin: Unpack[Origin],
    ) -> WorkerContext:
        """Run the entrypoint's method in a worker, for a caller with nothing to do but to wait for `handle_result`.

        Takes the same arguments as `spawn_worker` and runs the same worker, but begins it at once and usually returns
        after its end, at a fraction of the cost. A caller that has to wait for `handle_result` must do so all the same:
        it may give the outcome away later, it is not called when the worker is killed together with the container, and
        a container class that overrides `spawn_worker` has it called here.

        :raises ContainerBeingKilled: when the container is going down
        """
        pool = self._worker_pool
        if type(pool) is not WorkerPool or getattr(self.spawn_worker, "__func__", None) is not _SPAWN_WORKER:
            return self.spawn_worker(
                entrypoint, args, kwargs, context_data=context_data, handle_result=handle_result, **origin
            )
        self._refuse_when_going_down()
        worker_ctx = self._worker_context(entrypoint, args, kwargs, context_data, **origin)
        thread = pool.new_thread()
        self._take_in(thread, worker_ctx)
        thread.run_at_once(self._run_worker, worker_ctx, handle_result)
        return worker_ctx

    def _worker_context(
        self,
        entrypoint: Entrypoint,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        context_data: Mapping[str, Any] | None,
        fired_at: float | None = None,
        headers: Headers | None = None,
    ) -> WorkerContext:
        # Code of the service's own runs in the worker's greenthread: it may block, or leave a timeout running.
        service = self.service_cls() if self._constructs_plainly else UNMADE
        worker_ctx = WorkerContext(self, service, entrypoint, args, kwargs, context_data, headers)
        worker_ctx.fired_at = time.perf_counter() if fired_at is None else fired_at
        return worker_ctx

    def _take_in(self, thread: Any, worker_ctx: WorkerContext) -> None:
        if self._being_killed or not self._takes_workers:  # meanwhile, while it waited for a slot
            thread.kill()
            raise self._going_down()
        thread.label = worker_ctx
        self._worker_threads[worker_ctx] = thread
        thread.link(self._handle_worker_exited, worker_ctx)

    def _refuse_when_going_down(self) -> None:
        if self._being_killed or not self._takes_workers:
            raise self._going_down()

    def _going_down(self) -> ContainerBeingKilled:
        return ContainerBeingKilled(f"{self.service_name} is going down and takes no more work")

    def _run_worker(
        self, worker_ctx: WorkerContext, handle_result: ResultHandler | None, still_wanted: Wanted | None = None
    ) -> None:
        observers = self.observers
        worker_ctx.started_at = started_at = time.perf_counter()
        if still_wanted is not None and not still_wanted(worker_ctx):
            return
        if not (self._constructs_plainly or self._make_service(worker_ctx, handle_result)):
            return
        self._worker_setup(worker_ctx)
        if observers.worker_started:
            notify(observers.worker_started, worker_ctx=worker_ctx)
        result, exc_info = self._call_method(worker_ctx)
        try:
            if handle_result is not None:
                result, exc_info = handle_result(worker_ctx, result, exc_info)
                self._let_caller_go(worker_ctx)
            if observers.worker_result:
                notify(observers.worker_result, worker_ctx=worker_ctx, result=result, exc_info=exc_info)
            self._worker_result(worker_ctx, result, exc_info)
            self._worker_teardown(worker_ctx)
            if observers.worker_finished:
                notify(
                    observers.worker_finished,
                    worker_ctx=worker_ctx,
                    result=result,
                    exc_info=exc_info,
                    duration_s=time.perf_counter() - started_at,
                )
        finally:
            del exc_info  # its traceback may refer to this frame

    def _let_caller_go(self, worker_ctx: WorkerContext) -> None:
        # What is left to do may take its time, if there is anything.
        if self.dependencies or self.observers.worker_result or self.observers.worker_finished:
            thread = concurrency.current()
            if type(thread) is WorkerThread:
                thread.let_caller_go()

    def _make_service(self, worker_ctx: WorkerContext, handle_result: ResultHandler | None) -> bool:
        # A constructor that raises is an outcome, as if the method had.
        try:
            concurrency.call_without_leaks(getattr, (worker_ctx, "service"), {})
        except BaseException as exc:
            exc_info = self._outcome_of_failure(worker_ctx, exc)
        else:
            return True
        try:
            if handle_result is not None:
                handle_result(worker_ctx, None, exc_info)
        finally:
            del exc_info  # its traceback refers to this frame
        return False

    def _call_method(self, worker_ctx: WorkerContext) -> tuple[Any, ExcInfo | None]:
        method = getattr(worker_ctx.service, worker_ctx.entrypoint.method_name)  # type: ignore[arg-type]
        try:
            return concurrency.call_without_leaks(method, worker_ctx.args, worker_ctx.kwargs), None
        except BaseException as exc:
            return None, self._outcome_of_failure(worker_ctx, exc)

    def _outcome_of_failure(self, worker_ctx: WorkerContext, exc: BaseException) -> ExcInfo:
        # Whatever a service raises is the outcome: a leaked Timeout, SystemExit or KeyboardInterrupt takes neither the
        # worker's slot nor the process. Only being killed together with the container is obeyed.
        if isinstance(exc, GreenletExit) and not self._takes_workers:
            raise exc
        self._log_failure(worker_ctx, exc)
        return sys.exc_info()  # type: ignore[return-value]  # not in a local: the traceback holds frames

    def _log_failure(self, worker_ctx: WorkerContext, exc: BaseException) -> None:
        if isinstance(exc, worker_ctx.entrypoint.expected_exceptions):
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
        # A worker that was killed alone has left its caller without an answer: not to be passed over in silence.
        self._kill_if_failed(thread, worker_ctx, may_be_killed=not self._takes_workers)

    # -- managed threads

    def spawn_managed_thread(self, fn: Callable[[], Any], identifier: str | None = None) -> Any:
        """Run `fn()` in a greenthread that lives no longer than the container; if it raises, the container is killed.

        :param identifier: what to call it in the log; the function's name by default
        :returns: the greenthread, with `wait()`, `kill()` and `link(fn)`
        :raises ContainerBeingKilled: when the container has ended
        """
        if self._ended.ready():
            raise ContainerBeingKilled(f"{self.service_name} has ended and runs no more threads")
        thread = concurrency.spawn_task(fn)
        self._managed_threads[thread] = identifier or str(getattr(fn, "__name__", fn))
        thread.link(self._handle_managed_thread_exited)
        return thread

    def _handle_managed_thread_exited(self, thread: Any) -> None:
        identifier = self._managed_threads.pop(thread, "<unknown>")
        self._kill_if_failed(thread, f"managed thread `{identifier}`")

    def _kill_if_failed(self, thread: Any, what: object, may_be_killed: bool = True) -> None:
        try:
            thread.wait()
        except GreenletExit:
            if may_be_killed:
                _log.debug("%s of %s was killed", what, self)
            else:
                self._fail(what, RuntimeError(f"{what} was killed while {self.service_name} was running"))
        except BaseException as exc:
            self._fail(what, exc)

    def _fail(self, what: object, exc: BaseException) -> None:
        exc_info = (type(exc), exc, exc.__traceback__)
        _log.critical("%s of %s failed: the container is killed", what, self, exc_info=exc_info)
        # In a thread of its own: this one is about to end, and may be among those that `kill` kills.
        concurrency.spawn_task(self.kill, exc_info)

    def __repr__(self) -> str:
        return f"<ServiceContainer [{self.service_name}] at 0x{id(self):x}>"


_SPAWN_WORKER = ServiceContainer.spawn_worker


def _constructs_plainly(service_cls: type) -> bool:
    # Then no code of the service's own runs when it is instantiated.
    return (
        type(service_cls) is type
        and service_cls.__init__ is object.__init__  # type: ignore[misc]
        and service_cls.__new__ is object.__new__  # type: ignore[comparison-overlap]
    )


def _number(config: Mapping[str, Any], key: str, default: float, minimum: float = 0) -> float:
    value = config.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= minimum:
        raise ConfigurationError(f"{key} must be a number of at least {minimum}, not {value!r}.")
    return value


def _call_or_log(owner: object, what: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
    try:
        fn(*args, **kwargs)
    except GreenletExit:
        raise
    except BaseException:  # the shutdown goes on: what comes after must be released too
        _log.exception("%r failed in %s", owner, what)
