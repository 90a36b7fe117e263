"""Rows 40 and 41: a hundred thousand calls and events, and five hundred lost connections, leave nothing behind."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from harness import procfs
from nameko.amqp.connections import BRIEF_S

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(1800)]

Eventually = Callable[..., Any]

MIB = 1024 * 1024

CALLS, EVENTS, ERRORS, UNKNOWN, TIMEOUTS = 100_000, 100_000, 10_000, 10_000, 1_000
WARM_UP = 10_000
# So many callers at once, of so many calls each.
CALLERS, CHUNK = 5, 500

RESETS = 500


class Load:
    """Has the service call, and be called."""

    def __init__(self, raw: Any, pid: int, eventually: Eventually) -> None:
        self._raw, self._pid, self._eventually = raw, pid, eventually
        self.outcomes: Counter[str] = Counter()
        self.samples: list[tuple[int, int]] = []  # calls so far, bytes of memory
        self._made = 0

    def calls(self, service: str, method: str, times: int, timeout_s: float = 20, chunk: int = CHUNK) -> None:
        """`times` calls of the service, made by itself."""
        chunks = [min(chunk, times - start) for start in range(0, times, chunk)]
        for group in (chunks[start : start + CALLERS] for start in range(0, len(chunks), CALLERS)):
            replies = self._raw.call_at_once(
                "subject.call_repeatedly", [(service, method, size, timeout_s) for size in group]
            )
            for reply in replies:
                self.outcomes.update(reply["result"]["outcomes"])
            self._sample(sum(group))

    def events(self, times: int) -> None:
        """`times` events for the service to handle."""
        handled = self._handled()
        for start in range(0, times, CHUNK):
            for number in range(start, min(start + CHUNK, times)):
                self._raw.send(str(number), "counted", "outside.events")
            self._eventually(lambda: self._raw.ready("evt-outside-counted--subject.count") == 0)
            self._sample(CHUNK)
        self._eventually(lambda: self._handled() == handled + times)

    def _handled(self) -> int:
        return int(self._raw.call("subject.counted")["result"])

    def _sample(self, made: int) -> None:
        self._made += made
        self.samples.append((self._made, procfs.resident_bytes(self._pid)))

    def growth_per_call(self) -> float:
        """Bytes of memory that each further call costs, by least squares."""
        return statistics.linear_regression(*zip(*self.samples, strict=True)).slope


def figures(raw: Any, pid: int) -> dict[str, int]:
    """What there is of the process, by itself and by the kernel."""
    inside = raw.call("subject.figures")["result"]
    return {
        "greenthreads": inside["greenthreads"],
        "calls": inside["calls"],
        "descriptors": procfs.descriptors(pid),
        "threads": procfs.threads(pid),
    }


def assert_nothing_left(before: dict[str, int], after: dict[str, int]) -> None:
    assert after["calls"] == before["calls"] == 0
    grown = {name: after[name] - before[name] for name in before}
    assert {name for name in grown if abs(grown[name]) > 2} == set(), grown


@pytest.mark.rabbitmq
def test_row_40_calls_and_events_leave_nothing(site: Any, raw: Any, eventually: Eventually) -> None:
    hosted = site.run("subject:Subject", max_workers=2 * CALLERS)
    warm_up = Load(raw, hosted.pid, eventually)
    warm_up.calls("subject", "echo", WARM_UP)
    warm_up.events(WARM_UP)
    warm_up.calls("subject", "fail_plainly", 1000)
    warm_up.calls("nobody", "echo", 1000)
    raw.channel.queue_declare("rpc-slow", durable=True, auto_delete=False)  # nobody takes what is in there
    raw.channel.queue_bind("rpc-slow", "nameko-rpc", "slow.*")
    warm_up.calls("slow", "method", 20, timeout_s=0.1)
    before, memory = figures(raw, hosted.pid), procfs.resident_bytes(hosted.pid)

    load = Load(raw, hosted.pid, eventually)
    load.calls("subject", "echo", CALLS)
    load.events(EVENTS)
    load.calls("subject", "fail_plainly", ERRORS)
    load.calls("nobody", "echo", UNKNOWN)
    load.calls("slow", "method", TIMEOUTS, timeout_s=0.1, chunk=50)

    expected = {"result": CALLS, "ValueError": ERRORS, "UnknownService": UNKNOWN, "RpcTimeout": TIMEOUTS}
    assert load.outcomes == expected
    eventually(lambda: raw.ready("rpc-slow") == 0)  # each has expired with its caller
    assert_nothing_left(before, figures(raw, hosted.pid))
    grown = procfs.resident_bytes(hosted.pid) - memory
    print(f"memory: {grown / MIB:+.1f} MiB, {load.growth_per_call():+.1f} bytes a call")
    assert grown <= 5 * MIB
    assert load.growth_per_call() <= 20
    assert hosted.stop() == 0
    assert raw.ready("rpc-subject") == raw.ready("evt-outside-counted--subject.count") == 0


def test_row_41_lost_connections_leave_nothing(
    node_site: Any, node: Any, vhost: str, proxy: Any, proxy_uri: str, eventually: Eventually
) -> None:
    raw = node_site.raw()
    hosted = node_site.run("subject:Subject", AMQP_URI=proxy_uri)
    queues = set(node.queues(vhost))

    def lose_connections(times: int) -> None:
        for _ in range(times):
            up_at = time.monotonic()
            eventually(lambda up_at=up_at: time.monotonic() > up_at + BRIEF_S)  # else the pauses would grow
            assert proxy.reset() == 2
            eventually(lambda: raw.consumers("rpc-subject") == 1 and len(proxy.open) == 2)
            assert raw.call("subject.call", "subject", "echo", [1], 20)["result"]["kind"] == "result"

    lose_connections(20)
    before, memory = figures(raw, hosted.pid), procfs.resident_bytes(hosted.pid)
    lose_connections(RESETS)
    eventually(lambda: figures(raw, hosted.pid)["calls"] == 0)
    assert_nothing_left(before, figures(raw, hosted.pid))
    grown = procfs.resident_bytes(hosted.pid) - memory
    print(f"memory: {grown / MIB:+.1f} MiB after {RESETS} lost connections")
    assert grown <= 3 * MIB
    assert set(node.queues(vhost)) == queues
    assert hosted.stop() == 0
