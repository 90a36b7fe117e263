"""The concurrency library, eventlet, under names of ours: the one module that imports it."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

with warnings.catch_warnings():
    # Exactly eventlet's notice of its own retirement, which is nothing that a user of nameko can act upon. It has to
    # be matched by its text: its class does not exist before the import that emits it.
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated", category=Warning)
    # Most of the time and memory that eventlet takes is a DNS library of its own. Names are resolved by the system
    # instead, in native threads (see `_names`), unless somebody has asked for eventlet's way: with a value of their
    # own, or by importing it before.
    _leave_out_greendns = "EVENTLET_NO_GREENDNS" not in os.environ
    if _leave_out_greendns:
        os.environ["EVENTLET_NO_GREENDNS"] = "yes"
    import eventlet

    if _leave_out_greendns:
        del os.environ["EVENTLET_NO_GREENDNS"]

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

# For the modules beside this one.
Greenlet: type[Any] = greenlet.greenlet
get_hub: Callable[[], Any] = eventlet.hubs.get_hub
notify_opened: Callable[[int], None] = eventlet.hubs.notify_opened


def running_greenthreads() -> list[Any]:
    """The greenthreads of this process that have started and not ended, without the hub and the one that asks.

    Goes through everything that the garbage collector tracks: for tests.
    """
    spared = (current(), get_hub().greenlet)
    found = [each for each in gc.get_objects() if issubclass(type(each), greenlet.greenlet)]
    # One whose native thread has ended counts as active, and is dead; so does one that rests in a pool.
    return [each for each in found if each and not each.dead and each.parent is not None and each not in spared]


def has_hub() -> bool:
    """Whether greenthreads have run in this operating system thread.

    Where none have, waiting for something green would start a hub, and eventlet keeps the hub of a thread, with its
    file descriptor, for ever: wait for the thread itself instead.
    """
    return getattr(eventlet.hubs._threadlocal, "hub", None) is not None


def schedule(delay_s: float, fn: Callable[..., object], *args: Any) -> Any:
    """Call `fn(*args)` from the hub after `delay_s` seconds; `fn` must not block.

    :returns: a timer with `cancel()`.
    """
    return get_hub().schedule_call_global(delay_s, fn, *args)


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


def current_hub() -> object:
    """The hub of this native thread, to be compared only: what belongs to one must not be used from another."""
    hub: object = get_hub()
    return hub


def non_blocking_socket(family: int, kind: int, protocol: int = 0) -> Any:
    """A plain socket whose calls return at once, to be paired with `wait_readable` and `wait_writable`."""
    sock = original("socket").socket(family, kind, protocol)
    sock.setblocking(False)
    # The descriptor may be that of a socket which somebody closed while waiting for it: the wait ends now.
    notify_opened(sock.fileno())
    return sock


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


def detect_blocking(after_s: int = 1) -> None:
    """From now on, raise an error in whatever keeps all greenthreads from running for `after_s` seconds."""
    eventlet.debug.hub_blocking_detection(True, resolution=after_s)


def original(module_name: str) -> ModuleType:
    """The standard library module `module_name` as it was before monkey patching, for native threads and waits."""
    module: ModuleType = eventlet.patcher.original(module_name)
    return module


def run_in_native_thread(fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run a blocking `fn` in an operating system thread while other greenthreads go on; returns or raises as `fn`."""
    result: T = eventlet.tpool.execute(fn, *args, **kwargs)
    return result


def park() -> Any:
    """Give up control until `switch(value)` is called on this greenthread from the hub; returns `value`.

    For those who keep `current()` at hand and have it switched to by a `ReadWatch` or by `schedule`.
    """
    return get_hub().switch()
