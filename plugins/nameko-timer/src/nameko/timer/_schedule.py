"""When the ticks of a timer are due."""

from __future__ import annotations

import time
from collections.abc import Callable

# A sleep that ends later than this was not merely delayed by other greenthreads: the process was suspended.
_STALL_S = 5.0


class Schedule:
    """Ticks at start + n * interval, by a clock that nobody can set.

    :param interval_s: seconds from tick to tick
    :param eager: whether the first tick is at start, rather than one interval later
    :param clock: the time in seconds
    """

    def __init__(self, interval_s: float, eager: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._start = clock()
        self._number = 0 if eager else 1

    def seconds_left(self) -> float:
        """Seconds until the tick is due; negative when it is late."""
        return self._start + self._number * self._interval_s - self._clock()

    def advance(self) -> None:
        """Go on to the next tick, which may be late already."""
        self._number += 1

    def skip_missed(self) -> int:
        """After the sleep until a tick: if the process seems to have been suspended, leave out what it has missed.

        :returns: how many ticks are left out; the last one that was missed is not, it is the tick that is due now
        """
        late_s = -self.seconds_left()
        if self._interval_s == 0 or late_s <= max(_STALL_S, self._interval_s):
            return 0
        missed = int(late_s / self._interval_s)
        self._number += missed
        return missed
