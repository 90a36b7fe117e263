"""Pages about the process on an address of their own: what is served, what is refused, what is given back."""

from __future__ import annotations

import errno
import socket as plain_socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nameko import status_server
from nameko.addresses import Address, parse_address
from nameko.concurrency import Event, sleep, socket
from nameko.containers import ServiceContainer
from nameko.exceptions import ConfigurationError
from nameko.extensions import DependencyProvider, SharedExtension
from nameko.status_server import StatusPage
from nameko.wsgi import WsgiApplication

GET = b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n"


def showing(text: str) -> WsgiApplication:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        seen = (environ["REQUEST_METHOD"], environ["SCRIPT_NAME"], environ["PATH_INFO"], environ["QUERY_STRING"])
        return [f"{text}: {' '.join(seen)} {environ.get('HTTP_X_ASKED', '')}".encode()]

    return app


@pytest.fixture
def pages() -> Iterator[Callable[..., StatusPage]]:
    """`pages(app, path)`: a page that is closed after the test."""
    made = []

    def make(app: WsgiApplication, path: str = "/page") -> StatusPage:
        made.append(StatusPage(app, path, "PAGE_PATH"))
        return made[-1]

    yield make
    for page in made:
        page.close()


@pytest.fixture
def free_port() -> int:
    with plain_socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def connect(address: int | str) -> Any:
    if isinstance(address, int):
        return socket.create_connection(("127.0.0.1", address), timeout=10)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(address)
    return sock


def read_all(sock: Any) -> bytes:
    data = b""
    while part := sock.recv(65536):
        data += part
    return data


def exchange(address: int | str, request: bytes) -> tuple[int, dict[str, str], str]:
    with connect(address) as sock:
        sock.sendall(request)
        head, _, body = read_all(sock).partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    return int(status.split()[1]), dict(field.lower().split(": ", 1) for field in fields), body.decode()


def get(address: int | str, path: str) -> tuple[int, str]:
    status, _, body = exchange(address, GET % path.encode())
    return status, body


def test_a_page_is_served_at_its_path_and_below(pages, free_port):
    pages(showing("it")).listen(free_port, "PAGE_ADDRESS")
    assert get(free_port, "/page") == (200, "it: GET /page   ")
    assert get(free_port, "/page/a%20b?c=d") == (200, "it: GET /page /a b c=d ")
    assert get(free_port, "/pages") == (404, "there is only: /page\n")
    request = b"HEAD /page HTTP/1.0\r\nX-Asked: yes\r\n\r\n"
    status, headers, body = exchange(free_port, request)
    assert (status, body) == (200, "")
    assert headers["content-length"] == str(len("it: GET /page   yes"))


def test_pages_with_one_address_share_it(pages, free_port, caplog):
    caplog.set_level("INFO")
    metrics, again, health = pages(showing("m"), "/m"), pages(showing("again"), "/m"), pages(showing("h"), "/h")
    for page in (metrics, again, health):
        page.listen(f"127.0.0.1:{free_port}", "PAGE_ADDRESS")
    assert caplog.text.count("PAGE_ADDRESS: listening on 127.0.0.1:") == 2  # once for each path
    assert get(free_port, "/m")[1].startswith("again:")
    assert get(free_port, "/h")[1].startswith("h:")
    again.close()
    again.close()
    assert get(free_port, "/m")[1].startswith("m:")
    metrics.close()
    assert get(free_port, "/m") == (404, "there is only: /h\n")
    health.close()
    with pytest.raises(ConnectionRefusedError):
        connect(free_port)
    health.listen(free_port, "PAGE_ADDRESS")
    assert get(free_port, "/h")[0] == 200


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST /page HTTP/1.1\r\n\r\n", 405),
        (b"GET  /page HTTP/1.1\r\n\r\n", 400),
        (b"GET http://h/page HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\r\n\r\n", 400),
        (b"GET /page HTTP/2.0\r\n\r\n", 400),
        (b"GET /" + b"x" * 8192, 431),
    ],
)
def test_requests_that_are_refused(pages, free_port, request_bytes, status):
    pages(showing("it")).listen(free_port, "PAGE_ADDRESS")
    assert exchange(free_port, request_bytes)[0] == status
    assert get(free_port, "/page")[0] == 200


