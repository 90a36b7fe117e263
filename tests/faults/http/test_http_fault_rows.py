"""The rows of the fault matrix that are about HTTP (31 to 35 and 42), against `nameko run` in a process of its own.

What is asserted is seen from outside: bytes on sockets, open files and memory of the process.
"""

from __future__ import annotations

import contextlib
import re
import socket
import statistics
import time

import pytest

from harness.http_corpus import INVALID, NEXT, STATUS, VALID, gunicorn_requests
from harness.http_service import MIB, abort, read_to_end, wait_for
from harness.procfs import descriptors, resident_bytes

pytestmark = pytest.mark.timeout(120)
PING = b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n"


# -- 31: malformed requests


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def step_of(data: bytes, step: int) -> int:
    return step if len(data) < 2000 else step * 500  # a large one in fewer pieces


def is_refused_alone(name: str, answer: bytes) -> bool:
    """Whether there is a refusal, and nothing behind it.

    Of gunicorn's files, some have a valid request before the invalid one, and most ask for pages that are not there:
    that answer is given before a body is looked at, and the connection closed behind it.
    """
    seen = statuses(answer)
    if name.startswith("gunicorn "):
        return 1 <= len(seen) <= 2 and seen[0] in (404, *seen[-1:]) and seen[-1] >= 400 and not answer.endswith(b"next")
    return seen == [STATUS.get(name, 400)] and b"\r\nConnection: close\r\n" in answer


@pytest.mark.faults
@pytest.mark.parametrize("step", [0, 1], ids=["coalesced", "byte by byte"])
def test_row_31_malformed_requests(shared_server, figure, step):
    corpus = {**{f"gunicorn {name}": data for name, data in gunicorn_requests().items()}, **INVALID}
    assert len(corpus) > 63 + 60
    answers = {name: shared_server.exchange(data + NEXT, step_of(data, step)) for name, data in corpus.items()}
    served = {name: answer for name, answer in answers.items() if not is_refused_alone(name, answer)}
    assert served == {}
    figure(f"malformed requests served, of {len(corpus)}", len(served), 0)
    assert shared_server.get("/next") == "next"


LAST = NEXT.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


@pytest.mark.faults
@pytest.mark.parametrize("step", [0, 1], ids=["coalesced", "byte by byte"])
def test_row_31_valid_requests(shared_server, figure, step):
    refused = {}
    for name, data in VALID.items():
        answer = shared_server.exchange(data + LAST, step_of(data, step))
        seen = [status for status in statuses(answer) if status != 100]
        # Where there is no such page, it was read all the same.
        served = seen[0] in (200, 404, 405) and (len(seen) == 1 if b"HTTP/1.0" in data else answer.endswith(b"next"))
        if not served:
            refused[name] = answer
    assert refused == {}
    figure(f"valid requests refused, of {len(VALID)}", len(refused), 0)


# -- 32: slow clients

HEAD_WITHOUT_END = b"GET /next HTTP/1.1\r\nHost: h\r\nX: a\r\n"
BODY_WITHOUT_END = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nabc"
LARGE = b"GET /large/20000000 HTTP/1.1\r\nHost: h\r\n\r\n"


def p99_s(server, requests: int = 300) -> float:
    times = []
    with server.connect() as sock:
        for _ in range(requests):
            started_at = time.monotonic()
            sock.sendall(PING)
            assert sock.recv(65536).endswith(b"next")
            times.append(time.monotonic() - started_at)
    return statistics.quantiles(times, n=100)[98]


def attack(server, clients, each: int) -> list[socket.socket]:
    for data in [HEAD_WITHOUT_END] * each + [BODY_WITHOUT_END] * each + [LARGE] * min(each, 5):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", server.port))
        sock.sendall(data)
        clients.append(sock)
    return clients


def check_slow_clients(server, clients, figure, each: int, closed_within_s: float) -> None:
    before = descriptors(server.pid)
    idle_p99_s = min(p99_s(server) for _ in range(3))
    attack(server, clients, each)
    started_at = time.monotonic()
    attacked_p99_s = min(p99_s(server) for _ in range(3))
    # The clock of a busy machine alone moves by some milliseconds.
    figure(f"ms of p99 of others, {idle_p99_s * 1000:.3g} before", attacked_p99_s * 1000, 2 * idle_p99_s * 1000 + 10)
    answers = [read_to_end(sock) for sock in clients[: 2 * each]]
    assert {answer[:13] for answer in answers} == {b"HTTP/1.1 408 "}
    figure("seconds until they are closed", time.monotonic() - started_at, closed_within_s)
    wait_for(lambda: descriptors(server.pid) <= before + 2)  # those who do not read, too


@pytest.mark.faults
def test_row_32_slow_clients(http_server, clients, figure):
    server = http_server(WEB_SERVER_HEADER_TIMEOUT=3, WEB_SERVER_STALL_TIMEOUT=3)
    check_slow_clients(server, clients, figure, each=40, closed_within_s=12)


