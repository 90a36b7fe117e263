"""A received message, as kombu's users know it."""

from __future__ import annotations

from time import perf_counter, time
from typing import Any

import kombu.message

from amqp.exceptions import AMQPError
from nameko.amqp.serializers import Codecs

_NOT_DECODED = object()


def milliseconds_in(expiration: Any) -> int | None:
    """The property `expiration` as a number; None when it is missing or nonsense."""
    return int(expiration) if isinstance(expiration, str) and expiration.isdecimal() else None


class Message(kombu.message.Message):  # type: ignore[misc]
    """A message that was delivered to a `Subscription`.

    Attributes: `body`, `headers`, `properties`, `content_type`, `content_encoding`, `delivery_info`, `delivery_tag`.

    It is settled once, by `ack`, `reject` or `requeue`, on the channel that delivered it. When that is gone by then,
    the call does nothing: the broker has put the message back into the queue, and delivers it again.
    """

    #: Its property of that name, in milliseconds, where an entrypoint has taken that out of its `properties`.
    expiration: str | None = None
    #: Until when it may be tried again, in milliseconds since 1970; None for ever.
    deadline_ms: int | None = None

    def __init__(self, raw: Any, codecs: Codecs, *, channel: Any = None, no_ack: bool = False) -> None:
        # Not the base class's: it decompresses, which `decode` does here, within bounds.
        properties = raw.properties
        headers = properties.get("application_headers")
        self.channel = raw.channel if channel is None else channel
        self.body = raw.body
        self.properties = properties
        self.headers = headers if isinstance(headers, dict) else {}
        self.delivery_info = raw.delivery_info
        self.delivery_tag = self.delivery_info["delivery_tag"]
        self.content_type = properties.get("content_type")
        self.content_encoding = properties.get("content_encoding")
        self.accept = codecs.accept
        self._codecs = codecs
        self._decoded_cache = _NOT_DECODED
        self._state = "RECEIVED"
        self._no_ack = no_ack
        #: When it arrived in this process, in seconds by `time.perf_counter()`.
        self.received_at = perf_counter()

    @property
    def redelivered(self) -> bool:
        """Whether it may have been delivered before."""
        return bool(self.delivery_info.get("redelivered"))

    @property
    def lost(self) -> bool:
        """Whether what it was delivered over is gone: unless it was settled before, the broker delivers it again."""
        return self.channel is None or self.channel.connection is None

    def has_expired(self, waited_s: float) -> bool:
        """Whether whoever sent it has given it less time than it has had, as far as that is noted here.

        :param waited_s: seconds since it arrived in this process; how long it was in a queue is not known
        """
        if self.deadline_ms is not None:
            return self.deadline_ms <= time() * 1000
        expiration_ms = milliseconds_in(self.expiration)
        return expiration_ms is not None and expiration_ms <= waited_s * 1000

    def remaining_s(self) -> float | None:
        """How long whoever sent it still waits, in seconds, as far as that is known here; None when it is not said."""
        if self.deadline_ms is not None:
            return self.deadline_ms / 1000 - time()
        expiration_ms = milliseconds_in(self.expiration or self.properties.get("expiration"))
        return None if expiration_ms is None else expiration_ms / 1000 - (perf_counter() - self.received_at)

    @property
    def errors(self) -> list[Any]:
        """Always empty: what is wrong with a body is raised by `decode`."""
        return []

    def decode(self) -> Any:
        """The payload.

        :raises kombu.exceptions.ContentDisallowed: when its content type or compression is not accepted
        :raises kombu.exceptions.DecodeError: when the body is not what it claims to be
        """
        if self._decoded_cache is _NOT_DECODED:
            self._decoded_cache = self._codecs.decode(
                self.body, self.content_type, self.content_encoding, self.headers.get("compression")
            )
        return self._decoded_cache

    @property
    def payload(self) -> Any:
        """The payload, as by `decode`."""
        return self.decode()

    def ack(self, multiple: bool = False) -> None:
        """Done with: the broker forgets it.

        :raises MessageStateError: when it was settled before
        """
        self._settle("ACK", multiple=multiple)

    def reject(self, requeue: bool = False) -> None:
        """Refused: the broker drops it, or dead-letters it where a policy says so.

        :raises MessageStateError: when it was settled before
        """
        self._settle("REQUEUED" if requeue else "REJECTED")

    def requeue(self) -> None:
        """Given back: the broker delivers it again, here or elsewhere.

        :raises MessageStateError: when it was settled before
        """
        self._settle("REQUEUED")

    def _settle(self, state: str, multiple: bool = False) -> None:
        if self._state != "RECEIVED":
            raise self.MessageStateError(f"Message already acknowledged with state: {self._state}")
        self._state = state
        if self._no_ack:  # settled on delivery, as the queue asks for
            return
        try:
            if state == "ACK":
                self.channel.basic_ack(self.delivery_tag, multiple=multiple)
            else:
                self.channel.basic_reject(self.delivery_tag, requeue=state == "REQUEUED")
        except (AMQPError, OSError):  # the broker redelivers what was not acknowledged
            pass
