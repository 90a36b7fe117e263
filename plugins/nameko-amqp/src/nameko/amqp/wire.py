"""AMQP 0-9-1 frames, in and out: those that carry messages, which are all but a few, coded directly.

Section numbers refer to the AMQP 0-9-1 specification. Opening connections, declaring and the like, which happen once,
are left to py-amqp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from struct import Struct
from struct import error as StructError
from time import monotonic
from typing import Any, NoReturn

from amqp.exceptions import FrameError, FrameSyntaxError, UnexpectedFrame
from amqp.serialization import decode_properties_basic, dumps

# Frame types, 4.2.3; each frame is type, channel, size, payload, end.
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = b"\xce"
#: Bytes of a frame besides its payload.
FRAME_OVERHEAD = 8
#: The biggest frame, with its overhead, that RabbitMQ and py-amqp agree on unless told otherwise.
FRAME_MAX = 131072
# Bytes of a content header's payload before the properties: class, weight, size of the body.
_CONTENT_HEADER_BYTES = 12

HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"

# (class, method) as they stand at the beginning of a method frame's payload.
_BASIC_DELIVER = b"\x00\x3c\x00\x3c"
_BASIC_RETURN = b"\x00\x3c\x00\x32"
_BASIC_GET_OK = b"\x00\x3c\x00\x47"
_BASIC_ACK = b"\x00\x3c\x00\x50"
_BASIC_PUBLISH = b"\x00\x3c\x00\x28"
_WITH_CONTENT = frozenset([_BASIC_DELIVER, _BASIC_RETURN, _BASIC_GET_OK])

# Given the name of a property and its value.
Encode = Callable[[str, Any], bytes]

_frame_header = Struct(">BHI")
_method_id = Struct(">HH")
_ack_arguments = Struct(">QB")
_deliver_arguments = Struct(">QB")
_content_size = Struct(">Q")
_long_size = Struct(">I")
# A whole frame: header, class and method, delivery tag, multiple or requeue, end.
_settle_frame = Struct(">BHI4sQBB")
_content_header = Struct(">BHIHHQ")

#: Bytes of the frame of a basic.ack.
ACK_FRAME_BYTES = _settle_frame.size


class OutboundMessage:
    """A body and its properties, encoded: ready to be sent, any number of times.

    :param body: the encoded body
    :param properties: by their names in AMQP; None is left out; `application_headers` is the table of headers
    :raises FrameSyntaxError: when a property or a header is of a type that AMQP does not know, or too long
    """

    __slots__ = ("body", "encoded_properties", "properties")

    def __init__(self, body: bytes, properties: Mapping[str, Any]) -> None:
        self.body = body
        self.properties = properties
        self.encoded_properties = encode_properties(properties)


def encode_properties(properties: Mapping[str, Any]) -> bytes:
    """The flags and values of a content header (4.2.6.1); the values stand in the order of their flags (1.8.1).

    :raises FrameSyntaxError: when a value is of a type that AMQP does not know, or too long
    """
    flags, values = 0, []
    for name, flag, encode in _known_among(tuple(properties)):
        value = properties[name]
        if value is not None:
            flags |= flag
            values.append(encode(name, value))
    return b"%c%c%b" % (flags >> 8, flags & 0xFF, b"".join(values))


@lru_cache(maxsize=256)  # so many sets of names; there are a handful
def _known_among(names: tuple[str, ...]) -> list[tuple[str, int, Encode]]:
    return [each for each in _PROPERTIES if each[0] in names]


def _remembered(encode: Encode) -> Encode:
    # Of some properties a service uses few values, again and again.
    remembered = lru_cache(maxsize=256)(encode)

    def call(name: str, value: Any) -> bytes:
        try:
            return remembered(name, value)
        except TypeError:  # not hashable, which no valid value is
            return encode(name, value)

    return call


def _short_string(name: str, value: Any) -> bytes:
    encoded = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
    length = len(encoded)
    if length > 255:
        raise FrameSyntaxError(f"`{name}` has {length} bytes; AMQP allows 255")
    return b"%c%b" % (length, encoded)


def _octet(name: str, value: Any) -> bytes:
    try:
        return int(value).to_bytes(1, "big")
    except (OverflowError, TypeError, ValueError):
        raise FrameSyntaxError(f"`{name}` must be an integer from 0 to 255, not {value!r}") from None


def _timestamp(name: str, value: Any) -> bytes:
    try:
        return _content_size.pack(int(value))
    except (StructError, TypeError, ValueError):
        raise FrameSyntaxError(f"`{name}` must be seconds since 1970, not {value!r}") from None


def _table(_: str, headers: Any) -> bytes:
    parts: list[bytes] = []
    name = None
    try:
        for name, value in headers.items():
            parts += (_short_string("header name", name), _field(value))
    except (FrameSyntaxError, StructError, AttributeError, TypeError, OverflowError, RecursionError) as exc:
        reason = getattr(exc, "reply_text", exc)
        raise FrameSyntaxError(f"headers cannot be encoded: `{repr(str(name)[:50])[1:-1]}`: {reason}") from None
    fields = b"".join(parts)
    return _long_size.pack(len(fields)) + fields


def _field(value: Any) -> bytes:
    # 4.2.1; strings and lists of them are most of what there is. The rest is left to py-amqp.
    kind = type(value)
    if kind is str:
        encoded = value.encode("utf-8", "surrogatepass")
        return b"S%b%b" % (_long_size.pack(len(encoded)), encoded)
    if kind is list:
        items = b"".join([_field(item) for item in value])
        return b"A%b%b" % (_long_size.pack(len(items)), items)
    try:
        table: bytes = dumps("F", [{"": value}])
    except FrameSyntaxError:  # its text shows the value, which may be a secret
        _refuse(value)
    return table[5:]  # after the size of the table and an empty name


def _refuse(value: Any) -> NoReturn:
    # Whatever within the value is to blame is refused first.
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ():
        _field(item)
    raise FrameSyntaxError(f"AMQP has no type for {type(value).__name__}") from None


# In the order of their flags (1.8.1).
_PROPERTIES: tuple[tuple[str, int, Encode], ...] = (
    ("content_type", 0x8000, _remembered(_short_string)),
    ("content_encoding", 0x4000, _remembered(_short_string)),
    ("application_headers", 0x2000, _table),
    ("delivery_mode", 0x1000, _remembered(_octet)),
    ("priority", 0x0800, _remembered(_octet)),
    ("correlation_id", 0x0400, _short_string),
    ("reply_to", 0x0200, _remembered(_short_string)),
    ("expiration", 0x0100, _remembered(_short_string)),
    ("message_id", 0x0080, _short_string),
    ("timestamp", 0x0040, _timestamp),
    ("type", 0x0020, _short_string),
    ("user_id", 0x0010, _short_string),
    ("app_id", 0x0008, _short_string),
    ("cluster_id", 0x0004, _short_string),
)


def encode_method(channel_id: int, method: tuple[int, int], arguments: bytes) -> bytes:
    """The frame of a method without content."""
    header = _frame_header.pack(METHOD, channel_id, 4 + len(arguments))
    return b"".join((header, _method_id.pack(*method), arguments, FRAME_END))


def encode_publish_method(channel_id: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """The first of a publication's frames (1.8.3.7): the same for every message to the same place."""
    arguments = b"".join(
        (
            _BASIC_PUBLISH,
            b"\x00\x00",  # reserved
            _short_string("exchange", exchange),
            _short_string("routing_key", routing_key),
            b"\x01" if mandatory else b"\x00",
        )
    )
    return b"".join((_frame_header.pack(METHOD, channel_id, len(arguments)), arguments, FRAME_END))


