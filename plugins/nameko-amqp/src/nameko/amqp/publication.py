"""One message on its way to the broker, and waiting for what becomes of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

import amqp
from nameko.amqp import wire
from nameko.concurrency import Signal

_log = logging.getLogger(__name__)

#: Called with None when the message is confirmed, else with what went wrong; must not block.
Callback = Callable[[BaseException | None], None]


class Publication:
    """One message on its way.

    :param message: prepared for the connection's channels
    :param exchange: its name; `""` is the default exchange
    :param routing_key: what the exchange routes by
    :param mandatory: whether to be told when there is no queue for it
    :param deadline: on the monotonic clock
    :param on_done: called once with the outcome
    :param expires_at: when nobody wants the message any more, on the monotonic clock; None for never. Its `expiration`
        says so to the broker, in milliseconds from when it is sent
    """

    __slots__ = (
        "deadline",
        "exchange",
        "expires_at",
        "mandatory",
        "message",
        "on_done",
        "returned",
        "routing_key",
        "sent",
        "suspect",
    )

    def __init__(
        self,
        message: Any,
        exchange: str,
        routing_key: str,
        mandatory: bool,
        deadline: float,
        on_done: Callback,
        expires_at: float | None = None,
    ) -> None:
        self.message = message
        self.exchange = exchange
        self.routing_key = routing_key
        self.mandatory = mandatory
        self.deadline = deadline
        self.on_done: Callback | None = on_done
        self.expires_at = expires_at
        self.returned: Exception | None = None
        self.sent = False  # at least once
        self.suspect = False  # it may be what made the broker close the channel

    @property
    def done(self) -> bool:
        """Whether it has its outcome, or nobody wants it any more."""
        return self.on_done is None

    def shorten_expiration(self) -> None:
        """Take what it had to wait here, or for a new connection, off the time that it has with the broker."""
        if self.expires_at is not None:
            remaining_ms = max(int((self.expires_at - monotonic()) * 1000), 0)
            self.message = _with_expiration(self.message, str(remaining_ms))

    def is_returned_as(self, exchange: str, routing_key: str, message: Any) -> bool:
        """Whether a message that the broker has returned may be this one."""
        return (
            self.exchange == exchange
            and self.routing_key == routing_key
            and _body_of(self.message) == _body_of(message)
            and _identity_of(self.message) == _identity_of(message)
        )

    def cancel(self) -> None:
        """Stop caring: it is not sent (again), and `on_done` is not called."""
        self.on_done = self.message = None

    def settle(self, error: BaseException | None) -> None:
        """Tell the outcome, unless that was done."""
        on_done, self.on_done = self.on_done, None
        if on_done is None:
            return
        self.message = None  # the broker may not confirm it for a long time, until when the rest of this is kept
        try:
            on_done(error)
        except Exception:
            _log.exception("the callback of a publication to %s failed", self)

    def __str__(self) -> str:
        return f"exchange `{self.exchange}`, routing key `{self.routing_key}`"


class Confirmation:
    """Waits for the outcome of one publication."""

    __slots__ = ("_error", "_settled")

    def __init__(self) -> None:
        self._settled = Signal()
        self._error: BaseException | None = None

    def __call__(self, error: BaseException | None) -> None:
        """Take the outcome: this is the publication's `on_done`."""
        self._error = error
        self._settled.set()

    def wait(self) -> None:
        """Wait for it.

        :raises: whatever went wrong
        """
        self._settled.wait()
        if self._error is not None:
            raise self._error


def _with_expiration(message: Any, expiration: str) -> Any:
    properties = {**message.properties, "expiration": expiration}
    if isinstance(message, wire.OutboundMessage):
        return wire.OutboundMessage(message.body, properties)
    return amqp.Message(message.body, **properties)


def _body_of(message: Any) -> bytes:
    body = message.body
    return body.encode() if isinstance(body, str) else bytes(body)


def _identity_of(message: Any) -> Any:
    return message.properties.get("correlation_id"), message.properties.get("message_id")
