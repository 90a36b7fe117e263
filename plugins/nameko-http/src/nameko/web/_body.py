"""The body of a request: read from the connection as the application asks for it, never beyond its end or its limit."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from time import monotonic

from werkzeug.exceptions import BadRequest, ClientDisconnected, HTTPException, RequestEntityTooLarge, RequestTimeout

from nameko.web._errors import ConnectionLost, PeerTooSlow, RequestRefused
from nameko.web._head import Witness
from nameko.web._transport import Pace, Transport

# Longest line that gives a chunk's size; what follows the size there (chunk extensions) is of no use to anybody.
_MAX_CHUNK_LINE_BYTES = 256
_MAX_TRAILER_BYTES = 8 * 1024
# After the response, this much of an unread body is read and dropped to keep the connection; it is closed otherwise.
_MAX_DROPPED_BYTES = 64 * 1024

_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")

# RFC 9110 section 6.5.1: what says whose request this is, where it ends or what follows it, comes too late there.
_FORBIDDEN_TRAILER = re.compile(
    rb"(?:host|content-length|transfer-encoding|connection|upgrade|expect|authorization|cookie):", re.IGNORECASE
)


class Reader:
    """A connection's incoming bytes, with those that were read too far put back in front.

    :ivar unread: what has arrived and was not used yet
    """

    __slots__ = ("transport", "unread")

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.unread = b""

    def more(self) -> bool:
        """Add what arrives next to `unread`; False at the end of the stream."""
        data = self.transport.recv()
        self.unread = self.unread + data if self.unread else data
        return bool(data)

    def take(self, size: int) -> bytes:
        """Take up to `size` bytes of `unread`."""
        data = self.unread
        self.unread = data[size:]
        return data[:size]


class _Sized:
    """A body whose length was announced."""

    def __init__(self, length: int) -> None:
        self.missing_bytes = length

    @property
    def complete(self) -> bool:
        return self.missing_bytes == 0

    def decode(self, reader: Reader) -> bytes:
        data = reader.take(self.missing_bytes)
        self.missing_bytes -= len(data)
        return data


class _Chunked:
    """A body in chunks, RFC 9112 section 7.1, without its trailer fields. llhttp reads along and must agree."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self._rest = 0  # of the current chunk's data
        self._step: Callable[[Reader], bytes | None] = self._size_line
        self._trailer_bytes = 0
        self.complete = False

    @property
    def missing_bytes(self) -> int:
        """As far as is known: a body in chunks does not tell."""
        return self._rest

    def decode(self, reader: Reader) -> bytes:
        """Decoded data, as far as it has arrived; none when more has to arrive first, or when the body is complete."""
        parts = []
        while not self.complete:
            part = self._step(reader)
            if part is None:
                break
            parts.append(part)
        return b"".join(parts)

    def _size_line(self, reader: Reader) -> bytes | None:
        line = self._line(reader, _MAX_CHUNK_LINE_BYTES)
        if line is None:
            return None
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise RequestRefused(400, "Malformed request: bad chunk size")
        self._rest = int(match[1], 16)
        self._step = self._data if self._rest else self._trailer
        return b""

    def _data(self, reader: Reader) -> bytes | None:
        data = reader.take(self._rest)
        if not data:
            return None
        self._witness.read(data)
        self._rest -= len(data)
        if not self._rest:
            self._step = self._end_of_data
        return data

    def _end_of_data(self, reader: Reader) -> bytes | None:
        if len(reader.unread) < 2 and b"\r\n".startswith(reader.unread):
            return None
        end = reader.take(2)
        if end != b"\r\n":
            raise RequestRefused(400, "Malformed request: a chunk does not end where it should")
        self._witness.read(end)
        self._step = self._size_line
        return b""

    def _trailer(self, reader: Reader) -> bytes | None:
        line = self._line(reader, _MAX_TRAILER_BYTES - self._trailer_bytes)
        if line is None:
            return None
        self._trailer_bytes += len(line) + 2
        if line and (_TRAILER_LINE.fullmatch(line) is None or _FORBIDDEN_TRAILER.match(line)):
            raise RequestRefused(400, "Malformed request: bad trailer field")
        if bool(line) == self._witness.message_complete:
            raise RequestRefused(400, "Malformed request: it is not clear where it ends")
        self.complete = not line
        return b""

    def _line(self, reader: Reader, max_bytes: int) -> bytes | None:
        data = reader.unread
        end = data.find(b"\r\n", 0, max_bytes + 2)
        if end < 0:
            if b"\n" in data or len(data) > max_bytes + 1:
                raise RequestRefused(400, "Malformed request: bad or too long line in a chunked body")
            return None
        line = reader.take(end + 2)
        self._witness.read(line)
        return line[:-2]


