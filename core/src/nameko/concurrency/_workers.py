"""The pool of greenthreads that workers run in, which uses them again."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from logging import getLogger
from typing import Any, TypeVar

from nameko.concurrency._library import Greenlet, GreenPool, current, get_hub, spawn_detached
from nameko.concurrency._run_queue import soon
from nameko.concurrency._tasks import TaskThread, wait_all

T = TypeVar("T")

_log = getLogger("nameko.concurrency")


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
        return self.ended or Greenlet.dead.__get__(self)

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
        return Greenlet.throw(thread, *args)
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
        thread = WorkerThread(get_hub().greenlet)
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
