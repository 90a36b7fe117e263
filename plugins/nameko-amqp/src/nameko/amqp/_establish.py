"""Making a connection for a synchronous client: the order of the addresses, one attempt, and how its failure reads."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any

import kombu

from amqp.exceptions import AccessRefused, FrameError, FrameSyntaxError, NotAllowed, UnexpectedFrame
from nameko.amqp import bounded_transport
from nameko.amqp.bounded_transport import Deadline
from nameko.amqp.errors import CHECK_CREDENTIALS, BrokerUnreachable
from nameko.amqp.settings import AmqpSettings, mask_uri

# What the other side says is no AMQP, or no part of a handshake.
_NO_AMQP = (FrameError, FrameSyntaxError, UnexpectedFrame)
_REFUSALS = (AccessRefused, NotAllowed)

#: What an attempt fails with for reasons of the network or the broker, who may do better at another address.
CANNOT_CONNECT = (OSError, *_NO_AMQP, *_REFUSALS)


class Addresses:
    """The addresses of one broker, beginning with the one that worked last."""

    def __init__(self, uris: Sequence[str]) -> None:
        self._uris = tuple(uris)

    def in_order(self) -> tuple[str, ...]:
        """As they are to be tried."""
        return self._uris

    def worked(self, uri: str) -> None:
        """Begin with `uri` from now on."""
        at = self._uris.index(uri)
        if at:
            self._uris = self._uris[at:] + self._uris[:at]


def establish(settings: AmqpSettings, uri: str, name: str, deadline: Deadline) -> Any:
    """A new connection, its handshake done.

    :raises TimeoutError: when the deadline passes before
    :raises: one of `CANNOT_CONNECT`, when it cannot be made
    """
    timeout_s = deadline.remaining_s()
    if timeout_s == 0:  # which sockets take for "do not wait"
        raise TimeoutError
    further = dict(settings.transport_options)
    further["client_properties"] = {"connection_name": name, **further.get("client_properties", {})}
    described = kombu.Connection(
        uri,
        transport=_transport_cls(settings),
        ssl=settings.tls_options(uri),
        login_method=settings.login_method,
        heartbeat=settings.heartbeat_s or 0,
        connect_timeout=timeout_s,
        transport_options=further,
    )
    return described.transport.establish_connection()


def _transport_cls(settings: AmqpSettings) -> Any:
    if settings.in_process:
        # Only now, as it brings the concurrency library, which a process without services has no use for.
        from nameko.amqp import memory

        return memory.Transport
    return bounded_transport.Transport


def failure(settings: AmqpSettings, uri: str, exc: Exception, time_is_up: bool) -> Exception:
    """What to raise for the failure `exc` of the last attempt, with the broker and the remedy in one line.

    :param time_is_up: the caller's own deadline has passed, rather than `CONNECT_TIMEOUT`
    """
    broker = f"the broker {settings.masked_uri}"
    if isinstance(exc, TimeoutError):
        if time_is_up:
            return TimeoutError(f"no connection to {broker} in time")
        reason = exc.strerror or f"no answer within {settings.connect_timeout_s:g} s (CONNECT_TIMEOUT)"
        return BrokerUnreachable(f"{broker} cannot be reached: {reason}; is it up, and AMQP_URI right?")
    if isinstance(exc, _REFUSALS):
        reason = f"the broker {mask_uri(uri)} refuses: {exc.reply_text}; {CHECK_CREDENTIALS}"
        return type(exc)(reason, reply_code=exc.reply_code)  # type: ignore[no-any-return]
    if isinstance(exc, _NO_AMQP):  # the wrong port, or a broker on its way up or down
        reason = f"{broker} does not speak AMQP there ({exc})"
        return ConnectionError(f"{reason}; is the port right, and plain or TLS (amqps://)?")
    if isinstance(exc, OSError) and not isinstance(exc, ssl.SSLError):
        reason = f"{broker} cannot be reached: {exc.strerror or exc}; is it up, and AMQP_URI right?"
        # Of the same class where it is one of the system's own: OSError picks it by the number.
        return ConnectionError(reason) if exc.errno is None else OSError(exc.errno, reason)
    return exc
