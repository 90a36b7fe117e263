"""What an application answers cannot break the protocol, and what goes wrong in it is not told to strangers."""

from __future__ import annotations

import logging
import re

import pytest
from werkzeug.wrappers import Request, Response

from nameko.concurrency import Timeout
from nameko.web.handlers import HttpRequestHandler, http
from nameko.web.server import WebServer

INJECTION = "\r\nX-Evil: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


class Service:
    name = "service"

    @http("GET", "/status/<int:which>")
    def status(self, request: Request, which: int) -> object:
        return ["200 OK" + INJECTION, "200 OK\nX: y", "OK", 99, 1000, "100 Continue", "200 \u2603"][which], "body"

    @http("GET", "/header/<int:which>")
    def header(self, request: Request, which: int) -> object:
        value = ["a" + INJECTION, "a\nb", "a\rb", "a\0b", "\u2603"][which]
        return 200, {"X-Header": value}, "body"

    @http("GET", "/name/<int:which>")
    def header_name(self, request: Request, which: int) -> object:
        name = ["X" + INJECTION, "X Y", "X:", "", "X\u2603", "X\n"][which]
        return 200, {name: "value"}, "body"

    @http("GET", "/response/<int:which>")
    def response(self, request: Request, which: int) -> object:
        response = Response("body")
        if which == 0:
            response.status = "200 OK" + INJECTION
        else:
            response.headers._list.append(("X-Header", "a" + INJECTION))
        return response

    @http("GET", "/latin-1")
    def latin_1(self, request: Request) -> object:
        return 200, {"X-Header": "gr\xfc\xdfe\tx"}, "body"

    @http("GET", "/redirect")
    def redirect(self, request: Request) -> object:
        return 302, {"Location": "/caf\xe9?q=\u2603"}, ""

    @http("GET", "/")
    def ping(self, request: Request) -> str:
        return "pong"


@pytest.fixture
def service(serve):
    return serve(Service)


@pytest.mark.parametrize(
    "path",
    [
        *[f"/status/{which}" for which in range(7)],
        *[f"/header/{which}" for which in range(5)],
        *[f"/name/{which}" for which in range(6)],
        *[f"/response/{which}" for which in range(2)],
    ],
)
def test_answer_that_cannot_be_sent(service, caplog, path):
    with caplog.at_level(logging.ERROR), service.connect() as raw:
        raw.send(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        response = raw.response()
        assert response.status == 500
        match = re.fullmatch(r"Error: Internal Server Error: ([0-9a-f]{16})\n", response.text)
        assert match
        assert "x-evil" not in response.headers
        assert raw.response().text == "pong"
    assert match[1] in caplog.text


def test_latin_1_is_sent_as_it_is(service):
    response = service.get("/latin-1")
    assert (response.status, response.headers["x-header"]) == (200, "gr\xfc\xdfe\tx")


def test_location_is_encoded(service):
    assert service.get("/redirect").headers["location"] == "/caf%C3%A9?q=%E2%98%83"


# -- WSGI applications that misbehave


def serve_wsgi(serve, app):
    class Server(WebServer):
        def get_wsgi_app(self):
            return app

    class Wsgi:
        name = "wsgi"

        @type("Handler", (HttpRequestHandler,), {"server": Server()}).decorator("GET", "/unused")
        def unused(self, request):
            return ""

    return serve(Wsgi)


@pytest.mark.parametrize("exc", [ValueError("private"), Timeout(None, ValueError("private")), Timeout()])
def test_application_that_raises(serve, caplog, exc):
    def app(environ, start_response):
        raise exc

    with caplog.at_level(logging.ERROR):
        response = serve_wsgi(serve, app).get("/x")
    if isinstance(exc, Timeout):
        exc.cancel()
    assert response.status == 500
    assert "private" not in response.text
    assert "GET /x" in caplog.text


def test_application_that_raises_after_it_has_begun(serve, caplog):
    def app(environ, start_response):
        start_response("200 OK", [("X-First", "1")])
        yield b""
        raise ValueError("private")

    with caplog.at_level(logging.ERROR):
        response = serve_wsgi(serve, app).get("/")
    assert response.status == 500
    assert "x-first" not in response.headers
    assert "private" in caplog.text


def test_application_that_raises_in_the_middle_of_the_body(serve, caplog):
    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"half"
        raise ValueError("private")

    service = serve_wsgi(serve, app)
    with caplog.at_level(logging.ERROR), service.connect() as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        received = raw.read_to_end()
    assert received.endswith(b"4\r\nhalf\r\n")
    assert "private" in caplog.text


@pytest.mark.parametrize(
    "headers",
    [
        [("Content-Length", "4"), ("Content-Length", "4")],
        [("Content-Length", "four")],
        [("Content-Length", "-4")],
        [("X", "a\r\nb")],
    ],
)
def test_fields_that_cannot_be_sent(serve, headers):
    def app(environ, start_response):
        start_response("200 OK", headers)
        return [b"body"]

    assert serve_wsgi(serve, app).get("/").status == 500


def test_no_response(serve):
    assert serve_wsgi(serve, lambda environ, start_response: []).get("/").status == 500
    assert serve_wsgi(serve, lambda environ, start_response: [b"x"]).get("/").status == 500


def test_start_response_twice(serve):
    def app(environ, start_response):
        start_response("200 OK", [])
        start_response("201 Created", [])
        return []

    assert serve_wsgi(serve, app).get("/").status == 500


def test_body_longer_than_announced(serve):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "4")])
        return [b"bo", b"dy and more", b" and more"]

    service = serve_wsgi(serve, app)
    with service.connect() as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert raw.response().body == b"body"
        assert raw.closed()


def test_body_shorter_than_announced(serve, caplog):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "10")])
        return [b"body"]

    service = serve_wsgi(serve, app)
    with caplog.at_level(logging.ERROR), service.connect() as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        with pytest.raises(EOFError):
            raw.response()
    assert "the body has 4 bytes, 10 were announced" in caplog.text
