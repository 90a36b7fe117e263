"""Dead letters: what becomes of a message that leaves a queue with `x-dead-letter-exchange` unconsumed."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from nameko.amqp.memory._messages import Message, wire_table

if TYPE_CHECKING:
    from nameko.amqp.memory._queues import Entry, MessageQueue


def dead_letter(queue: MessageQueue, entry: Entry, reason: str) -> tuple[Message, set[str]]:
    """The message to publish in place of `entry`, with the history that RabbitMQ gives it (`x-death`).

    :param reason: "expired", "maxlen" or "rejected"
    :returns: the message; the queues that it must not enter, as it would go round for ever without anybody's doing
    """
    old = entry.message
    properties = dict(old.properties)
    headers = wire_table(properties.get("application_headers") or {})
    deaths = _with_this_death(headers, queue, old, reason)
    headers["x-death"] = deaths
    if "x-first-death-reason" not in headers:
        headers["x-first-death-reason"] = reason
        headers["x-first-death-queue"] = queue.name
        headers["x-first-death-exchange"] = old.exchange
    properties["application_headers"] = headers
    properties.pop("expiration", None)  # it is spent, and would kill the message again in the next queue
    limits = queue.limits
    routing_key = old.routing_key if limits.dead_letter_routing_key is None else limits.dead_letter_routing_key
    return Message(old.body, properties, limits.dead_letter_exchange or "", routing_key), _visited(deaths)


def _with_this_death(
    headers: dict[str, Any], queue: MessageQueue, message: Message, reason: str
) -> list[dict[str, Any]]:
    known = headers.get("x-death")
    deaths = [death for death in known if isinstance(death, dict)] if isinstance(known, list) else []
    for death in deaths:
        if death.get("queue") == queue.name and death.get("reason") == reason:
            deaths.remove(death)
            count = death.get("count")
            return [{**death, "count": count + 1 if isinstance(count, int) else 1}, *deaths]
    death = {
        "count": 1,
        "exchange": message.exchange,
        "queue": queue.name,
        "reason": reason,
        "routing-keys": [message.routing_key],
        "time": datetime.now(timezone.utc).replace(microsecond=0, tzinfo=None),
    }
    if "expiration" in message.properties:
        death["original-expiration"] = message.properties["expiration"]
    return [death, *deaths]


def _visited(deaths: list[dict[str, Any]]) -> set[str]:
    # A rejection is somebody's decision: beyond it, going round is allowed.
    visited = set()
    for death in deaths:
        if death.get("reason") == "rejected":
            break
        visited.add(str(death.get("queue")))
    return visited
