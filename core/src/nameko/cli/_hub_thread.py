"""A native thread with greenthreads of its own, to which another native thread hands functions to run.

So services can go on running while the main thread waits in a blocking call for what a user types.
"""

from __future__ import annotations

import ctypes
import os
from _queue import Empty, SimpleQueue  # the C types: they work across native threads, monkey patched or not
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from nameko import concurrency

T = TypeVar("T")

# How long greenthreads may keep the dispatcher waiting before whatever has the turn is interrupted instead.
_INTERRUPT_TIMEOUT_S = 0.5

_os: Any = concurrency.original("os")


class HubThread:
    """Runs functions one after the other in greenthreads of one native thread, for the length of a `with` block."""

    def __init__(self) -> None:
        self._requests: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._running: Any = None
        threading = concurrency.original("threading")
        self._thread = threading.Thread(target=self._dispatch, name="nameko-hub", daemon=True)

    def __enter__(self) -> HubThread:
        self._read_fd, self._write_fd = _os.pipe()
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._request(None)
        self._thread.join()
        os.close(self._read_fd)
        os.close(self._write_fd)

    def call(self, fn: Callable[..., T], *args: Any) -> T:
        """Run `fn(*args)` there; returns or raises as it does. A KeyboardInterrupt here is raised there instead."""
        outcome: SimpleQueue[Any] = SimpleQueue()

        def run() -> None:
            try:
                outcome.put((fn(*args), None))
            except BaseException as exc:
                outcome.put((None, exc))

        def spawn() -> None:
            self._running = concurrency.spawn_task(run)

        self._request(spawn)
        result, exc = self._wait(outcome)
        if exc is not None:
            raise exc
        answer: T = result
        return answer

    def _wait(self, outcome: SimpleQueue[Any]) -> Any:
        while True:
            try:
                return outcome.get()
            except KeyboardInterrupt:
                self._interrupt()

    def _interrupt(self) -> None:
        done: SimpleQueue[None] = SimpleQueue()

        def interrupt() -> None:
            self._running.kill(KeyboardInterrupt)
            done.put(None)

        self._request(interrupt)
        try:
            done.get(timeout=_INTERRUPT_TIMEOUT_S)
        except Empty:  # a greenthread does not give up its turn
            thread_id = ctypes.c_ulong(self._thread.ident)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread_id, ctypes.py_object(KeyboardInterrupt))

    def _request(self, request: Callable[[], object] | None) -> None:
        self._requests.put(request)
        _os.write(self._write_fd, b".")

    def _dispatch(self) -> None:
        while True:
            try:
                concurrency.wait_readable(self._read_fd)
                _os.read(self._read_fd, 1)
                request = self._requests.get()
            except KeyboardInterrupt:  # came too late for the greenthread that it was meant for
                continue
            if request is None:
                return
            request()
