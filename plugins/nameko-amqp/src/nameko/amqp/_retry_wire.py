"""What retried and parked messages look like: the names of their queues, and their headers."""

from __future__ import annotations

import hashlib
import logging
import time
import traceback
from collections.abc import Mapping
from typing import Any, NamedTuple

from kombu import Queue

from amqp.serialization import dumps

_log = logging.getLogger(__name__)

_RETRY_PREFIX = "nameko-retry-"
_DEAD_PREFIX = "nameko-dead-"

#: How many times the method has run for this message so far.
ATTEMPTS = f"{_RETRY_PREFIX}attempts"
#: Where the message was first published to. Every message that comes back has these two.
EXCHANGE = f"{_RETRY_PREFIX}exchange"
ROUTING_KEY = f"{_RETRY_PREFIX}routing-key"
#: When it would have expired, in milliseconds since 1970; only of a message that had an expiration.
DEADLINE_MS = f"{_RETRY_PREFIX}deadline"

#: Why a message was parked: `attempts` or `deadline`.
DEAD_REASON = f"{_DEAD_PREFIX}reason"
DEAD_ERROR = f"{_DEAD_PREFIX}error"
DEAD_TRACEBACK = f"{_DEAD_PREFIX}traceback"
DEAD_ATTEMPTS = f"{_DEAD_PREFIX}attempts"
#: When, as an ISO date and time in UTC.
DEAD_SINCE = f"{_DEAD_PREFIX}since"
#: The queue that it came from, and the address under which it gets back there.
DEAD_QUEUE = f"{_DEAD_PREFIX}queue"
DEAD_RETURN_EXCHANGE = f"{_DEAD_PREFIX}return-exchange"
DEAD_RETURN_KEY = f"{_DEAD_PREFIX}return-routing-key"

DEAD_SUFFIX = ".dead"

# The broker's own record of how a message left a queue, and the addressees of a copy. A message that is published again
# must not have them: RabbitMQ would send further copies to the latter, and version 4 takes the former from nobody.
_OF_THE_BROKER = ("x-death", "x-first-death-", "x-last-death-")
_OF_THE_PUBLISHER = ("CC", "BCC")

# AMQP 0-9-1 sends names as short strings: a length byte, then at most that many bytes.
_MAX_NAME_BYTES = 255
# A day more than a message stays in it, so that no queue goes away with a message: a declaration prolongs its life, and
# there is one within the hour before every message (see `Retrier`). Never change it: queues that exist have it.
_EXPIRES_AFTER_MS = 24 * 3600 * 1000
#: The most attempts. More of them in a header are nobody's count, and might not fit into one with one more.
MAX_ATTEMPTS = 1_000_000
#: The longest delay: RabbitMQ takes times up to 2^32 - 1 ms.
MAX_DELAY_S = 30 * 24 * 3600

# The headers of a message have to fit into one frame of 128 KiB, with those that a publisher has put there.
_MAX_FOREIGN_BYTES = 100 * 1024
_ERROR_LENGTH = 500
_TRACEBACK_LENGTH = 4000


class Address(NamedTuple):
    """Where to publish a message so that it gets into a certain queue."""

    exchange: str
    routing_key: str


def wait_queue(base: str, delay_ms: int, back_to: Address) -> Queue:
    """The queue where messages wait for `delay_ms`, after which the broker puts them where they came from.

    One for each delay: a queue lets go of messages in the order of their arrival only.

    :param base: the queue that they came from, or what else tells one address from another
    """
    arguments = {
        "x-message-ttl": delay_ms,
        "x-expires": delay_ms + _EXPIRES_AFTER_MS,
        "x-dead-letter-exchange": back_to.exchange,
        "x-dead-letter-routing-key": back_to.routing_key,
    }
    return Queue(derived_name(base, f".retry.{delay_ms}"), durable=True, queue_arguments=arguments)


def dead_queue(base: str) -> Queue:
    """The queue where messages are parked that were given up."""
    return Queue(derived_name(base, DEAD_SUFFIX), durable=True)


def derived_name(base: str, suffix: str) -> str:
    """`base` with `suffix`; the end of a base that is too long gives way to a hash of it."""
    encoded = base.encode()
    if len(encoded) + len(suffix) <= _MAX_NAME_BYTES:
        return base + suffix
    digest = hashlib.sha256(encoded).hexdigest()[:16]
    kept = encoded[: _MAX_NAME_BYTES - len(suffix) - len(digest) - 1].decode(errors="ignore")
    return f"{kept}~{digest}{suffix}"


