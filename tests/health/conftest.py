"""Services whose health is asked for over HTTP, as a probe does."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nameko.concurrency import socket
from nameko.containers import ServiceContainer

Answer = tuple[int, dict[str, Any]]


@pytest.fixture
def ask() -> Callable[..., Answer]:
    """`ask(address, path)`: status and content of the answer at `host:port` or at the path of a Unix socket."""

    def request(address: str, path: str, method: str = "GET") -> Answer:
        connection = http.client.HTTPConnection(address if ":" in address else "localhost", timeout=20)
        if ":" not in address:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(address)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            assert answer.headers["Content-Type"] == "application/json"
            assert answer.headers["Cache-Control"] == "no-store"
            return answer.status, json.loads(answer.read() or "{}")
        finally:
            connection.close()

    return request


@pytest.fixture
def make_container() -> Iterator[Callable[..., ServiceContainer]]:
    """`make_container(service_cls, plugins=None, **config)`: a container that is not started."""
    containers: list[ServiceContainer] = []

    def make(service_cls: type, plugins: Any = None, **config: Any) -> ServiceContainer:
        containers.append(ServiceContainer(service_cls, config, plugins=plugins))
        return containers[-1]

    yield make
    for container in containers:
        container.kill()
