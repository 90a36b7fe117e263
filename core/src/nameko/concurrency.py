"""Greenthreads: the one module that knows which concurrency library runs underneath.

Everything else in the framework, and in extensions that want to stay portable, takes its threads, events, queues,
timeouts and sockets from here. Today the library is eventlet; replacing it means replacing this file.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any, TypeVar

with warnings.catch_warnings():
    # Exactly eventlet's notice of its own retirement, which is nothing that a user of nameko can act upon. It has to
    # be matched by its text: its class does not exist before the import that emits it.
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated", category=Warning)
    import eventlet

import eventlet.backdoor
import eventlet.debug
import eventlet.event
import eventlet.greenpool
import eventlet.greenthread
import eventlet.hubs
import eventlet.patcher
import eventlet.queue
import eventlet.semaphore
import eventlet.tpool
import greenlet
from eventlet.green import socket as socket
from eventlet.green import ssl as ssl

__all__ = [
    "Event",
    "GreenPool",
    "GreenThread",
    "GreenletExit",
    "Queue",
    "QueueEmpty",
    "Semaphore",
    "SpawningProxy",
    "SpawningSet",
    "Timeout",
    "cancel_after",
    "current",
    "fail_fast_imap",
    "is_monkey_patched",
    "kill",
    "listen",
    "monkey_patch",
    "original",
    "run_in_native_thread",
    "schedule",
    "sleep",
    "socket",
    "spawn",
    "spawn_after",
    "spawn_detached",
    "ssl",
    "trampoline",
    "wait_readable",
    "wait_writable",
]

T = TypeVar("T")

# One name for each primitive, bound to the library's own object: these stand on the path of every message, where a
# wrapper would be paid for each time.
GreenThread: type[Any] = eventlet.greenthread.GreenThread
GreenletExit: type[BaseException] = greenlet.GreenletExit
#: `Timeout(seconds)` raises itself in the greenthread that made it. A BaseException, so `except Exception` misses it.
Timeout: type[Any] = eventlet.Timeout
#: One-shot event: `send(value)` or `send_exception(exc)` once, any number of `wait(timeout_s)`.
Event: type[Any] = eventlet.event.Event
Queue: type[Any] = eventlet.queue.LightQueue
QueueEmpty: type[Exception] = eventlet.queue.Empty
Semaphore: type[Any] = eventlet.semaphore.Semaphore
GreenPool: type[Any] = eventlet.greenpool.GreenPool

#: `spawn(fn, *args, **kwargs)` -> GreenThread with `wait()`, `kill()`, `link(fn)`.
spawn: Callable[..., Any] = eventlet.spawn
#: Like `spawn`, cheaper, without a result; the function must handle its own exceptions.
spawn_detached: Callable[..., Any] = eventlet.spawn_n
#: `spawn_after(seconds, fn, *args)` -> GreenThread, which `cancel()` calls off while it has not started.
spawn_after: Callable[..., Any] = eventlet.spawn_after
sleep: Callable[..., None] = eventlet.sleep
current: Callable[[], Any] = greenlet.getcurrent
kill: Callable[..., None] = eventlet.kill
listen: Callable[..., Any] = eventlet.listen
trampoline: Callable[..., Any] = eventlet.hubs.trampoline


def schedule(delay_s: float, fn: Callable[..., object], *args: Any) -> Any:
    """Call `fn(*args)` from the hub after `delay_s` seconds; `fn` must not block.

    :returns: a timer with `cancel()`.
    """
    return eventlet.hubs.get_hub().schedule_call_global(delay_s, fn, *args)


def wait_readable(sock: Any, timeout_s: float | None = None) -> None:
    """Wait until `sock` can be read.

    :raises Timeout: when it cannot within `timeout_s` seconds.
    """
    trampoline(sock, read=True, timeout=timeout_s)


def wait_writable(sock: Any, timeout_s: float | None = None) -> None:
    """Wait until `sock` can be written.

    :raises Timeout: when it cannot within `timeout_s` seconds.
    """
    trampoline(sock, write=True, timeout=timeout_s)


@contextmanager
def cancel_after(timeout_s: float | None, exception: BaseException) -> Iterator[None]:
    """Raise `exception` in this greenthread when the block takes longer than `timeout_s` seconds (None: never)."""
    timer = Timeout(timeout_s, exception)
    try:
        yield
    finally:
        timer.cancel()


def monkey_patch() -> None:
    """Make the standard library's blocking calls yield to other greenthreads. Done once, as early as possible."""
    eventlet.monkey_patch()


def is_monkey_patched() -> bool:
    """Whether the standard library's sockets are green in this process."""
    return bool(eventlet.patcher.is_monkey_patched("socket"))


def original(module_name: str) -> ModuleType:
    """The standard library module `module_name` as it was before monkey patching, for native threads and waits."""
    module: ModuleType = eventlet.patcher.original(module_name)
    return module


def run_in_native_thread(fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run a blocking `fn` in an operating system thread while other greenthreads go on; returns or raises as `fn`."""
    result: T = eventlet.tpool.execute(fn, *args, **kwargs)
    return result


class SpawningProxy:
    """Calls a method on every item at once, each in a greenthread of its own, and waits for all of them.

    :param items: the objects to call
    :param abort_on_error: raise the first exception at once and kill the calls that still run
    """

    def __init__(self, items: Collection[Any], abort_on_error: bool = False) -> None:
        self._items = items
        self.abort_on_error = abort_on_error

    def __getattr__(self, name: str) -> Callable[..., list[Any]]:
        if name.startswith("__"):
            raise AttributeError(name)

        def call_all(*args: Any, **kwargs: Any) -> list[Any]:
            calls = [partial(getattr(item, name), *args, **kwargs) for item in self._items]
            if not calls:
                return []
            pool = GreenPool(len(calls))
            if self.abort_on_error:
                return fail_fast_imap(pool, _call, calls)
            return [thread.wait() for thread in [pool.spawn(call) for call in calls]]

        return call_all


class SpawningSet(set[Any]):
    """A set whose `all` calls a method on every member, see `SpawningProxy`."""

    @property
    def all(self) -> SpawningProxy:
        """The members, to be called together."""
        return SpawningProxy(self)


def _call(fn: Callable[[], T]) -> T:
    return fn()


def fail_fast_imap(pool: Any, fn: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
    """`fn` of each item, run in `pool`, in the order of the items.

    :raises: the first exception that any of the calls raises, as soon as it does; the calls that still run are killed.
    """
    outcomes = Queue()

    def run(index: int, item: Any) -> None:
        try:
            outcomes.put((index, fn(item), None))
        except BaseException as exc:
            outcomes.put((index, None, exc))

    threads = [pool.spawn(run, index, item) for index, item in enumerate(items)]
    results: dict[int, T] = {}
    for _ in threads:
        index, result, exc = outcomes.get()
        if exc is not None:
            for thread in threads:
                thread.kill()
            raise exc
        results[index] = result
    return [results[index] for index in range(len(threads))]
