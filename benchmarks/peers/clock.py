"""What clients and services measure with: calls until a deadline, their latencies, processor time; events handled.

Runs under each peer's interpreter, so it uses nothing but the standard library.
"""

import json
import random
import signal
import time


class Clock:
    """Counts calls for a length of time.

    :param seconds: how long to measure
    :param warm_up_s: how long to run before that without counting
    """

    def __init__(self, seconds, warm_up_s=1.0):
        self._seconds = seconds
        self._warm_up_s = warm_up_s
        self._latencies = []
        self._calls = 0
        self._all_calls = 0
        self._began = time.perf_counter()
        self._cpu_at_start = None

    @property
    def running(self):
        """Whether there is time left."""
        return time.perf_counter() < self._began + self._warm_up_s + self._seconds

    def count(self, started):
        """One call that began at `started` (`time.perf_counter`) is complete."""
        self._all_calls += 1
        now = time.perf_counter()
        if now < self._began + self._warm_up_s:
            return
        if self._cpu_at_start is None:
            self._cpu_at_start = time.process_time()
        self._calls += 1
        self._latencies.append(now - started)

    def report(self):
        """Print what was measured, as one line of JSON."""
        sample = self._latencies
        if len(sample) > 10_000:
            sample = random.sample(sample, 10_000)
        print(
            json.dumps(
                {
                    "calls": self._calls,
                    "all_calls": self._all_calls,
                    "seconds": time.perf_counter() - self._began - self._warm_up_s,
                    "latencies_us": [round(latency * 1e6, 1) for latency in sample],
                    "cpu_s": time.process_time() - (self._cpu_at_start or 0.0),
                }
            ),
            flush=True,
        )


class Handled:
    """Counts events, and says how many and in which time, when it is asked to by SIGUSR1."""

    def __init__(self):
        self._count = 0
        self._first = self._last = 0.0
        signal.signal(signal.SIGUSR1, self._report)

    def count(self):
        """One event is handled."""
        self._last = time.perf_counter()
        if not self._count:
            self._first = self._last
        self._count += 1

    def _report(self, *_):
        print("HANDLED", self._count, max(self._last - self._first, 1e-9), flush=True)
