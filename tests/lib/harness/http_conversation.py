"""A connection served without a network: what the server makes of the bytes of a client."""

from __future__ import annotations

import math
import re
from typing import Any

from nameko.web._connection import Connection
from nameko.web._environ import connection_environ
from nameko.web._response import ResponseWriter
from nameko.web._settings import HttpSettings
from nameko.web._transport import Pace


class MemoryTransport:
    """The server's side of a connection whose client has sent everything already, in the given pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.deadline = math.inf
        self._pieces = [piece for piece in pieces if piece]
        self.sent = b""
        self.closed = False

    def recv(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def send(self, data: bytes) -> None:
        self.sent += data

    def expire(self) -> None:
        raise AssertionError("nobody waits")

    def shut_down_sending(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class Conversation:
    """What a connection made of the bytes of a client.

    :ivar requests: method, target and body of each request that the application got to see in full
    :ivar refused: the status with which something was refused; None when nothing was
    :ivar sent: all that the client would get to see
    """

    def __init__(self, pieces: list[bytes], settings: HttpSettings) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        transport = MemoryTransport(pieces)
        pace = Pace(settings.stall_timeout_s, settings.header_timeout_s, 0)
        environ = connection_environ(("server", 80), ("client", 1), "http")
        Connection(transport, self._answer, environ, settings, pace, None).run()
        assert transport.closed
        self.sent = transport.sent
        refusals = re.findall(rb"HTTP/1\.1 ([45]\d\d) ", self.sent)
        self.refused = int(refusals[0]) if refusals else None

    def _answer(self, environ: dict[str, Any], writer: ResponseWriter) -> None:
        body = environ["wsgi.input"].read()
        self.requests.append((environ["REQUEST_METHOD"], environ["REQUEST_URI"], body))
        writer.send_whole("200 OK", [], b"ok")
