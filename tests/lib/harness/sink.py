"""The service that most faults are tried on, and what it is sent."""

from __future__ import annotations

from collections.abc import Iterable

from harness.journal import Log
from nameko.standalone.events import event_dispatcher

#: `effect NUMBER` in the journal for each event, and calls that answer at once or take their time.
SINK = """
class Sink:
    name = "sink"

    @event_handler("source", "happened")
    def handle(self, number):
        concurrency.sleep(0.05)
        log("effect", number)

    @rpc
    def echo(self, value):
        log("echo", value)
        return value

    @rpc
    def work(self, seconds):
        log("working")
        concurrency.sleep(seconds)
        return seconds
"""


def send(uri: str, log: Log, numbers: Iterable[int]) -> None:
    """Dispatch events by number, known to the checker."""
    dispatch = event_dispatcher({"AMQP_URI": uri})
    with log.path.open("a") as journal:
        for number in numbers:
            print("sending", number, 0, file=journal, flush=True)
            dispatch("source", "happened", number)
            print("confirmed", number, 0, file=journal, flush=True)
    dispatch.close()


def effects(log: Log) -> set[str]:
    """The events that had one, by number."""
    return {line[1] for line in log("effect")}
