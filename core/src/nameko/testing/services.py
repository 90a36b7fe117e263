"""Testing services: as plain classes, in a container with some parts replaced, and by calling their entrypoints."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import MagicMock

from nameko.concurrency import Event, cancel_after
from nameko.containers import ServiceContainer, WorkerContext
from nameko.exceptions import ContainerBeingKilled, ExtensionNotFound
from nameko.extensions import DependencyProvider, Entrypoint, ExcInfo, Extension, is_dependency, iter_extensions
from nameko.testing.utils import get_extension
from nameko.testing.waiting import WaitResult

DEFAULT_TIMEOUT_S = 30

#: Called with (worker_ctx, result, exc_info) of a worker; whether it is the one that is waited for.
WorkerFilter = Callable[[WorkerContext, Any, "ExcInfo | None"], Any]

#: Declares a method as an entrypoint that nothing triggers, for `entrypoint_hook`.
dummy = Entrypoint.decorator


class EntrypointWaiterTimeout(Exception):
    """The worker that a test waits for has not ended in time."""


@contextmanager
def entrypoint_hook(
    container: ServiceContainer,
    method_name: str,
    context_data: dict[str, Any] | None = None,
    timeout: float | None = DEFAULT_TIMEOUT_S,
) -> Iterator[Callable[..., Any]]:
    """Call an entrypoint as its trigger would: `with entrypoint_hook(container, "method") as call: call(1, b=2)`.

    The call runs a real worker, with dependencies, and returns or raises as the method does, after the worker's
    teardown. The entrypoint itself is not involved: nothing is received and nothing sent.

    :param context_data: context data of the call, `call_id_stack` included
    :param timeout: seconds that a call may take
    :raises ExtensionNotFound: when the service has no such entrypoint
    :raises EntrypointWaiterTimeout: from the call, when it takes longer
    :raises: from the call, what kills the container meanwhile
    """
    entrypoint = _get_entrypoint(container, method_name)

    def call(*args: Any, **kwargs: Any) -> Any:
        watch = _WorkerWatch()

        def take_result(worker_ctx: WorkerContext, result: Any, exc_info: ExcInfo | None) -> Any:
            watch.expect(worker_ctx)
            return result, exc_info

        timed_out = EntrypointWaiterTimeout(_timeout_message(container, method_name, timeout))
        with cancel_after(timeout, timed_out), watch.attached_to(container):
            container.spawn_worker(entrypoint, args, kwargs, context_data=context_data, handle_result=take_result)
            watch.ended.wait()
        return watch.result.get()

    yield call


class _EntrypointWaiter:
    """What `entrypoint_waiter` is: a function that also carries the exception that it raises."""

    Timeout = EntrypointWaiterTimeout

    @contextmanager
    def __call__(
        self,
        container: ServiceContainer,
        method_name: str,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        callback: WorkerFilter | None = None,
    ) -> Iterator[WaitResult]:
        """At the end of the block, wait until a worker of the method has ended: `with entrypoint_waiter(c, "method"):`.

        A worker has ended when its dependencies are torn down, so that all effects of the call can be seen.

        :param timeout: seconds that block and wait may take together
        :param callback: called with each worker's context, its result and, if it raised, `sys.exc_info()`; the wait
            goes on until it returns something true, and ends with what it raises
        :returns: yields the outcome of the worker, for after the block
        :raises ExtensionNotFound: when the service has no such entrypoint
        :raises EntrypointWaiterTimeout: also as `entrypoint_waiter.Timeout`, when it takes longer
        :raises: what kills the container meanwhile
        """
        _get_entrypoint(container, method_name)
        watch = _WorkerWatch(method_name, callback)
        timed_out = EntrypointWaiterTimeout(_timeout_message(container, method_name, timeout))
        with cancel_after(timeout, timed_out), watch.attached_to(container):
            yield watch.result
            watch.ended.wait()


entrypoint_waiter = _EntrypointWaiter()


def _timeout_message(container: ServiceContainer, method_name: str, timeout: float | None) -> str:
    return f"Timeout on {container.service_name}.{method_name} after {timeout} seconds"


def _get_entrypoint(container: ServiceContainer, method_name: str) -> Entrypoint:
    entrypoint = get_extension(container, Entrypoint, method_name=method_name)
    if entrypoint is None:
        raise ExtensionNotFound(f"No entrypoint for '{method_name}' found on container '{container.service_name}'.")
    return entrypoint


class _WorkerWatch:
    """Sees one worker through to its end, by means of the container's observer hooks.

    :param method_name: the method whose worker is meant; None: the one that is told to `expect`
    :param callback: chooses among the workers of the method
    """

    def __init__(self, method_name: str | None = None, callback: WorkerFilter | None = None) -> None:
        self.result = WaitResult()
        self.ended = Event()
        self._method_name = method_name
        self._callback = callback
        self._expected: WorkerContext | None = None

    def attached_to(self, container: ServiceContainer) -> Any:
        """A context manager in which the container's workers are watched."""
        return container.observers.attached(
            "nameko.testing",
            worker_result=self._on_result,
            worker_finished=self._on_finished,
            container_stopped=self._on_stopped,
            container_killed=self._on_killed,
        )

    def expect(self, worker_ctx: WorkerContext) -> None:
        """This is the worker."""
        self._expected = worker_ctx

    def _on_result(self, worker_ctx: WorkerContext, result: Any, exc_info: ExcInfo | None) -> None:
        if self._expected is None and worker_ctx.entrypoint.method_name == self._method_name:
            try:
                if self._callback is None or self._callback(worker_ctx, result, exc_info):
                    self._expected = worker_ctx
            except Exception as exc:  # the worker is not to blame
                self._end(exc)
        if worker_ctx is self._expected:
            self.result.send(result, exc_info)

    def _on_finished(self, worker_ctx: WorkerContext, **_: Any) -> None:
        if worker_ctx is self._expected:
            self._end()

    def _on_stopped(self, container: ServiceContainer) -> None:
        if self._method_name is None:  # the hook's worker was killed on the way; a waiter has its timeout
            self._end(ContainerBeingKilled(f"{container.service_name} was stopped before the call had ended"))

    def _on_killed(self, container: ServiceContainer, exc_info: ExcInfo | None) -> None:
        if exc_info is not None:
            self._end(exc_info[1])
        else:
            self._on_stopped(container)

    def _end(self, exc: BaseException | None = None) -> None:
        if self.ended.ready():
            return
        if exc is None:
            self.ended.send(None)
        else:
            self.ended.send_exception(exc)


