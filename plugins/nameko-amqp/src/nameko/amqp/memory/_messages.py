"""A message inside the broker: what would have gone over the wire, and nothing that a client still holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from amqp.basic_message import Message as AmqpMessage
from amqp.exceptions import FrameSyntaxError
from nameko.amqp import wire
from nameko.amqp.memory._errors import Refused

#: RabbitMQ 4's limit for the body of a message.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024

_SHORT_STRING_BYTES = 255
# A string of so many characters is short enough in any case, as UTF-8 takes four bytes for one at most.
_SURELY_SHORT = _SHORT_STRING_BYTES // 4
# Type and size or value of a field in a table.
_FIELD_BYTES = 16
# The other properties are short strings and numbers, 14 at most.
_SURELY_SMALL_HEADERS_BYTES = wire.FRAME_MAX - 14 * 256 - 1024
_AS_THEY_ARE = frozenset({str, int, bool, float, type(None), Decimal})


class Message:
    """A published message; shared by the queues that it is routed to, so it never changes.

    :param body: the encoded body
    :param properties: basic properties by their AMQP names, `application_headers` among them
    :param expiration_ms: the `expiration` property, read
    """

    __slots__ = ("body", "exchange", "expiration_ms", "properties", "routing_key")

    def __init__(
        self,
        body: bytes,
        properties: dict[str, Any],
        exchange: str,
        routing_key: str,
        expiration_ms: int | None = None,
    ) -> None:
        self.body = body
        self.properties = properties
        self.exchange = exchange
        self.routing_key = routing_key
        self.expiration_ms = expiration_ms

    @classmethod
    def published(cls, message: AmqpMessage, exchange: str, routing_key: str) -> Message:
        """What arrives of a py-amqp message.

        :raises TypeError, ValueError, FrameSyntaxError: when it could not be written to the wire
        """
        body = message.body
        if isinstance(body, str):
            body = body.encode(message.properties.setdefault("content_encoding", "utf-8"))
        _check_name("exchange", exchange)
        _check_name("routing_key", routing_key)
        properties = wire_properties(message.properties)
        if _bytes_at_most(properties.get("application_headers")) > _SURELY_SMALL_HEADERS_BYTES:
            wire.check_header_fits(wire.encode_properties(message.properties), wire.FRAME_MAX)
        return cls(bytes(body), properties, exchange, routing_key)

    def check(self) -> None:
        """Read what the broker has to understand.

        :raises Refused: when it is too large or its `expiration` is not a number of milliseconds
        """
        if len(self.body) > MAX_MESSAGE_BYTES:
            raise Refused(406, f"message size {len(self.body)} is larger than configured max size {MAX_MESSAGE_BYTES}")
        expiration = self.properties.get("expiration")
        if expiration is not None:
            self.expiration_ms = _read_expiration(expiration)

    def as_amqp(self, decode: bool) -> AmqpMessage:
        """A py-amqp message of its own for one receiver.

        :param decode: give the body as text when there is a `content_encoding` that can decode it
        """
        properties = self.properties.copy()
        headers = properties.get("application_headers")
        if headers:
            properties["application_headers"] = wire_table(headers)
        body: bytes | str = self.body
        if decode and "content_encoding" in properties:
            try:
                body = self.body.decode(properties["content_encoding"])
            except Exception:  # an encoding that nobody knows, or another than it says: left to the receiver
                pass
        message = AmqpMessage(body)
        message.properties = properties
        return message


def _bytes_at_most(value: Any) -> int:
    # Of a field of a table: cheaper than encoding it.
    if isinstance(value, (str, bytes)):
        return _FIELD_BYTES + 4 * len(value)
    if isinstance(value, dict):
        return _FIELD_BYTES + sum([256 + _bytes_at_most(each) for each in value.values()])
    if isinstance(value, list):
        return _FIELD_BYTES + sum([_bytes_at_most(each) for each in value])
    return _FIELD_BYTES


def _read_expiration(expiration: str) -> int:
    digits = expiration[1:] if expiration[:1] in ("-", "+") else expiration
    whole = len(digits) - len(digits.lstrip("0123456789"))
    if whole == 0:
        problem = "no_integer"
    elif whole < len(digits):
        problem = f'{{leftover_string,"{digits[whole:]}"}}'
    elif int(expiration) < 0:
        problem = f"{{value_negative,{int(expiration)}}}"
    else:
        return int(expiration)
    raise Refused(406, f"invalid expiration '{expiration}': {problem}")


def _check_name(what: str, name: str) -> None:
    if len(name) <= _SURELY_SHORT and name.isascii():
        return
    size = len(name.encode("utf-8", "surrogateescape"))
    if size > _SHORT_STRING_BYTES:
        raise FrameSyntaxError(f"`{what}` has {size} bytes; AMQP allows {_SHORT_STRING_BYTES}")


def wire_properties(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The properties that AMQP knows and that are set, as they arrive at the other end.

    :raises TypeError, ValueError, FrameSyntaxError: when one of them cannot be written to the wire
    """
    arriving = {}
    for name, value in properties.items():
        if value is None:
            continue
        read = _PROPERTIES.get(name)
        if read is not None:
            arriving[name] = read(name, value)
    return arriving