def test_a_method_that_is_refused_is_told_which_are_not(pages, free_port):
    pages(showing("it")).listen(free_port, "PAGE_ADDRESS")
    assert exchange(free_port, b"POST /page HTTP/1.1\r\n\r\n")[1]["allow"] == "get, head"


def test_a_page_that_cannot_be_shown(pages, free_port, caplog):
    pages(lambda environ, start_response: 1 / 0).listen(free_port, "PAGE_ADDRESS")
    status, body = get(free_port, "/page")
    assert status == 500
    assert "ZeroDivisionError" not in body
    assert "the page /page cannot be shown" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_who_sends_nothing_is_cut_off(pages, free_port, monkeypatch):
    monkeypatch.setattr(status_server, "CONNECTION_TIMEOUT_S", 0.1)
    pages(showing("it")).listen(free_port, "PAGE_ADDRESS")
    with connect(free_port) as silent, connect(free_port) as rude:
        rude.sendall(b"GET /")
        rude.shutdown(socket.SHUT_WR)
        assert read_all(rude) == b""
        assert read_all(silent) == b""


def test_connections_at_once_are_bounded(pages, free_port, monkeypatch):
    monkeypatch.setattr(status_server, "MAX_CONNECTIONS", 2)
    pages(showing("it")).listen(free_port, "PAGE_ADDRESS")
    with connect(free_port) as third:
        with connect(free_port), connect(free_port):
            third.sendall(GET % b"/page")
            assert read_all(third).startswith(b"HTTP/1.0 200 OK")  # it was the first
        first, second = connect(free_port), connect(free_port)
        with first, second, connect(free_port) as waiting:
            waiting.sendall(GET % b"/page")
            waiting.settimeout(0.2)
            with pytest.raises(TimeoutError):
                waiting.recv(1)
            first.close()
            waiting.settimeout(10)
            assert read_all(waiting).startswith(b"HTTP/1.0 200 OK")


def test_accepting_goes_on_after_a_failure(pages, free_port, monkeypatch, caplog):
    monkeypatch.setattr(status_server, "_PAUSE_S", 0)
    accept, failures = socket.socket.accept, [OSError(errno.EMFILE, "too many open files")]

    def failing(sock: Any) -> Any:
        if failures:
            raise failures.pop()
        return accept(sock)

    monkeypatch.setattr(socket.socket, "accept", failing)
    pages(showing("it")).listen(free_port, "PAGE_ADDRESS")
    assert get(free_port, "/page")[0] == 200
    assert "no connection can be accepted for now: [Errno 24] too many open files" in caplog.text