def worker_factory(service_cls: type, **dependencies: Any) -> Any:
    """An instance of the service class whose dependencies are mocks: for unit tests, without a container.

    :param dependencies: by attribute name, what to use in place of a mock
    :raises ExtensionNotFound: when the service has no dependency of such a name
    """
    names = [name for name, _ in inspect.getmembers(service_cls, is_dependency)]
    _check_names(dependencies, names, f"DependencyProvider(s) '{{}}' not found on {service_cls}.")
    service = service_cls()
    for name in names:
        setattr(service, name, dependencies[name] if name in dependencies else MagicMock())
    return service


class MockDependencyProvider(DependencyProvider):
    """Injects the same object into every worker.

    :param attr_name: the attribute to inject it as
    :param dependency: the object, a mock by default
    """

    def __init__(self, attr_name: str, dependency: Any = None) -> None:
        self.attr_name = attr_name
        self.dependency = MagicMock() if dependency is None else dependency

    def get_dependency(self, worker_ctx: WorkerContext) -> Any:
        """The object."""
        return self.dependency


def replace_dependencies(container: ServiceContainer, *names: str, **replacements: Any) -> Any:
    """Inject mocks, or objects of your own, in place of what some dependency providers inject.

    The providers, and whatever only they use, are not set up, started and stopped any more.

    :param names: attributes to replace by mocks
    :param replacements: by attribute, what to use instead
    :returns: the mock when there is one name, an iterator over the mocks when there are several
    :raises ExtensionNotFound: when the service has no dependency of such a name
    :raises RuntimeError: when the container is started already
    """
    _check_not_started(container, "replace dependencies")
    by_name = {provider.attr_name: provider for provider in container.dependencies}
    _check_names(
        [*names, *replacements], by_name, f"Dependency(s) '{{}}' not found on container '{container.service_name}'."
    )
    mocks = {name: MagicMock() for name in names}
    for name, dependency in {**mocks, **replacements}.items():
        container.dependencies.remove(by_name[name])
        container.dependencies.add(MockDependencyProvider(name, dependency).bind(container.interface, name))
    _drop_unused(container, [by_name[name] for name in {**mocks, **replacements}])
    return mocks[names[0]] if len(names) == 1 else iter(mocks.values())


def restrict_entrypoints(container: ServiceContainer, *entrypoints: str) -> None:
    """Let only the entrypoints of these methods run; the others never fire.

    :raises ExtensionNotFound: when the service has no entrypoint for one of them
    :raises RuntimeError: when the container is started already
    """
    _check_not_started(container, "restrict entrypoints")
    known = {entrypoint.method_name for entrypoint in container.entrypoints}
    _check_names(entrypoints, known, f"Entrypoint(s) '{{}}' not found on container '{container.service_name}'.")
    removed = [each for each in container.entrypoints if each.method_name not in entrypoints]
    container.entrypoints.difference_update(removed)
    _drop_unused(container, removed)


def _check_not_started(container: ServiceContainer, what: str) -> None:
    if container.started:
        raise RuntimeError(f"You must {what} before the container is started.")


def _check_names(names: Any, known: Any, message: str) -> None:
    missing = [name for name in names if name not in known]
    if missing:
        raise ExtensionNotFound(message.format(", ".join(missing)))


def _drop_unused(container: ServiceContainer, removed: list[Extension]) -> None:
    used = {each for holder in container.entrypoints | container.dependencies for each in iter_extensions(holder)}
    unused = {each for holder in removed for each in iter_extensions(holder)} - used
    container.subextensions.difference_update(unused)
    for key in [key for key, shared in container.shared_extensions.items() if shared in unused]:
        del container.shared_extensions[key]


class Once(Entrypoint):
    """Runs its method once, with the given arguments, when the container starts.

    :param expected_exceptions: as for every entrypoint, and so is `sensitive_arguments`; all else goes to the method
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        options = {name: kwargs.pop(name) for name in ("expected_exceptions", "sensitive_arguments") if name in kwargs}
        self.args = args
        self.kwargs = kwargs
        super().__init__(**options)

    def start(self) -> None:
        """Run the method."""
        self.container.spawn_worker(self, self.args, self.kwargs)


once = Once.decorator
