"""Declaring exchanges and queues on a connection, each on a channel for the purpose, and what a refusal means."""

from __future__ import annotations

from typing import Any

import kombu

from amqp import spec
from amqp.exceptions import AccessRefused, AMQPError, ChannelError, PreconditionFailed, RecoverableConnectionError
from nameko.amqp._declared import Entity
from nameko.amqp.errors import BrokerRefused
from nameko.exceptions import ConfigurationError

# What is said of a method that the broker closes the whole connection over.
_DECLARING = frozenset([spec.Exchange.Declare, spec.Exchange.Bind, spec.Queue.Declare, spec.Queue.Bind])


def declare(raw: Any, entity: Entity) -> None:
    """Declare `entity`, with what it is bound to, on a channel for this purpose.

    :raises ConfigurationError: when it exists with other properties, or is not to be declared by this user
    :raises amqp.exceptions.AMQPError, OSError: when the broker refuses otherwise, or is gone
    """
    channel = raw.channel()
    try:
        entity(channel).declare()
    except ChannelError as exc:
        raise refused(entity, exc) from None
    except (AMQPError, OSError):
        error = getattr(raw, "closed_by", None)
        if getattr(error, "method_sig", None) in _DECLARING:  # an unknown type of exchange, for one
            raise ConfigurationError(
                f"{_kind(entity)} `{entity.name}` cannot be declared: {_reply(error)}; "
                "does the broker lack a plugin for it?"
            ) from None
        raise
    finally:
        close_channel(channel)


def check_open(channel: Any) -> None:
    """Check a channel after an answer: it, or its connection, may have been closed right behind that.

    :raises amqp.exceptions.AMQPError: when it is closed
    """
    if channel.connection is None:
        raise getattr(channel, "closed_by", None) or RecoverableConnectionError("the channel was closed")


def close_channel(channel: Any) -> None:
    """Give a channel back, without waiting for the broker where that is possible."""
    try:
        getattr(channel, "close_soon", channel.close)()
    except (AMQPError, OSError):  # gone with its connection
        pass


def refused(entity: Entity, error: ChannelError) -> Exception:
    """The error to raise for an entity that the broker refuses: in words of the configuration where it is that."""
    kind, reply = _kind(entity), _reply(error)
    if isinstance(error, PreconditionFailed):
        return ConfigurationError(
            f"{kind} `{entity.name}` exists with other properties than it is declared with here: {reply}; "
            "delete it, or declare it as it is."
        )
    if isinstance(error, AccessRefused):
        return BrokerRefused(
            f"{kind} `{entity.name}` is not for this user: {reply}; see `rabbitmqctl list_permissions -p VHOST`."
        )
    return error  # type: ignore[no-any-return]


def _kind(entity: Entity) -> str:
    return "queue" if isinstance(entity, kombu.Queue) else "exchange"


def _reply(error: Any) -> str:
    return " ".join((getattr(error, "reply_text", "") or str(error)).split())
