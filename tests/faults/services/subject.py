"""The service under test: does what it is told, writes down what it did, and tells what only its process can know.

`nameko run subject` hosts it; what it did is in the journal.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections import Counter
from typing import Any

from greenlet import greenlet
from kombu import Exchange, Queue

from harness.journal import log
from nameko import concurrency
from nameko.amqp import Broker, Retry
from nameko.events import event_handler
from nameko.extensions import DependencyProvider
from nameko.messaging import Delivery, consume
from nameko.rpc import ClusterRpc, RpcCall, RpcProxy, rpc

ORDERS = Queue("orders", exchange=Exchange("orders", durable=True), routing_key="order", durable=True)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text for you")


class Own(BaseException):
    """Of no family that anybody catches."""


def raise_(exc: BaseException) -> Any:
    raise exc


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1) + 1


def circular() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


#: What a method can raise, each way that it comes about.
FAILURES = {
    "Exception": lambda: raise_(Exception("no")),
    "Timeout": lambda: raise_(concurrency.Timeout(None)),
    "GreenletExit": lambda: raise_(concurrency.GreenletExit()),
    "SystemExit": lambda: raise_(SystemExit(3)),
    "KeyboardInterrupt": lambda: raise_(KeyboardInterrupt()),
    "RecursionError": recurse,
    "MemoryError": lambda: bytearray(1 << 60),
    "GeneratorExit": lambda: raise_(GeneratorExit()),
    "StopIteration": lambda: next(iter(())),
    "Own": lambda: raise_(Own("mine")),
    "Unprintable": lambda: raise_(Unprintable()),
    "ValueError": lambda: raise_(ValueError(circular())),
}

#: What a method can return that is no JSON, or too much of it.
RESULTS = {
    "object": object,
    "NaN": lambda: float("nan"),
    "infinite": lambda: [float("inf")],
    "circular": circular,
    "17 MiB": lambda: "x" * (17 * 1024 * 1024),
    "deep": lambda: _nested(100_000),
    "tuple key": lambda: {(1, 2): 3},
}


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


class Inside(DependencyProvider):
    """What the process knows of itself."""

    broker = Broker()

    def __init__(self) -> None:
        self.handled = 0

    def get_dependency(self, worker_ctx: Any) -> Inside:
        return self

    def figures(self) -> dict[str, Any]:
        """Live greenthreads and calls that are kept, counted by the garbage collector; and what the broker counts."""
        gc.collect()
        objects = gc.get_objects()
        return {
            "pid": os.getpid(),
            "greenthreads": sum(issubclass(type(each), greenlet) and not each.dead for each in objects),
            "calls": sum(type(each) is RpcCall for each in objects),
            "counters": dict(self.broker.counters),
        }


class Subject:
    name = "subject"

    inside = Inside()
    subject = RpcProxy("subject", timeout=3)
    other = RpcProxy("other", timeout=3)
    cluster = ClusterRpc(timeout=20)

    @rpc
    def echo(self, *args: Any, **kwargs: Any) -> Any:
        return list(args)

    @rpc
    def fail(self, kind: str) -> Any:
        return FAILURES[kind]()

    @rpc(expected_exceptions=ValueError)
    def fail_plainly(self, *args: Any) -> None:
        raise ValueError("plain")

    @rpc
    def give(self, kind: str) -> Any:
        return RESULTS[kind]()

    @rpc
    def work(self, number: int, seconds: float = 0) -> int:
        log("begun", number)
        concurrency.sleep(seconds)
        log("done", number)
        return number

    @rpc
    def descend(self, depth: int) -> int:
        """Calls itself, so many levels deep."""
        return self.subject.descend(depth - 1) + 1 if depth else 0

    @rpc
    def descend_in_turns(self, depth: int) -> int:
        return self.other.descend_in_turns(depth - 1) + 1 if depth else 0

    @rpc
    def call(self, service: str, method: str, args: list[Any], timeout_s: float) -> dict[str, Any]:
        """Call, and say what came of it after how long."""
        return outcome(getattr(getattr(self.cluster, service), method).with_options(timeout=timeout_s), *args)

    @rpc
    def call_repeatedly(self, service: str, method: str, times: int, timeout_s: float = 20) -> dict[str, Any]:
        """Call so many times, and say how often each kind of outcome came, and how long it took."""
        target = getattr(getattr(self.cluster, service), method).with_options(timeout=timeout_s)
        outcomes = [outcome(target, number) for number in range(times)]
        seconds = [each["seconds"] for each in outcomes]
        return {
            "outcomes": Counter(each["kind"] for each in outcomes),
            "seconds": {"median": statistics.median(seconds), "longest": max(seconds)},
        }

    @rpc
    def figures(self) -> dict[str, Any]:
        return self.inside.figures()

    @event_handler("outside", "happened")
    def note(self, payload: Any) -> None:
        log("event", payload)
        if isinstance(payload, str) and payload in FAILURES:
            FAILURES[payload]()

    @event_handler("outside", "counted")
    def count(self, payload: Any) -> None:
        self.inside.handled += 1

    @rpc
    def counted(self) -> int:
        return self.inside.handled

    @consume(ORDERS)
    def take(self, payload: Any) -> None:
        log("order", payload)


class Target:
    """Takes whatever comes, by every kind of entrypoint, with and without retries."""

    name = "target"

    delivery = Delivery()
    cluster = ClusterRpc(timeout=2)

    @rpc
    def echo(self, *args: Any, **kwargs: Any) -> Any:
        return [args, kwargs]

    @rpc
    def add(self, one: Any, two: Any = 2) -> Any:
        return one + two

    @rpc(retry=Retry(attempts=2, backoff=0.05))
    def fail(self, *args: Any, **kwargs: Any) -> Any:
        raise LookupError(*args)

    @rpc
    def call(self, service: str, method: str) -> dict[str, Any]:
        return outcome(getattr(getattr(self.cluster, service), method))

    @event_handler("outside", "odd")
    def take_event(self, payload: Any) -> Any:
        return payload["a"]

    @event_handler("outside", "odd_again", retry=Retry(attempts=2, backoff=0.05))
    def take_again(self, payload: Any) -> Any:
        return payload["a"]

    @consume(Queue("oddities", exchange=Exchange("oddities", durable=True), routing_key="odd", durable=True))
    def take(self, payload: Any) -> Any:
        return payload["a"]


class Deliveries:
    """Writes down what comes, and whether it may have come before."""

    name = "deliveries"

    delivery = Delivery()

    @event_handler("outside", "told")
    def take(self, payload: Any) -> None:
        log("delivered", payload["number"], self.delivery.redelivered)
        concurrency.sleep(payload["seconds"])


class Failing:
    name = "failing"

    @event_handler("outside", "failing", requeue_on_error=True)
    def always(self, payload: Any) -> None:
        log("tried", payload, time.monotonic())
        raise concurrency.Timeout(None)


class Other:
    name = "other"

    subject = RpcProxy("subject", timeout=3)

    @rpc
    def descend_in_turns(self, depth: int) -> int:
        return self.subject.descend_in_turns(depth - 1) + 1 if depth else 0


def outcome(call: Any, *args: Any) -> dict[str, Any]:
    """What a call comes to, and how long it takes."""
    clock = concurrency.original("time").monotonic
    started_at = clock()
    try:
        result, kind, text = call(*args), "result", ""
    except Exception as exc:
        result, kind, text = None, getattr(exc, "exc_type", None) or type(exc).__name__, str(exc)
    return {"kind": kind, "result": result, "text": text, "seconds": clock() - started_at}