def check_header_fits(encoded_properties: bytes, frame_max: int) -> None:
    """Check that a content header is one frame, as it has to be: a broker closes the connection over a bigger one.

    :raises FrameSyntaxError: when it would be too big
    """
    size, limit = _CONTENT_HEADER_BYTES + len(encoded_properties), frame_max - FRAME_OVERHEAD
    if size > limit:
        raise FrameSyntaxError(
            f"headers and properties of the message take {size} bytes, of which the broker allows {limit}; "
            "put what is big into the body"
        )


def encode_content(channel_id: int, message: OutboundMessage, frame_max: int) -> bytes:
    """The header and body frames of a message.

    :raises FrameSyntaxError: when headers and properties are too big
    """
    body, properties = message.body, message.encoded_properties
    size = len(body)
    chunk_max = frame_max - FRAME_OVERHEAD
    header_size = _CONTENT_HEADER_BYTES + len(properties)
    if header_size > chunk_max:
        check_header_fits(properties, frame_max)
    header = _content_header.pack(HEADER, channel_id, header_size, 60, 0, size)
    if size <= chunk_max:
        if not size:
            return b"".join((header, properties, FRAME_END))
        body_header = _frame_header.pack(BODY, channel_id, size)
        return b"".join((header, properties, FRAME_END, body_header, body, FRAME_END))
    parts: list[Any] = [header, properties, FRAME_END]
    view = memoryview(body)
    for start in range(0, size, chunk_max):
        chunk = view[start : start + chunk_max]
        parts += (_frame_header.pack(BODY, channel_id, len(chunk)), chunk, FRAME_END)
    return b"".join(parts)


