"""Watches from a native thread whether greenthreads get their turn: while not, heartbeats go on, and a line says why.

A handler that burns CPU keeps the hub, and with it all timers, from running. The broker would take the process for
dead, and have another one do the work again. So a native thread writes the heartbeats for as long as the stall may be
work, and no longer: a process that hangs has to be given up.
"""

from __future__ import annotations

import logging
import os
import select
import sys
from _queue import Empty, SimpleQueue  # the C types: they work across native threads, monkey patched or not
from time import monotonic
from types import FrameType
from typing import Any, Protocol

from nameko import concurrency

_log = logging.getLogger(__name__)

#: Seconds between two looks, and between two pulses of the hub.
PULSE_S = 0.4
#: A pulse that is late by so many seconds is a stall.
STALL_S = 1.0
# A stall that has ended counts as lag for so many seconds, so that a probe which comes in between learns of it.
_REMEMBERED_S = 5.0
# So many calls of the stack are named, the innermost first.
_FRAMES_NAMED = 8
_STDERR = 2


class Heart(Protocol):
    """Sends heartbeats over one connection."""

    def beat_for_stalled_hub(self, stalled_s: float) -> None:
        """Called from the native thread, again and again, while the hub has had no turn for `stalled_s` seconds."""


class HubWatch:
    """Watches the hub of the thread that makes it, while there is a heart."""

    def __init__(self) -> None:
        self._hub_thread_id = concurrency.original("threading").get_ident()
        self._hearts: tuple[Heart, ...] = ()  # replaced, never changed: two threads use it
        self._due_at = 0.0  # when the next pulse is
        self._timer: Any = None
        self._end: SimpleQueue[None] = SimpleQueue()
        self._last_lag_s = 0.0
        self._lagged_at = -_REMEMBERED_S
        self._stack: str | None = None  # of the stall that lasts, once it is reported

    def add(self, heart: Heart) -> None:
        """Have it beat while the hub cannot."""
        first = not self._hearts
        self._hearts = (*self._hearts, heart)
        if first:
            self._start()

    def remove(self, heart: Heart) -> None:
        """Forget it. Without any, nothing is watched."""
        self._hearts = tuple(each for each in self._hearts if each is not heart)
        if not self._hearts and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._end.put(None)

    @property
    def in_use(self) -> bool:
        """Whether there is a heart."""
        return bool(self._hearts)

    @property
    def lag_s(self) -> float:
        """How long greenthreads had to wait for their turn: now, or lately when that was longer."""
        if self._timer is None:
            return 0.0
        now = monotonic()
        lately_s = self._last_lag_s if now - self._lagged_at < _REMEMBERED_S else 0.0
        return max(lately_s, now - self._due_at, 0.0)

    # -- in the hub

    def _start(self) -> None:
        self._last_lag_s = 0.0
        self._stack = None
        self._schedule()
        self._end = SimpleQueue()
        threading = concurrency.original("threading")
        threading.Thread(target=self._watch, args=(self._end,), name="nameko-hub-watch", daemon=True).start()

    def _schedule(self) -> None:
        self._due_at = monotonic() + PULSE_S
        self._timer = concurrency.schedule(PULSE_S, self._pulse)

    def _pulse(self) -> None:
        now = monotonic()
        lag_s = now - self._due_at
        if lag_s >= STALL_S or now - self._lagged_at >= _REMEMBERED_S:
            self._last_lag_s, self._lagged_at = lag_s, now
        self._schedule()
        stack, self._stack = self._stack, None
        if stack is not None:  # a log handler may wait, which the hub must not
            concurrency.spawn_detached(_log.warning, "greenthreads had no turn for %.1f s, kept by %s", lag_s, stack)

    # -- in the native thread

    def _watch(self, end: SimpleQueue[None]) -> None:
        while True:
            looked_at = monotonic()
            try:
                end.get(timeout=PULSE_S)
            except Empty:
                now = monotonic()
                if now - looked_at < PULSE_S + STALL_S:  # otherwise the whole process stood still
                    self._look(now)
            else:
                return

    def _look(self, now: float) -> None:
        stalled_s = now - self._due_at
        if stalled_s < STALL_S:
            return
        if self._stack is None:
            self._stack = _stack_of(self._hub_thread_id)
            _write_line(f"WARNING greenthreads have had no turn for {stalled_s:.1f} s, kept by {self._stack}")
        for heart in self._hearts:
            heart.beat_for_stalled_hub(stalled_s)


def _stack_of(thread_id: int) -> str:
    frame: FrameType | None = sys._current_frames().get(thread_id)
    names: list[str] = []
    while frame is not None and len(names) < _FRAMES_NAMED:
        code = frame.f_code
        names.append(f"{code.co_name} ({code.co_filename}:{frame.f_lineno})")
        frame = frame.f_back
    return " < ".join(names) or "nothing that can be seen"


def _write_line(line: str) -> None:
    # Not by the log, whose locks belong to greenthreads: the one that has the turn may hold them. Nor where it would
    # have to wait for a reader: heartbeats would wait with it.
    try:
        _, writable, _ = concurrency.original("select").select([], [_STDERR], [], 0)
        if writable:
            concurrency.original("os").write(_STDERR, f"{line}\n".encode(errors="replace")[: select.PIPE_BUF])
    except (OSError, ValueError):  # it is closed, or its number is too high for select()
        pass


class Watches:
    """The watch of each hub."""

    def __init__(self) -> None:
        self._watches: dict[Any, HubWatch] = {}

    def current(self) -> HubWatch:
        """That of this thread's hub."""
        key = (os.getpid(), concurrency.current_hub())
        if key not in self._watches:
            self._watches = {each: watch for each, watch in self._watches.items() if watch.in_use}
            self._watches[key] = HubWatch()
        return self._watches[key]


#: Those of this process.
watches = Watches()
