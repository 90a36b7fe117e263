"""The socket under a connection, with or without TLS, for many greenthreads at once.

- It works whether the process is monkey patched or not.
- It reads what there is, in large pieces.
- What is written is gathered and handed to the kernel once per turn of the hub, whole frames after whole frames: any
  number of greenthreads may write, none of them waits, and their frames never mix.
"""

from __future__ import annotations

import errno
import os
import socket as stdlib_socket  # constants and exceptions only
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from amqp.transport import AMQP_PROTOCOL_HEADER, to_host_port
from nameko import concurrency
from nameko.amqp import wire
from nameko.amqp.tls import TlsSession, make_context

#: More than this unsent, and publishers hold back.
CONGESTED_BYTES = 1024 * 1024

_READ_BYTES = 65536
_READ_BYTES_MAX = 1024 * 1024
# Keep-alive of idle connections by the kernel, in seconds, for connections without heartbeats.
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 9}


class LateFrames(Protocol):
    """Frames that are made when they are sent, out of what has come together until then."""

    def __len__(self) -> int:
        """About how many bytes they are."""

    def encode(self) -> bytes:
        """The frames, for good."""


class GreenTransport:
    """A socket, with or without TLS, for one connection.

    :param host: `host:port`
    :param connect_timeout_s: for one address
    :param tls: options for `make_context`; None for no TLS
    :param user_timeout_s: drop the connection when sent data is not acknowledged for so long; None leaves it to the
        kernel
    """

    def __init__(
        self,
        host: str,
        *,
        connect_timeout_s: float | None = None,
        tls: dict[str, Any] | None = None,
        user_timeout_s: float | None = None,
    ) -> None:
        self.host, self.port = to_host_port(host)
        self.connected = False
        self.sock: Any = None
        self.last_read_at = 0.0  # monotonic
        self.last_written_at = 0.0
        self.unsent_bytes = 0
        self.on_relieved: Callable[[], None] | None = None  # no longer congested
        self._connect_timeout_s = connect_timeout_s
        self._user_timeout_s = user_timeout_s
        self._tls_options = tls
        self._tls: TlsSession | None = None
        self._unsent: list[bytes | LateFrames] = []
        self._watch: concurrency.ReadWatch | None = None
        self._reader: Any = None  # the greenthread that waits for something to read
        self._closed = False
        self._flushing = False  # a flush is due, or a flusher is at work
        self._flusher: Any = None
        self._error: OSError | None = None
        # Held while something is sent, and while the socket is closed: another native thread may send a heartbeat.
        self._send_lock = concurrency.original("threading").Lock()
        self._cut_off = b""  # the rest of a heartbeat, of which the kernel took only a part

    @property
    def congested(self) -> bool:
        """Whether the broker takes less than it is sent."""
        return self.unsent_bytes > CONGESTED_BYTES

    # -- connecting

    def connect(self) -> None:
        """Connect, shake hands for TLS, and send the protocol header.

        :raises OSError: when that fails
        :raises ConfigurationError: when the TLS options cannot work
        """
        self.sock = self._connect()
        try:
            self._set_options(self.sock)
            if self._tls_options is not None:
                self._tls = self._shake_hands(dict(self._tls_options))
            self.connected = True
            self.last_read_at = monotonic()
            self.write(AMQP_PROTOCOL_HEADER)
        except BaseException:
            self.close()
            raise

    def _connect(self) -> Any:
        error: OSError | None = None
        for family, kind, protocol, _, address in concurrency.socket.getaddrinfo(
            self.host, self.port, stdlib_socket.AF_UNSPEC, stdlib_socket.SOCK_STREAM, stdlib_socket.IPPROTO_TCP
        ):
            sock = concurrency.non_blocking_socket(family, kind, protocol)
            try:
                self._connect_to(sock, address)
            except OSError as exc:
                sock.close()
                error = exc
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise error or OSError(f"no address for {self.host}")

    def _connect_to(self, sock: Any, address: Any) -> None:
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            _wait(concurrency.wait_writable, sock, self._connect_timeout_s)
            code = sock.getsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_ERROR)
        if code not in (0, errno.EISCONN):
            raise OSError(code, os.strerror(code))

    def _set_options(self, sock: Any) -> None:
        sock.setsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NODELAY, 1)
        sock.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_KEEPALIVE, 1)
        options = dict(_KEEPALIVE)
        if self._user_timeout_s is not None:
            options["TCP_USER_TIMEOUT"] = int(self._user_timeout_s * 1000)
        for name, value in options.items():
            option = getattr(stdlib_socket, name, None)  # not every system has them all
            if option is not None:
                sock.setsockopt(stdlib_socket.IPPROTO_TCP, option, value)

    def _shake_hands(self, options: dict[str, Any]) -> TlsSession:
        server_hostname = options.get("server_hostname") or self.host
        session = TlsSession(make_context(options), server_hostname)
        complete = False
        while not complete:
            complete = session.handshake()
            self._send_all(session.encrypt(b""))
            if not complete:
                session.receive(self._receive(_READ_BYTES, self._connect_timeout_s))
        return session

    def _send_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                _wait(concurrency.wait_writable, self.sock, self._connect_timeout_s)

    # -- reading

    def read(self, wanted: int, timeout_s: float | None) -> bytes:
        """What the broker sent, as soon as there is anything; empty when only a part of a TLS record has come.

        :param wanted: how many bytes would be of use; at least a large piece is read in any case
        :raises TimeoutError: when there is nothing within `timeout_s`
        :raises OSError: when the connection is gone
        """
        data = self._receive(min(max(wanted, _READ_BYTES), _READ_BYTES_MAX), timeout_s)
        self.last_read_at = monotonic()
        if self._tls is None:
            return data
        plain = self._tls.decrypt(data)
        if self._tls.has_outgoing:  # an answer to a key update
            self._put(b"")
        return plain

    def _receive(self, size: int, timeout_s: float | None) -> bytes:
        sock = self.sock
        if sock is None:
            raise self._error or ConnectionResetError(errno.ENOTCONN, "not connected")
        # Waiting first gives way to every other greenthread, however fast the broker sends.
        if timeout_s is None:
            self._await_readable(sock)
        else:
            _wait(self._await_readable, sock, timeout_s)
        if self._closed:
            raise self._error or ConnectionResetError(errno.ENOTCONN, "closed")
        try:
            data: bytes = sock.recv(size)
        except BlockingIOError:
            raise TimeoutError("woken without data") from None
        if not data:
            raise self._error or ConnectionResetError(errno.ECONNRESET, "the broker closed the connection")
        return data

    def _await_readable(self, sock: Any, _: float | None = None) -> None:
        # The socket stays registered from one wait to the next.
        if self._watch is None:
            self._watch = concurrency.ReadWatch(sock.fileno(), self._wake_reader)
        self._watch.resume()
        self._reader = concurrency.current()
        try:
            concurrency.park()
        finally:
            self._reader = None

    def _wake_reader(self, _: int) -> None:
        reader = self._reader
        if reader is None:  # nobody waits just now
            assert self._watch is not None
            self._watch.pause()
        else:
            reader.switch()

    # -- writing

    def write(self, data: bytes | LateFrames) -> None:
        """Send `data`, whole frames, soon. Never blocks.

        :raises OSError: when the connection is known to be gone
        """
        if not self.connected:
            raise self._error or ConnectionResetError(errno.ENOTCONN, "not connected")
        self._put(data)

    def _put(self, data: bytes | LateFrames) -> None:
        self._unsent.append(data)
        self.unsent_bytes += len(data)
        if not self._flushing:
            self._flushing = True
            concurrency.soon(self._flush)

    def _flush(self) -> None:
        # Called by the hub: everything that was written in one turn goes out in one piece.
        if not self.connected or self._flusher is not None:
            return
        data = self._take()
        with self._send_lock:
            if self._cut_off:
                data, self._cut_off = self._cut_off + data, b""
            try:
                sent = self.sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as exc:
                self._fail(exc)
                return
            if sent < len(data):
                self._flusher = concurrency.spawn(self._flush_slowly, memoryview(data)[sent:])
        self.last_written_at = monotonic()
        if self._flusher is None:
            was_congested = self.congested
            self.unsent_bytes = 0
            self._flushing = False
            if was_congested:  # who is told may log, and a log handler wait, which the hub must not
                concurrency.spawn_detached(self._tell_relieved)
        else:
            self.unsent_bytes = len(data) - sent

    def _take(self) -> bytes:
        unsent, self._unsent = self._unsent, []
        parts = [each if isinstance(each, bytes) else each.encode() for each in unsent]
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        return data if self._tls is None else self._tls.encrypt(data)

    def _flush_slowly(self, view: memoryview) -> None:
        # The kernel's buffer is full: go on as the broker reads.
        try:
            while True:
                concurrency.wait_writable(self.sock)
                try:
                    view = view[self.sock.send(view) :]
                except BlockingIOError:
                    continue
                self.last_written_at = monotonic()
                if not view:
                    if not self._unsent:
                        break
                    view = memoryview(self._take())
                self.unsent_bytes = len(view) + sum(map(len, self._unsent))
                self._tell_relieved()
        except OSError as exc:
            self._flusher = None
            self._fail(exc)
            return
        self._flusher = None
        self._flushing = False
        self.unsent_bytes = 0
        self._tell_relieved()

    def _tell_relieved(self) -> None:
        if self.on_relieved is not None and not self.congested:
            self.on_relieved()

    def send_heartbeat_aside(self) -> None:
        """Send a heartbeat from another native thread, for a hub that has no turn.

        Nothing is sent where that could do harm: between two parts of a frame, or across TLS, whose state is the
        hub's. Never blocks.
        """
        with self._send_lock:
            if not self.connected or self._tls is not None or self._flusher is not None or self._cut_off:
                return
            try:
                sent = self.sock.send(wire.HEARTBEAT_FRAME)
            except OSError:  # the kernel's buffer is full, or the connection gone, which the hub will find out
                return
            self._cut_off = wire.HEARTBEAT_FRAME[sent:]
            self.last_written_at = monotonic()

    def flush_now(self) -> None:
        """Hand what is written to the kernel, as far as it takes it, before this returns."""
        self._flush()

    def _fail(self, error: OSError) -> None:
        self._error = error
        self.connected = False
        if self.sock is not None:
            _shut_down(self.sock)  # wakes the reader, which tells everybody else

    # -- closing

    def close(self) -> None:
        """Give the socket back at once; what is not sent yet is dropped."""
        with self._send_lock:  # its number must not become another socket's while a heartbeat goes to it
            self.connected = False
            self._closed = True
            sock, self.sock = self.sock, None
        self._unsent = []
        flusher, self._flusher = self._flusher, None
        if flusher is not None:
            flusher.kill()
        if sock is not None:
            _shut_down(sock)
            self._stop_reading()
            sock.close()

    def _stop_reading(self) -> None:
        if self._watch is not None:
            self._watch.pause()  # before the descriptor is closed
        reader = self._reader
        if reader is not None and reader is not concurrency.current():
            concurrency.soon(self._tell_closed, reader)

    def _tell_closed(self, reader: Any) -> None:
        if self._reader is reader:
            reader.switch()


def _shut_down(sock: Any) -> None:
    try:
        sock.shutdown(stdlib_socket.SHUT_RDWR)
    except OSError:  # gone already
        pass


def _wait(wait: Callable[[Any, float | None], None], sock: Any, timeout_s: float | None) -> None:
    timeout = concurrency.Timeout(timeout_s) if timeout_s is not None else None
    try:
        wait(sock, None)
    except concurrency.Timeout as exc:
        if exc is not timeout:
            raise
        raise TimeoutError(errno.ETIMEDOUT, "the broker did not answer in time") from None
    finally:
        if timeout is not None:
            timeout.cancel()
