"""Rows 18, 20 and 21: whatever becomes of a method, its caller is told, its slot is free, and the process goes on."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from typing import Any

import pytest

from harness import procfs
from nameko import concurrency

clock = concurrency.original("time").monotonic

pytestmark = [pytest.mark.rabbitmq, pytest.mark.timeout(180)]

Eventually = Callable[..., Any]

TIMES = 100
EVENTS = 20
# What a machine that is busy with something else may add. What was measured is printed.
BUSY_S = 2
FAILURES = (
    "Exception",
    "Timeout",
    "GreenletExit",
    "SystemExit",
    "KeyboardInterrupt",
    "RecursionError",
    "MemoryError",
    "GeneratorExit",
    "StopIteration",
    "Own",
    "Unprintable",
    "ValueError",
)


def timed_echo_s(raw: Any) -> float:
    started_at = clock()
    assert raw.call("subject.echo", 1) == {"result": [1], "error": None}
    return clock() - started_at


def assert_as_before(raw: Any, subject: Any) -> None:
    """The process lives, consumes and answers. Single answers may take longer on a machine that is busy otherwise."""
    echo_s = statistics.median(timed_echo_s(raw) for _ in range(5))
    print(f"echo: {echo_s * 1000:.1f} ms")
    assert echo_s <= 0.1
    assert subject.alive, subject.output
    assert raw.consumers("rpc-subject") == 1
    assert raw.ready("rpc-subject") == 0


# -- row 18


@pytest.mark.faults
@pytest.mark.parametrize("kind", FAILURES)
def test_row_18_whatever_a_method_raises_is_answered_and_frees_its_slot(raw: Any, subject: Any, kind: str) -> None:
    replies = [raw.call("subject.fail", kind) for _ in range(TIMES)]
    assert [reply["error"]["exc_type"] for reply in replies] == [kind] * TIMES
    assert {reply["result"] for reply in replies} == {None}
    assert_as_before(raw, subject)


@pytest.mark.faults
@pytest.mark.parametrize("kind", FAILURES)
def test_row_18_whatever_an_event_handler_raises_its_event_is_done_with(
    site: Any, raw: Any, subject: Any, kind: str, eventually: Eventually
) -> None:
    for _ in range(EVENTS):
        raw.send(json.dumps(kind), "happened", "outside.events")
    eventually(lambda: len(site.effects("event", kind)) == EVENTS, timeout_s=30)
    assert_as_before(raw, subject)


# -- row 20


@pytest.mark.faults
@pytest.mark.parametrize(
    ("kind", "exc_type"),
    [
        ("object", "UnserializableValueError"),
        ("NaN", "UnserializableValueError"),
        ("infinite", "UnserializableValueError"),
        ("circular", "UnserializableValueError"),
        ("deep", "UnserializableValueError"),
        ("tuple key", "UnserializableValueError"),
        ("17 MiB", "MessageTooLarge"),
    ],
)
def test_row_20_a_result_that_cannot_be_sent_is_one_error_reply(
    raw: Any, subject: Any, kind: str, exc_type: str
) -> None:
    descriptors = procfs.descriptors(subject.pid)
    started_at = clock()
    error = raw.call("subject.give", kind)["error"]
    seconds = clock() - started_at
    print(f"error reply: {seconds * 1000:.0f} ms")
    assert error["exc_type"] == exc_type
    assert_as_before(raw, subject)  # and with it, that there was no second reply
    assert raw.replies_waiting() == 0
    assert procfs.descriptors(subject.pid) == descriptors  # on the same connection
    assert seconds <= 1 + BUSY_S


# -- row 21


@pytest.mark.faults
def test_row_21_a_caller_that_is_gone_is_counted_and_its_request_not_repeated(
    site: Any, raw: Any, subject: Any, eventually: Eventually
) -> None:
    before = raw.call("subject.figures")["result"]["counters"].get("replies_undeliverable", 0)
    caller = site.raw()
    caller.send('{"args": [21, 0.3], "kwargs": {}}', "subject.work", reply_to=caller.reply_to, correlation_id="gone")
    eventually(lambda: site.effects("begun", 21))
    caller.channel.queue_delete(caller.queue)
    eventually(lambda: site.effects("done", 21))

    def undeliverable() -> int:
        counters = raw.call("subject.figures")["result"]["counters"]
        return int(counters.get("replies_undeliverable", 0)) - before

    eventually(lambda: undeliverable() == 1)
    assert_as_before(raw, subject)
    assert subject.stop() == 0
    assert raw.ready("rpc-subject") == 0
    assert len(site.effects("begun", 21)) == 1
