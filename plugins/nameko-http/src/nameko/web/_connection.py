"""One connection: request after request, each read, handed to the application and answered, in one greenthread."""

from __future__ import annotations

import io
import logging
import math
from time import monotonic, perf_counter
from typing import Protocol

from werkzeug.exceptions import HTTPException

from nameko.concurrency import Timeout
from nameko.web._access_log import AccessLog
from nameko.web._body import Reader, RequestBody
from nameko.web._environ import Environ, request_environ
from nameko.web._errors import ConnectionLost, PeerTooSlow, RequestRefused
from nameko.web._failures import internal_server_error
from nameko.web._head import RequestHead, Witness, check_beginning, parse_head
from nameko.web._response import ResponseWriter, date_line, encode_fields, plain_text
from nameko.web._settings import HttpSettings
from nameko.web._transport import Pace, Transport
from nameko.web._werkzeug import send_response
from nameko.wsgi import WsgiApplication

_log = logging.getLogger("nameko.web.server")

#: Key of the environment: call it with the header fields of a 101 response and a `SwitchedProtocol`.
SWITCH_PROTOCOL = "nameko.switch_protocol"

_END_OF_HEAD = b"\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# How long, and how much, is read from a client after a response that it may not have seen because it still sends:
# closing at once would make its system throw the response away.
_LINGER_S = 2
_LINGER_BYTES = 64 * 1024 * 1024


class SwitchedProtocol(Protocol):
    """What goes on with a connection after `101 Switching Protocols`."""

    def run(self, transport: Transport, unread: bytes) -> None:
        """Speak it until the connection is over; `unread` has arrived already."""

    def drain(self) -> None:
        """Come to an end soon."""


class Application(Protocol):
    """What answers requests: writes the response to `environ` with `writer`."""

    def __call__(self, environ: Environ, writer: ResponseWriter) -> None: ...


def serve_wsgi(app: WsgiApplication) -> Application:
    """An `Application` that runs the WSGI application `app`."""

    def serve(environ: Environ, writer: ResponseWriter) -> None:
        body = app(environ, writer.start_response)
        try:
            writer.send_body(body)
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()

    return serve


