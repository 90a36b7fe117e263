"""What h11 and llhttp, by themselves, make of the bytes of a client: they must see its messages end where we do."""

from __future__ import annotations

import h11
import httptools

Message = tuple[str, str, bytes]

SEEDS = [
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /a?b=c HTTP/1.1\r\nHost: h:80\r\nX-A: b\r\nAccept: */*\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\nhello world",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n4;a=b\r\nwrld\r\n0\r\nX: a\r\n\r\n",
    b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n00a\r\n0123456789\r\n0\r\n\r\n",
    b"PUT /d HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /e HTTP/1.1\r\nHost: h\r\nContent-Length: 33\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST /f HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
]


class Llhttp:
    """The messages that llhttp sees by itself."""

    def __init__(self, data: bytes) -> None:
        self.messages: list[Message] = []
        self._target = self._body = b""
        self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            pass  # the messages before it count

    def on_message_begin(self) -> None:
        self._target = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        self.messages.append((method, self._target.decode("latin-1"), self._body))


def h11_messages(data: bytes) -> list[Message]:
    """The messages that h11 sees, up to the first of HTTP/1.0: it never keeps a connection after that."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=100_000)
    connection.receive_data(data)
    connection.receive_data(b"")
    messages = []
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                messages.append((request.method.decode(), request.target.decode("latin-1"), body))
                connection.send(h11.Response(status_code=204, headers=[]))
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
            else:
                return messages
    except (h11.RemoteProtocolError, h11.LocalProtocolError):
        return messages


def disagreement(data: bytes, requests: list[Message]) -> str | None:
    """In what another parser differs about `requests`, the messages that were accepted in `data`; None if in nothing.

    They may accept more. h11 may accept less after a message of HTTP/1.0.
    """
    agreed = len(requests)
    theirs = h11_messages(data)
    if theirs[:agreed] != requests and not (b"HTTP/1.0" in data and theirs == requests[: len(theirs)]):
        return f"h11 sees {theirs}, we {requests}"
    theirs = Llhttp(data).messages
    if theirs[:agreed] != requests:
        return f"llhttp sees {theirs}, we {requests}"
    return None
