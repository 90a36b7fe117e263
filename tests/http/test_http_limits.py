"""Limits: sizes, times, connections, descriptors. Whoever exceeds one is answered or cut off, and hurts nobody else."""

from __future__ import annotations

import gc
import os
import resource
import struct
import subprocess
import sys
import textwrap
import time

import pytest
from greenlet import greenlet
from werkzeug.wrappers import Request, Response

from nameko import concurrency
from nameko.concurrency import socket
from nameko.web._transport import Pace
from nameko.web.handlers import http


class Service:
    name = "service"

    @http("GET", "/")
    def ping(self, request: Request) -> str:
        return "pong"

    @http("POST", "/size")
    def size(self, request: Request) -> str:
        return str(len(request.get_data()))

    @http("POST", "/ignore")
    def ignore(self, request: Request) -> str:
        return "ignored"

    @http("POST", "/form")
    def form(self, request: Request) -> str:
        return str(len(request.form))

    @http("GET", "/large")
    def large(self, request: Request) -> str:
        return "x" * 20_000_000

    @http("GET", "/endless")
    def endless(self, request: Request) -> Response:
        def pieces():
            while True:
                yield b"x" * 65536

        return Response(pieces())


# How many times as long the soak test takes as in everyday runs; 100 for the real thing.
SOAK = int(os.environ.get("NAMEKO_HTTP_SOAK", "1"))

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def post(path: str, *fields: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: h", *fields, "", ""]).encode()


def rss_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


# -- sizes


@pytest.mark.parametrize(
    ("key", "value", "fits", "exceeds", "status"),
    [
        ("REQUEST_LINE_BYTES", 100, b"GET /?%b HTTP/1.1" % (b"a" * 85), b"GET /?%b HTTP/1.1" % (b"a" * 86), 414),
        ("HEADER_FIELDS", 2, b"GET / HTTP/1.1\r\nA: b", b"GET / HTTP/1.1\r\nA: b\r\nC: d", 431),
        ("HEADER_BYTES", 100, b"GET / HTTP/1.1\r\nA:" + b"a" * 70, b"GET / HTTP/1.1\r\nA:" + b"a" * 120, 431),
    ],
)
@pytest.mark.parametrize("split", [False, True])
def test_limits_of_the_head(converse, key, value, fits, exceeds, status, split):
    def try_out(beginning: bytes):
        data = beginning + b"\r\nHost: h\r\n\r\n"
        pieces = [data[:50], data[50:90], data[90:]] if split else [data]
        return converse(*pieces, **{f"WEB_SERVER_MAX_{key}": value})

    assert len(try_out(fits).requests) == 1
    assert try_out(exceeds).refused == status


def test_body_at_the_limit_and_beyond(serve):
    service = serve(Service, WEB_SERVER_MAX_BODY_BYTES=1000)
    assert service.get("/size", "POST", b"x" * 1000).text == "1000"
    assert service.get("/size", "POST", b"x" * 1001).status == 413
    assert service.get("/size", "POST", iter([b"x" * 500, b"x" * 500])).text == "1000"
    assert service.get("/size", "POST", iter([b"x" * 500, b"x" * 501])).status == 413


def test_body_beyond_the_limit_is_not_even_asked_for(serve):
    service = serve(Service, WEB_SERVER_MAX_BODY_BYTES=1000)
    with service.connect() as raw:
        raw.send(post("/size", "Content-Length: 1001", "Expect: 100-continue"))
        assert raw.response().status == 413
        assert raw.closed()


def test_limit_is_enforced_while_a_handler_reads(serve):
    service = serve(Service, WEB_SERVER_MAX_BODY_BYTES=100_000, WEB_SERVER_BODY_BUFFER_BYTES=1000)
    response = service.get("/size", "POST", iter([b"x" * 60_000, b"x" * 60_000]))
    assert response.status == 413
    assert service.get("/").text == "pong"


def test_huge_body_costs_no_memory(serve):
    service = serve(Service)
    before = rss_bytes()
    started_at = time.monotonic()
    with service.connect() as raw:
        raw.send(post("/size", "Content-Length: 200000000"))
        for _ in range(200):
            raw.send(b"x" * 1_000_000)
        assert raw.response().status == 413
    assert rss_bytes() - before < 32 * 1024 * 1024
    assert time.monotonic() - started_at < 5


def test_endless_chunk_line_costs_no_memory(serve):
    service = serve(Service)
    before = rss_bytes()
    with service.connect() as raw:
        raw.send(post("/size", "Transfer-Encoding: chunked") + b"1;")
        for _ in range(50):
            raw.send(b"x" * 1_000_000)
        assert raw.response().status == 400
    assert rss_bytes() - before < 8 * 1024 * 1024


def test_a_million_trailers(serve):
    service = serve(Service)
    before = rss_bytes()
    with service.connect() as raw:
        raw.send(post("/size", "Transfer-Encoding: chunked") + b"0\r\n")
        for _ in range(100):
            raw.send(b"X: y\r\n" * 10_000)
        assert raw.response().status == 400
    assert rss_bytes() - before < 8 * 1024 * 1024


def test_endless_head(serve):
    service = serve(Service)
    with service.connect() as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 10_000_000)
        assert raw.response().status == 431
        assert raw.closed()