class Connection:
    """A connection and what is under way on it.

    :param transport: its bytes
    :param serve: the application
    :param environ: what the environments of its requests have in common
    :ivar idle: whether it waits for a request of which nothing has arrived yet
    """

    def __init__(
        self,
        transport: Transport,
        serve: Application,
        environ: Environ,
        settings: HttpSettings,
        pace: Pace,
        access_log: AccessLog | None,
    ) -> None:
        self.transport = transport
        self.idle = True
        self._serve = serve
        self._environ = environ
        self._settings = settings
        self._always_fitting_bytes = min(settings.max_request_line_bytes, settings.max_header_bytes)
        self._pace = pace
        self._access_log = access_log
        self._reader = Reader(transport)
        self._draining = False
        self._last_head: RequestHead | None = None
        self._writer: ResponseWriter | None = None
        self._switch: tuple[list[tuple[str, str]], SwitchedProtocol] | None = None

    def run(self) -> None:
        """Serve requests until either side has had enough, then close the connection."""
        try:
            self.transport.deadline = monotonic() + self._settings.header_timeout_s
            while self._serve_one():
                self.transport.deadline = monotonic() + self._settings.keepalive_timeout_s
            self.transport.shut_down_sending()
        except RequestRefused as exc:
            self._refuse(exc)
        except ConnectionLost as exc:
            _log.debug("connection lost: %s", exc)
        except Exception:
            _log.exception("a connection failed")
        finally:
            self.transport.close()

    def drain(self) -> None:
        """Close the connection after the response that is under way; at once when there is none."""
        self._draining = True
        if self._writer is not None:
            self._writer.keep_alive = False
        if self._switch is not None:
            self._switch[1].drain()
        elif self.idle:
            self.transport.close()

    # -- one request

    def _serve_one(self) -> bool:
        """Serve the next request; whether there may be another one."""
        data = self._read_head()
        if data is None:
            return False
        head, witness = parse_head(data, self._settings.max_header_fields, self._last_head)
        self._last_head = head
        environ = request_environ(self._environ, head)
        body = environ["wsgi.input"] = self._body(head, witness)
        environ[SWITCH_PROTOCOL] = self._switch_protocol
        if type(body) is RequestBody:
            writer = ResponseWriter(self.transport, head, not self._draining, body.leaves_connection_usable)
        else:
            writer = ResponseWriter(self.transport, head, not self._draining)
        self._writer = writer
        if self._access_log is None:
            self._answer(environ, writer)
        else:
            self._answer_and_log(environ, writer, self._access_log)
        if self._switch is not None:
            self._switch_now(*self._switch)
            return False
        if type(body) is RequestBody and not body.finish():
            self._linger()
            return False
        return writer.keep_alive

    def _answer_and_log(self, environ: Environ, writer: ResponseWriter, access_log: AccessLog) -> None:
        started_at = perf_counter()
        try:
            self._answer(environ, writer)
        finally:
            access_log.record(environ, writer.status, writer.sent_bytes, perf_counter() - started_at)

    def _answer(self, environ: Environ, writer: ResponseWriter) -> None:
        try:
            self._serve(environ, writer)
            if not writer.head_sent and self._switch is None:
                raise RuntimeError("no response was given")
        except ConnectionLost:
            raise
        except (Exception, Timeout) as exc:
            self._answer_failure(exc, environ, writer)

    def _answer_failure(self, exc: BaseException, environ: Environ, writer: ResponseWriter) -> None:
        if isinstance(exc, HTTPException) and not writer.head_sent:
            response = exc.get_response(environ)
        else:
            response = internal_server_error(exc, f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        if writer.head_sent:
            # Half of a response is out. Only a broken connection tells the client that the rest will not come.
            raise ConnectionLost("a response could not be finished")
        writer.status = ""
        send_response(response, environ, writer)

    # -- reading it

    def _read_head(self) -> bytes | None:
        reader = self._reader
        if not reader.unread and not self._wait_for_request():
            return None
        self.idle = False
        end = reader.unread.find(_END_OF_HEAD)
        if end < 0:
            end = self._read_rest_of_head()
            if end < 0:
                return None
        self.transport.deadline = math.inf
        data = reader.take(end + len(_END_OF_HEAD))
        if len(data) > self._always_fitting_bytes:
            self._check_size(data)
        return data

    def _wait_for_request(self) -> bool:
        self.idle = True
        self._writer = None
        if self._draining:
            return False
        try:
            return self._reader.more()
        except PeerTooSlow:  # it has asked for nothing, so it gets no answer
            return False

    def _read_rest_of_head(self) -> int:
        """Where the head ends; less than 0 when the client left before."""
        reader = self._reader
        self.transport.deadline = min(self.transport.deadline, monotonic() + self._settings.header_timeout_s)
        checked = 0
        while True:
            check_beginning(reader.unread, checked)
            self._check_size(reader.unread)
            checked = len(reader.unread)
            try:
                if not reader.more():
                    return -1
            except PeerTooSlow:
                raise RequestRefused(408, "The request took too long") from None
            end = reader.unread.find(_END_OF_HEAD, max(0, checked - 3))
            if end >= 0:
                return end

    def _check_size(self, data: bytes) -> None:
        max_line_bytes = self._settings.max_request_line_bytes
        line_end = data.find(b"\r\n", 0, max_line_bytes + 2)
        if line_end < 0 and len(data) > max_line_bytes:
            raise RequestRefused(414, "The request line is too long")
        if len(data) - line_end > self._settings.max_header_bytes:
            raise RequestRefused(431, "The header fields are too large")

    def _body(self, head: RequestHead, witness: Witness | None) -> io.BytesIO | RequestBody:
        length = head.content_length
        reader = self._reader
        if length == 0:
            return io.BytesIO()
        if length is not None and length <= len(reader.unread) and length <= self._settings.max_body_bytes:
            return io.BytesIO(reader.take(length))
        send_continue = self._send_continue if head.expects_continue else None
        return RequestBody(reader, witness, length, self._settings.max_body_bytes, self._pace, send_continue)

    def _send_continue(self) -> None:
        self.transport.send(_CONTINUE)

    # -- ends

    def _refuse(self, refusal: RequestRefused) -> None:
        _log.debug("request refused with %d: %s", refusal.status, refusal.reason)
        if self._access_log is not None:
            self._access_log.record(self._environ, str(refusal.status), 0, 0)
        try:
            self.transport.send(plain_text(refusal.status, refusal.reason))
            self._linger()
        except ConnectionLost:
            pass

    def _linger(self) -> None:
        self.transport.shut_down_sending()
        self.transport.deadline = monotonic() + _LINGER_S
        read_bytes = 0
        try:
            while read_bytes < _LINGER_BYTES and (data := self.transport.recv()):
                read_bytes += len(data)
        except ConnectionLost:
            pass

    def _switch_protocol(self, fields: list[tuple[str, str]], protocol: SwitchedProtocol) -> None:
        self._switch = (fields, protocol)

    def _switch_now(self, fields: list[tuple[str, str]], protocol: SwitchedProtocol) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        encode_fields(fields)  # for its checks: it leaves out the fields of the connection, which matter here
        self.transport.send(f"HTTP/1.1 101 Switching Protocols\r\n{lines}{date_line()}\r\n".encode("latin-1"))
        protocol.run(self.transport, self._reader.take(len(self._reader.unread)))