@pytest.mark.matrix
def test_row_32_slow_clients_five_hundred(http_server, clients, figure):
    # Who does not read is given WEB_SERVER_STALL_TIMEOUT, 30 s by default, from when the buffers are full.
    server = http_server(WEB_SERVER_MAX_CONNECTIONS=2000, WEB_SERVER_STALL_TIMEOUT=10)
    check_slow_clients(server, clients, figure, each=250, closed_within_s=12)


# -- 33: out of file descriptors

FEW_FILES = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))\n"


@pytest.mark.faults
def test_row_33_out_of_file_descriptors(http_server, clients, figure):
    server = http_server(FEW_FILES, WEB_SERVER_KEEPALIVE_TIMEOUT=60, WEB_SERVER_HEADER_TIMEOUT=60)
    before = descriptors(server.pid)
    for _ in range(300):
        clients.append(server.connect())
    wait_for(lambda: "no new connections are accepted for now: out of file descriptors" in server.process.output)
    time.sleep(2)  # what is measured: how often it says so meanwhile
    complaints = server.process.output.count("no new connections are accepted")
    assert 1 <= complaints <= 5
    assert server.process.status is None
    assert descriptors(server.pid) <= 128
    clients[0].sendall(PING)
    assert clients[0].recv(65536).endswith(b"next")  # those it has are served
    for sock in clients:
        sock.close()
    started_at = time.monotonic()
    assert server.get("/next") == "next"
    # Half a second for a busy machine.
    figure("seconds until it accepts again", time.monotonic() - started_at, 1 + 0.5)
    wait_for(lambda: descriptors(server.pid) <= before + 2)


# -- 34: too much


def send_until_refused(server, head: bytes, piece: bytes, total_bytes: int) -> tuple[bytes, int]:
    with server.connect() as sock:
        sent = 0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(head)
            while sent < total_bytes:
                sock.sendall(piece)
                sent += len(piece)
        return read_to_end(sock), sent


CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.faults
@pytest.mark.parametrize(
    ("head", "piece", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n", b"x" * MIB, 413),
        (CHUNKED, b"100000\r\n" + b"x" * MIB + b"\r\n", 413),
        (CHUNKED + b"1;a=", b"x" * MIB, 400),
        (CHUNKED + b"0\r\n", b"X: abcdef\r\n" * 100_000, 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\n", b"X: abcdef\r\n" * 100_000, 431),
        (b"GET /", b"x" * MIB, 414),
    ],
    ids=["length", "chunks", "chunk line", "trailers", "fields", "request line"],
)
def test_row_34_too_much(http_server, figure, head, piece, status):
    limit_bytes = 4 * MIB
    server = http_server(WEB_SERVER_MAX_BODY_BYTES=limit_bytes)
    server.exchange(
        b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 10**6
    )
    before = resident_bytes(server.pid)
    answer, _ = send_until_refused(server, head, piece, 40 * MIB)
    # A reset may overtake the answer to one who goes on sending.
    assert statuses(answer) in ([status], [])
    figure("MiB of memory more", (resident_bytes(server.pid) - before) / MIB, 2 * limit_bytes / MIB)
    patient = server.exchange(head + piece * 5)
    assert statuses(patient) == [status]
    assert server.get("/next") == "next"


# -- 35: injection


@pytest.mark.faults
def test_row_35_injection(shared_server):
    server = shared_server
    for kind in ("status", "value", "name", "non-latin-1", "nul", "response"):
        answer = server.exchange(f"GET /bad/{kind} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
        assert statuses(answer) == [500], kind
        assert b"X-Injected" not in answer
        error_id = answer.rstrip().rpartition(b" ")[2].decode()
        assert re.fullmatch("[0-9a-f]{16}", error_id)
        assert error_id in server.process.output


# -- 42: for long


def soak(server, figure, requests: int, aborted: int) -> None:
    for _ in range(2):
        p99_s(server, 200)  # warm
    greenthreads, files, memory = int(server.get("/greenthreads")), descriptors(server.pid), resident_bytes(server.pid)
    with server.connect() as sock:
        for _ in range(requests):
            sock.sendall(PING)
            assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
    for number in range(aborted):
        sock = server.connect()
        sock.sendall((PING, HEAD_WITHOUT_END, BODY_WITHOUT_END, LARGE)[number % 4 if number % 100 == 3 else number % 3])
        abort(sock)
    wait_for(lambda: descriptors(server.pid) <= files + 2)
    assert descriptors(server.pid) >= files - 2
    figure("greenthreads more or less", abs(int(server.get("/greenthreads")) - greenthreads), 2)
    # A large response or two are in there for a while.
    figure("MiB of memory more", (resident_bytes(server.pid) - memory) / MIB, 30)
    assert "error " not in server.process.output


@pytest.mark.faults
def test_row_42_soak(http_server, figure):
    soak(http_server(), figure, requests=5_000, aborted=500)


@pytest.mark.matrix
@pytest.mark.timeout(1800)
def test_row_42_soak_for_long(http_server, figure):
    soak(http_server(), figure, requests=100_000, aborted=10_000)
