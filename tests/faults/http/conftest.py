"""Services with HTTP in processes of their own."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from harness.http_service import MIB, Server, serve
from harness.process import Processes


@pytest.fixture
def http_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """`http_server(prelude="", **config)`: a server of one's own."""
    processes = Processes(tmp_path, tmp_path / "journal")
    yield partial(serve, processes)
    processes.close()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for tests that leave it as it was; bodies may have 4 MiB."""
    directory = tmp_path_factory.mktemp("http")
    processes = Processes(directory, directory / "journal")
    yield serve(processes, WEB_SERVER_MAX_BODY_BYTES=4 * MIB)
    processes.close()


@pytest.fixture
def clients() -> Iterator[list[socket.socket]]:
    """Sockets to be closed at the end."""
    socks: list[socket.socket] = []
    yield socks
    for sock in socks:
        sock.close()
