"""Greenthreads: the one module that knows which concurrency library runs underneath.

Everything else in the framework, and in extensions that want to stay portable, takes its threads, events, queues,
timeouts and sockets from here. Today the library is eventlet; replacing it means replacing this file.
"""

from __future__ import annotations

import gc
import os
import sys
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from logging import getLogger
from types import ModuleType
from typing import Any, TypeVar

with warnings.catch_warnings():
    # Exactly eventlet's notice of its own retirement, which is nothing that a user of nameko can act upon. It has to
    # be matched by its text: its class does not exist before the import that emits it.
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated", category=Warning)
    # Most of the time and memory that eventlet takes is a DNS library of its own. Names are resolved by the system
    # instead, in native threads (see `_in_native_thread`), unless somebody has asked for eventlet's way: with a value
    # of their own, or by importing it before.
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

__all__ = [
    "Doorbell",
    "Event",
    "GreenPool",
    "GreenThread",
    "GreenletExit",
    "Queue",
    "QueueEmpty",
    "ReadWatch",
    "Semaphore",
    "Signal",
    "SpawningProxy",
    "SpawningSet",
    "TaskThread",
    "Timeout",
    "WorkerPool",
    "WorkerThread",
    "call_without_leaks",
    "cancel_after",
    "current",
    "current_hub",
    "fail_fast_imap",
    "has_hub",
    "is_from_outside",
    "is_monkey_patched",
    "join_all",
    "kill",
    "listen",
    "monkey_patch",
    "non_blocking_socket",
    "original",
    "park",
    "run_in_native_thread",
    "running_greenthreads",
    "schedule",
    "sleep",
    "socket",
    "soon",
    "spawn",
    "spawn_after",
    "spawn_detached",
    "spawn_task",
    "ssl",
    "trampoline",
    "wait_all",
    "wait_readable",
    "wait_writable",
]

T = TypeVar("T")

_log = getLogger(__name__)

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


def running_greenthreads() -> list[Any]:
    """The greenthreads of this process that have started and not ended, without the hub and the one that asks.

    Goes through everything that the garbage collector tracks: for tests.
    """
    spared = (current(), eventlet.hubs.get_hub().greenlet)
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
    return eventlet.hubs.get_hub().schedule_call_global(delay_s, fn, *args)


# So many calls in a row, then the hub looks at its sockets and timers again.
_CALLS_PER_TURN = 1000


