"""Services that are stopped afterwards, in this process and in others; raw AMQP; a network that can be cut."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import amqp
import kombu
import pytest

from nameko import concurrency
from nameko.amqp import memory
from nameko.containers import ServiceContainer
from nameko.standalone.rpc import ClusterRpcProxy

Eventually = Callable[..., Any]


@pytest.fixture
def start(broker_config: dict[str, Any]) -> Iterator[Callable[..., ServiceContainer]]:
    """`start(service_cls, **config)` runs a service on the broker of this test."""
    containers: list[ServiceContainer] = []

    def start_service(service_cls: type, **config: Any) -> ServiceContainer:
        container = ServiceContainer(service_cls, {**broker_config, **config})
        containers.append(container)
        container.start()
        return container

    yield start_service
    for container in containers:
        container.kill()


@pytest.fixture
def cluster(broker_config: dict[str, Any]) -> Iterator[Any]:
    """A standalone proxy for all services."""
    with ClusterRpcProxy(broker_config, timeout=10) as proxy:
        yield proxy


@pytest.fixture
def connect(broker_uri: str) -> Iterator[Callable[[], kombu.Connection]]:
    """`connect()` gives a plain kombu connection to the broker of this test."""
    with ExitStack() as connections:

        def make() -> kombu.Connection:
            transport = {"transport": memory.Transport} if broker_uri.startswith("memory") else {}
            return connections.enter_context(kombu.Connection(broker_uri, **transport))

        yield make


class Raw:
    """Sends and receives messages exactly as told, as a client that knows nothing of nameko."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.reply_to = "11111111-2222-3333-4444-555555555555"
        self.queue = channel.queue_declare("", exclusive=True).queue

    def bind(self) -> None:
        self.channel.queue_bind(self.queue, "nameko-rpc", self.reply_to)

    def send(self, body: bytes | str, routing_key: str, exchange: str = "nameko-rpc", **properties: Any) -> None:
        properties = {"content_type": "application/json", "content_encoding": "utf-8", **properties}
        message = amqp.Message(body, application_headers=properties.pop("headers", None), **properties)
        self.channel.basic_publish(message, exchange=exchange, routing_key=routing_key)

    def receive(self, timeout_s: float = 5) -> Any:
        """The next message in the queue; fails when there is none."""
        deadline = concurrency.original("time").monotonic() + timeout_s
        while concurrency.original("time").monotonic() < deadline:
            message = self.channel.basic_get(self.queue, no_ack=True)
            if message is not None:
                return message
            concurrency.sleep(0.01)
        raise AssertionError(f"no message within {timeout_s} s")


@pytest.fixture
def raw(connect: Callable[[], kombu.Connection]) -> Raw:
    return Raw(connect().default_channel)


PREAMBLE = """
import os, signal, sys
from nameko import concurrency
concurrency.monkey_patch()
from nameko.rpc import rpc, RpcProxy, ClusterRpc
from nameko.runners import ServiceRunner

def log(*words):
    # One write to a file opened for appending is whole, whichever process does it.
    os.write(log_fd, (" ".join(map(str, (*words, os.getpid()))) + "\\n").encode())

log_fd = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND)
"""

MAIN = """
runner = ServiceRunner({"AMQP_URI": sys.argv[1]})
for value in list(globals().values()):
    if isinstance(value, type) and value.__module__ == "__main__" and hasattr(value, "name"):
        runner.add_service(value)
runner.start()
log("started", *runner.service_names)
signal.signal(signal.SIGTERM, lambda signum, frame: concurrency.spawn_detached(runner.stop))
runner.wait()
log("stopped")
"""


class Log:
    """A file that several processes write lines to: what they really did, whatever became of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def __call__(self, *starting_with: str) -> list[list[str]]:
        """The lines, each split at blanks, of those that start with the given words."""
        lines = [line.split() for line in self.path.read_text().splitlines()]
        return [line for line in lines if line[: len(starting_with)] == list(starting_with)]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


@pytest.fixture
def service_process(
    rabbitmq_uri: str, tmp_path: Path, log: Log, eventually: Eventually
) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """`service_process(source)` runs the services of a module in a process of their own; started when it returns."""
    processes: list[subprocess.Popen[bytes]] = []

    def run(source: str) -> subprocess.Popen[bytes]:
        module = tmp_path / f"services_{len(processes)}.py"
        module.write_text(PREAMBLE + textwrap.dedent(source) + MAIN)
        process = subprocess.Popen([sys.executable, str(module), rabbitmq_uri, str(log.path)])
        processes.append(process)
        eventually(lambda: [line for line in log("started") if line[-1] == str(process.pid)], timeout_s=20)
        return process

    yield run
    for process in processes:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
    for process in processes:
        concurrency.run_in_native_thread(process.wait)


class Network:
    """A TCP proxy in front of the broker, in native threads: `cut()` resets all connections, `swallow()` keeps them
    open and forwards nothing more, `refuse()` lets nobody in."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = concurrency.original("socket")
        self._threading = concurrency.original("threading")
        self._target = (host, port)
        self._pairs: list[tuple[Any, Any]] = []
        self._swallowing = False
        self._listener = self._socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        #: How many connections came through.
        self.accepted = 0
        self._spawn(self._accept, self._listener)

    def _spawn(self, fn: Callable[..., None], *args: Any) -> None:
        self._threading.Thread(target=fn, args=args, daemon=True).start()

    def _accept(self, listener: Any) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            server = self._socket.create_connection(self._target)
            self._pairs.append((client, server))
            self._spawn(self._forward, client, server)
            self._spawn(self._forward, server, client)

    def _forward(self, source: Any, target: Any) -> None:
        try:
            while data := source.recv(65536):
                if not self._swallowing:
                    target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(self._socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self) -> None:
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # close with RST
        pairs, self._pairs = self._pairs, []
        for client, server in pairs:
            client.setsockopt(self._socket.SOL_SOCKET, self._socket.SO_LINGER, linger)
            self._end(client)
            self._end(server)

    def swallow(self) -> None:
        self._swallowing = True

    def heal(self) -> None:
        self._swallowing = False

    def refuse(self) -> None:
        self._end(self._listener)

    def _end(self, end: Any) -> None:
        try:
            end.shutdown(self._socket.SHUT_RD)  # wakes the thread that reads from it
        except OSError:
            pass
        end.close()

    def close(self) -> None:
        self.refuse()
        self.cut()


@pytest.fixture
def network(rabbitmq_uri: str) -> Iterator[Network]:
    host, _, port = rabbitmq_uri.rpartition("@")[2].partition("/")[0].partition(":")
    network = Network(host, int(port))
    yield network
    network.close()


@pytest.fixture
def network_uri(rabbitmq_uri: str, network: Network) -> str:
    """RabbitMQ through `network`."""
    vhost = rabbitmq_uri.rpartition("/")[2]
    return f"pyamqp://guest:guest@127.0.0.1:{network.port}/{vhost}"
