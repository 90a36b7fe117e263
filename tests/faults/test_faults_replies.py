"""Row 16: when the broker has lost the queue that replies come to, who waits is told, and the next call is served."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from nameko import concurrency

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

Eventually = Callable[..., Any]
clock = concurrency.original("time").monotonic

CALLS = 5
EXPIRES_S = 2


class PendingCalls:
    """A service with calls that are not answered."""

    def __init__(self, raw: Any, eventually: Eventually) -> None:
        self._raw, self._eventually = raw, eventually
        raw.channel.queue_declare("rpc-slow", durable=True, auto_delete=False)
        raw.channel.queue_bind("rpc-slow", "nameko-rpc", "slow.*")
        for _ in range(CALLS):
            ask = json.dumps({"args": ["slow", "method", [], 60], "kwargs": {}})
            raw.send(ask, "subject.call", reply_to=raw.reply_to, correlation_id="call")
        requests = self._take()
        (reply_to,) = {request.properties["reply_to"] for request in requests}
        self.reply_queue = f"rpc.reply-subject-{reply_to}"

    def _take(self) -> list[Any]:
        def get() -> Any:
            return self._raw.channel.basic_get("rpc-slow", no_ack=True)

        return [self._eventually(get) for _ in range(CALLS)]

    def answer(self) -> None:
        """Answer those that the service makes anew: it had not acknowledged what made it call."""
        for request in self._take():
            correlation_id = request.properties["correlation_id"]
            self._raw.send(
                '{"result": 1, "error": null}', request.properties["reply_to"], correlation_id=correlation_id
            )

    def kinds(self) -> list[str]:
        """What came of each of them."""
        return [json.loads(self._raw.receive().body)["result"]["kind"] for _ in range(CALLS)]


def assert_calls_go_on(raw: Any) -> None:
    outcome = raw.call("subject.call", "subject", "echo", [1], 10)["result"]
    assert (outcome["kind"], outcome["result"]) == ("result", [1])
    figures = raw.call("subject.figures")["result"]
    # The call that asks for the figures is the only one there is.
    assert figures["calls"] == 0


def test_row_16_a_reply_queue_that_is_deleted(node_site: Any, proxy_uri: str, eventually: Eventually) -> None:
    raw = node_site.raw()
    hosted = node_site.run("subject:Subject", AMQP_URI=proxy_uri)
    pending = PendingCalls(raw, eventually)
    raw.channel.queue_delete(pending.reply_queue)
    deleted_at = clock()
    assert pending.kinds() == ["ReplyLost"] * CALLS
    print(f"told after {clock() - deleted_at:.2f} s")
    assert clock() - deleted_at <= 1
    assert_calls_go_on(raw)
    assert hosted.alive


def test_row_16_a_reply_queue_that_expires_while_the_broker_cannot_be_reached(
    node_site: Any, node: Any, vhost: str, proxy: Any, proxy_uri: str, eventually: Eventually
) -> None:
    # The queue's own limit is five minutes; a policy may set a shorter one.
    policy = {"pattern": "^rpc[.]reply-", "definition": {"expires": EXPIRES_S * 1000}, "apply-to": "queues"}
    node.management.request("PUT", f"policies/{vhost}/expire-soon", policy)
    raw = node_site.raw()
    hosted = node_site.run("subject:Subject", AMQP_URI=proxy_uri)
    pending = PendingCalls(raw, eventually)
    proxy.close_listener()
    assert proxy.reset() == 2
    eventually(lambda: pending.reply_queue not in node.queues(vhost))
    proxy.heal()
    eventually(lambda: raw.consumers("rpc-subject") == 1)
    back_at = clock()
    assert pending.kinds() == ["ReplyLost"] * CALLS
    print(f"told {clock() - back_at:.2f} s after the reconnect")
    assert clock() - back_at <= 1
    pending.answer()
    assert pending.kinds() == ["result"] * CALLS
    assert_calls_go_on(raw)
    assert hosted.alive