class _RunQueue:
    # What a hub calls before it looks at its sockets again, in order; what these calls add is called in the same turn.
    # A timer for each of them would cost several times as much, and the hub would ask the operating system for news
    # between one generation of timers and the next.

    __slots__ = ("_calls", "_due", "hub")

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._due = False  # `run` is running, or the hub is going to call it

    def add(self, fn: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._calls.append((fn, args))
        if not self._due:
            self._due = True
            self.hub.schedule_call_global(0, self.run)

    def run_after(self, fn: Callable[..., object], *args: Any) -> None:
        # From the hub: call `fn`, then, without a detour, what it has added.
        was_due, self._due = self._due, True
        try:
            fn(*args)
        finally:
            if was_due:  # then a timer stands, which finds nothing or what is left
                self._run_some()
            else:
                self.run()

    def run(self) -> None:
        try:
            self._run_some()
        finally:
            self._due = bool(self._calls)
            if self._due:
                self.hub.schedule_call_global(0, self.run)

    def _run_some(self) -> None:
        calls = self._calls
        for _ in range(_CALLS_PER_TURN):
            if not calls:
                return
            fn, args = calls.popleft()
            try:
                fn(*args)
            except self.hub.SYSTEM_EXCEPTIONS:
                raise
            except BaseException:  # of a plain greenthread that has ended: as the hub treats them
                self.hub.squelch_timer_exception(None, sys.exc_info())


def _run_queue() -> _RunQueue:
    hub = eventlet.hubs.get_hub()
    try:
        queue: _RunQueue = hub.nameko_run_queue
    except AttributeError:
        queue = hub.nameko_run_queue = _RunQueue(hub)
    return queue


def soon(fn: Callable[..., object], *args: Any) -> None:
    """Call `fn(*args)` from the hub, in the order of these calls, before it waits again; `fn` must not block.

    Cheaper than `schedule(0, ...)`, and sooner when this is called in a greenthread that was itself woken so.
    """
    _run_queue().add(fn, args)


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
    hub: object = eventlet.hubs.get_hub()
    return hub


def non_blocking_socket(family: int, kind: int, protocol: int = 0) -> Any:
    """A plain socket whose calls return at once, to be paired with `wait_readable` and `wait_writable`."""
    sock = original("socket").socket(family, kind, protocol)
    sock.setblocking(False)
    # The descriptor may be that of a socket which somebody closed while waiting for it: the wait ends now.
    eventlet.hubs.notify_opened(sock.fileno())
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


class Doorbell:
    """Calls functions in the thread that made it, on behalf of any other operating system thread.

    Greenthreads belong to the thread that started them: an `Event` sent from another one would corrupt both. Costs a
    pipe and no greenthread, and nothing while nobody rings.
    """

    def __init__(self) -> None:
        self._os = original("os")
        self._thread_id = _thread_id()
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._reader, self._writer = self._os.pipe()
        self._os.set_blocking(self._reader, False)
        self._os.set_blocking(self._writer, False)
        self._hub = eventlet.hubs.get_hub()
        self._listener = self._hub.add(self._hub.READ, self._reader, self._answer, self._answer, None)

    def is_mine(self) -> bool:
        """Whether it was made in this operating system thread."""
        return _thread_id() == self._thread_id

    def call(self, fn: Callable[..., object], *args: Any) -> None:
        """Call `fn(*args)`, which must not block, in the thread that made this: at once when that is this thread."""
        if self.is_mine():
            fn(*args)
            return
        self._calls.append((fn, args))
        try:
            self._os.write(self._writer, b"\0")
        except BlockingIOError:  # the pipe is full of rings that are not answered yet
            pass

    def close(self) -> None:
        """Give the pipe back, in the thread that made it; `call` must not be used any more."""
        self.call(self._close)

    def _close(self) -> None:
        self._hub.remove(self._listener)
        self._os.close(self._reader)
        self._os.close(self._writer)

    def _answer(self, _: object) -> None:
        try:
            self._os.read(self._reader, 4096)  # before the calls are taken: a ring that comes meanwhile is not missed
        except BlockingIOError:  # somebody else's event: a process that was forked shares what the hub waits with
            return
        while self._calls:
            fn, args = self._calls.popleft()
            fn(*args)


def _thread_id() -> int:
    # Of the operating system's thread: a monkey-patched `get_ident` tells greenthreads apart instead.
    ident: int = original("threading").get_ident()
    return ident


# So many names are resolved at once for the greenthreads of one hub.
_MAX_LOOKUPS = 20


def _in_native_thread(lookup: Callable[..., T]) -> Callable[..., T]:
    # Each in a thread of its own: lookups are rare, and a pool would neither survive a fork nor ever go away.
    @wraps(lookup)
    def call(*args: Any, **kwargs: Any) -> T:
        if not has_hub() or current() is eventlet.hubs.get_hub().greenlet:  # nobody to give way to, or no way to
            return lookup(*args, **kwargs)
        outcome, slots = Event(), _lookup_slots()
        with ExitStack() as given_back:
            slots.acquire()
            given_back.callback(slots.release)
            bell = Doorbell()
            given_back.callback(bell.close)

            def deliver(result: tuple[T | None, BaseException | None]) -> None:
                with held:
                    outcome.send(result)

            original("_thread").start_new_thread(lambda: bell.call(deliver, _outcome_of(lookup, args, kwargs)), ())
            held = given_back.pop_all()  # until there is an outcome, whoever waits for it
        result, error = outcome.wait()
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]

    return call


