"""One HTTP request for a page about the process, and the response to it.

It is a GET or HEAD request without a body, and its size is bounded.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from io import BytesIO
from logging import getLogger
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.handlers import SimpleHandler

from nameko.wsgi import WsgiApplication

_log = getLogger("nameko.status_server")

#: Bytes of a request, which consists of a request line and header fields.
MAX_REQUEST_BYTES = 8 * 1024

_REQUEST_LINE = re.compile(rb"([A-Z]+) (/[!-~]*) HTTP/1\.[01]")
_END_OF_HEAD = b"\r\n\r\n"
# What PEP 3333 requires; `wsgiref` adds the rest.
_ENVIRON: Mapping[str, str] = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/",
    "QUERY_STRING": "",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.0",
}


class _Refused(Exception):
    # A request that is answered with this status.
    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


def answer(read: Callable[[int], bytes], app: WsgiApplication) -> bytes:
    """The response of `app` to a request; after it, the connection is to be closed.

    :param read: reads so many bytes at most; none when there will be no more
    :raises ConnectionError: when the request is not complete
    """
    try:
        environ = _parse(_read_head(read))
    except _Refused as refused:
        return _response(
            refusal(refused.status, "only GET and HEAD, with few header fields, are answered"), dict(_ENVIRON)
        )
    response = _response(app, {**environ, "REQUEST_METHOD": "GET"})
    if environ["REQUEST_METHOD"] == "HEAD":
        return response.partition(_END_OF_HEAD)[0] + _END_OF_HEAD
    return response


def refusal(status: HTTPStatus, text: str) -> WsgiApplication:
    """An application that answers anything with `status` and a line of text."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        headers = [("Content-Type", "text/plain; charset=utf-8")]
        if status is HTTPStatus.METHOD_NOT_ALLOWED:  # RFC 9110, 15.5.6
            headers.append(("Allow", "GET, HEAD"))
        start_response(f"{status.value} {status.phrase}", headers)
        return [f"{text}\n".encode()]

    return app


def _read_head(read: Callable[[int], bytes]) -> bytes:
    head = b""
    while _END_OF_HEAD not in head:
        if len(head) >= MAX_REQUEST_BYTES:
            raise _Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        data = read(MAX_REQUEST_BYTES - len(head))
        if not data:
            raise ConnectionError("closed within a request")
        head += data
    return head.partition(_END_OF_HEAD)[0]


def _parse(head: bytes) -> dict[str, str]:
    request_line, *fields = head.split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(request_line)
    if match is None:
        raise _Refused(HTTPStatus.BAD_REQUEST)
    method, target = match[1].decode(), match[2].decode()
    if method not in ("GET", "HEAD"):
        raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED)
    path, _, query = target.partition("?")
    named = (field.decode("latin-1").partition(":") for field in fields)
    return {
        **_ENVIRON,
        "REQUEST_METHOD": method,
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),  # as PEP 3333 has it
        "QUERY_STRING": query,
        **{f"HTTP_{name.upper().replace('-', '_')}": value.strip() for name, _, value in named},
    }


def _response(app: WsgiApplication, environ: dict[str, str]) -> bytes:
    output = BytesIO()
    _InMemory(output, environ).run(app)
    return output.getvalue()


class _InMemory(SimpleHandler):
    # Runs a WSGI application, which leaves a response in memory: only the socket's owner waits for a peer.

    def __init__(self, output: BytesIO, environ: dict[str, str]) -> None:
        super().__init__(BytesIO(), output, sys.stderr, environ)
        self.os_environ = {}  # the process's own is nothing to an application

    def log_exception(self, exc_info: Any) -> None:
        _log.error("the page %s cannot be shown", self.base_env["PATH_INFO"], exc_info=exc_info)
