"""What every test can ask for: a broker of each kind, a network that can be made to fail, services in a process."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import pytest_timeout

from harness.missing import missing
from harness.tls import certificates, tls_listener  # noqa: F401
from nameko import concurrency

concurrency.monkey_patch()

# A run in the background may have been told to ignore Ctrl-C, and every process that it starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

RABBITMQ_HOST = os.environ.get("NAMEKO_TEST_RABBITMQ_HOST", "127.0.0.1")
RABBITMQ_PORT = int(os.environ.get("NAMEKO_TEST_RABBITMQ_PORT", "5672"))
MANAGEMENT_URL = os.environ.get("NAMEKO_TEST_MANAGEMENT_URL", f"http://guest:guest@{RABBITMQ_HOST}:15672")


# A test that hangs is struck by its timeout in whatever greenthread happens to run, and again until the test notices.
_STRIKE_AGAIN_S = 5


def pytest_timeout_set_timer(item: pytest.Item, settings: pytest_timeout.Settings) -> bool:
    """Fail a test that takes too long.

    pytest-timeout itself would end the whole run: it does not know its own thread for the main one under green threads.
    """
    signal.signal(signal.SIGALRM, lambda *_: pytest_timeout.timeout_sigalrm(item, settings))
    signal.setitimer(signal.ITIMER_REAL, settings.timeout, _STRIKE_AGAIN_S)
    return True


def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    """The test has ended in time."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    return True


