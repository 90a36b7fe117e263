"""The numbers that nameko-amqp gives about a container: its connections, and what was counted about its messages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from nameko.amqp.connections import ManagedConnection
from nameko.plugins import Stat

#: What is counted here; extensions that use the broker count more, see `Broker.counters`.
_COUNTED = {
    "messages_rejected": "Messages that were rejected: they cannot be decoded, are too big, or their handling failed.",
    "messages_retried": "Messages that were sent on to be tried again later, as their method raised.",
    "messages_parked": "Messages that were parked in a queue `.dead` after their last attempt.",
    "messages_expired": "Messages that expired while they waited for a worker, or to be tried again.",
    "retries_failed": "Messages that the broker took neither for a further attempt nor to be parked.",
}

_NO_WORD = re.compile(r"\W", re.ASCII)


def broker_stats(connections: Sequence[ManagedConnection], counters: Mapping[str, int], waiting: int) -> list[Stat]:
    """The numbers of one broker.

    :param connections: those that the container uses right now
    :param counters: what was counted, by name
    :param waiting: messages that were delivered and have no worker yet
    """
    return [
        *(stat for connection in connections for stat in _connection_stats(connection)),
        Stat("nameko_amqp_messages_waiting", "gauge", "Messages that arrived and have no worker yet.", waiting),
        *_counter_stats(counters),
    ]


def _connection_stats(connection: ManagedConnection) -> Iterator[Stat]:
    labels = {"connection": connection.role}
    yield Stat(
        "nameko_amqp_connected", "gauge", "1 while the connection to the broker is up.", connection.connected, labels
    )
    yield Stat(
        "nameko_amqp_blocked",
        "gauge",
        "1 while the broker takes no messages over the connection.",
        connection.blocked is not None,
        labels,
    )
    yield Stat(
        "nameko_amqp_reconnects",
        "counter",
        "How often the connection was made again after it was lost.",
        connection.reconnects,
        labels,
    )


def _counter_stats(counters: Mapping[str, int]) -> Iterator[Stat]:
    for name in {**_COUNTED, **counters}:
        help_text = _COUNTED.get(name, f"Counted by the extensions that use the broker: {name.replace('_', ' ')}.")
        yield Stat(f"nameko_amqp_{_NO_WORD.sub('_', name)}", "counter", help_text, counters.get(name, 0))
