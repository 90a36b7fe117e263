"""Who shares which connection: one for each broker, role, process and thread with a hub."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from nameko import concurrency
from nameko.amqp.connections import ManagedConnection
from nameko.amqp.settings import AmqpSettings


class Registry:
    """Who has which connection."""

    def __init__(self) -> None:
        self._leased: dict[Any, tuple[ManagedConnection, int]] = {}

    def lease(self, settings: AmqpSettings, role: str) -> Lease:
        """A share of the connection to that broker, which is made when this is the first one."""
        key = (os.getpid(), concurrency.current_hub(), role, settings)
        connection, count = self._leased.get(key, (None, 0))
        if connection is None:
            connection = ManagedConnection(settings, role, partial(self._broker_is_up, key))
        self._leased[key] = (connection, count + 1)
        return Lease(self, key, connection)

    def _broker_is_up(self, key: Any) -> None:
        # One connection has found out: the others to that broker need not wait for their next attempts.
        for other, (connection, _) in list(self._leased.items()):
            if other != key and _same_broker(other, key):
                connection.retry_now()

    def _give_back(self, key: Any, orderly: bool) -> None:
        connection, count = self._leased[key]
        if count > 1:
            self._leased[key] = (connection, count - 1)
        else:
            del self._leased[key]
            connection.close(orderly)


def _same_broker(one: Any, other: Any) -> bool:
    # Keys are alike but for the role.
    return (*one[:2], one[3]) == (*other[:2], other[3])


class Lease:
    """A share of a connection, to be given back."""

    def __init__(self, registry: Registry, key: Any, connection: ManagedConnection) -> None:
        self.connection = connection
        self._registry = registry
        self._key = key
        self._given_back = False

    def give_back(self, orderly: bool = True) -> None:
        """Give it back, once; the last one closes the connection, in an `orderly` way or not."""
        if not self._given_back:
            self._given_back = True
            self._registry._give_back(self._key, orderly)


#: The one of this process.
registry = Registry()
