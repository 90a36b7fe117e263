"""A response on the wire: its head, checked and in one piece, and its body with the framing that fits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from email.utils import formatdate
from http import HTTPStatus
from time import time
from typing import Any

from nameko.web._head import RequestHead
from nameko.web._transport import Transport

Headers = list[tuple[str, str]]

# A body up to this size goes out in one piece with its head.
_JOINED_BYTES = 64 * 1024

_STATUS = re.compile(r"[1-9][0-9]{2} [\t\x20-\x7e\x80-\xff]*")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)

# Framing and the connection are the server's own affair: what the application says there is not passed on.
_OF_THE_CONNECTION = frozenset({"connection", "transfer-encoding", "keep-alive"})
_OF_INTEREST = frozenset({"content-length", "date"}) | _OF_THE_CONNECTION

# Name of a response's field -> itself in lower case if it is of interest, else nothing. Bounded like every cache.
_names: dict[str, str] = {}
_MAX_NAMES = 1000


class InvalidResponse(Exception):
    """The application answered with something that cannot be put on the wire as it is."""


class _Clock:
    """The Date field, made anew once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = ""

    def line(self) -> str:
        now = int(time())
        if now != self._second:
            self._second = now
            self._line = f"Date: {formatdate(now, usegmt=True)}\r\n"
        return self._line


date_line = _Clock().line


def plain_text(status: int, text: str) -> bytes:
    """A complete response of plain text, after which the connection is closed."""
    body = f"{text}\n".encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n{date_line()}\r\n"
    )
    return head.encode() + body


def encode_fields(headers: Iterable[tuple[str, str]]) -> tuple[str, dict[str, str]]:
    """The lines of `headers`, and those of them that matter to the server, by their names in lower case.

    :raises InvalidResponse: when one cannot be sent, or the length is given twice
    """
    lines = ""
    control: dict[str, str] = {}
    for name, value in headers:
        interest = _names.get(name)
        if interest is None:
            interest = _check_name(name)
        if not (value.isascii() and value.isprintable()) and _VALUE.fullmatch(value) is None:
            raise InvalidResponse(f"header field {name!r} has a value that cannot be sent: {value!r}")
        if interest:
            if interest == "content-length" and interest in control:
                raise InvalidResponse("more than one Content-Length")
            control[interest] = value
            if interest in _OF_THE_CONNECTION:
                continue
        lines += f"{name}: {value}\r\n"
    return lines, control