def encode_ack(channel_id: int, delivery_tag: int, multiple: bool) -> bytes:
    """basic.ack, 1.8.3.13."""
    return _settle_frame.pack(METHOD, channel_id, 13, _BASIC_ACK, delivery_tag, multiple, 0xCE)


def encode_reject(channel_id: int, delivery_tag: int, requeue: bool) -> bytes:
    """basic.reject, 1.8.3.14."""
    return _settle_frame.pack(METHOD, channel_id, 13, b"\x00\x3c\x00\x5a", delivery_tag, requeue, 0xCE)


class InboundMessage:
    """A message as it came in, with the names that py-amqp gives to the parts.

    :param body: as it was sent
    :param properties: by their names in AMQP; `application_headers` is the table of headers
    :param delivery_info: consumer_tag, delivery_tag, redelivered, exchange, routing_key
    :param error: why it cannot be taken as it is, when it cannot: malformed properties, or too big
    """

    __slots__ = ("body", "channel", "delivery_info", "error", "properties")

    def __init__(
        self, body: bytes, properties: dict[str, Any], delivery_info: dict[str, Any], error: str | None = None
    ) -> None:
        self.body = body
        self.properties = properties
        self.delivery_info = delivery_info
        self.error = error
        self.channel: Any = None

    @property
    def delivery_tag(self) -> int:
        """What the delivery is acknowledged by."""
        return self.delivery_info["delivery_tag"]  # type: ignore[no-any-return]

    @property
    def headers(self) -> dict[str, Any] | None:
        """The table of headers."""
        return self.properties.get("application_headers")


class _Partial:
    """A message of which frames are still to come."""

    __slots__ = ("chunks", "header", "method", "missing", "oversize", "size")

    def __init__(self, method: bytes) -> None:
        self.method = method
        self.header = b""
        self.size = 0
        self.missing = -1  # not known before the header has come
        self.chunks: list[bytes] = []
        self.oversize = False


