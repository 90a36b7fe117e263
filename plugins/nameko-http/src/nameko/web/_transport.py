"""The bytes of one connection: a non-blocking socket whose reads wait in the hub, with deadlines that others keep.

A socket is registered with the operating system when a read first has to wait, and stays so: per request that saves two
system calls and a listener. Deadlines are a number that the server's sweep looks at, rather than a timer for each read.
"""

from __future__ import annotations

import math
import socket
from time import monotonic
from typing import Any, Protocol

from nameko import concurrency
from nameko.concurrency import ReadWatch, Timeout
from nameko.web._errors import ConnectionLost, PeerTooSlow

READ_BYTES = 64 * 1024


class Pace:
    """How slow a peer may be while it sends or takes a body.

    :param stall_timeout_s: how long nothing at all may happen
    :param grace_s: how long it may be slower than `min_rate`
    :param min_rate_bytes_per_s: what it must reach on average after `grace_s`; 0 for no such rule
    """

    __slots__ = ("grace_s", "min_rate_bytes_per_s", "stall_timeout_s")

    def __init__(self, stall_timeout_s: float, grace_s: float, min_rate_bytes_per_s: int) -> None:
        self.stall_timeout_s = stall_timeout_s
        self.grace_s = grace_s
        self.min_rate_bytes_per_s = min_rate_bytes_per_s

    def allowance_s(self, done_bytes: int, spent_s: float) -> float:
        """How long the peer may take for its next bytes, after `done_bytes` in `spent_s`; 0 or less: it is too slow."""
        if not self.min_rate_bytes_per_s:
            return self.stall_timeout_s
        due_s = self.grace_s + done_bytes / self.min_rate_bytes_per_s
        return min(self.stall_timeout_s, due_s - spent_s)


class Transport(Protocol):
    """The two streams of a connection."""

    #: When a pending `recv` is to be given up, on the monotonic clock. Kept by whoever calls `expire`.
    deadline: float

    def recv(self) -> bytes:
        """The next bytes, up to 64 KiB; none at the end of the stream.

        :raises PeerTooSlow: when `expire` was called meanwhile
        :raises ConnectionLost: when the connection broke or was closed
        """

    def send(self, data: bytes) -> None:
        """Send all of `data`.

        :raises PeerTooSlow: when the peer takes it more slowly than it may
        :raises ConnectionLost: when the connection is gone
        """

    def expire(self) -> None:
        """Give a pending `recv` up: it raises `PeerTooSlow`. Nothing happens when none is pending."""

    def shut_down_sending(self) -> None:
        """Tell the peer that nothing more will come. Does nothing when the connection is gone."""

    def close(self) -> None:
        """Close the connection. A pending `recv` raises `ConnectionLost`; harmless when called again."""


class SocketTransport:
    """A connection over a socket, in plain text.

    :param sock: a connected, non-blocking socket of the standard library
    :param pace: how slow the peer may be in taking what is sent
    """

    __slots__ = ("_blocked_s", "_closed", "_expired", "_pace", "_sent", "_sock", "_waiter", "_watch", "deadline")

    def __init__(self, sock: Any, pace: Pace) -> None:
        self._sock = sock
        self._pace = pace
        self._watch = ReadWatch(sock.fileno(), self._on_readable)
        self._waiter: Any = None
        self._closed = False
        self._expired = False
        self._sent = 0
        self._blocked_s = 0.0
        self.deadline = math.inf

    def recv(self) -> bytes:
        """See `Transport`."""
        while True:
            if self._watch.active:  # then the hub knows first: asking the socket would be in vain
                self._wait()
            try:
                return self._sock.recv(READ_BYTES)  # type: ignore[no-any-return]
            except (BlockingIOError, InterruptedError):
                self._watch.resume()
            except OSError as exc:
                raise ConnectionLost(str(exc)) from None

    def _wait(self) -> None:
        if self._closed:
            raise ConnectionLost("the connection is closed")
        self._waiter = concurrency.current()
        try:
            concurrency.park()
        finally:
            self._waiter = None
        if self._expired:
            self._expired = False
            raise PeerTooSlow("no data in time")
        if self._closed:
            raise ConnectionLost("the connection was closed")

    def _on_readable(self, _: int) -> None:
        if self._waiter is None:
            self._watch.pause()  # nobody reads: what has arrived stays in the kernel, and slows the peer down
        else:
            self._wake()

    def expire(self) -> None:
        """See `Transport`."""
        self.deadline = math.inf
        if self._waiter is not None:
            self._expired = True
            concurrency.schedule(0, self._wake)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.switch()

    def send(self, data: bytes) -> None:
        """See `Transport`."""
        sent = self._send_some(data)
        if sent < len(data):
            self._send_rest(memoryview(data)[sent:])

    def _send_rest(self, rest: memoryview) -> None:
        while rest:
            self._wait_writable()
            rest = rest[self._send_some(rest) :]

    def _send_some(self, data: bytes | memoryview) -> int:
        try:
            sent: int = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as exc:
            raise ConnectionLost(str(exc)) from None
        self._sent += sent
        return sent

    def _wait_writable(self) -> None:
        allowance_s = self._pace.allowance_s(self._sent, self._blocked_s)
        started_at = monotonic()
        try:
            if allowance_s <= 0 or self._closed:
                raise PeerTooSlow("the peer takes its response too slowly")
            concurrency.wait_writable(self._sock, allowance_s)
        except Timeout:
            raise PeerTooSlow("the peer takes its response too slowly") from None
        except OSError as exc:
            raise ConnectionLost(str(exc)) from None
        finally:
            self._blocked_s += monotonic() - started_at

    def shut_down_sending(self) -> None:
        """See `Transport`."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        """See `Transport`."""
        if not self._closed:
            self._closed = True
            self._watch.pause()
            self._sock.close()
            if self._waiter is not None:
                concurrency.schedule(0, self._wake)
