"""What every client measures with: calls until a deadline, their latencies, the processor time of the process.

Runs under each peer's interpreter, so it uses nothing but the standard library.
"""

import json
import random
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
        self._began = time.perf_counter()
        self._cpu_at_start = None

    @property
    def running(self):
        """Whether there is time left."""
        return time.perf_counter() < self._began + self._warm_up_s + self._seconds

    def count(self, started):
        """One call that began at `started` (`time.perf_counter`) is complete."""
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
                    "seconds": time.perf_counter() - self._began - self._warm_up_s,
                    "latencies_us": [round(latency * 1e6, 1) for latency in sample],
                    "cpu_s": time.process_time() - (self._cpu_at_start or 0.0),
                }
            ),
            flush=True,
        )
