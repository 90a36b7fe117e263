"""WebSocket messages over a transport (RFC 6455): frames, fragments, pings, the closing handshake; for both sides."""

from __future__ import annotations

import base64
import hashlib
import math
import os
import struct
from collections import deque
from time import monotonic

from nameko import concurrency
from nameko.web._errors import ConnectionLost, PeerTooSlow
from nameko.web._transport import Transport

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

# Status codes of section 7.4.
NORMAL, GOING_AWAY, PROTOCOL_ERROR, NO_STATUS, INVALID_DATA, TOO_BIG = 1000, 1001, 1002, 1005, 1007, 1009

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MAX_CONTROL_BYTES = 125
# What may wait for a peer that does not take it.
_MAX_OUTBOX_BYTES = 4 * 1024 * 1024
_CLOSING_TIMEOUT_S = 2


class Violation(Exception):
    """The peer does not keep to the protocol, or exceeds a limit.

    :param code: the status code to close the connection with
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def accept_key(key: str) -> str:
    """`Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def encode_frame(opcode: int, payload: bytes, masked: bool) -> bytes:
    """One complete frame; clients have to mask theirs."""
    size = len(payload)
    mask_bit = 0x80 if masked else 0
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, mask_bit | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, mask_bit | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, mask_bit | 127, size)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + apply_mask(payload, mask)


def apply_mask(data: bytes, mask: bytes) -> bytes:
    """Mask or unmask `data`."""
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


class WebSocket:
    """An open WebSocket connection.

    Messages may be sent from any greenthread, and are queued for a peer that is slow; they are received in one.

    :param unread: what was read of the connection before it became a WebSocket
    :param is_client: which side this is
    :param max_message_bytes: the largest message that is accepted, in one frame or several
    :param idle_timeout_s: the connection is given up when the peer is silent for that long; halfway it gets a ping
    """

    def __init__(
        self, transport: Transport, unread: bytes, is_client: bool, max_message_bytes: int, idle_timeout_s: float
    ) -> None:
        self._transport = transport
        self._unread = bytearray(unread)
        self._is_client = is_client
        self._max_message_bytes = max_message_bytes
        self._idle_timeout_s = idle_timeout_s
        self._outbox: deque[bytes] = deque()
        self._outbox_bytes = 0
        self._flushing = False
        self._close_sent = False
        self._over = False

    # -- sending

    def send(self, message: str | bytes) -> None:
        """Send a message. Does not wait for the peer to take it.

        :raises ConnectionLost: when the connection is closed, or the peer is too far behind
        """
        if self._close_sent or self._over:
            raise ConnectionLost("the websocket is closed")
        if isinstance(message, str):
            self._enqueue(TEXT, message.encode())
        else:
            self._enqueue(BINARY, message)

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Begin to close the connection: `receive` ends it when the peer has answered, or does not in two seconds."""
        if not self._close_sent and not self._over:
            self._enqueue(CLOSE, struct.pack("!H", code) + reason.encode()[: _MAX_CONTROL_BYTES - 2])
            self._close_sent = True
            self._transport.deadline = monotonic() + _CLOSING_TIMEOUT_S

    def _enqueue(self, opcode: int, payload: bytes) -> None:
        frame = encode_frame(opcode, payload, masked=self._is_client)
        self._outbox.append(frame)
        self._outbox_bytes += len(frame)
        if self._outbox_bytes > _MAX_OUTBOX_BYTES and len(self._outbox) > 1:
            self._end()
            raise ConnectionLost("the peer does not take its messages")
        if not self._flushing:
            self._flushing = True
            concurrency.spawn_detached(self._flush)

    def _flush(self) -> None:
        try:
            while self._outbox:
                data = b"".join(self._outbox)
                self._outbox.clear()
                self._transport.send(data)
                self._outbox_bytes -= len(data)
        except ConnectionLost:
            self._end()
        finally:
            self._flushing = False

    def _end(self) -> None:
        self._over = True
        self._transport.close()

    # -- receiving

    def receive(self) -> str | bytes | None:
        """The next message; None when the connection is over.

        Answers pings on the way. A peer that breaks the rules is told so, and its connection closed.
        """
        try:
            message = self._message()
        except Violation as violation:
            self._give_up(violation)
            message = None
        except ConnectionLost:
            message = None
        self._over = message is None
        return message

    def _give_up(self, violation: Violation) -> None:
        try:
            self.close(violation.code, str(violation))
            while self._transport.recv():
                pass
        except ConnectionLost:
            pass

    def _message(self) -> str | bytes | None:
        opcode = CONTINUATION
        message = b""
        while True:
            final, frame_opcode, payload = self._frame(len(message))
            if frame_opcode >= CLOSE:
                if self._control(frame_opcode, payload):
                    return None
                continue
            if (frame_opcode == CONTINUATION) != (opcode != CONTINUATION):
                raise Violation(PROTOCOL_ERROR, "fragments out of order")
            opcode = opcode or frame_opcode
            message += payload
            if final and not self._close_sent:
                return _decoded(opcode, message)
            if final:
                opcode, message = CONTINUATION, b""

    def _control(self, opcode: int, payload: bytes) -> bool:
        """Act upon a control frame; whether the connection is over."""
        if opcode == PING and not self._close_sent:
            self._enqueue(PONG, payload)
        if opcode != CLOSE:
            return False
        code = _close_code(payload)
        if not self._close_sent:
            self.close(NORMAL if code == NO_STATUS else code)
            self._wait_for_flush()
        return True

    def _wait_for_flush(self) -> None:
        deadline = monotonic() + _CLOSING_TIMEOUT_S
        while self._flushing and monotonic() < deadline:
            concurrency.sleep(0.001)

    def _frame(self, message_bytes: int) -> tuple[bool, int, bytes]:
        first, second = self._exactly(2)
        opcode = first & 0x0F
        if first & 0x70:
            raise Violation(PROTOCOL_ERROR, "reserved bits are set")
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise Violation(PROTOCOL_ERROR, f"unknown opcode {opcode}")
        if bool(second & 0x80) == self._is_client:
            raise Violation(PROTOCOL_ERROR, "masked by the server" if self._is_client else "not masked")
        final = bool(first & 0x80)
        size = self._size(second & 0x7F)
        if opcode >= CLOSE and (size > _MAX_CONTROL_BYTES or not final):
            raise Violation(PROTOCOL_ERROR, "control frame too large or in fragments")
        if message_bytes + size > self._max_message_bytes and opcode < CLOSE:
            raise Violation(TOO_BIG, f"messages may have {self._max_message_bytes} bytes")
        mask = self._exactly(4) if not self._is_client else b""
        payload = self._exactly(size)
        return final, opcode, apply_mask(payload, mask) if mask else payload

    def _size(self, short: int) -> int:
        if short < 126:
            return short
        size = int.from_bytes(self._exactly(2 if short == 126 else 8), "big")
        if size < 126 or (short == 127 and size < 1 << 16):
            raise Violation(PROTOCOL_ERROR, "length not in its shortest form")
        return size

    def _exactly(self, size: int) -> bytes:
        while len(self._unread) < size:
            self._unread += self._recv()
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data

    def _recv(self) -> bytes:
        """More bytes; keeps the connection alive, or finds out that it is not, meanwhile."""
        try:
            data = self._recv_within(self._idle_timeout_s / 2)
        except PeerTooSlow:
            if self._close_sent:
                raise
            self._enqueue(PING, b"")
            data = self._recv_within(self._idle_timeout_s / 2)
        if not data:
            raise ConnectionLost("the peer left")
        return data

    def _recv_within(self, timeout_s: float) -> bytes:
        if not self._close_sent:  # closing has a deadline of its own
            self._transport.deadline = monotonic() + timeout_s
        data = self._transport.recv()
        if not self._close_sent:
            self._transport.deadline = math.inf
        return data


def _decoded(opcode: int, message: bytes) -> str | bytes:
    if opcode == BINARY:
        return message
    try:
        return message.decode()
    except UnicodeDecodeError:
        raise Violation(INVALID_DATA, "text that is not UTF-8") from None


def _close_code(payload: bytes) -> int:
    if not payload:
        return NO_STATUS
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or not (code in (*range(1000, 1004), *range(1007, 1015)) or 3000 <= code < 5000):
        raise Violation(PROTOCOL_ERROR, "invalid close frame")
    _decoded(TEXT, payload[2:])
    return code
