"""py-amqp's connections, bounded in time: each wait ends at a deadline by the wall clock.

py-amqp's own timeouts start again with each piece of data that arrives.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from errno import ETIMEDOUT
from typing import Any

import kombu.transport.pyamqp

import amqp.transport
from amqp.exceptions import UnexpectedFrame
from nameko.amqp.tls import make_context

_FRAME_HEADER = struct.Struct(">BHI")  # type, channel, size of the payload; AMQP 0-9-1, 4.2.3
_FRAME_END = 0xCE
# Far above what brokers agree to (RabbitMQ: 128 KiB); more is no frame but garbage.
_MAX_FRAME_BYTES = 2**24
_CHUNK_BYTES = 65536


class Deadline:
    """The moment by which something must be done.

    :param timeout_s: seconds from now; None for never
    """

    __slots__ = ("_at",)

    def __init__(self, timeout_s: float | None) -> None:
        self._at = None if timeout_s is None else time.monotonic() + timeout_s

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return self._at is not None and time.monotonic() >= self._at

    def remaining_s(self) -> float | None:
        """Seconds left, 0 when it has passed; None for never."""
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    def or_after(self, timeout_s: float | None) -> Deadline:
        """This deadline, or the one in `timeout_s` seconds if that is sooner."""
        remaining_s = self.remaining_s()
        if timeout_s is None or (remaining_s is not None and remaining_s <= timeout_s):
            return self
        return Deadline(timeout_s)

    def share(self, parts: int) -> Deadline:
        """The end of the first of so many equal parts of the time left; this very deadline for one part."""
        remaining_s = self.remaining_s()
        return self if parts == 1 or remaining_s is None else Deadline(remaining_s / parts)


class _BoundedTransport:
    """Mix-in for py-amqp's transports: reads frames out of one buffer; every read and write ends at a deadline."""

    sock: Any
    connected: bool
    connect_timeout: float | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.read_deadline = self.write_deadline = Deadline(None)
        self._received = bytearray()
        super().__init__(*args, **kwargs)

    def _connect(self, host: str, port: int, timeout: float | None) -> None:
        # py-amqp would give as much time to each address of a name, and as much again to TLS.
        deadline = Deadline(timeout)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for left, (family, kind, protocol, _, address) in zip(range(len(found), 0, -1), found, strict=True):
            try:
                self.sock = socket.socket(family, kind, protocol)
                self.sock.settimeout(_time_left(deadline.share(left)))
                self.sock.connect(address)
                break
            except OSError:
                if self.sock is not None:
                    self.sock.close()
                self.sock = None
                if left == 1:
                    raise
        self.connect_timeout = _time_left(deadline)

    def read_frame(self, unpack: object = None) -> tuple[int, int, bytes]:
        """The next frame: type, channel, payload. What has arrived of it when the deadline passes is kept.

        :raises TimeoutError: when the deadline passes before the frame is complete
        """
        received = self._received
        self._receive_until(_FRAME_HEADER.size)
        kind, channel, size = _FRAME_HEADER.unpack_from(received)
        if size > _MAX_FRAME_BYTES:
            raise UnexpectedFrame(f"a frame of {size} bytes")
        end = _FRAME_HEADER.size + size
        self._receive_until(end + 1)
        if received[end] != _FRAME_END:
            raise UnexpectedFrame(f"a frame ends in {received[end]:#04x} rather than {_FRAME_END:#04x}")
        payload = bytes(received[_FRAME_HEADER.size : end])
        del received[: end + 1]
        return kind, channel, payload

    def _receive_until(self, size: int) -> None:
        while len(self._received) < size:
            self.sock.settimeout(self.read_deadline.remaining_s())
            try:
                chunk = self.sock.recv(_CHUNK_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):  # a timeout of 0, and nothing there
                raise TimeoutError from None
            except OSError as exc:
                raise self._failed(exc) from exc
            if not chunk:
                raise self._failed(ConnectionResetError("the broker closed the connection"))
            self._received += chunk

    def write(self, data: Any) -> None:
        """Send all of `data`.

        :raises TimeoutError: when the deadline passes before; the connection is unusable then
        """
        if self.write_deadline.passed:
            raise TimeoutError
        self.sock.settimeout(self.write_deadline.remaining_s())
        try:
            self._write(data)  # type: ignore[attr-defined]
        except BaseException as exc:  # a part may be gone already
            self.connected = False
            if isinstance(exc, OSError):
                raise self._failed(exc) from exc
            raise

    def _failed(self, exc: OSError) -> OSError:
        if isinstance(exc, TimeoutError):
            if exc.errno != ETIMEDOUT:
                return TimeoutError()
            # The kernel gave up on the peer, which is no deadline of ours although Python has one class for both.
            exc = ConnectionResetError(ETIMEDOUT, "the broker does not acknowledge what is sent")
        self.connected = False
        return exc

    def _shutdown_transport(self) -> None:
        # py-amqp would wait for the peer to agree to the end of TLS; AMQP has its own handshake for that.
        pass


def _time_left(deadline: Deadline) -> float | None:
    remaining_s = deadline.remaining_s()
    if remaining_s == 0:  # which sockets take for "do not wait"
        raise TimeoutError
    return remaining_s


class _TcpTransport(_BoundedTransport, amqp.transport.TCPTransport):  # type: ignore[misc]
    pass


class _TlsTransport(_BoundedTransport, amqp.transport.SSLTransport):  # type: ignore[misc]
    def _wrap_socket(self, sock: Any, server_hostname: str, **options: Any) -> Any:
        context = make_context(options)
        return context.wrap_socket(sock, server_hostname=server_hostname, do_handshake_on_connect=False)


class Connection(kombu.transport.pyamqp.Connection):  # type: ignore[misc]
    """A py-amqp connection all of whose waits, those inside of its synchronous methods too, end at `deadline`."""

    _transport: Any

    def __init__(self, *args: Any, connect_timeout: float | None = None, **kwargs: Any) -> None:
        self._deadline = Deadline(connect_timeout)
        super().__init__(*args, connect_timeout=connect_timeout, **kwargs)

    @property
    def deadline(self) -> Deadline:
        """When all that waits here ends."""
        return self._deadline

    @deadline.setter
    def deadline(self, deadline: Deadline) -> None:
        self._deadline = deadline
        if self._transport is not None:
            self._transport.write_deadline = deadline

    def Transport(self, host: str, connect_timeout: float | None, ssl: Any = False, *args: Any, **kwargs: Any) -> Any:
        """The transport; py-amqp calls this."""
        transport_cls = _TlsTransport if ssl else _TcpTransport
        return transport_cls(host, connect_timeout=connect_timeout, ssl=ssl, **kwargs)

    def connect(self, callback: object = None) -> Any:
        """Open the socket and do the handshake. When that fails, no socket stays behind."""
        try:
            return super().connect(callback)
        except BaseException:
            self.collect()
            raise

    def drain_events(self, timeout: float | None = None) -> None:
        """Read until one method has been dispatched.

        :raises TimeoutError: when that takes longer than `timeout` seconds, or than the deadline allows
        :raises UnexpectedFrame: when what comes is no AMQP
        """
        transport = self.transport
        transport.read_deadline = self._deadline.or_after(timeout)
        try:
            while not self.on_inbound_frame(transport.read_frame()):
                pass
        except struct.error as exc:  # py-amqp takes for granted that a frame is as long as what it should hold
            raise UnexpectedFrame(f"a frame without what belongs into it: {exc}") from exc


class Transport(kombu.transport.pyamqp.Transport):  # type: ignore[misc]
    """kombu's transport for RabbitMQ, with these connections."""

    Connection = Connection