# -- slow clients


@pytest.fixture
def slow_service(serve):
    return serve(Service, WEB_SERVER_HEADER_TIMEOUT=0.3, WEB_SERVER_KEEPALIVE_TIMEOUT=0.3, WEB_SERVER_STALL_TIMEOUT=0.3)


def drip(raw, data: bytes, pause_s: float) -> None:
    try:
        for byte in data:
            raw.sock.sendall(bytes([byte]))
            concurrency.sleep(pause_s)
    except OSError:
        pass


def test_nothing_is_asked(slow_service):
    with slow_service.connect() as raw:
        assert raw.closed()


def test_idle_connection_is_closed_without_a_word(slow_service):
    with slow_service.connect() as raw:
        raw.send(GET)
        assert raw.response().text == "pong"
        started_at = time.monotonic()
        assert raw.closed()
        assert 0.2 < time.monotonic() - started_at < 2


def test_half_a_head(slow_service):
    with slow_service.connect() as raw:
        raw.send(GET[:20])
        response = raw.response()
        assert (response.status, response.text) == (408, "The request took too long\n")
        assert raw.closed()


def test_head_in_drops(slow_service):
    started_at = time.monotonic()
    with slow_service.connect() as raw:
        concurrency.spawn(drip, raw, GET + b"x" * 100, 0.02)
        assert raw.response().status == 408
    assert time.monotonic() - started_at < 2


def test_second_head_in_drops(slow_service):
    with slow_service.connect() as raw:
        raw.send(GET)
        assert raw.response().status == 200
        concurrency.spawn(drip, raw, GET + b"x" * 100, 0.05)
        assert raw.response().status == 408


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_half_a_body(slow_service, framing):
    with slow_service.connect() as raw:
        raw.send(post("/size", framing) + b"64\r\nxxx")
        assert raw.response().status == 408
        assert raw.closed()


def test_body_in_drops(slow_service):
    started_at = time.monotonic()
    with slow_service.connect() as raw:
        raw.send(post("/size", "Content-Length: 1000"))
        concurrency.spawn(drip, raw, b"x" * 1000, 0.02)
        assert raw.response().status == 408
    assert time.monotonic() - started_at < 3


def test_slow_bodies_occupy_no_workers(serve):
    service = serve(Service, max_workers=2)
    raws = [service.connect() for _ in range(10)]
    for raw in raws:
        raw.send(post("/size", "Content-Length: 1000") + b"x")
    assert service.get("/").text == "pong"
    for raw in raws:
        raw.send(b"x" * 999)
        assert raw.response().text == "1000"
        raw.sock.close()


@pytest.mark.parametrize("path", ["/large", "/endless"])
def test_response_that_is_not_taken(slow_service, eventually, path):
    with slow_service.connect() as raw:
        raw.send(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode())
        eventually(lambda: slow_service.server.open_connections == 1)
        eventually(lambda: slow_service.server.open_connections == 0)
        received = raw.read_to_end()
        assert not received.endswith(b"0\r\n\r\n")


def test_expected_body_that_never_comes(slow_service):
    with slow_service.connect() as raw:
        raw.send(post("/size", "Content-Length: 10", "Expect: 100-continue"))
        assert raw.response().status == 100
        assert raw.response().status == 408


@pytest.mark.parametrize("where", ["head", "body", "chunk"])
def test_client_that_leaves_in_the_middle(slow_service, eventually, where):
    data = {
        "head": GET[:20],
        "body": post("/size", "Content-Length: 10") + b"x",
        "chunk": post("/size", "Transfer-Encoding: chunked") + b"5\r\nab",
    }[where]
    with slow_service.connect() as raw:
        raw.send(data)
    eventually(lambda: slow_service.server.open_connections == 0)
    assert slow_service.get("/").text == "pong"


