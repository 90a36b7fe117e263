"""AMQP: connections, confirmed publishing, consuming.

`Broker` is what extensions build on. `Retry` and `Backoff` say how a message is tried again. `get_connection`,
`get_producer` and `UndeliverableMessage` are nameko 2.14's.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nameko.amqp.broker import Broker
    from nameko.amqp.errors import BrokerRefused, BrokerUnreachable, MessageRefused, MessageTooLarge, PublishTimeout
    from nameko.amqp.errors import UndeliverableMessage as UndeliverableMessage
    from nameko.amqp.messages import Message
    from nameko.amqp.publish import get_connection, get_producer
    from nameko.amqp.retry import Backoff, Retry
    from nameko.amqp.settings import AmqpSettings

__all__ = [
    "AmqpSettings",
    "Backoff",
    "Broker",
    "BrokerRefused",
    "BrokerUnreachable",
    "Message",
    "MessageRefused",
    "MessageTooLarge",
    "PublishTimeout",
    "Retry",
    "UndeliverableMessage",
    "get_connection",
    "get_producer",
]

# Imported when first asked for: the command line imports this package to find the plugin, and must not load kombu.
_HOMES = {
    "AmqpSettings": "settings",
    "Backoff": "retry",
    "Broker": "broker",
    "BrokerRefused": "errors",
    "BrokerUnreachable": "errors",
    "Message": "messages",
    "MessageRefused": "errors",
    "MessageTooLarge": "errors",
    "PublishTimeout": "errors",
    "Retry": "retry",
    "UndeliverableMessage": "errors",
    "get_connection": "publish",
    "get_producer": "publish",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
