"""SIGTERM and Ctrl-C for a process that hosts services: the first one drains, the second kills, the third is the end.

Below a supervisor, it is the supervisor that counts: one signal often comes twice, from it and from whoever has sent it
to all processes, as systemd does. Each of them drains then, unless the supervisor has said to kill.

What a signal asks for is done in greenthreads. Since a service can keep all of them from running (it burns CPU, or
blocks in C), a native thread stands by that ends the process when the time for it is over.
"""

from __future__ import annotations

import os
import signal
from _queue import Empty, SimpleQueue  # the C types: they work across native threads, monkey patched or not
from collections.abc import Callable
from logging import getLogger
from types import FrameType, TracebackType
from typing import Any

from nameko import concurrency
from nameko.cli._supervisor_link import SupervisorLink

_log = getLogger(__name__)

# How long killing may take before the process is ended regardless.
_KILL_TIMEOUT_S = 1
# What draining may take over the time that services have for it.
_DRAIN_MARGIN_S = 2

_STATUS_NOT_DRAINED = 1

# What the process is at.
_DRAINING = 1
_KILLING = 2

# Reading and writing file descriptors as the operating system has it: in a signal handler nothing may switch.
_os: Any = concurrency.original("os")


class StopSignals:
    """Handles SIGTERM and SIGINT for the length of a `with` block, in the main thread.

    No KeyboardInterrupt is raised, so none can hit some greenthread that happens to run.

    :param drain: called in a greenthread on the first signal
    :param kill: called in a greenthread on the second one; the process exits with 128 + signal number when it has not
        ended a second later, and at once on the third signal
    :param drain_timeout_s: when draining takes 2 s longer than this, the process exits with status 1
    :param supervisor: where there is one, each signal drains, until it says to kill
    """

    def __init__(
        self,
        drain: Callable[[], object],
        kill: Callable[[], object],
        drain_timeout_s: float,
        supervisor: SupervisorLink,
    ) -> None:
        self._actions = (("stopping", drain), ("killing", kill))
        self._drain_timeout_s = drain_timeout_s
        self._supervisor = supervisor
        self._stage = 0
        #: What to exit with: 0, or 128 + signal number after the second signal.
        self.exit_status = 0
        self._deadline = _Deadline()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        self._read_fd, self._write_fd = _os.pipe()
        _os.set_blocking(self._write_fd, False)
        self._listener = concurrency.spawn(self._listen)
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as for a background job of a shell script
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            # The other half of a pair may come when all is done: not even the end of the interpreter must be hit by it.
            signal.signal(number, signal.SIG_IGN if self._supervisor.is_supervised else handler)
        self._listener.kill()
        _os.close(self._read_fd)
        _os.close(self._write_fd)
        if not self._supervisor.is_supervised:  # there, nobody else could end a process whose exit hangs
            self._deadline.lift()

    @property
    def received(self) -> bool:
        """Whether a signal has come."""
        return self._stage > 0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # Runs in the main thread between two bytecodes of whatever greenthread has the turn.
        wanted = self._wanted_stage()
        while self._stage < wanted:
            self._stage += 1
            self._enter_stage(number)

    def _wanted_stage(self) -> int:
        if not self._supervisor.is_supervised:
            return self._stage + 1
        return _KILLING if self._supervisor.told_to_kill() else _DRAINING

    def _enter_stage(self, number: int) -> None:
        if self._stage == _DRAINING:
            self._deadline.set(self._drain_timeout_s + _DRAIN_MARGIN_S, _STATUS_NOT_DRAINED)
        elif self._stage == _KILLING:
            self.exit_status = 128 + number
            self._deadline.set(_KILL_TIMEOUT_S, self.exit_status)
        else:
            os._exit(128 + number)
        _os.write(self._write_fd, bytes([number]))  # wakes the hub, too, if it waits

    def _listen(self) -> None:
        for purpose, action in self._actions:
            concurrency.wait_readable(self._read_fd)
            number = _os.read(self._read_fd, 1)[0]
            _log.info("%s: %s", signal.Signals(number).name, purpose)
            concurrency.spawn_detached(self._call, action)

    def _call(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception:
            _log.exception("%r failed", action)


class _Deadline:
    """A native thread that ends the process at a point in time, which may be set again, unless it is lifted."""

    def __init__(self) -> None:
        self._settings: SimpleQueue[tuple[float, int] | None] = SimpleQueue()
        concurrency.original("threading").Thread(target=self._watch, name="nameko-deadline", daemon=True).start()

    def set(self, delay_s: float, status: int) -> None:
        """End the process with `status` in `delay_s` seconds. May be called from a signal handler."""
        self._settings.put((delay_s, status))

    def lift(self) -> None:
        """End the thread instead."""
        self._settings.put(None)

    def _watch(self) -> None:
        setting = self._settings.get()
        while setting is not None:
            delay_s, status = setting
            try:
                setting = self._settings.get(timeout=delay_s)
            except Empty:
                os._exit(status)