def test_many_slow_clients_do_not_slow_the_others_down(serve):
    service = serve(Service, WEB_SERVER_HEADER_TIMEOUT=5)

    def timed() -> float:
        started_at = time.monotonic()
        with service.connect() as raw:
            for _ in range(50):
                raw.send(GET)
                assert raw.response().text == "pong"
        return time.monotonic() - started_at

    alone_s = min(timed() for _ in range(3))
    slow = [service.connect() for _ in range(500)]
    for raw in slow:
        raw.send(GET[:-2])
    assert min(timed() for _ in range(3)) < 3 * alone_s + 0.1
    assert [raw.response().status for raw in slow] == [408] * len(slow)
    for raw in slow:
        assert raw.closed()
        raw.sock.close()


def test_pace():
    pace = Pace(stall_timeout_s=30, grace_s=10, min_rate_bytes_per_s=500)
    assert pace.allowance_s(done_bytes=0, spent_s=0) == 10
    assert pace.allowance_s(done_bytes=5000, spent_s=5) == 15
    assert pace.allowance_s(done_bytes=1_000_000, spent_s=5) == 30
    assert pace.allowance_s(done_bytes=500, spent_s=12) == -1
    assert Pace(30, 10, 0).allowance_s(done_bytes=0, spent_s=1000) == 30


# -- connections and descriptors


def test_connections_beyond_the_cap_wait(serve, caplog):
    service = serve(Service, WEB_SERVER_MAX_CONNECTIONS=3)
    raws = [service.connect() for _ in range(3)]
    for raw in raws:
        raw.send(GET)
        assert raw.response().text == "pong"
    with service.connect(timeout_s=0.3) as waiting:
        waiting.send(GET)
        with pytest.raises(TimeoutError):
            waiting.response()
        assert service.server.open_connections == 3
        waiting.sock.settimeout(5)
        raws.pop().sock.close()
        assert waiting.response().text == "pong"
    for raw in raws:
        raw.sock.close()
    complaints = [record for record in caplog.records if "WEB_SERVER_MAX_CONNECTIONS" in record.getMessage()]
    assert len(complaints) == 1


def test_out_of_descriptors():
    """`ulimit -n 128` and 300 connections: the process goes on, says so, and serves again once they are gone."""
    program = """
        import logging, resource, sys
        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        from nameko.containers import ServiceContainer
        from nameko.web.handlers import http

        class Service:
            name = "service"

            @http("GET", "/")
            def method(self, request):
                return "pong"

        container = ServiceContainer(Service, {"WEB_SERVER_ADDRESS": "127.0.0.1:0", "WEB_SERVER_HEADER_TIMEOUT": 60})
        container.start()
        (server,) = container.shared_extensions.values()
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
        print(server.bound_address.port, flush=True)
        container.wait()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        port = int(process.stdout.readline())
        clients = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(300)]
        concurrency.sleep(1.5)  # long enough to see how often it complains
        assert process.poll() is None
        assert len(os.listdir(f"/proc/{process.pid}/fd")) <= 128
        for client in clients:
            client.close()
        started_at = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(GET)
            assert client.recv(4096).endswith(b"pong")
        assert time.monotonic() - started_at < 1
    finally:
        process.kill()
        _, errors = process.communicate()
    complaints = [line for line in errors.splitlines() if "out of file descriptors" in line]
    assert 1 <= len(complaints) <= 4
    assert "Traceback" not in errors


@pytest.mark.timeout(1800 if SOAK > 1 else 60)
def test_nothing_is_left_behind(serve, eventually):
    service = serve(Service)

    def requests(count: int) -> None:
        with service.connect() as raw:
            for _ in range(count):
                raw.send(GET)
                assert raw.response().status == 200

    def abort(sent_bytes: int) -> None:
        raw = service.connect()
        raw.send(GET[:sent_bytes])
        raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.sock.close()

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def greenlets() -> int:
        gc.collect()
        return sum(issubclass(type(each), greenlet) and not each.dead for each in gc.get_objects())

    requests(200)
    for number in range(20):
        abort(number)
    eventually(lambda: service.server.open_connections == 0)
    before = descriptors(), greenlets(), rss_bytes()
    requests(1000 * SOAK)
    for number in range(100 * SOAK):
        abort(number % len(GET))
    eventually(lambda: service.server.open_connections == 0)
    eventually(lambda: descriptors() <= before[0])
    eventually(lambda: greenlets() <= before[1])
    assert rss_bytes() - before[2] < 5 * 1024 * 1024
