"""Events, publish-subscribe over AMQP: a service dispatches them, any number of services handle them.

::

    class Shop:
        name = "shop"

        dispatch = EventDispatcher()

        @rpc
        def buy(self, article):
            self.dispatch("sold", {"article": article})

    class Warehouse:
        name = "warehouse"

        @event_handler("shop", "sold")
        def restock(self, event):
            ...
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nameko.events._dispatcher import EventDispatcher
    from nameko.events._handler import (
        BROADCAST,
        SERVICE_POOL,
        SINGLETON,
        EventHandler,
        EventHandlerConfigurationError,
        event_handler,
    )
    from nameko.standalone.events import get_event_exchange

__all__ = [
    "BROADCAST",
    "SERVICE_POOL",
    "SINGLETON",
    "EventDispatcher",
    "EventHandler",
    "EventHandlerConfigurationError",
    "event_handler",
    "get_event_exchange",
]

# Imported when first asked for: the command line imports this package to find the plugin, and must not load kombu.
_HOMES = {
    "EventDispatcher": "nameko.events._dispatcher",
    "get_event_exchange": "nameko.standalone.events",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "nameko.events._handler")), name)
    globals()[name] = value
    return value
