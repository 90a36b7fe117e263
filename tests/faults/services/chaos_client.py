"""The client of the chaos run: calls and events from native threads until SIGTERM, their outcomes in the journal.

python chaos_client.py AMQP_URI CALLEE...
"""

from __future__ import annotations

import itertools
import signal
import sys
import threading
import time

from harness.journal import log
from nameko.standalone.events import event_dispatcher
from nameko.standalone.rpc import ClusterRpcProxy

TIMEOUT_S = 5.0
PAUSE_S = 0.03

uri, *callees = sys.argv[1:]
config = {"AMQP_URI": uri, "HEARTBEAT": 4, "PUBLISH_TIMEOUT": TIMEOUT_S}
numbers = itertools.count()
stopped = threading.Event()


def dispatch_events() -> None:
    dispatch = event_dispatcher(config)
    while not stopped.wait(PAUSE_S):
        number = next(numbers)
        log("sending", number)
        try:
            dispatch("chaos", "happened", number)
        except Exception as exc:  # whether it has arrived is not known
            log("unknown", number, type(exc).__name__)
        else:
            log("confirmed", number)


def call(callee: str) -> None:
    while not stopped.is_set():
        try:
            with ClusterRpcProxy(config, timeout=TIMEOUT_S) as cluster:
                while not stopped.wait(PAUSE_S):
                    call_once(cluster, callee)
        except Exception as exc:  # cannot connect
            log("disconnected", type(exc).__name__)
            stopped.wait(0.5)


def call_once(cluster: ClusterRpcProxy, callee: str) -> None:
    number = next(numbers)
    log("call", number, callee)
    started_at, text = time.monotonic(), ""
    try:
        outcome = "right" if cluster[callee].echo(number) == number else "wrong"
    except Exception as exc:
        outcome, text = type(exc).__name__, str(exc)
    log("outcome", number, outcome, time.monotonic() - started_at, text)


threads = [threading.Thread(target=dispatch_events)]
threads += [threading.Thread(target=call, args=(callee,)) for callee in callees]
signal.signal(signal.SIGTERM, lambda *_: stopped.set())
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
