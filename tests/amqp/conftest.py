"""Containers that hold a `Broker`, and a network that can be made to fail."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from nameko import concurrency
from nameko.amqp import Broker
from nameko.containers import ServiceContainer
from nameko.extensions import DependencyProvider

socket = concurrency.socket


class BrokerHolder(DependencyProvider):
    """What a service needs to have a `Broker`."""

    broker = Broker()


class Service:
    name = "service"
    holder = BrokerHolder()


@pytest.fixture
def make_broker() -> Iterator[Callable[..., Broker]]:
    """`make_broker(uri, **config)`: the `Broker` of a started container of its own."""
    containers: list[ServiceContainer] = []

    def make(uri: str, **config: Any) -> Broker:
        container = ServiceContainer(Service, {"AMQP_URI": uri, **config})
        containers.append(container)
        container.start()
        return next(iter(container.dependencies)).broker  # type: ignore[no-any-return]

    yield make
    for container in containers:
        container.kill()


class Proxy:
    """A TCP proxy that can lose connections, hold data back, or refuse connections.

    :param target: host and port to connect to
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(50)
        self.address = self._listener.getsockname()
        self.links: list[tuple[Any, ...]] = []  # two sockets and two threads each
        self.accepted = 0
        self._open = concurrency.Event()
        self._open.send(None)
        self.refusing = False
        self._acceptor = concurrency.spawn(self._accept)

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self.refusing:
                _reset(client)
                continue
            self.accepted += 1
            server = socket.create_connection(self._target)
            threads = [concurrency.spawn(self._pump, client, server), concurrency.spawn(self._pump, server, client)]
            self.links.append((client, server, *threads))

    def _pump(self, source: Any, sink: Any) -> None:
        try:
            while data := source.recv(65536):
                self._open.wait()
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
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.fixture
def proxy(rabbitmq_uri: str) -> Iterator[Proxy]:
    """A proxy in front of RabbitMQ; its `uri` leads through it to a virtual host of its own."""
    parts = urlsplit(rabbitmq_uri)
    made = Proxy((parts.hostname or "127.0.0.1", parts.port or 5672))
    made.uri = rabbitmq_uri.replace(f"@{parts.hostname}:{parts.port}", f"@127.0.0.1:{made.address[1]}")  # type: ignore[attr-defined]
    yield made
    made.close()
