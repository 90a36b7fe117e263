"""A service on a port of its own, and clients that see every byte of its answers."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from typing import Any

import pytest

from harness.http_conversation import Conversation
from nameko.concurrency import socket
from nameko.containers import ServiceContainer
from nameko.plugins import PluginManager
from nameko.web._settings import HttpSettings
from nameko.web.server import BindAddress, WebServer


class Served:
    """A running service."""

    def __init__(self, container: ServiceContainer) -> None:
        self.container = container
        servers = [each for each in container.shared_extensions.values() if isinstance(each, WebServer)]
        self.server = servers[0]
        assert self.server.bound_address is not None
        self.address: BindAddress = self.server.bound_address
        self.url = f"http://{self.address}"

    def connect(self, timeout_s: float = 10) -> Raw:
        """A connection on which to send anything."""
        return Raw((self.address.address, self.address.port), timeout_s)

    def exchange(self, data: bytes) -> list[Response]:
        """Send `data` on a connection of its own, and read the responses until the server closes it."""
        with self.connect() as raw:
            raw.send(data)
            return raw.responses()

    def get(self, path: str, method: str = "GET", body: Any = None, headers: dict[str, str] | None = None) -> Response:
        """One request with the standard library's client."""
        connection = http.client.HTTPConnection(self.address.address, self.address.port, timeout=10)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return Response(answer.status, answer.reason, answer.getheaders(), answer.read())
        finally:
            connection.close()


class Response:
    """A response as it was on the wire, without its framing."""

    def __init__(self, status: int, reason: str, fields: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.reason = reason
        self.fields = fields
        self.headers = {name.lower(): value for name, value in fields}
        self.body = body

    @property
    def text(self) -> str:
        return self.body.decode()

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.headers} {self.body!r}>"


class Raw:
    """A client connection."""

    def __init__(self, address: tuple[str, int], timeout_s: float) -> None:
        self.sock = socket.create_connection(address, timeout=timeout_s)
        self.unread = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all of it was sent: the answer tells

    def recv(self) -> bytes:
        try:
            return self.sock.recv(65536)
        except ConnectionResetError:
            return b""

    def read_to_end(self) -> bytes:
        """All that comes until the server closes the connection."""
        data, self.unread = self.unread, b""
        while part := self.recv():
            data += part
        return data

    def _line(self) -> bytes:
        while b"\r\n" not in self.unread:
            part = self.recv()
            if not part:
                raise EOFError(f"connection closed after {self.unread!r}")
            self.unread += part
        line, self.unread = self.unread.split(b"\r\n", 1)
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self.unread) < size:
            part = self.recv()
            if not part:
                raise EOFError(f"connection closed after {len(self.unread)} of {size} bytes")
            self.unread += part
        data, self.unread = self.unread[:size], self.unread[size:]
        return data

    def response(self, head_only: bool = False) -> Response:
        """The next response; its framing is checked on the way.

        :param head_only: whether it answers HEAD
        """
        version, status, reason = self._line().decode("latin-1").split(" ", 2)
        assert version == "HTTP/1.1"
        fields = []
        while line := self._line():
            name, value = line.decode("latin-1").split(": ", 1)
            fields.append((name, value))
        response = Response(int(status), reason, fields, b"")
        if not head_only and response.status not in (100, 101, 204, 304):
            response.body = self._body(response.headers)
        return response

    def _body(self, headers: dict[str, str]) -> bytes:
        assert not ("transfer-encoding" in headers and "content-length" in headers)
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self._line(), 16):
                body += self._exactly(size)
                assert self._line() == b""
            assert self._line() == b""
            return body
        if "content-length" in headers:
            return self._exactly(int(headers["content-length"]))
        assert headers.get("connection") == "close"
        return self.read_to_end()

    def responses(self) -> list[Response]:
        """All responses until the server closes the connection."""
        found = []
        while True:
            if not self.unread:
                self.unread = self.recv()
                if not self.unread:
                    return found
            found.append(self.response())

    def closed(self) -> bool:
        """Wait for the server to close the connection; False when something comes first."""
        return self.unread == b"" and self.recv() == b""


Serve = Callable[..., Served]


@pytest.fixture
def serve(start_container: Callable[..., ServiceContainer]) -> Serve:
    """`serve(service_cls, plugins=None, **config)` runs a service on a free port of 127.0.0.1."""

    def start(service_cls: type, plugins: PluginManager | None = None, **config: Any) -> Served:
        return Served(start_container(service_cls, {"WEB_SERVER_ADDRESS": "127.0.0.1:0", **config}, plugins))

    return start


@pytest.fixture
def converse() -> Callable[..., Conversation]:
    """`converse(*pieces, **config)`: serve a connection, without a network, that delivers these bytes."""

    def run(*pieces: bytes, **config: Any) -> Conversation:
        return Conversation(list(pieces), HttpSettings.from_config(config))

    return run