# -- headers


def attempts_in(headers: Mapping[Any, Any]) -> int:
    """How many times the method has run for the message; 0 when the header is missing or nonsense."""
    attempts = _positive(headers.get(ATTEMPTS)) or 0
    return attempts if attempts <= MAX_ATTEMPTS else 0


def deadline_ms_in(headers: Mapping[Any, Any]) -> int | None:
    """When the message expires, in milliseconds since 1970; None for never."""
    return _positive(headers.get(DEADLINE_MS))


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def origin_of(message: Any) -> Address:
    """Where the message was first published to."""
    exchange, routing_key = message.headers.get(EXCHANGE), message.headers.get(ROUTING_KEY)
    if isinstance(exchange, str) and isinstance(routing_key, str):
        return Address(exchange, routing_key)
    info = message.delivery_info
    return Address(info.get("exchange") or "", info.get("routing_key") or "")


def restore_origin(message: Any) -> None:
    """Let the `delivery_info` of a message that came back say where it was first published to."""
    if EXCHANGE in message.headers:
        message.delivery_info.update(origin_of(message)._asdict())


def without_marks(headers: Mapping[Any, Any]) -> dict[Any, Any]:
    """The headers without what retrying and parking have added, and the broker in their course."""
    return {name: value for name, value in headers.items() if not _is_mark(name)}


def _is_mark(name: Any) -> bool:
    return isinstance(name, str) and name.startswith((_RETRY_PREFIX, _DEAD_PREFIX, *_OF_THE_BROKER))


def _bare(headers: Mapping[Any, Any]) -> dict[Any, Any]:
    kept = {name: value for name, value in without_marks(headers).items() if name not in _OF_THE_PUBLISHER}
    try:
        size = len(dumps("F", [kept]))
    except Exception as exc:  # not everything that can be decoded can be encoded
        _log.warning("the headers of a message are dropped, as they cannot be encoded: %s", exc)
        return {}
    if size <= _MAX_FOREIGN_BYTES:
        return kept
    # With ours they would not fit into a frame, and the broker would close the connection, at every attempt.
    _log.warning("the headers of a message are dropped, as they exceed %d bytes", _MAX_FOREIGN_BYTES)
    return {}


def retry_headers(message: Any, attempts: int, deadline_ms: int | None) -> dict[Any, Any]:
    """The headers of `message` when it is to be tried again.

    :param attempts: how many times the method has run for it
    """
    headers = {**_bare(message.headers), **_origin_headers(message), ATTEMPTS: attempts}
    if deadline_ms is not None:
        headers[DEADLINE_MS] = deadline_ms
    return headers


def _origin_headers(message: Any) -> dict[str, str]:
    origin = origin_of(message)
    return {EXCHANGE: origin.exchange, ROUTING_KEY: origin.routing_key}


def dead_headers(
    message: Any, exc: BaseException, *, reason: str, attempts: int, queue: str, back_to: Address
) -> dict[Any, Any]:
    """The headers of `message` when it is parked.

    :param exc: what the method raised last
    """
    return {
        **_bare(message.headers),
        **_origin_headers(message),
        DEAD_REASON: reason,
        DEAD_ERROR: "".join(_text(traceback.format_exception_only(exc)))[:_ERROR_LENGTH].strip(),
        DEAD_TRACEBACK: _text(traceback.format_exception(exc))[-_TRACEBACK_LENGTH:].strip(),
        DEAD_ATTEMPTS: attempts,
        DEAD_SINCE: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        DEAD_QUEUE: queue,
        DEAD_RETURN_EXCHANGE: back_to.exchange,
        DEAD_RETURN_KEY: back_to.routing_key,
    }


def _text(lines: list[str]) -> str:
    return "".join(lines).encode("utf-8", "backslashreplace").decode()


def returned_headers(headers: Mapping[Any, Any]) -> dict[Any, Any]:
    """The headers of a parked message when it goes back to its queue, where its attempts are counted anew."""
    kept = {name: headers[name] for name in (EXCHANGE, ROUTING_KEY) if name in headers}
    return {**_bare(headers), **kept}


def republished_properties(message: Any, headers: Mapping[Any, Any]) -> dict[str, Any]:
    """The properties of `message` when it is published again, with these headers.

    Without its expiration, which would end its wait rather than its life; and without `user_id`, which RabbitMQ takes
    from nobody but that user.
    """
    properties = {name: value for name, value in message.properties.items() if name not in ("expiration", "user_id")}
    properties["application_headers"] = dict(headers)
    return properties
