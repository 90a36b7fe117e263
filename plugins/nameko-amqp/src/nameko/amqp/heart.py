"""The heartbeats of a connection: sent, and missed when the broker sends none.

The broker is not there any more when nothing was read for two intervals (AMQP 0-9-1, 4.2.7).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

from nameko import concurrency
from nameko.amqp.failures import describe
from nameko.amqp.hub_watch import HubWatch

_log = logging.getLogger(__name__)

# A frame (128 KiB at most) whose end has not come for so long never will: the stream is out of step, and what follows,
# heartbeats included, is taken for a part of it.
_FRAME_TIMEOUT_S = 60.0
# So many heartbeat intervals a process may be too busy to send heartbeats, before it counts as one that hangs.
_STALL_BOUND_INTERVALS = 3.5


class Heart:
    """Of one connection. Runs as a timer of the hub, so a reader that is busy does not hold it up.

    A hub that is held up by something else is not taken for a dead broker.

    :param raw: the connection, py-amqp's, for which heartbeats are agreed
    :param drop: called when the broker is found dead
    :param watch: of the hub, which sends heartbeats while that is stalled
    """

    _TICKS_PER_INTERVAL = 4

    def __init__(self, raw: Any, drop: Callable[[], None], watch: HubWatch) -> None:
        #: Why the connection was dropped, once it was.
        self.error: Exception | None = None
        self._raw = raw
        self._transport = raw.transport
        self._drop = drop
        self._interval_s = float(raw.heartbeat)
        self._tick_s = self._interval_s / self._TICKS_PER_INTERVAL
        self._awake_since = monotonic()
        self._schedule(monotonic())
        self._watch = watch
        watch.add(self)

    def stop(self) -> None:
        """No more heartbeats."""
        self._timer.cancel()
        self._watch.remove(self)

    def beat_for_stalled_hub(self, stalled_s: float) -> None:
        """From a native thread. Not for ever: a process that hangs has to lose its messages to another one."""
        due = monotonic() - self._transport.last_written_at >= self._interval_s / 2
        if due and stalled_s <= _STALL_BOUND_INTERVALS * self._interval_s:
            self._transport.send_heartbeat_aside()

    def _tick(self) -> None:
        now = monotonic()
        if now - self._due_at > self._tick_s:  # the whole process stood still: what was sent meanwhile is yet unread
            self._awake_since = now
        self.error = self._defect(now)
        if self.error is not None:
            self._drop()
            return
        if now - self._transport.last_written_at >= self._interval_s / 2:
            try:
                self._raw.send_heartbeat()
            except Exception as exc:  # the reader finds out as well, and deals with it
                concurrency.spawn_detached(_log.debug, "heartbeat: %s", describe(exc))
        self._schedule(now)

    def _schedule(self, now: float) -> None:
        # No later than when the broker will have been silent for too long.
        patience_s = 2 * self._interval_s - self._silent_s(now)
        delay_s = min(self._tick_s, max(patience_s, 0) + 0.05)
        self._due_at = now + delay_s
        self._timer = concurrency.schedule(delay_s, self._tick)

    def _silent_s(self, now: float) -> float:
        last_read_at: float = self._transport.last_read_at
        return now - max(last_read_at, self._awake_since)

    def _defect(self, now: float) -> Exception | None:
        silent_s = self._silent_s(now)
        if silent_s > 2 * self._interval_s:
            return ConnectionError(f"no sign of life from the broker for {silent_s:.0f} s")
        begun_at = self._raw.frame_incomplete_since
        if begun_at is not None:
            incomplete_s = now - max(begun_at, self._awake_since)
            if incomplete_s > max(_FRAME_TIMEOUT_S, 2 * self._interval_s):
                return ConnectionError(f"a frame from the broker is incomplete for {incomplete_s:.0f} s")
        return None