def _check_name(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise InvalidResponse(f"header field with a name that cannot be sent: {name!r}")
    interest = name.lower() if name.lower() in _OF_INTEREST else ""
    if len(_names) < _MAX_NAMES:
        _names[name] = interest
    return interest


class ResponseWriter:
    """Writes the response to one request.

    Serves a WSGI application as `start_response`; `send_whole` is the short way for a response whose body is at hand.

    :param request: what is answered
    :param keep_alive: whether the connection may be used again, as far as the server is concerned
    :param reusable: tells, when the response begins, whether the request leaves the connection in a state for that
    """

    __slots__ = (
        "_chunked", "_expected", "_has_body", "_headers", "_request",
        "_reusable", "_transport",
        "head_sent", "keep_alive", "sent_bytes", "status",
    )  # fmt: skip

    def __init__(
        self, transport: Transport, request: RequestHead, keep_alive: bool, reusable: Callable[[], bool] = lambda: True
    ) -> None:
        self._reusable = reusable
        self._transport = transport
        self._request = request
        self._headers: Headers = []
        self._has_body = True
        self._chunked = False
        self._expected: int | None = None
        #: The code and the reason; empty as long as the application has not given one.
        self.status = ""
        #: Whether the connection can be used for another request after this response.
        self.keep_alive = keep_alive and request.keep_alive
        #: Whether it is too late for another response.
        self.head_sent = False
        #: How much of the body went out.
        self.sent_bytes = 0

    # -- the short way

    def send_whole(self, status: str, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        """Send a response that is complete; `headers` need not, but may, give its length.

        :param status: any but 1xx, 204 and 304, which have no body
        :raises InvalidResponse: when status or headers cannot be sent
        """
        self.status = status
        lines, control = encode_fields(headers)
        announced = control.get("content-length")
        if announced is None:
            lines = f"{lines}Content-Length: {len(body)}\r\n"
        if self._request.method == "HEAD":
            body = b""
        elif announced is not None and announced != str(len(body)):
            raise InvalidResponse(f"the body has {len(body)} bytes, {announced} were announced")
        head = self._head(lines, control)
        self.sent_bytes = len(body)
        self._send_together(head, body)

    # -- WSGI

    def start_response(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], None]:
        """See PEP 3333."""
        if exc_info is not None:
            try:
                if self.head_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.status:
            raise InvalidResponse("start_response was called twice")
        self.status = status
        self._headers = list(headers)
        return self.write

    def send_body(self, body: Iterable[bytes]) -> None:
        """Send what the application returned, piece by piece as it comes, and finish the response.

        :raises InvalidResponse: when status or headers cannot be sent, or the body is shorter than announced
        """
        if self.status.startswith("101"):
            return  # not a response but the end of HTTP on this connection: the connection sees to it
        length = len(body[0]) if isinstance(body, (list, tuple)) and len(body) == 1 else None
        for data in body:
            if data:
                self._write(data, length)
        self._finish()

    def write(self, data: bytes) -> None:
        """Send a piece of the body."""
        self._write(data, None)

    def _write(self, data: bytes, total: int | None) -> None:
        head = b"" if self.head_sent else self._begin(total)
        self._send_together(head, self._framed(data) if self._has_body else b"")

    def _framed(self, data: bytes) -> bytes:
        if self._expected is not None and self.sent_bytes + len(data) > self._expected:
            self.keep_alive = False  # more than announced would be read as the next response
            data = data[: self._expected - self.sent_bytes]
        self.sent_bytes += len(data)
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked and data else data

    def _finish(self) -> None:
        head = b"" if self.head_sent else self._begin(0)
        self._send_together(head, b"0\r\n\r\n" if self._chunked else b"")
        if self._has_body and self._expected is not None and self.sent_bytes < self._expected:
            self.keep_alive = False
            raise InvalidResponse(f"the body has {self.sent_bytes} bytes, {self._expected} were announced")

    def _begin(self, total: int | None) -> bytes:
        """The head of a response whose body has `total` bytes; None when that is not known."""
        if not self.status:
            raise InvalidResponse("the application did not call start_response")
        lines, control = encode_fields(self._headers)
        self._has_body = self._request.method != "HEAD" and self.status[:3] not in ("204", "304")
        return self._head(lines + self._framing(control.get("content-length"), total), control)

    def _framing(self, announced: str | None, total: int | None) -> str:
        if announced is not None:
            if _LENGTH.fullmatch(announced) is None:
                raise InvalidResponse(f"bad Content-Length {announced!r}")
            self._expected = int(announced)
        elif self._has_body:
            if total is not None:
                self._expected = total
                return f"Content-Length: {total}\r\n"
            if self._request.version == "1.1":
                self._chunked = True
                return "Transfer-Encoding: chunked\r\n"
            self.keep_alive = False  # the end of the connection is the end of the body
        return ""

    # -- both

    def _head(self, lines: str, control: dict[str, str]) -> bytes:
        status = self.status
        if _STATUS.fullmatch(status) is None or status[0] == "1":
            raise InvalidResponse(f"bad status {status!r}")
        if "close" in control.get("connection", "").lower() or not self._reusable():
            self.keep_alive = False
        if not self.keep_alive:
            lines = f"{lines}Connection: close\r\n"
        elif self._request.version == "1.0":
            lines = f"{lines}Connection: keep-alive\r\n"
        date = "" if "date" in control else date_line()
        head = f"HTTP/1.1 {status}\r\n{lines}{date}\r\n".encode("latin-1")
        self.head_sent = True
        return head

    def _send_together(self, head: bytes, data: bytes) -> None:
        if len(data) > _JOINED_BYTES:
            if head:
                self._transport.send(head)
            self._transport.send(data)
        elif head or data:
            self._transport.send(head + data)