def _outcome_of(
    fn: Callable[..., T], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[T | None, BaseException | None]:
    try:
        return fn(*args, **kwargs), None
    except BaseException as exc:
        return None, exc


def _lookup_slots() -> Any:
    hub = eventlet.hubs.get_hub()
    try:
        return hub.nameko_lookup_slots
    except AttributeError:
        hub.nameko_lookup_slots = Semaphore(_MAX_LOOKUPS)
        return hub.nameko_lookup_slots


def _numeric_first(getaddrinfo: Callable[..., T], resolve: Callable[..., T]) -> Callable[..., T]:
    # An address needs no lookup, and so no thread.
    @wraps(getaddrinfo)
    def call(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> T:
        try:
            return getaddrinfo(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)
        except socket.gaierror:
            return resolve(host, port, family, type, proto, flags)

    return call


def _resolve_names_in_native_threads() -> None:
    for name in ("gethostbyname", "gethostbyname_ex", "getnameinfo", "getaddrinfo"):
        setattr(socket, name, _in_native_thread(getattr(original("socket"), name)))
    socket.getaddrinfo = _numeric_first(original("socket").getaddrinfo, socket.getaddrinfo)


if "eventlet.support.greendns" not in sys.modules:
    _resolve_names_in_native_threads()


class TaskThread(GreenThread):  # type: ignore[misc]
    """A greenthread whose outcome goes to those who `wait()` for it or `link()` to it, and to nobody else.

    An exception that leaves a plain greenthread also reaches the hub, which prints it and, if it is a SystemExit or a
    KeyboardInterrupt, ends the process. And a plain one makes an `Event` first; here only those pay who wait.
    """

    #: Whether somebody has asked for its end.
    killed = False
    #: Whether what runs in the thread is over.
    ended = False
    #: What it has raised, if it is over and has raised something.
    exc_info: tuple[Any, Any, Any] | None = None
    _result: Any = None
    _end_event: Any = None
    _calls_links = False
    _links: list[tuple[Callable[..., object], tuple[Any, ...]]] | None = None

    def __init__(self, parent: Any) -> None:
        greenlet.greenlet.__init__(self, None, parent)

    def kill(self, *throw_args: Any) -> Any:
        """Raise GreenletExit, or what is given, in the thread."""
        self.killed = True
        return super().kill(*throw_args)

    def main(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """What runs in the thread."""
        try:
            self._result = function(*args, **kwargs)
        except BaseException:
            self.exc_info = sys.exc_info()
        self._end()

    run: Callable[..., None] = main  # which greenlet calls

    def _end(self) -> None:
        self.ended = True
        if self._end_event is not None:
            self._end_event.send(None)
        if self._links is not None:
            self._call_links(self._links)

    def _call_links(self, links: list[tuple[Callable[..., object], tuple[Any, ...]]]) -> None:
        self._calls_links = True
        try:
            while links:
                fn, args = links.pop(0)
                fn(self, *args)
        finally:
            self._calls_links = False

    def wait(self) -> Any:
        """Wait for its end; returns or raises as what runs in it does."""
        if not self.ended:
            if self._end_event is None:
                self._end_event = Event()
            self._end_event.wait()
        if self.exc_info is not None:
            raise self.exc_info[1].with_traceback(self.exc_info[2])
        return self._result

    def link(self, fn: Callable[..., object], *args: Any) -> None:
        """Call `fn(thread, *args)` at its end, in the thread itself; at once when it has ended."""
        if self._links is None:
            self._links = []
        self._links.append((fn, args))
        if self.ended and not self._calls_links:
            self._call_links(self._links)

    def unlink(self, fn: Callable[..., object], *args: Any) -> bool:
        """Take a `link` back; whether there was one."""
        if self._links is None or (fn, args) not in self._links:
            return False
        self._links.remove((fn, args))
        return True


def spawn_task(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> TaskThread:
    """Run `fn` in a `TaskThread`, which has `wait()`, `kill()` and `link(fn)`."""
    queue = _run_queue()
    thread = TaskThread(queue.hub.greenlet)
    queue.add(thread.switch, (fn, args, kwargs))
    return thread


def is_from_outside(exc: BaseException, since_s: float) -> bool:
    """Whether `exc` has come over the code that raised it, rather than out of it: a kill, Ctrl-C, a Timeout around it.

    Foreign code raises all of these as well: a Timeout of its own, or a GreenletExit by waiting for a greenthread that
    was killed. That is an error like any other.

    :param since_s: when that code began to run, by `time.monotonic()`. A Timeout that was set before strikes sooner
        after that than it is long, unless the hub was kept waiting for longer than it was set before. Then it counts as
        that code's own.
    """
    if isinstance(exc, Timeout):
        return exc.seconds is not None and time.monotonic() - since_s < exc.seconds
    thread = current()
    if isinstance(thread, TaskThread):
        return thread.killed and isinstance(exc, (GreenletExit, KeyboardInterrupt))
    return isinstance(exc, KeyboardInterrupt) or (isinstance(exc, GreenletExit) and thread.parent is not None)


def join_all(threads: Collection[Any]) -> None:
    """Wait until all greenthreads have ended.

    :raises: the first exception that any of them raises, as soon as it does. Then, and when the wait itself is
        interrupted, those that still run are killed.
    """
    ended = Queue()
    for thread in threads:
        thread.link(ended.put)
    try:
        for _ in threads:
            ended.get().wait()
    except BaseException:
        for thread in threads:
            thread.kill()
        raise


def wait_all(threads: Iterable[Any], timeout_s: float | None = None) -> list[Any]:
    """Wait until all greenthreads have ended, however, or `timeout_s` seconds have passed; those that still run."""
    running = list(threads)
    ended = Queue()
    for thread in running:
        thread.link(ended.put)
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    try:
        while running:
            running.remove(ended.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic())))
    except QueueEmpty:
        pass
    finally:
        for thread in running:
            thread.unlink(ended.put)
    return running


def _work() -> None:
    # Runs in each `WorkerThread`. It ends when nobody refers to it any more, so no variable here may, while it rests.
    try:
        while _run_next(current().successor().switch()):
            pass
    except BaseException:  # of the switch: it is killed, before it has begun with something or while it rests
        _end_unless_resting(current())


def _run_next(job: tuple[Callable[..., Any], tuple[Any, ...]]) -> bool:
    thread = current()
    thread.main(*job, {})
    if not thread.can_be_used_again():
        thread.parent = thread.successor()
        return False
    thread.rest()
    return True


def _end_unless_resting(thread: WorkerThread) -> None:
    if not thread.ended:
        thread.exc_info = sys.exc_info()
        thread._end()


class _Caller:
    # Who waits in `run_at_once`. It does not know for which thread: what is yet to wake it keeps none from new work.
    __slots__ = ("thread",)

    def __init__(self, thread: Any) -> None:
        self.thread = thread

    def wake(self) -> None:
        if self.thread is not None:
            self.thread.switch()


class WorkerThread(TaskThread):
    """A greenthread of a `WorkerPool`: runs foreign code first and has to finish in peace.

    A `Timeout` strikes the greenthread in which it was made, whatever that is doing by then. One that foreign code,
    run by `call_without_leaks`, has left behind is dropped when it fires after that code's end.

    To start a greenthread takes several times as long as to switch to one, so the pool uses them again. Nobody can
    tell: only one that nothing refers to any more, no thread-local data, no timer and no variable, runs something new.
    """

    run = staticmethod(_work)
    #: Stands for the foreign code that is running; None when there is none.
    scope: object | None = None
    #: What to call the thread in the log.
    label: object = "a worker"
    #: Where to give its slot back. None: it got none, and what it is to run is simply called.
    pool: WorkerPool | None = None
    #: How many references there are to one that only its pool knows.
    own_references = 0
    _caller: _Caller | None = None

    @property
    def dead(self) -> bool:
        """Whether it is over with what it has run, as for any greenthread."""
        return self.ended or greenlet.greenlet.dead.__get__(self)

    def start(self, function: Callable[..., Any], *args: Any) -> None:
        """Begin at the next turn of the hub."""
        if self.pool is None:
            self.main(function, args, {})
        else:
            soon(self.switch, function, args)

    def run_at_once(self, function: Callable[..., Any], *args: Any) -> None:
        """Begin at once, and return when the thread has ended, or calls `let_caller_go`.

        For a caller that would do nothing but wait: it saves both the way through the hub.
        """
        if self.pool is None:
            self.main(function, args, {})
            return
        caller = self._caller = _Caller(current())
        try:
            self.switch(function, args)
        finally:
            self._caller = caller.thread = None  # also when it was let go, or killed: the end must not wake it any more

    def let_caller_go(self) -> None:
        """Let the caller of `run_at_once` go on at the next turn of the hub, if this thread has not ended by then."""
        if self._caller is not None:
            soon(self._caller.wake)

    def successor(self) -> Any:
        """Where control goes when this has nothing to run."""
        return self.parent if self._caller is None else self._caller.thread

    def _end(self) -> None:
        super()._end()
        if self.pool is not None:
            self.pool._spawn_done(self)

    def can_be_used_again(self) -> bool:
        """Whether nothing of what ran in it is left, as far as can be told from within."""
        has_outcome = self.exc_info is not None or self._result is not None
        return self.pool is not None and not has_outcome and not weakref.getweakrefcount(self)

    def rest(self) -> None:
        """Keep nothing alive any more, the pool included: it would not be collected together with this."""
        pool, self.pool = self.pool, None
        self.label = WorkerThread.label
        self.gr_context = None
        pool.idle_threads.append(self)  # type: ignore[union-attr]

    def get_ready(self) -> None:
        """Begin, and wait for something to run."""
        self._caller = _Caller(current())
        self.switch()
        self._caller = None

    def renew(self) -> None:
        """Be as a new one."""
        self.ended = self.killed = False
        self.scope = self._end_event = None

    # Timeouts, and all else that wants to raise something here later, look `throw` up when they are made, and call
    # what they got when they fire. So it can carry where it was made.
    @property
    def throw(self) -> Callable[..., Any]:
        """Raises an exception in this thread, like the method of the same name that it stands for."""
        return partial(_throw_if_current, self, self.scope, self.label)


def _throw_if_current(thread: WorkerThread, scope: object | None, label: object, *args: Any) -> Any:
    if not thread.dead and (scope is None or scope is thread.scope):
        return greenlet.greenlet.throw(thread, *args)
    # From the hub, which must not wait; a log handler may.
    spawn_detached(_log.warning, "%s had left a timeout running (%r): dropped", label, *args[:1])
    return None


def call_without_leaks(fn: Callable[..., T], args: Sequence[Any], kwargs: Mapping[str, Any]) -> T:
    """Call foreign code; in a `WorkerThread`, the timeouts that it leaves behind strike nothing after it."""
    thread = current()
    if not isinstance(thread, WorkerThread) or thread.scope is not None:
        return fn(*args, **kwargs)
    thread.scope = object()
    try:
        return fn(*args, **kwargs)
    finally:
        thread.scope = None


class WorkerPool(GreenPool):  # type: ignore[misc]
    """A pool of `WorkerThread`s.

    :param size: how many may run at once
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.idle_threads: list[WorkerThread] = []

    def spawn(self, function: Callable[..., Any], *args: Any) -> WorkerThread:
        """Run `function` in a thread of its own; blocks while the pool is full.

        In a thread of this very pool it does not block but calls the function.
        """
        thread = self.new_thread()
        thread.start(function, *args)
        return thread

    def new_thread(self) -> WorkerThread:
        """A thread for the caller to start; blocks while the pool is full.

        In a thread of this very pool it does not block, since the pool might never have room: what it returns then
        calls the function where it is started.
        """
        if self.sem.counter > 0 and not self.sem._waiters:  # spares the call on the path of every message
            self.sem.counter -= 1
        elif current() in self.coroutines_running:
            return WorkerThread(current())
        else:
            self.sem.acquire()
        thread = self._idle_thread() or self._another_thread()
        thread.pool = self
        self.coroutines_running.add(thread)
        return thread

    def _idle_thread(self) -> WorkerThread | None:
        while self.idle_threads:
            thread = self.idle_threads.pop()
            if sys.getrefcount(thread) == thread.own_references and not weakref.getweakrefcount(thread):
                thread.renew()
                return thread
        return None

    def _another_thread(self) -> WorkerThread:
        thread = WorkerThread(eventlet.hubs.get_hub().greenlet)
        thread.get_ready()
        thread.own_references = sys.getrefcount(thread)
        return thread

    def waitall(self) -> None:
        """Wait until no thread of the pool is running, except the one that calls this."""
        while others := self.coroutines_running - {current()}:
            wait_all(others)

    def _spawn_done(self, coro: WorkerThread) -> None:
        self.coroutines_running.discard(coro)
        self.sem.release()


def park() -> Any:
    """Give up control until `switch(value)` is called on this greenthread from the hub; returns `value`.

    For those who keep `current()` at hand and have it switched to by a `ReadWatch` or by `schedule`.
    """
    return eventlet.hubs.get_hub().switch()


class Signal:
    """One-shot, like `threading.Event`: cheaper than an `Event`, carries nothing, and is waited for without a timeout.

    Whoever waits goes on in the same turn of the hub.
    """

    __slots__ = ("_is_set", "_waiters")

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: list[Any] = []

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._is_set

    def set(self) -> None:
        """Let everybody go on who waits, now or later."""
        self._is_set = True
        for waiter in self._waiters:
            soon(self._wake, waiter)

    def wait(self) -> None:
        """Wait until it is set."""
        if self._is_set:
            return
        thread = current()
        self._waiters.append(thread)
        try:
            park()
        finally:
            if thread in self._waiters:  # killed, or struck by a timeout
                self._waiters.remove(thread)

    def _wake(self, thread: Any) -> None:
        if thread in self._waiters:
            self._waiters.remove(thread)
            thread.switch()


class ReadWatch:
    """Calls `callback` from the hub while a socket has something to read, from `resume()` until `pause()`.

    Registered with the operating system once, where `wait_readable` does so for each wait. It calls again and again
    while there is something to read: take it, or `pause()`. What `callback` leaves to `soon` is called right after it.

    :param fileno: the socket's file descriptor; pause before closing it
    :param callback: takes one argument, the descriptor; must neither block nor raise
    """

    __slots__ = ("_callback", "_fileno", "_hub", "_listener", "active")

    def __init__(self, fileno: int, callback: Callable[[int], object]) -> None:
        eventlet.hubs.notify_opened(fileno)  # a listener that its former owner left behind would collide with ours
        self._hub = eventlet.hubs.get_hub()
        self._fileno = fileno
        self._callback = callback
        self._listener: Any = None
        self.active = False

    def resume(self) -> None:
        """Start watching."""
        if not self.active:
            on_readable = partial(_run_queue().run_after, self._callback)
            self._listener = self._hub.add(self._hub.READ, self._fileno, on_readable, _ignore_obsolete, None)
            self.active = True

    def pause(self) -> None:
        """Stop watching."""
        if self.active:
            self.active = False
            self._hub.remove(self._listener)
            self._listener = None


def _ignore_obsolete(_: BaseException) -> None:
    """The hub tells a listener here that its descriptor was reused; the owner of a `ReadWatch` pauses it before."""


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
            threads = [spawn_task(getattr(item, name), *args, **kwargs) for item in self._items]
            if self.abort_on_error:
                join_all(threads)
            else:
                wait_all(threads)
            return [thread.wait() for thread in threads]

        return call_all


class SpawningSet(set[Any]):
    """A set whose `all` calls a method on every member, see `SpawningProxy`."""

    @property
    def all(self) -> SpawningProxy:
        """The members, to be called together."""
        return SpawningProxy(self)


def fail_fast_imap(pool: Any, fn: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
    """`fn` of each item, run in `pool`, in the order of the items.

    :raises: the first exception that any of the calls raises, as soon as it does; the calls that still run are killed.
    """
    threads = [pool.spawn(fn, item) for item in items]
    join_all(threads)
    return [thread.wait() for thread in threads]
