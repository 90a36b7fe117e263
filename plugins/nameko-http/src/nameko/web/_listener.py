"""Listening sockets, and accepting connections: going on when that fails, and waiting when there are too many."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable
from logging import getLogger
from time import monotonic
from typing import Any

from nameko import concurrency
from nameko.concurrency import ReadWatch
from nameko.exceptions import ConfigurationError
from nameko.unix_sockets import remove_stale
from nameko.web._address import BindAddress
from nameko.worker_processes import worker_count

_log = getLogger("nameko.web.server")

_BACKLOG = 2048
# accept() fails with these when the process, or the system, is out of something; it comes right when others let go.
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE_S = 0.1
# Then others get their turn.
_ACCEPTED_AT_ONCE = 64
_COMPLAINT_INTERVAL_S = 1

socket = concurrency.original("socket")


def listen(address: BindAddress) -> Any:
    """A non-blocking listening socket.

    :raises ConfigurationError: when it cannot listen there, with the reason, and the remedy where it is in use
    """
    path = address.unix_path
    try:
        sock = _listen_unix(path) if path is not None else _listen_tcp(address)
    except OSError as exc:
        in_use = exc.errno == errno.EADDRINUSE
        remedy = " Each service with HTTP entrypoints needs an address of its own." if in_use else ""
        raise ConfigurationError(f"WEB_SERVER_ADDRESS: cannot listen on {address}: {_reason(exc)}.{remedy}") from exc
    sock.setblocking(False)
    return sock


def _reason(exc: OSError) -> str:
    return os.strerror(exc.errno).lower() if isinstance(exc.errno, int) and exc.errno > 0 else str(exc)


def _listen_tcp(address: BindAddress) -> Any:
    host = address.address or "0.0.0.0"
    found = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # A name such as `localhost` may stand for both: most who connect to it expect IPv4.
    family, kind, protocol, _, target = min(found, key=lambda each: each[0] != socket.AF_INET)
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
        if worker_count() > 1:  # each has a queue of its own, and the kernel deals connections out to them
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(target)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _listen_unix(path: str) -> Any:
    if worker_count() > 1:
        raise ConfigurationError(
            f"WEB_SERVER_ADDRESS: several processes cannot share the Unix socket {path}: "
            "use a TCP address with --workers, or one worker."
        )
    remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:  # somebody tidied up
        pass


class Acceptor:
    """Accepts connections, from the hub, as many at once as may be open.

    :param sock: the listening socket, which it closes at the end
    :param handle: called with each connection's socket and its address; must not block
    :param max_connections: how many may be open at once
    :param open_connections: how many are
    """

    def __init__(
        self,
        sock: Any,
        handle: Callable[[Any, Any], None],
        max_connections: int,
        open_connections: Callable[[], int],
    ) -> None:
        self._sock = sock
        self._handle = handle
        self._max_connections = max_connections
        self._open_connections = open_connections
        self._watch = ReadWatch(sock.fileno(), self._on_readable)
        self._complained_at = -math.inf
        self._closed = False

    def start(self) -> None:
        """Accept until `close()`."""
        if not self._closed:
            self._watch.resume()

    def close(self) -> None:
        """Stop accepting and close the listening socket. Harmless when called again."""
        if not self._closed:
            self._closed = True
            self._watch.pause()
            if self._sock.family == socket.AF_UNIX:
                _remove(self._sock.getsockname())
            self._sock.close()

    def _on_readable(self, _: int) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            if self._open_connections() >= self._max_connections:
                self._pause(f"{self._max_connections} connections are open (WEB_SERVER_MAX_CONNECTIONS)")
                return
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                # Whatever it is: a process that has stopped accepting is worse than one that tries again.
                resource = "out of file descriptors or memory: " if exc.errno in _EXHAUSTED else ""
                self._pause(f"{resource}{_reason(exc)}")
                return
            self._take(sock, address)

    def _take(self, sock: Any, address: Any) -> None:
        sock.setblocking(False)
        try:
            self._handle(sock, address)
        except Exception as exc:
            concurrency.spawn_detached(_log.error, "a connection could not be handled", exc_info=exc)
            sock.close()

    def _pause(self, reason: str) -> None:
        self._watch.pause()
        concurrency.schedule(_PAUSE_S, self.start)
        now = monotonic()
        if now - self._complained_at >= _COMPLAINT_INTERVAL_S:
            self._complained_at = now
            # From the hub, which must not wait; a log handler may.
            concurrency.spawn_detached(_log.warning, "no new connections are accepted for now: %s", reason)
