"""Greenthreads that keep their outcome to themselves, and how to wait for several."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from nameko.concurrency._library import (
    Event,
    Greenlet,
    GreenletExit,
    GreenThread,
    Queue,
    QueueEmpty,
    Timeout,
    current,
)
from nameko.concurrency._run_queue import run_queue


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
        Greenlet.__init__(self, None, parent)

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
    queue = run_queue()
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
