"""HTTP/1.0 and 1.1 on the wire: what is accepted and how it is answered."""

from __future__ import annotations

import gzip
import os
import threading

import pytest
from werkzeug.utils import send_file
from werkzeug.wrappers import Request, Response
from werkzeug.wsgi import wrap_file

from nameko import concurrency
from nameko.web.handlers import HttpRequestHandler, http
from nameko.web.server import WebServer


class Service:
    name = "service"
    streamed: list[str] = []  # noqa: RUF012
    go_on = None
    file_path = ""

    @http("GET,POST,PUT,OPTIONS,DELETE,PATCH", "/echo")
    def echo(self, request: Request) -> Response:
        return Response(request.get_data(), mimetype="application/octet-stream")

    @http("GET,POST", "/ignore")
    def ignore(self, request: Request) -> str:
        return "ignored"

    @http("POST", "/form")
    def form(self, request: Request) -> str:
        upload = request.files["file"]
        return f"{request.form['a']} {upload.filename} {len(upload.read())}"

    @http("POST", "/lines")
    def lines(self, request: Request) -> str:
        stream = request.stream
        return repr([stream.readline(), stream.readline(2), stream.read(3), *stream])

    @http("GET", "/headers")
    def headers(self, request: Request) -> str:
        return repr(sorted((name, value) for name, value in request.headers))

    @http("GET", "/stream")
    def stream(self, request: Request) -> Response:
        def pieces():
            for number in range(3):
                yield f"piece {number};"
                if self.go_on is not None:
                    self.go_on.get()

        return Response(pieces(), mimetype="text/plain")

    @http("GET", "/empty-stream")
    def empty_stream(self, request: Request) -> Response:
        return Response(iter(()), mimetype="text/plain")

    @http("GET", "/empty")
    def empty(self, request: Request) -> str:
        return ""

    @http("GET,POST", "/no-content")
    def no_content(self, request: Request) -> Response:
        return Response(status=204)

    @http("GET", "/not-modified")
    def not_modified(self, request: Request) -> Response:
        return Response("unseen", status=304, headers={"ETag": '"x"'})

    @http("GET", "/large")
    def large(self, request: Request) -> str:
        return "x" * 5_000_000

    @http("GET", "/file")
    def file(self, request: Request) -> Response:
        return send_file(self.file_path, request.environ)

    @http("GET", "/wrapped-file")
    def wrapped_file(self, request: Request) -> Response:
        file = open(self.file_path, "rb")  # noqa: SIM115  # the server closes it
        return Response(wrap_file(request.environ, file), direct_passthrough=True)

    @http("GET", "/cookies")
    def cookies(self, request: Request) -> Response:
        response = Response(repr(sorted(request.cookies.items())))
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    @http("GET", "/hop-by-hop")
    def hop_by_hop(self, request: Request) -> Response:
        return Response("x", headers={"Transfer-Encoding": "gzip", "Keep-Alive": "timeout=5", "Connection": "X-Y"})

    @http("GET", "/close")
    def close(self, request: Request) -> Response:
        return Response("bye", headers={"Connection": "close"})


@pytest.fixture
def service(serve):
    return serve(Service)


def request(line: str, *fields: str, body: bytes = b"") -> bytes:
    return "\r\n".join([line, "Host: example.com", *fields, "", ""]).encode("latin-1") + body


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


# -- connections


def test_keep_alive(service):
    with service.connect() as raw:
        for number in range(3):
            raw.send(request("POST /echo HTTP/1.1", "Content-Length: 1", body=b"%d" % number))
            response = raw.response()
            assert response.body == b"%d" % number
            assert "connection" not in response.headers


def test_connection_close(service):
    (response,) = service.exchange(request("GET /empty HTTP/1.1", "Connection: foo, Close"))
    assert response.headers["connection"] == "close"


def test_http_1_0_closes(service):
    (response,) = service.exchange(b"GET /ignore HTTP/1.0\r\n\r\n")
    assert (response.text, response.headers["connection"]) == ("ignored", "close")