class FrameReader:
    """Cuts the stream of bytes into frames, puts messages together, and hands on what is complete.

    :param on_method: called with (channel, (class, method), payload) for a method without content
    :param on_message: called with (channel, method payload, content header payload, body, oversize)
    :param on_ack: called with (channel, delivery tag, multiple) for basic.ack
    :param frame_max: bigger frames are an error
    :param max_message_bytes: the bodies of bigger messages are skipped, and `oversize` is true
    """

    def __init__(
        self,
        *,
        on_method: Callable[[int, tuple[int, int], bytes], None],
        on_message: Callable[[int, bytes, bytes, bytes, bool], None],
        on_ack: Callable[[int, int, bool], None],
        frame_max: int,
        max_message_bytes: int,
    ) -> None:
        self._on_method = on_method
        self._on_message = on_message
        self._on_ack = on_ack
        self.frame_max = frame_max
        self._max_message_bytes = max_message_bytes
        self._pieces: list[bytes] = []
        self._wanted = 0  # bytes that must be there before it is worth looking again
        self._incomplete_since = 0.0
        self._partial: dict[int, _Partial] = {}

    def feed(self, data: bytes) -> None:
        """Take in what was read from the socket, and hand on every frame that is complete.

        :raises FrameError, UnexpectedFrame: when that is no AMQP; the connection is of no use any more
        """
        if self._wanted > len(data):
            self._pieces.append(data)
            self._wanted -= len(data)
            return
        if self._pieces:
            self._pieces.append(data)
            data = b"".join(self._pieces)
            self._pieces = []
        self._wanted = 0
        position = self._split(data)
        rest = len(data) - position
        if rest:
            self._pieces = [data[position:]]
            self._wanted = self._frame_length(data, position, rest) - rest
            self._incomplete_since = monotonic()

    @property
    def wanted(self) -> int:
        """How many more bytes complete the next frame, as far as is known; 0 when there is none begun."""
        return self._wanted

    @property
    def incomplete_since(self) -> float | None:
        """When the beginning of a frame was read whose end has not come yet, by `time.monotonic()`; None for none."""
        return self._incomplete_since if self._wanted else None

    def _frame_length(self, data: bytes, position: int, available: int) -> int:
        if available < 7:
            return 7
        return _frame_header.unpack_from(data, position)[2] + FRAME_OVERHEAD  # type: ignore[no-any-return]

    def _split(self, data: bytes) -> int:
        # The one loop over frames, on the path of everything that comes in.
        position, end = 0, len(data)
        unpack = _frame_header.unpack_from
        while end - position >= 7:
            kind, channel, size = unpack(data, position)
            frame_end = position + 7 + size
            if frame_end >= end:
                if size > self.frame_max:
                    raise FrameError(f"a frame of {size} bytes, where {self.frame_max} were agreed")
                break
            if data[frame_end] != 0xCE:
                raise UnexpectedFrame(f"a frame that ends in {data[frame_end]:#04x} instead of 0xce")
            payload = data[position + 7 : frame_end]
            position = frame_end + 1
            if kind == METHOD:
                self._take_method(channel, payload)
            elif kind == BODY:
                self._take_body(channel, payload)
            elif kind == HEADER:
                self._take_header(channel, payload)
            elif kind != HEARTBEAT:
                raise UnexpectedFrame(f"a frame of the unknown type {kind}")
        return position

    def _take_method(self, channel: int, payload: bytes) -> None:
        method = payload[:4]
        if channel in self._partial:
            raise UnexpectedFrame(f"a method on channel {channel} in the middle of a message")
        if method in _WITH_CONTENT:
            self._partial[channel] = _Partial(payload)
        elif method == _BASIC_ACK:
            delivery_tag, bits = _ack_arguments.unpack_from(payload, 4)
            self._on_ack(channel, delivery_tag, bool(bits & 1))
        else:
            self._on_method(channel, _method_id.unpack_from(payload), payload)

    def _take_header(self, channel: int, payload: bytes) -> None:
        partial = self._partial.get(channel)
        if partial is None or partial.missing >= 0:
            raise UnexpectedFrame(f"a content header on channel {channel} that belongs to no method")
        partial.header = payload
        partial.size = partial.missing = _content_size.unpack_from(payload, 4)[0]
        partial.oversize = partial.size > self._max_message_bytes
        if not partial.missing:
            self._complete(channel, partial, b"")

    def _take_body(self, channel: int, payload: bytes) -> None:
        partial = self._partial.get(channel)
        if partial is None or partial.missing < len(payload):
            raise UnexpectedFrame(f"a body on channel {channel} that belongs to no message")
        partial.missing -= len(payload)
        if partial.missing == 0 and not partial.chunks:
            self._complete(channel, partial, b"" if partial.oversize else payload)
            return
        if not partial.oversize:
            partial.chunks.append(payload)
        if partial.missing == 0:
            self._complete(channel, partial, b"".join(partial.chunks))

    def _complete(self, channel: int, partial: _Partial, body: bytes) -> None:
        del self._partial[channel]
        self._on_message(channel, partial.method, partial.header, body, partial.oversize)


