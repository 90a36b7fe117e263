"""The program that puts load on services: events and calls at a steady rate, all of them in the journal.

Arguments: the broker's URI, how many of each, and how many a second. It writes `sending ID` before an event of the
service `source` is dispatched, `confirmed ID` when that is with the broker; `calling ID`, and `outcome ID` followed by
`ok` or what was raised, for calls of `sink.echo`.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from harness.journal import log
from nameko.standalone.events import event_dispatcher
from nameko.standalone.rpc import ClusterRpcProxy

_CALL_TIMEOUT_S = 90


def main(uri: str, count: int, per_second: float) -> None:
    """Send them all, then wait for the outcomes of the calls."""
    config = {"AMQP_URI": uri}
    dispatch = event_dispatcher(config)
    with ClusterRpcProxy(config, timeout=_CALL_TIMEOUT_S) as cluster:
        calls: list[tuple[int, Any]] = []
        started_at = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, started_at + number / per_second - time.monotonic()))
            log("sending", number)
            dispatch("source", "happened", number)
            log("confirmed", number)
            log("calling", number)
            calls.append((number, cluster.sink.echo.call_async(number)))
        for number, call in calls:
            log("outcome", number, _outcome(call, number))
    dispatch.close()


def _outcome(call: Any, expected: int) -> str:
    try:
        return "ok" if call.result() == expected else "wrong"
    except Exception as exc:
        return type(exc).__name__


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
