"""The server: all connections of one listening socket, their deadlines, and their orderly end."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from nameko import concurrency
from nameko.concurrency import GreenletExit
from nameko.web._access_log import AccessLog
from nameko.web._connection import Application, Connection
from nameko.web._environ import connection_environ
from nameko.web._settings import HttpSettings
from nameko.web._transport import Pace, SocketTransport, Transport

# How often deadlines are looked at: the precision of every timeout, as long as the timeouts themselves are not shorter.
_SWEEP_INTERVAL_S = 0.5


class HttpServer:
    """Serves the connections of one listening socket.

    :param sock: the listening socket
    :param serve: what answers the requests
    :raises ConfigurationError: when the TLS settings are of no use
    """

    def __init__(self, sock: Any, serve: Application, settings: HttpSettings) -> None:
        self._serve = serve
        self._settings = settings
        self._wrap: Callable[[Transport], Transport] = _plain
        self._scheme = "http"
        if settings.ssl is not None:
            from nameko.web._tls import tls_wrapper  # most services are spared what that imports

            self._wrap = tls_wrapper(settings.ssl)
            self._scheme = "https"
        self._access_log = None if settings.access_log == "off" else AccessLog(settings.access_log)
        self._pace = Pace(settings.stall_timeout_s, settings.header_timeout_s, settings.min_rate_bytes_per_s)
        self._connections: dict[Connection, Any] = {}  # to their greenthreads
        # WSGI must have a name and a port, even for a Unix socket.
        self._local = _host_and_port(sock.getsockname(), ("localhost", 80))
        self._draining = False
        self._closed = False
        self._sweeping = False
        shortest_s = min(settings.header_timeout_s, settings.keepalive_timeout_s, settings.stall_timeout_s)
        self._sweep_interval_s = min(_SWEEP_INTERVAL_S, shortest_s / 4)

    def process_request(self, client: tuple[Any, Any]) -> None:
        """Serve the requests of one connection, in the calling greenthread, until it is closed.

        :param client: the connected, non-blocking socket and the address of its peer
        """
        sock, address = client
        if self._closed:
            return
        transport = self._wrap(SocketTransport(sock, self._pace))
        environ = connection_environ(self._local, _host_and_port(address, ("", 0)), self._scheme)
        connection = Connection(transport, self._serve, environ, self._settings, self._pace, self._access_log)
        self._connections[connection] = concurrency.current()
        self._start_sweeping()
        if self._draining:
            connection.drain()
        try:
            connection.run()
        except GreenletExit:
            pass  # by `close`
        finally:
            del self._connections[connection]

    # -- deadlines

    def _start_sweeping(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            concurrency.schedule(self._sweep_interval_s, self._sweep)

    def _sweep(self) -> None:
        now = monotonic()
        for connection in self._connections:
            if connection.transport.deadline < now:
                connection.transport.expire()
        self._sweeping = False
        if self._connections:
            self._start_sweeping()

    # -- the end

    def drain(self) -> None:
        """Close idle connections, and the others after the response that is under way."""
        self._draining = True
        for connection in list(self._connections):
            connection.drain()

    def close(self) -> None:
        """Close all connections at once, and those to come."""
        self._closed = True
        for greenthread in list(self._connections.values()):
            concurrency.kill(greenthread)


def _plain(transport: Transport) -> Transport:
    return transport


def _host_and_port(address: Any, of_unix_socket: tuple[str, int]) -> tuple[str, int]:
    return (address[0], address[1]) if isinstance(address, tuple) else of_unix_socket