def test_closing_cuts_off_who_is_still_there(pages, free_port):
    asked = Event()

    def hanging(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        asked.send(None)
        sleep(60)
        return []

    page = pages(hanging)
    page.listen(free_port, "PAGE_ADDRESS")
    with connect(free_port) as sock:
        sock.sendall(GET % b"/page")
        asked.wait()
        page.close()
        assert b"200" not in read_all(sock)


def test_a_unix_socket_is_private_and_removed_at_the_end(pages, tmp_path):
    path = tmp_path / "page.sock"
    page = pages(showing("it"))
    page.listen(f"unix:{path}", "PAGE_ADDRESS")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert get(str(path), "/page")[0] == 200
    page.close()
    assert not path.exists()


def test_a_unix_socket_that_a_killed_process_left_behind_makes_way(pages, tmp_path):
    path = tmp_path / "page.sock"
    with plain_socket.socket(plain_socket.AF_UNIX) as left:
        left.bind(str(path))
    page = pages(showing("it"))
    page.listen(f"unix:{path}", "PAGE_ADDRESS")
    assert get(str(path), "/page")[0] == 200
    path.unlink()
    page.close()  # finds its socket gone


def test_what_is_in_the_way_and_no_stale_socket_stays(pages, tmp_path):
    file, used = tmp_path / "file", tmp_path / "used.sock"
    file.write_text("precious")
    with plain_socket.socket(plain_socket.AF_UNIX) as other:
        other.bind(str(used))
        other.listen()
        for path in (file, used):
            with pytest.raises(ConfigurationError, match=f"PAGE_ADDRESS: cannot listen on unix:{path}: .*in use"):
                pages(showing("it")).listen(f"unix:{path}", "PAGE_ADDRESS")
    assert file.read_text() == "precious"


def test_an_address_in_use(pages, free_port):
    with plain_socket.create_server(("127.0.0.1", free_port)), pytest.raises(ConfigurationError) as raised:
        pages(showing("it")).listen(free_port, "PAGE_ADDRESS")
    assert str(raised.value).startswith(
        f"PAGE_ADDRESS: cannot listen on 127.0.0.1:{free_port}: Address already in use; each process"
    )


def test_a_directory_that_there_is_not(pages, tmp_path):
    path = f"unix:{tmp_path}/nosuch/x"
    with pytest.raises(ConfigurationError) as raised:
        pages(showing("it")).listen(path, "PAGE_ADDRESS")
    assert str(raised.value) == f"PAGE_ADDRESS: cannot listen on {path}: No such file or directory"


def test_a_path_that_something_else_has_on_the_web_server(pages):
    class Taken(SharedExtension):
        def mount(self, path: str, app: WsgiApplication) -> None:
            raise ValueError(f"{path} is taken")

    class Service:
        name = "service"
        taken = DependencyProvider()

    container = ServiceContainer(Service, {})
    container.shared_extensions[Taken] = Taken()
    with pytest.raises(ConfigurationError, match="PAGE_PATH: /page is taken"):
        pages(showing("it")).mount(container)


@pytest.mark.parametrize("path", ["page", "/", "", "/page/", "/a b"])
def test_a_path_that_is_none(path):
    with pytest.raises(ConfigurationError, match="PAGE_PATH must be a path like"):
        StatusPage(showing("it"), path, "PAGE_PATH")


# -- addresses


@pytest.mark.parametrize(
    ("text", "address", "again"),
    [
        (9100, Address("127.0.0.1", 9100), "127.0.0.1:9100"),
        (":9100", Address("127.0.0.1", 9100), "127.0.0.1:9100"),
        ("0.0.0.0:0", Address("0.0.0.0", 0), "0.0.0.0:0"),
        ("[::1]:80", Address("::1", 80), "[::1]:80"),
        ("unix:/run/x.sock", Address("", 0, "/run/x.sock"), "unix:/run/x.sock"),
    ],
)
def test_addresses(text, address, again):
    assert parse_address(text, "KEY") == address
    assert str(address) == again


@pytest.mark.parametrize("text", ["", "unix:", "host", "host:", "h:65536", "::1:80", "h:-1", True])
def test_what_is_no_address(text):
    with pytest.raises(ConfigurationError, match="KEY must be"):
        parse_address(text, "KEY")


@pytest.mark.parametrize("text", ["h:65536", "70000", "h:700000000"])
def test_a_port_that_there_is_not(text):
    with pytest.raises(ConfigurationError, match=r"KEY must be .*: ports end at 65535$"):
        parse_address(text, "KEY")


def test_each_worker_process_has_an_address_of_its_own():
    assert parse_address("h:9100", "KEY").of_worker(0) == Address("h", 9100)
    assert parse_address("h:9100", "KEY").of_worker(3) == Address("h", 9103)
    assert parse_address("h:0", "KEY").of_worker(3) == Address("h", 0)
    assert parse_address("unix:/x", "KEY").of_worker(0) == Address("", 0, "/x")
    assert parse_address("unix:/x", "KEY").of_worker(3) == Address("", 0, "/x.3")
    with pytest.raises(ConfigurationError, match="no port 65536 for worker process 1"):
        parse_address("h:65535", "KEY").of_worker(1)


def test_each_worker_process_listens_on_its_own(monkeypatch, pages, tmp_path: Path):
    monkeypatch.setenv("NAMEKO_WORKER_INDEX", "2")
    pages(showing("it")).listen(f"unix:{tmp_path}/page.sock", "PAGE_ADDRESS")
    assert get(f"{tmp_path}/page.sock.2", "/page")[0] == 200


def test_ports_have_room_for_those_of_all_worker_processes(monkeypatch, pages, free_port):
    # Otherwise only those that come later would fail, again and again: their ports are those of the others.
    monkeypatch.setenv("NAMEKO_WORKER_COUNT", "3")
    pages(showing("it")).listen(free_port, "PAGE_ADDRESS")
    other = pages(showing("other"), "/other")
    with pytest.raises(ConfigurationError, match=f"^OTHER_ADDRESS: .*:{free_port + 2} .*:{free_port}, .*3 worker"):
        other.listen(free_port + 2, "OTHER_ADDRESS")
    other.listen(free_port, "OTHER_ADDRESS")
    assert get(free_port, "/other")[0] == 200