class RequestBody(io.RawIOBase):
    """`wsgi.input`: the body of one request, as a stream that ends where the body ends.

    Reading waits for the client. It raises werkzeug's exceptions, so that in a handler they become the right answer:
    `RequestEntityTooLarge` beyond `max_bytes`, `RequestTimeout` for a client that is too slow, `ClientDisconnected` for
    one that left, `BadRequest` for chunks that make no sense.

    :param witness: llhttp, having read the head; for a body in chunks
    :param content_length: None for a body in chunks
    :param send_continue: called once, before the client is first waited for; None when it does not expect that
    """

    def __init__(
        self,
        reader: Reader,
        witness: Witness | None,
        content_length: int | None,
        max_bytes: int,
        pace: Pace,
        send_continue: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self._reader = reader
        self._decoder = _Chunked(witness or Witness()) if content_length is None else _Sized(content_length)
        self._content_length = content_length
        self._max_bytes = max_bytes
        self._pace = pace
        self._send_continue = send_continue
        self._received = 0
        self._buffered = bytearray()
        self._waited_s = 0.0
        self._failed = False

    # -- for the application

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read up to `len(buffer)` bytes into it; 0 at the end of the body."""
        data = self._read_some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read `size` bytes, less only at the end of the body; all of it by default."""
        wanted = -1 if size is None else size
        parts = []
        while wanted != 0:
            part = self._read_some(wanted if wanted > 0 else -1)
            if not part:
                break
            parts.append(part)
            if wanted > 0:
                wanted -= len(part)
        return b"".join(parts)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read up to the next line feed, to `size` bytes or to the end."""
        limit = -1 if size is None else size
        line = bytearray()
        while limit < 0 or len(line) < limit:
            if not self._buffered and not self._fill():
                break
            end = self._buffered.find(b"\n") + 1 or len(self._buffered)
            if limit >= 0:
                end = min(end, limit - len(line))
            line += self._take(end)
            if line.endswith(b"\n"):
                break
        return bytes(line)

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

    def _read_some(self, size: int) -> bytes:
        if not self._buffered:
            self._fill()
        return self._take(len(self._buffered) if size < 0 else size)

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffered[:size])
        del self._buffered[:size]
        return data

    # -- for the server

    def buffer(self, max_bytes: int) -> None:
        """Read ahead until `max_bytes` are buffered or the body is complete.

        :raises HTTPException: as reading does
        """
        self._refuse_when_too_large(self._content_length or 0)
        while len(self._buffered) < max_bytes and self._fill():
            pass

    def leaves_connection_usable(self) -> bool:
        """Whether, as far as is known now, another request can follow this one."""
        if self._failed:
            return False
        if self._send_continue is not None:  # then the rest may come, or not
            return self._decoder.complete
        return self._decoder.missing_bytes - len(self._reader.unread) <= _MAX_DROPPED_BYTES

    def finish(self) -> bool:
        """Read the rest, as far as that is worth it; whether the connection can be used for another request."""
        if not self.leaves_connection_usable():
            return False
        dropped = 0
        try:
            while dropped <= _MAX_DROPPED_BYTES and self._fill():
                dropped += len(self._buffered)
                self._buffered.clear()
        except HTTPException:
            return False
        return self._decoder.complete

    def _fill(self) -> bool:
        """Buffer some more of the body; False when there is none."""
        if self._failed:
            raise BadRequest("The request's body could not be read.")
        try:
            return self._decode_more()
        except RequestRefused as exc:
            error: HTTPException = BadRequest(exc.reason)
        except PeerTooSlow:
            error = RequestTimeout()
        except ConnectionLost:
            error = ClientDisconnected()
        except HTTPException as exc:
            error = exc
        self._failed = True
        raise error

    def _decode_more(self) -> bool:
        self._refuse_when_too_large(self._content_length or 0)
        while not self._decoder.complete:
            data = self._decoder.decode(self._reader)
            if data:
                self._received += len(data)
                self._refuse_when_too_large(self._received)
                self._buffered += data
                return True
            if not self._decoder.complete:
                self._wait()
        return False

    def _wait(self) -> None:
        if self._send_continue is not None:
            self._send_continue()
            self._send_continue = None
        allowance_s = self._pace.allowance_s(self._received, self._waited_s)
        if allowance_s <= 0:
            raise PeerTooSlow("the body comes too slowly")
        transport = self._reader.transport
        started_at = monotonic()
        transport.deadline = started_at + allowance_s
        if not self._reader.more():
            raise ConnectionLost("the body ends too early")
        transport.deadline = float("inf")
        self._waited_s += monotonic() - started_at

    def _refuse_when_too_large(self, size: int) -> None:
        if size > self._max_bytes:
            raise RequestEntityTooLarge()
