"""What every test can ask for: a broker of each kind, a network that can be made to fail, services in a process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import textwrap
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_timeout

from harness.management import RABBITMQ_HOST, Management
from harness.missing import missing
from harness.process import NAMEKO, Process
from harness.tls import certificates, tls_listener  # noqa: F401
from harness.waiting import eventually
from nameko import concurrency
from nameko.containers import ServiceContainer
from nameko.plugins import PluginManager

concurrency.monkey_patch()

# A run in the background may have been told to ignore Ctrl-C, and every process that it starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

RABBITMQ_PORT = int(os.environ.get("NAMEKO_TEST_RABBITMQ_PORT", "5672"))


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


class _Vhosts:
    """Makes and removes virtual hosts, through the management API or, where there is none, `rabbitmqctl`."""

    def __init__(self) -> None:
        self._management = Management()
        self._ctl = self._management.why_not_there() is not None

    def create(self, name: str) -> None:
        if self._ctl:
            self._run("add_vhost", name)
            self._run("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        else:
            self._management.add_vhost(name)

    def delete(self, name: str) -> None:
        if self._ctl:
            self._run("delete_vhost", name)
        else:
            self._management.delete_vhost(name)

    def _run(self, *arguments: str) -> None:
        subprocess.run(["rabbitmqctl", "-q", *arguments], check=True, capture_output=True, timeout=30)


def why_no_rabbitmq() -> str | None:
    """Why tests cannot use RabbitMQ here; None when they can."""
    try:
        concurrency.socket.create_connection((RABBITMQ_HOST, RABBITMQ_PORT), timeout=2).close()
    except OSError as exc:
        return f"no RabbitMQ on {RABBITMQ_HOST}:{RABBITMQ_PORT} ({exc})"
    if Management().why_not_there() is not None and shutil.which("rabbitmqctl") is None:
        return "RabbitMQ has no management API and there is no rabbitmqctl: no virtual host can be made"
    return None


@pytest.fixture(scope="session")
def _vhosts() -> _Vhosts:
    reason = why_no_rabbitmq()
    if reason is not None:
        missing(reason)
    return _Vhosts()


@contextmanager
def _virtual_hosts(vhosts: _Vhosts) -> Iterator[Callable[[], str]]:
    names: list[str] = []

    def make() -> str:
        names.append(f"nameko_test_{uuid.uuid4().hex[:10]}")
        vhosts.create(names[-1])
        return f"pyamqp://guest:guest@{RABBITMQ_HOST}:{RABBITMQ_PORT}/{names[-1]}"

    yield make
    for name in names:
        vhosts.delete(name)


@pytest.fixture
def rabbitmq_uri(_vhosts: _Vhosts) -> Iterator[str]:
    """A virtual host of its own on RabbitMQ."""
    with _virtual_hosts(_vhosts) as make:
        yield make()


@pytest.fixture(scope="module")
def make_rabbitmq_uri(_vhosts: _Vhosts) -> Iterator[Callable[[], str]]:
    """`make_rabbitmq_uri()`: a virtual host of its own on RabbitMQ, until the module's last test is over."""
    with _virtual_hosts(_vhosts) as make:
        yield make


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


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[..., object]:
    """`eventually(condition, timeout_s=20)`: waits for a condition."""
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
            try:
                server = concurrency.socket.create_connection(self._target)
            except BaseException:  # killed by `close`, for one
                _reset(client)
                raise
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


@pytest.fixture
def start_container() -> Iterator[Callable[..., ServiceContainer]]:
    """`start_container(service_cls, config, plugins=None)`: a container that runs until the test is over."""
    containers: list[ServiceContainer] = []

    def start(service_cls: type, config: dict[str, Any], plugins: PluginManager | None = None) -> ServiceContainer:
        containers.append(ServiceContainer(service_cls, config, plugins=plugins))
        containers[-1].start()
        return containers[-1]

    yield start
    for container in containers:
        container.kill()


@pytest.fixture
def start(
    broker_config: dict[str, object], start_container: Callable[..., ServiceContainer]
) -> Callable[..., ServiceContainer]:
    """`start(service_cls, **config)` runs a service on the broker of this test."""
    return lambda service_cls, **config: start_container(service_cls, {**broker_config, **config})


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """`host(source, *arguments, environ={}, **config)`: `nameko run` with the services of a module `services`."""
    hosted: list[Process] = []

    def start(source: str, *arguments: str, environ: Mapping[str, str] | None = None, **config: object) -> Process:
        directory = tmp_path / f"host-{len(hosted)}"
        directory.mkdir()
        (directory / "services.py").write_text(textwrap.dedent(source))
        (directory / "config.yaml").write_text(json.dumps(config))
        command = [*NAMEKO, "run", "--config", "config.yaml", *arguments, "services"]
        complete_environ = {**os.environ, "PYTHONUNBUFFERED": "1", **(environ or {})}
        hosted.append(Process(command, directory, complete_environ, directory / "output.txt"))
        return hosted[-1]

    yield start
    for each in hosted:
        each.close()
