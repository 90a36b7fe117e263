"""The brokers of this process: one for each virtual host name.

A broker lives as long as somebody is connected to it or there is a queue or an exchange in it, so that what is
published to a durable queue waits there for the next consumer, as on a broker of its own. When both have gone, it goes.
"""

from __future__ import annotations

import weakref

from nameko.amqp.memory._broker import MemoryBroker

_known: weakref.WeakValueDictionary[str, MemoryBroker] = weakref.WeakValueDictionary()
_in_use: set[MemoryBroker] = set()


def get_broker(vhost: str = "/") -> MemoryBroker:
    """The broker of the virtual host `vhost`: the one that `memory://localhost/<vhost>` connects to.

    :param vhost: as in the URI; empty means `/`
    """
    name = vhost or "/"
    broker = _known.get(name)
    if broker is None:
        broker = _known.setdefault(name, MemoryBroker(name, on_empty=_in_use.discard))
    return broker


def drop_broker(vhost: str = "/") -> None:
    """Break all connections to the broker of `vhost` and forget everything in it."""
    broker = _known.pop(vhost or "/", None)
    if broker is not None:
        broker.close_all_connections("the broker is gone")
        _in_use.discard(broker)


def use(broker: MemoryBroker) -> None:
    """Keep `broker` until it is empty."""
    _in_use.add(broker)
