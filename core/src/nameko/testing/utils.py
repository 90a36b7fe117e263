"""Helpers for tests: finding extensions, comparing loosely, waiting, preparing resources ahead."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from nameko.concurrency import Queue, Semaphore, Timeout, sleep, socket, spawn_task
from nameko.extensions import Entrypoint, Extension

if TYPE_CHECKING:
    from nameko.containers import ServiceContainer
    from nameko.runners import ServiceRunner

ExtensionT = TypeVar("ExtensionT", bound=Extension)

# How often a condition is looked at that nothing announces.
_POLL_INTERVAL_S = 0.01


def get_extension(
    container: ServiceContainer, extension_cls: type[ExtensionT], **match_attrs: Any
) -> ExtensionT | None:
    """The container's first extension of a class, and with such attributes; None when it has none.

    >>> get_extension(container, Rpc, method_name="method")  # doctest: +SKIP
    """
    for extension in container.extensions:
        if isinstance(extension, extension_cls) and _has_attributes(extension, match_attrs):
            return extension
    return None


def _has_attributes(obj: Any, attributes: dict[str, Any]) -> bool:
    return all(hasattr(obj, name) and getattr(obj, name) == value for name, value in attributes.items())


def get_container(runner: ServiceRunner, service_cls: type) -> ServiceContainer | None:
    """The runner's container for a service class; None when it has none."""
    for container in runner.containers:
        if container.service_cls is service_cls:
            return container
    return None


@contextmanager
def wait_for_call(timeout: float | None, mock_method: Any) -> Iterator[Any]:
    """At the end of the block, wait until a mock has been called.

    :param timeout: seconds that block and wait may take together
    :raises Timeout: when it takes longer
    """
    with Timeout(timeout):
        yield mock_method
        while not mock_method.called:
            sleep(_POLL_INTERVAL_S)


def wait_for_worker_idle(container: ServiceContainer, timeout: float | None = 10) -> None:
    """Wait until no worker is running. Deprecated: `entrypoint_waiter` waits for the right one.

    :raises Timeout: after `timeout` seconds
    """
    warnings.warn("`wait_for_worker_idle` is deprecated: use `entrypoint_waiter`.", DeprecationWarning, stacklevel=2)
    with Timeout(timeout):
        container._worker_pool.waitall()


def assert_stops_raising(
    fn: Callable[[], Any],
    exception_type: type[BaseException] | tuple[type[BaseException], ...] = Exception,
    timeout: float = 10,
    interval: float = 0.1,
) -> None:
    """Call `fn` every `interval` seconds until it does not raise `exception_type`.

    :raises: what it raises, when it still does so after `timeout` seconds
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            fn()
            return
        except exception_type:
            if time.monotonic() >= deadline:
                raise
        sleep(interval)


class AnyInstanceOf:
    """Equal to every instance of a class, for assertions about calls."""

    def __init__(self, cls: type) -> None:
        self._cls = cls

    def __eq__(self, other: object) -> bool:
        return isinstance(other, self._cls)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<AnyInstanceOf {self._cls.__name__}>"


#: Equal to every `functools.partial`.
ANY_PARTIAL = AnyInstanceOf(partial)


class DummyProvider(Entrypoint):
    """An entrypoint that nothing triggers.

    :param method_name: the method that it stands for
    """

    def __init__(self, method_name: str | None = None) -> None:
        super().__init__()
        self.method_name = method_name


class MockCallArgs(NamedTuple):
    """The arguments of a call."""

    positional: tuple[Any, ...]
    keyword: dict[str, Any]


def unpack_mock_call(call: Any) -> MockCallArgs:
    """The arguments of a call that a mock has recorded."""
    *_, args, kwargs = tuple(call)
    return MockCallArgs(args, kwargs)


def find_free_port(host: str = "127.0.0.1") -> int:
    """A TCP port on which nobody listens right now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind((host, 0))
        port: int = sock.getsockname()[1]
        return port


class ResourcePipeline:
    """Makes resources ahead of their use, and destroys them afterwards, in the background.

    ::

        with ResourcePipeline(create, destroy).run() as pipeline:
            with pipeline.get() as resource: ...

    :param create: makes a resource
    :param destroy: takes it back
    :param size: how many to have ready
    """

    def __init__(
        self, create: Callable[[], Any], destroy: Callable[[Any], Any] = lambda resource: None, size: int = 3
    ) -> None:
        if size < 1:
            raise ValueError(f"size must be at least 1, not {size}")
        self._create = create
        self._destroy = destroy
        self._size = size
        self._room = Semaphore(size)
        self._ready = Queue()
        self._used = Queue()
        self._closing = False

    @contextmanager
    def run(self) -> Iterator[ResourcePipeline]:
        """Work for the length of the block; at its end, all resources are destroyed.

        :raises: at the end of the block, what `destroy` raises
        """
        creator = spawn_task(self._create_all)
        destroyer = spawn_task(self._destroy_all)
        try:
            yield self
        finally:
            self._closing = True
            self._room.release()
            creator.wait()
            while self._ready.qsize():
                self._used.put(self._ready.get())
            self._used.put(None)
            destroyer.wait()

    @contextmanager
    def get(self) -> Iterator[Any]:
        """A resource for the length of the block.

        :raises: what `create` raised
        """
        outcome = self._ready.get()
        self._room.release()
        try:
            yield outcome.get()
        finally:
            self._used.put(outcome)

    def _create_all(self) -> None:
        while True:
            self._room.acquire()
            if self._closing:
                return
            self._ready.put(_Creation(self._create))

    def _destroy_all(self) -> None:
        failure: Exception | None = None
        for creation in iter(self._used.get, None):
            try:
                if creation.error is None:
                    self._destroy(creation.resource)
            except Exception as exc:  # the others must be destroyed too
                failure = failure or exc
        if failure is not None:
            raise failure


class _Creation:
    """A resource, or why there is none."""

    def __init__(self, create: Callable[[], Any]) -> None:
        self.resource: Any = None
        self.error: Exception | None = None
        try:
            self.resource = create()
        except Exception as exc:
            self.error = exc

    def get(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.resource


def __getattr__(name: str) -> Any:
    # Of nameko-amqp, which need not be installed; nameko 2.14 has them here.
    if name in ("get_rabbit_connections", "reset_rabbit_connections"):
        from nameko.testing import rabbit

        return getattr(rabbit, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