def is_delivery(method_payload: bytes) -> bool:
    """Whether the message was delivered to a consumer (rather than returned, or fetched)."""
    return method_payload[:4] == _BASIC_DELIVER


def is_fetched(method_payload: bytes) -> bool:
    """Whether the message was fetched by basic.get."""
    return method_payload[:4] == _BASIC_GET_OK


def decode_delivery(method_payload: bytes) -> dict[str, Any]:
    """The arguments of basic.deliver (1.8.3.9). Names that are not UTF-8 keep their bytes, as surrogates."""
    length = method_payload[4]
    position = 5 + length
    consumer_tag = method_payload[5:position].decode("utf-8", "surrogateescape")
    delivery_tag, bits = _deliver_arguments.unpack_from(method_payload, position)
    position += 9
    length = method_payload[position]
    position += 1
    exchange = method_payload[position : position + length].decode("utf-8", "surrogateescape")
    position += length
    length = method_payload[position]
    position += 1
    routing_key = method_payload[position : position + length].decode("utf-8", "surrogateescape")
    return {
        "consumer_tag": consumer_tag,
        "delivery_tag": delivery_tag,
        "redelivered": bool(bits & 1),
        "exchange": exchange,
        "routing_key": routing_key,
    }


def decode_properties(header_payload: bytes) -> dict[str, Any]:
    """The properties in a content header.

    :raises Exception: of many kinds, when they are malformed; the stream of frames is not affected
    """
    try:
        return _decode_usual_properties(header_payload)
    except _NOT_USUAL:
        properties, _ = decode_properties_basic(header_payload, 12)
        return properties  # type: ignore[no-any-return]


# What is left to py-amqp, to be decoded or to be refused.
_NOT_USUAL = (LookupError, ValueError, StructError)


def _decode_usual_properties(payload: bytes) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    position = 14
    for name, decode in _names_in(payload[12] << 8 | payload[13]):
        properties[name], position = decode(payload, position)
    if position > len(payload):
        raise ValueError("they end before they are complete")
    return properties


def _read_short_string(data: bytes, position: int) -> tuple[str, int]:
    end = position + 1 + data[position]
    return data[position + 1 : end].decode(), end


def _read_octet(data: bytes, position: int) -> tuple[int, int]:
    return data[position], position + 1


def _read_long_string(data: bytes, position: int) -> tuple[str, int]:
    end = position + 4 + _long_size.unpack_from(data, position)[0]
    return data[position + 4 : end].decode(), end


def _read_table(data: bytes, position: int) -> tuple[dict[str, Any], int]:
    # 4.2.5.5; strings and lists of them, as in what nameko sends.
    end = position + 4 + _long_size.unpack_from(data, position)[0]
    position += 4
    table: dict[str, Any] = {}
    while position < end:
        name, position = _read_short_string(data, position)
        table[name], position = _USUAL_FIELDS[data[position]](data, position + 1)
    if position > end:
        raise ValueError("a field goes beyond its table")
    return table, position


def _read_strings(data: bytes, position: int) -> tuple[list[str], int]:
    end = position + 4 + _long_size.unpack_from(data, position)[0]
    position += 4
    strings = []
    while position < end:
        if data[position] != 0x53:
            raise ValueError("not a list of strings")
        string, position = _read_long_string(data, position + 1)
        strings.append(string)
    if position > end:
        raise ValueError("a string goes beyond its list")
    return strings, position


_USUAL_FIELDS: dict[int, Callable[[bytes, int], tuple[Any, int]]] = {0x53: _read_long_string, 0x41: _read_strings}
_DECODERS: dict[str, Callable[[bytes, int], tuple[Any, int]]] = {
    "application_headers": _read_table,
    "delivery_mode": _read_octet,
    "priority": _read_octet,
}


@lru_cache(maxsize=256)  # so many sets of properties; there are a handful
def _names_in(flags: int) -> list[tuple[str, Callable[[bytes, int], tuple[Any, int]]]]:
    if flags & 0x0043:  # a time, or flags that AMQP 0-9-1 does not define
        raise ValueError("not usual")
    return [(name, _DECODERS.get(name, _read_short_string)) for name, flag, _ in _PROPERTIES if flags & flag]
