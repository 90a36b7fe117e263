"""Rows 22, 23 and 25: a call has one outcome, has it in time, and nothing is left of it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from typing import Any

import pytest

from nameko import concurrency

clock = concurrency.original("time").monotonic

pytestmark = [pytest.mark.rabbitmq, pytest.mark.timeout(180)]

Eventually = Callable[..., Any]

DEADLINE_S = 1.0


def figures(raw: Any) -> dict[str, Any]:
    return raw.call("subject.figures")["result"]  # type: ignore[no-any-return]


def median_echo_s(raw: Any) -> float:
    def one() -> float:
        started_at = clock()
        assert raw.call("subject.echo", 1) == {"result": [1], "error": None}
        return clock() - started_at

    return statistics.median(one() for _ in range(5))


# -- row 22


def call_in_vain(raw: Any, service: str, method: str, times: int) -> dict[str, Any]:
    """Have the service call; what came of it, and what is left of it that was not there before."""
    before = figures(raw)
    patience_s = 40 + times / 50
    done = raw.call("subject.call_repeatedly", service, method, times, patience_s=patience_s)["result"]
    after = figures(raw)
    left = {key: after[key] - before[key] for key in ("calls", "greenthreads")}
    return {"outcomes": done["outcomes"], "left": left, "seconds": done["seconds"]}


def assert_told_at_once(done: dict[str, Any], kind: str, times: int) -> None:
    print(f"{times} x {kind}: median {done['seconds']['median'] * 1000:.1f} ms, left: {done['left']}")
    assert done["outcomes"] == {kind: times}
    assert done["left"]["calls"] == 0
    assert abs(done["left"]["greenthreads"]) <= 2
    assert done["seconds"]["median"] <= 0.2


@pytest.mark.faults
@pytest.mark.parametrize(
    ("service", "method", "kind"), [("nobody", "echo", "UnknownService"), ("subject", "nothing", "MethodNotFound")]
)
def test_row_22_what_is_not_there_is_told_at_once_and_leaves_nothing(
    raw: Any, subject: Any, service: str, method: str, kind: str
) -> None:
    call_in_vain(raw, service, method, 20)  # what is made once is made
    assert_told_at_once(call_in_vain(raw, service, method, 500), kind, 500)
    assert subject.alive


@pytest.mark.matrix
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("service", "method", "kind"), [("nobody", "echo", "UnknownService"), ("subject", "nothing", "MethodNotFound")]
)
def test_row_22_10000_calls_of_what_is_not_there_leave_nothing(
    raw: Any, subject: Any, service: str, method: str, kind: str
) -> None:
    call_in_vain(raw, service, method, 20)
    assert_told_at_once(call_in_vain(raw, service, method, 10_000), kind, 10_000)
    assert subject.alive


# -- row 23


class Slow:
    """A service that gets requests, and answers them when it is told to."""

    def __init__(self, raw: Any, name: str) -> None:
        self._raw = raw
        self._queue = f"rpc-{name}"
        raw.channel.queue_declare(self._queue, durable=True, auto_delete=False)
        raw.channel.queue_bind(self._queue, "nameko-rpc", f"{name}.*")

    def take(self, eventually: Eventually) -> Any:
        return eventually(lambda: self._raw.channel.basic_get(self._queue, no_ack=True))

    def answer(self, request: Any, **properties: Any) -> None:
        properties = {"correlation_id": request.properties["correlation_id"], **properties}
        self._raw.send('{"result": 1, "error": null}', request.properties["reply_to"], **properties)


def ask_for_a_call(raw: Any, timeout_s: float) -> None:
    ask = json.dumps({"args": ["slow", "method", [], timeout_s], "kwargs": {}})
    raw.send(ask, "subject.call", reply_to=raw.reply_to, correlation_id="call")


@pytest.mark.faults
def test_row_23_a_deadline_is_on_the_wall_clock_and_a_late_reply_is_dropped(
    make_site: Callable[[], Any], eventually: Eventually
) -> None:
    site = make_site()
    raw, caller, took_s = site.raw(), site.run("subject:Subject"), []
    slow, calls = Slow(raw, "slow"), figures(raw)["calls"]
    for _ in range(5):
        ask_for_a_call(raw, DEADLINE_S)
        request = slow.take(eventually)
        for _ in range(8):  # replies to somebody else put nothing off
            slow.answer(request, correlation_id="nobody")
            concurrency.sleep(DEADLINE_S / 10)
        outcome = json.loads(raw.receive().body)["result"]
        assert outcome["kind"] == "RpcTimeout"
        took_s.append(outcome["seconds"])
        slow.answer(request)
    print(f"deadline {DEADLINE_S} s: {min(took_s):.3f} to {max(took_s):.3f} s")
    # None is early; what the machine does besides makes single ones late.
    assert min(took_s) >= DEADLINE_S - 0.01
    assert statistics.median(took_s) <= DEADLINE_S + 0.2, took_s
    eventually(lambda: figures(raw)["counters"].get("replies_late") == 45)
    assert figures(raw)["calls"] == calls
    assert caller.stop() == 0
    assert raw.ready(f"rpc.reply-subject-{request.properties['reply_to']}") == 0


# -- row 25


@pytest.mark.matrix
@pytest.mark.parametrize("method", ["descend", "descend_in_turns"])
def test_row_25_calls_deeper_than_there_are_workers_time_out_and_the_service_goes_on(
    make_site: Callable[[], Any], method: str
) -> None:
    site = make_site()
    raw, hosted = site.raw(), site.run("subject", max_workers=4)
    started_at = clock()
    reply = raw.call(f"subject.{method}", 9)  # five levels in each service
    assert reply["error"]["exc_type"] == "RpcTimeout" or "RpcTimeout" in reply["error"]["value"]
    print(f"outermost call of {method}: {clock() - started_at:.2f} s")
    # The deadline of each of these calls, a second, and what a machine that is busy with something else may add.
    assert clock() - started_at <= 3 + 1 + 2
    assert median_echo_s(raw) <= 0.1
    assert raw.call(f"subject.{method}", 3)["result"] == 3
    assert hosted.alive