def test_http_1_0_keeps_alive_when_asked_to(service):
    with service.connect() as raw:
        for _ in range(2):
            raw.send(b"GET /ignore HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
            assert raw.response().headers["connection"] == "keep-alive"


def test_http_1_0_stream_ends_with_the_connection(service):
    (response,) = service.exchange(b"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert response.body == b"piece 0;piece 1;piece 2;"
    assert response.headers["connection"] == "close"


def test_pipelining(service):
    with service.connect() as raw:
        raw.send(
            request("POST /echo HTTP/1.1", "Content-Length: 3", body=b"one")
            + request("POST /echo HTTP/1.1", "Transfer-Encoding: chunked", body=chunked(b"tw", b"o"))
            + request("GET /ignore HTTP/1.1")
            + request("GET /nowhere HTTP/1.1")
            + request("POST /ignore HTTP/1.1", "Content-Length: 4", body=b"five")
            + request("GET /empty HTTP/1.1", "Connection: close")
        )
        answers = [(response.status, response.body) for response in raw.responses()]
    assert [status for status, _ in answers] == [200, 200, 200, 404, 200, 200]
    assert [body for status, body in answers if status == 200] == [b"one", b"two", b"ignored", b"ignored", b""]


def test_many_pipelined_requests(service):
    with service.connect() as raw:
        sender = concurrency.spawn(raw.send, request("GET /ignore HTTP/1.1") * 2000)
        assert [raw.response().body for _ in range(2000)] == [b"ignored"] * 2000
        sender.wait()


def test_request_in_single_bytes(service):
    with service.connect() as raw:
        for byte in request("POST /echo HTTP/1.1", "Transfer-Encoding: chunked", body=chunked(b"abc", b"d" * 20)):
            raw.send(bytes([byte]))
            concurrency.sleep(0)
        assert raw.response().body == b"abc" + b"d" * 20


def test_half_closed_client_gets_its_answer(service):
    with service.connect() as raw:
        raw.send(request("GET /ignore HTTP/1.1"))
        raw.sock.shutdown(1)
        assert [response.text for response in raw.responses()] == ["ignored"]


# -- requests


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS", "DELETE", "PATCH"])
def test_body_with_any_method(service, method):
    assert service.get("/echo", method, b"body").body == b"body"


@pytest.mark.parametrize("size", [0, 1, 65536, 3_000_000])
def test_sized_body(service, size):
    data = os.urandom(size)
    assert service.get("/echo", "POST", data).body == data


@pytest.mark.parametrize("size", [0, 1, 65536, 3_000_000])
def test_chunked_body(service, size):
    data = os.urandom(size)
    pieces = (data[start : start + 10000] for start in range(0, size, 10000))
    response = service.get("/echo", "POST", pieces)
    assert response.body == data


def test_chunk_extensions_and_trailers_are_read_over(service):
    body = b'3;name;other="va;lue"\r\nabc\r\n000002\r\nde\r\n0;last\r\nX-Trailer: 1\r\nY: \r\n\r\n'
    with service.connect() as raw:
        raw.send(request("POST /echo HTTP/1.1", "Transfer-Encoding: Chunked", body=body) * 2)
        assert [raw.response().body, raw.response().body] == [b"abcde", b"abcde"]


def test_body_as_a_stream(service):
    data = b"first line\nsecond line\nthird\nfourth"
    expected = repr([b"first line\n", b"se", b"con", b"d line\n", b"third\n", b"fourth"])
    assert service.get("/lines", "POST", data).text == expected
    assert service.get("/lines", "POST", iter([data[:13], data[13:]])).text == expected


def test_multipart_form(service):
    body = (
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nvalue\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\n\r\n'
        + b"x" * 2_000_000
        + b"\r\n--b--\r\n"
    )
    response = service.get("/form", "POST", body, {"Content-Type": "multipart/form-data; boundary=b"})
    assert response.text == "value f.bin 2000000"


def test_encoded_body_is_passed_on_as_it_is(service):
    data = gzip.compress(b"text")
    assert service.get("/echo", "POST", data, {"Content-Encoding": "gzip"}).body == data


def test_streamed_body_beyond_the_buffer(serve):
    service = serve(Service, WEB_SERVER_BODY_BUFFER_BYTES=1000)
    data = os.urandom(500_000)
    assert service.get("/echo", "POST", data).body == data
    pieces = (data[start : start + 7777] for start in range(0, len(data), 7777))
    assert service.get("/echo", "POST", pieces).body == data


def test_small_unread_body_is_skipped(serve):
    service = serve(Service, WEB_SERVER_BODY_BUFFER_BYTES=0)
    with service.connect() as raw:
        raw.send(request("POST /ignore HTTP/1.1", "Content-Length: 50000"))
        assert raw.response().text == "ignored"
        raw.send(b"x" * 50000 + request("GET /empty HTTP/1.1"))
        assert raw.response().body == b""


def test_large_unread_body_costs_the_connection(serve):
    service = serve(Service, WEB_SERVER_BODY_BUFFER_BYTES=0)
    with service.connect() as raw:
        raw.send(request("POST /ignore HTTP/1.1", "Content-Length: 500000", body=b"x" * 500000))
        assert raw.response().text == "ignored"
        assert raw.closed()


def test_expect_continue(service):
    with service.connect() as raw:
        raw.send(request("POST /echo HTTP/1.1", "Content-Length: 4", "Expect: 100-Continue"))
        assert raw.response().status == 100
        raw.send(b"body")
        assert raw.response().body == b"body"
        raw.send(request("GET /empty HTTP/1.1"))
        assert raw.response().status == 200


def test_expect_continue_is_not_answered_when_the_body_is_there(service):
    with service.connect() as raw:
        raw.send(request("POST /echo HTTP/1.1", "Content-Length: 4", "Expect: 100-continue", body=b"body"))
        assert raw.response().body == b"body"


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/headers", 405)])
def test_expect_continue_without_a_route_gets_the_final_answer_at_once(service, path, status):
    with service.connect() as raw:
        raw.send(request(f"POST {path} HTTP/1.1", "Content-Length: 4", "Expect: 100-continue"))
        assert raw.response().status == status
        assert raw.closed()


def test_fields_of_the_request(service):
    with service.connect() as raw:
        raw.send(
            request("GET /headers HTTP/1.1", "X-Twice: a", "x-tWICE:b", "X_Under: no", "X-Space: \t v w \t", "X-Empty:")
        )
        assert raw.response().text == repr(
            [("Host", "example.com"), ("X-Empty", ""), ("X-Space", "v w"), ("X-Twice", "a,b")]
        )


def test_cookies_in_several_fields(service):
    with service.connect() as raw:
        raw.send(request("GET /cookies HTTP/1.1", "Cookie: x=1", "Cookie: y=2; z=3"))
        response = raw.response()
    assert response.text == repr([("x", "1"), ("y", "2"), ("z", "3")])
    assert [value for name, value in response.fields if name == "Set-Cookie"] == ["a=1; Path=/", "b=2; Path=/"]


def test_latin_1_in_a_field(service):
    with service.connect() as raw:
        raw.send(request("GET /headers HTTP/1.1", "X-Text: gr\xfc\xdfe"))
        assert "gr\xfc\xdfe" in raw.response().text


@pytest.mark.parametrize("host", ["example.com", "example.com:80", "127.0.0.1:8000", "[::1]:8000", "a_b.example:", "a"])
def test_valid_hosts(service, host):
    with service.connect() as raw:
        raw.send(f"GET /empty HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert raw.response().status == 200


def test_options_for_the_whole_server(service):
    with service.connect() as raw:
        raw.send(request("OPTIONS * HTTP/1.1"))
        assert raw.response().status == 404


# -- responses


def test_stream_is_sent_as_it_is_produced(serve, monkeypatch):
    monkeypatch.setattr(Service, "go_on", concurrency.Queue())
    service = serve(Service)
    with service.connect() as raw:
        raw.send(request("GET /stream HTTP/1.1"))
        head = raw._line()
        while line := raw._line():
            head += line
        assert b"Transfer-Encoding: chunked" in head
        for number in range(3):
            assert raw._line() == b"8"
            assert raw._line() == b"piece %d;" % number
            Service.go_on.put(None)
        assert [raw._line(), raw._line()] == [b"0", b""]
        raw.send(request("GET /empty HTTP/1.1"))
        assert raw.response().status == 200


def test_empty_stream(service):
    with service.connect() as raw:
        raw.send(request("GET /empty-stream HTTP/1.1") + request("GET /empty HTTP/1.1"))
        assert [raw.response().body, raw.response().body] == [b"", b""]


@pytest.mark.parametrize("path", ["/stream", "/large", "/file", "/wrapped-file", "/empty", "/no-content", "/nowhere"])
def test_head(serve, tmp_path, monkeypatch, path):
    (tmp_path / "file.bin").write_bytes(b"x" * 100)
    monkeypatch.setattr(Service, "file_path", str(tmp_path / "file.bin"))
    service = serve(Service)
    with service.connect() as raw:
        raw.send(request(f"HEAD {path} HTTP/1.1"))
        head = raw.response(head_only=True)
        raw.send(request(f"GET {path} HTTP/1.1"))
        full = raw.response()
    assert head.status == full.status
    assert head.headers.get("content-length") in (full.headers.get("content-length"), None)


@pytest.mark.parametrize(("path", "status"), [("/no-content", 204), ("/not-modified", 304)])
def test_responses_without_a_body(service, path, status):
    with service.connect() as raw:
        raw.send(request(f"GET {path} HTTP/1.1") + request("GET /ignore HTTP/1.1"))
        response = raw.response()
        assert (response.status, response.body) == (status, b"")
        assert "content-length" not in response.headers
        assert "transfer-encoding" not in response.headers
        assert raw.response().text == "ignored"


def test_large_response(service):
    assert service.get("/large").body == b"x" * 5_000_000


@pytest.mark.parametrize("path", ["/file", "/wrapped-file"])
def test_file(serve, tmp_path, monkeypatch, path):
    data = os.urandom(3_000_000)
    (tmp_path / "file.bin").write_bytes(data)
    monkeypatch.setattr(Service, "file_path", str(tmp_path / "file.bin"))
    assert serve(Service).get(path).body == data


def test_range_of_a_file(serve, tmp_path, monkeypatch):
    (tmp_path / "file.bin").write_bytes(bytes(range(100)))
    monkeypatch.setattr(Service, "file_path", str(tmp_path / "file.bin"))
    response = serve(Service).get("/file", headers={"If-None-Match": '"x"'})
    assert response.body == bytes(range(100))
    again = serve(Service).get("/file", headers={"If-None-Match": response.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


def test_framing_and_connection_are_the_servers_affair(service):
    with service.connect() as raw:
        raw.send(request("GET /hop-by-hop HTTP/1.1"))
        response = raw.response()
        assert response.text == "x"
        assert not {"transfer-encoding", "keep-alive", "connection"} & set(response.headers)


def test_application_may_close_the_connection(service):
    with service.connect() as raw:
        raw.send(request("GET /close HTTP/1.1"))
        assert raw.response().headers["connection"] == "close"
        assert raw.closed()


# -- other WSGI applications on the same server


def serve_wsgi(serve, app):
    class Server(WebServer):
        def get_wsgi_app(self):
            return app

    class Service:
        name = "wsgi"

        @type("Handler", (HttpRequestHandler,), {"server": Server()}).decorator("GET", "/")
        def unused(self, request):
            return ""

    return serve(Service)


def test_write_callable(serve):
    def app(environ, start_response):
        write = start_response("200 OK", [("X-Y", "z")])
        write(b"writ")
        write(b"ten ")
        return [b"and", b" returned"]

    assert serve_wsgi(serve, app).get("/").body == b"written and returned"


def test_response_is_closed(serve):
    closed = threading.Event()

    class Body(list):
        def close(self):
            closed.set()

    def app(environ, start_response):
        start_response("200 OK", [])
        return Body([b"body"])

    assert serve_wsgi(serve, app).get("/").body == b"body"
    assert closed.is_set()


def test_start_response_again_with_an_exception(serve):
    def app(environ, start_response):
        start_response("200 OK", [("X-First", "1")])
        try:
            raise ValueError
        except ValueError:
            import sys

            start_response("503 Busy", [("X-Second", "2")], sys.exc_info())
        return [b"busy"]

    response = serve_wsgi(serve, app).get("/")
    assert (response.status, response.reason, response.body) == (503, "Busy", b"busy")
    assert "x-first" not in response.headers


def test_environment(serve):
    seen = {}

    def app(environ, start_response):
        seen.update(environ)
        start_response("200 OK", [])
        return []

    service = serve_wsgi(serve, app)
    service.get("/a%20b/%C3%A9?q=%20", headers={"Content-Type": "text/x", "X-A": "b"})
    assert seen["REQUEST_METHOD"] == "GET"
    assert seen["SCRIPT_NAME"] == ""
    assert seen["PATH_INFO"] == "/a b/\xc3\xa9"
    assert seen["RAW_URI"] == "/a%20b/%C3%A9?q=%20"
    assert seen["QUERY_STRING"] == "q=%20"
    assert seen["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert (seen["SERVER_NAME"], seen["SERVER_PORT"]) == ("127.0.0.1", str(service.address.port))
    assert seen["REMOTE_ADDR"] == "127.0.0.1"
    assert int(seen["REMOTE_PORT"]) > 0
    assert seen["CONTENT_TYPE"] == "text/x"
    assert seen["HTTP_X_A"] == "b"
    assert seen["wsgi.url_scheme"] == "http"
    assert seen["wsgi.input"].read() == b""


def test_wsgi_validator_is_content(serve):
    from wsgiref.validate import validator

    @validator
    def app(environ, start_response):
        body = environ["wsgi.input"].read(5)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body or b"nothing"]

    service = serve_wsgi(serve, app)
    assert service.get("/", "POST", b"hello").body == b"hello"
    assert service.get("/").body == b"nothing"
