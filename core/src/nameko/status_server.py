"""Pages about the process, such as its metrics: on an address of their own, and on the web server of a service.

For extensions that plugins attach to every service. All of a process that name the same address share one small
server, which is there from the first to the last of them. It runs in greenthreads of its own and occupies no worker,
so it answers while all of them are busy. It takes GET and HEAD requests without a body, one for each connection;
what it reads, for how long and from how many at once is bounded.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from http import HTTPStatus
from logging import getLogger
from typing import TYPE_CHECKING, Any

from nameko import concurrency
from nameko._status_http import answer, refusal
from nameko.addresses import Address, parse_address
from nameko.concurrency import socket
from nameko.exceptions import ConfigurationError
from nameko.unix_sockets import bind_privately
from nameko.worker_processes import worker_count, worker_index
from nameko.wsgi import WsgiApplication, wsgi_hosts

if TYPE_CHECKING:
    from nameko.containers import ServiceContainer

_log = getLogger(__name__)

#: Seconds from a connection's start to its end, whatever its peer does.
CONNECTION_TIMEOUT_S = 10.0
#: Connections at once; more wait to be accepted.
MAX_CONNECTIONS = 32

_BACKLOG = 128
# Seconds until the next try when accepting fails, for want of file descriptors for example.
_PAUSE_S = 1.0
_PATH = re.compile(r"(?:/[A-Za-z0-9\-._~]+)+")


class StatusPage:
    """A WSGI application below a path, to be served in several places; `close()` ends that.

    :param app: has the rest of the path in `PATH_INFO`, as `nameko.wsgi` has it
    :param path: such as `/metrics`
    :param path_key: the configuration key that the path comes from, for errors
    :raises ConfigurationError: when the path cannot be one
    """

    def __init__(self, app: WsgiApplication, path: str, path_key: str) -> None:
        if _PATH.fullmatch(path) is None:
            raise ConfigurationError(f"{path_key} must be a path like `/status` or `/a/b`, not {path!r}")
        self._app = app
        self._path = path
        self._path_key = path_key
        self._places = ExitStack()

    def mount(self, container: ServiceContainer) -> None:
        """Serve it on the web server of the container, if it has one. To be called from an extension's `setup()`.

        :raises ConfigurationError: when something else has the path
        """
        for host in wsgi_hosts(container):
            try:
                host.mount(self._path, self._app)
            except ValueError as exc:
                raise ConfigurationError(f"{self._path_key}: {exc}") from exc

    def listen(self, address: str | int, key: str) -> None:
        """Serve it on an address of its own; of several worker processes, each has one (`Address.of_worker`).

        :param key: the configuration key that the address comes from, for errors
        :raises ConfigurationError: when the address is none, or cannot be listened on
        """
        server = _servers.lease(parse_address(address, key).of_worker(worker_index()), key)
        self._places.callback(_servers.give_back, server)
        if all(path != self._path for path, _ in server.pages):  # one line, however many services
            _log.info("%s: listening on %s%s", key, server.address, self._path)
        page = (self._path, self._app)
        server.pages.append(page)
        self._places.callback(server.pages.remove, page)

    def close(self) -> None:
        """Serve it on no address of its own any more. Harmless when called again."""
        self._places.close()


class _Servers:
    # The servers of this process, each with the number of those who use it. A listening socket belongs to the process
    # and the thread with the hub that made it.

    def __init__(self) -> None:
        self._leased: dict[Any, tuple[_Server, int]] = {}

    def lease(self, address: Address, key: str) -> _Server:
        place = (os.getpid(), concurrency.current_hub(), address)
        if place not in self._leased:
            self._check_room(address, key)
            self._leased[place] = (_Server(address, key, place), 0)
        server, count = self._leased[place]
        self._leased[place] = (server, count + 1)
        return server

    def _check_room(self, address: Address, key: str) -> None:
        # Each of several processes has the ports of the first one plus its number: ranges that overlap leave all but
        # the first processes without a port, and nobody but this would say so to the first one.
        for _, _, other in self._leased:
            if 0 < abs(address.port - other.port) < worker_count() and address.host == other.host:
                raise ConfigurationError(
                    f"{key}: {address} is too close to {other}, as each of {worker_count()} worker processes "
                    "takes the port after that of the one before: use one address for both, or leave room"
                )

    def give_back(self, server: _Server) -> None:
        _, count = self._leased[server.place]
        if count > 1:
            self._leased[server.place] = (server, count - 1)
        else:
            del self._leased[server.place]
            server.close()


class _Server:
    # Listens from its making on.

    def __init__(self, address: Address, key: str, place: Any) -> None:
        self.place = place
        self._listener = _listen(address, key)
        port = address.port if address.unix_path is not None else self._listener.getsockname()[1]
        self.address = address._replace(port=port)
        self.pages: list[tuple[str, WsgiApplication]] = []  # of several at one path the last one counts
        self._free = concurrency.Semaphore(MAX_CONNECTIONS)
        self._threads: set[Any] = set()
        self._spawn(self._accept)

    def close(self) -> None:
        for thread in list(self._threads):
            thread.kill()
        self._listener.close()
        if self.address.unix_path is not None:
            try:
                os.unlink(self.address.unix_path)
            except FileNotFoundError:  # somebody tidied up
                pass

    def _spawn(self, fn: Any, *args: Any) -> Any:
        thread = concurrency.spawn_task(fn, *args)
        self._threads.add(thread)
        thread.link(self._threads.discard)
        return thread

    def _accept(self) -> None:
        while True:
            self._free.acquire()
            try:
                sock, _ = self._listener.accept()
            except OSError as exc:
                _log.warning("%s: no connection can be accepted for now: %s", self.address, exc)
                self._free.release()
                concurrency.sleep(_PAUSE_S)
            else:
                self._spawn(self._serve, sock).link(self._finish, sock)

    def _serve(self, sock: Any) -> None:
        sock.settimeout(CONNECTION_TIMEOUT_S)
        try:
            with concurrency.cancel_after(CONNECTION_TIMEOUT_S, TimeoutError("took too long")):
                sock.sendall(answer(sock.recv, self._respond))
                sock.shutdown(socket.SHUT_WR)
        except OSError as exc:  # of a peer who has gone, or is too slow
            _log.debug("%s: a connection was given up: %s", self.address, exc)

    def _finish(self, _: Any, sock: Any) -> None:
        sock.close()
        self._free.release()

    def _respond(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        for mounted, app in reversed(self.pages):
            if path == mounted or path.startswith(f"{mounted}/"):
                return app({**environ, "SCRIPT_NAME": mounted, "PATH_INFO": path[len(mounted) :]}, start_response)
        known = ", ".join(sorted({mounted for mounted, _ in self.pages}))
        return refusal(HTTPStatus.NOT_FOUND, f"there is only: {known}")(environ, start_response)


def _listen(address: Address, key: str) -> Any:
    try:
        return _listen_tcp(address) if address.unix_path is None else _listen_unix(address.unix_path)
    except OSError as exc:
        remedy = "; each process needs an address of its own" if exc.errno == errno.EADDRINUSE else ""
        raise ConfigurationError(f"{key}: cannot listen on {address}: {exc.strerror or exc}{remedy}") from exc


def _listen_tcp(address: Address) -> Any:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    # A name such as `localhost` may stand for both: most who connect to it expect IPv4.
    family, kind, protocol, _, target = min(found, key=lambda each: each[0] != socket.AF_INET)
    with ExitStack() as on_failure:
        sock = on_failure.enter_context(socket.socket(family, kind, protocol))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(target)
        sock.listen(_BACKLOG)
        on_failure.pop_all()
    return sock


def _listen_unix(path: str) -> Any:
    with ExitStack() as on_failure:
        sock = on_failure.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        bind_privately(sock, path)
        sock.listen(_BACKLOG)
        on_failure.pop_all()
    return sock


#: Those of this process.
_servers = _Servers()