def _short_string(name: str, value: Any) -> str:
    if type(value) is str and len(value) <= _SURELY_SHORT:
        return value
    if isinstance(value, bytes):
        value = value.decode()
    if not isinstance(value, str):
        raise TypeError(f"message property `{name}` must be a string, not {value!r}")
    if len(value) > _SURELY_SHORT and len(value.encode()) > _SHORT_STRING_BYTES:
        raise ValueError(f"message property `{name}` is longer than {_SHORT_STRING_BYTES} bytes: {value[:40]!r}...")
    return value


def _octet(name: str, value: Any) -> int:
    return _unsigned(name, value, 8)


def _long_long(name: str, value: Any) -> int:
    return _unsigned(name, value, 64)


def _unsigned(name: str, value: Any, bits: int) -> int:
    if not isinstance(value, int):
        raise TypeError(f"message property `{name}` must be an integer, not {value!r}")
    if not 0 <= value < 2**bits:
        raise ValueError(f"message property `{name}` must be between 0 and {2**bits - 1}, not {value}")
    return int(value)


def _table(name: str, value: Any) -> dict[str, Any]:
    return wire_table(value or {})


_PROPERTIES: dict[str, Callable[[str, Any], Any]] = {
    "content_type": _short_string,
    "content_encoding": _short_string,
    "application_headers": _table,
    "delivery_mode": _octet,
    "priority": _octet,
    "correlation_id": _short_string,
    "reply_to": _short_string,
    "expiration": _short_string,
    "message_id": _short_string,
    "timestamp": _long_long,
    "type": _short_string,
    "user_id": _short_string,
    "app_id": _short_string,
    "cluster_id": _short_string,
}


def wire_table(table: Mapping[Any, Any]) -> dict[str, Any]:
    """A copy of an AMQP table as it arrives at the other end: tuples as lists, bytes as text where they are text.

    :raises FrameSyntaxError: when there is something in it that AMQP has no type for
    :raises ValueError: when a key is longer than 255 bytes or an integer than 64 bits
    """
    copy = {}
    for key, value in table.items():
        if isinstance(key, bytes):
            key = key.decode()
        if len(key) > _SURELY_SHORT and len(key.encode()) > _SHORT_STRING_BYTES:
            raise ValueError(f"header name is longer than {_SHORT_STRING_BYTES} bytes: {key[:40]!r}...")
        value_type = type(value)
        if value_type is str:
            copy[key] = value
        else:
            copy[key] = _wire_value(key, value)
    return copy


def _wire_value(key: str, value: Any) -> Any:
    if type(value) in _AS_THEY_ARE or isinstance(value, (str, bool, float, Decimal)):
        if type(value) is int:
            _check_64_bits(key, value)
        return value
    if isinstance(value, (list, tuple)):
        return [item if type(item) is str else _wire_value(key, item) for item in value]
    if isinstance(value, dict):
        return wire_table(value)
    if isinstance(value, bytes):
        return _text_if_possible(value)
    if isinstance(value, datetime):
        # AMQP timestamps are whole seconds of UTC, and py-amqp reads them without a time zone.
        utc = value.astimezone(timezone.utc) if value.tzinfo else value
        return utc.replace(microsecond=0, tzinfo=None)
    if isinstance(value, int):
        _check_64_bits(key, value)
        return int(value)
    raise FrameSyntaxError(f"Table type {type(value)!r} for key {key!r} not handled by amqp.")


def _check_64_bits(key: str, value: int) -> None:
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"header {key!r}: the integer does not fit into 64 bits")


def _text_if_possible(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