def management(method: str, path: str, body: object | None = None) -> object:
    """Call RabbitMQ's management API; the decoded answer."""
    base, _, host = MANAGEMENT_URL.partition("//")[2].rpartition("@")
    credentials = base64.b64encode((base or "guest:guest").encode()).decode()
    request = urllib.request.Request(
        f"http://{host}/api/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        content = response.read()
    return json.loads(content) if content else None


class _Vhosts:
    """Makes and removes virtual hosts, through the management API or, where there is none, `rabbitmqctl`."""

    def __init__(self) -> None:
        try:
            management("GET", "overview")
            self._ctl = False
        except (OSError, urllib.error.URLError):
            self._ctl = True

    def create(self, name: str) -> None:
        if self._ctl:
            self._run("add_vhost", name)
            self._run("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        else:
            management("PUT", f"vhosts/{quote(name, safe='')}")
            permissions = {"configure": ".*", "write": ".*", "read": ".*"}
            management("PUT", f"permissions/{quote(name, safe='')}/guest", permissions)

    def delete(self, name: str) -> None:
        if self._ctl:
            self._run("delete_vhost", name)
        else:
            management("DELETE", f"vhosts/{quote(name, safe='')}")

    def _run(self, *arguments: str) -> None:
        subprocess.run(["rabbitmqctl", "-q", *arguments], check=True, capture_output=True, timeout=30)


def why_no_rabbitmq() -> str | None:
    """Why tests cannot use RabbitMQ here; None when they can."""
    try:
        concurrency.socket.create_connection((RABBITMQ_HOST, RABBITMQ_PORT), timeout=2).close()
    except OSError as exc:
        return f"no RabbitMQ on {RABBITMQ_HOST}:{RABBITMQ_PORT} ({exc})"
    try:
        management("GET", "overview")
    except (OSError, urllib.error.URLError):
        if shutil.which("rabbitmqctl") is None:
            return "RabbitMQ has no management API and there is no rabbitmqctl: no virtual host can be made"
    return None


@pytest.fixture(scope="session")
def _vhosts() -> _Vhosts:
    reason = why_no_rabbitmq()
    if reason is not None:
        missing(reason)
    return _Vhosts()


@pytest.fixture
def rabbitmq_uri(_vhosts: _Vhosts) -> Iterator[str]:
    """A virtual host of its own on RabbitMQ."""
    name = f"nameko_test_{uuid.uuid4().hex[:10]}"
    _vhosts.create(name)
    yield f"pyamqp://guest:guest@{RABBITMQ_HOST}:{RABBITMQ_PORT}/{name}"
    _vhosts.delete(name)


@pytest.fixture
def memory_uri() -> str:
    """An in-process broker of its own."""
    return f"memory://localhost/{uuid.uuid4().hex[:10]}"


@pytest.fixture(params=["memory", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def broker_uri(request: pytest.FixtureRequest) -> str:
    """Each broker in turn: what works over the one works over the other."""
    uri: str = request.getfixturevalue(f"{request.param}_uri")
    return uri


@pytest.fixture
def broker_config(broker_uri: str) -> dict[str, object]:
    """Configuration for `broker_uri`."""
    return {"AMQP_URI": broker_uri}


def eventually(condition: Callable[[], object], timeout_s: float = 5, interval_s: float = 0.01) -> object:
    """Wait until `condition()` is true, and return what it returned; fail when it never is."""
    deadline = concurrency.original("time").monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if concurrency.original("time").monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {condition}")
        concurrency.sleep(interval_s)


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[..., object]:
    """`eventually(condition, timeout_s=5)`: waits for a condition."""
    return eventually


class Proxy:
    """A TCP proxy that can lose connections, hold data back, or refuse connections.

    :param target: host and port to connect to
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = concurrency.socket.socket()
        self._listener.setsockopt(concurrency.socket.SOL_SOCKET, concurrency.socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(50)
        self.address = self._listener.getsockname()
        self.links: list[tuple[Any, ...]] = []  # two sockets and two threads each
        self.accepted = 0
        self._open = concurrency.Event()
        self._open.send(None)
        self.refusing = False
        self.from_clients = bytearray()  # all that they have sent
        self.alter: Callable[[bytes], bytes] = bytes  # what the target sends in one piece
        self._acceptor = concurrency.spawn(self._accept)

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self.refusing:
                _reset(client)
                continue
            self.accepted += 1
            server = concurrency.socket.create_connection(self._target)
            threads = [concurrency.spawn(self._pump, client, server), concurrency.spawn(self._pump, server, client)]
            self.links.append((client, server, *threads))

    def _pump(self, source: Any, sink: Any) -> None:
        try:
            while data := source.recv(65536):
                self._open.wait()
                if sink.getpeername() == self._target:
                    self.from_clients += data
                else:
                    data = self.alter(data)
                sink.sendall(data)
        except OSError:
            pass
        for link in self.links:
            if source in link:  # over in one direction is over
                self.links.remove(link)
                for thread in link[2:]:
                    if thread is not concurrency.current():
                        thread.kill()
                source.close()
                sink.close()
                break

    def reset_all(self) -> int:
        """Break every connection with an RST; how many there were."""
        links, self.links = self.links, []
        for client, server, *threads in links:
            for thread in threads:
                thread.kill()
            _reset(client)
            _reset(server)
        return len(links)

    def hold(self) -> None:
        """Pass nothing on: neither side hears of the other any more."""
        self._open = concurrency.Event()

    def release(self) -> None:
        """Pass everything on again."""
        self._open.send(None)

    def close(self) -> None:
        self._acceptor.kill()
        self.reset_all()
        self._listener.close()


def _reset(sock: Any) -> None:
    sock.setsockopt(concurrency.socket.SOL_SOCKET, concurrency.socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.fixture
def proxy(rabbitmq_uri: str) -> Iterator[Proxy]:
    """A proxy in front of RabbitMQ; its `uri` leads through it to a virtual host of its own."""
    parts = urlsplit(rabbitmq_uri)
    made = Proxy((parts.hostname or "127.0.0.1", parts.port or 5672))
    made.uri = rabbitmq_uri.replace(f"@{parts.hostname}:{parts.port}", f"@127.0.0.1:{made.address[1]}")  # type: ignore[attr-defined]
    yield made
    made.close()


class Hosted:
    """A `nameko run` in a process of its own, its output in a file."""

    def __init__(self, directory: Path, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        self._output_path = directory / "output.txt"
        with self._output_path.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nameko", "run", *arguments],
                cwd=directory,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        """What it has written so far, to either stream."""
        return self._output_path.read_text()

    def expect(self, pattern: str, timeout_s: float = 40) -> re.Match[str]:
        """Wait until it has written what the regular expression matches."""
        deadline = concurrency.original("time").monotonic() + timeout_s
        while (found := re.search(pattern, self.output)) is None:
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.output}"
            assert concurrency.original("time").monotonic() < deadline, f"{pattern!r} is not in: {self.output}"
            concurrency.sleep(0.02)
        return found

    def stop(self) -> int:
        """Have it finish; the exit status."""
        self.process.terminate()
        return self.process.wait(40)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Callable[..., Hosted]]:
    """`host(source, *arguments, environ={}, **config)`: `nameko run` with the services of a module `services`."""
    hosted: list[Hosted] = []

    def start(source: str, *arguments: str, environ: Mapping[str, str] | None = None, **config: object) -> Hosted:
        directory = tmp_path / f"host-{len(hosted)}"
        directory.mkdir()
        (directory / "services.py").write_text(textwrap.dedent(source))
        (directory / "config.yaml").write_text(json.dumps(config))
        command = ["--config", "config.yaml", *arguments, "services"]
        hosted.append(Hosted(directory, command, environ or {}))
        return hosted[-1]

    yield start
    for each in hosted:
        each.process.kill()
        each.process.wait()
