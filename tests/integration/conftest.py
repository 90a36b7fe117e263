"""Examples as separate processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 20


@dataclass(frozen=True)
class ServiceProcess:
    """A `nameko run` in a process of its own."""

    process: subprocess.Popen[bytes]
    output_path: Path

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.output_path.read_text()

    def prints(self, text: str) -> bool:
        """Whether it has printed `text`; fails when the process has ended."""
        assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.output}"
        return text in self.output


@pytest.fixture
def run_services(tmp_path: Path, eventually: Callable[..., object]) -> Iterator[Callable[..., ServiceProcess]]:
    """`run_services("examples.http", "-d", "KEY=VALUE")`: a process that has started; it must stop orderly."""
    started: list[ServiceProcess] = []

    def run(*arguments: str) -> ServiceProcess:
        output_path = tmp_path / f"output_{len(started)}.txt"
        with output_path.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "nameko", "run", *arguments],
                cwd=ROOT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        service_process = ServiceProcess(process, output_path)
        started.append(service_process)
        eventually(lambda: service_process.prints("services ready"), timeout_s=START_TIMEOUT_S)
        return service_process

    yield run
    for each in started:
        each.process.terminate()
    statuses = [each.process.wait(STOP_TIMEOUT_S) for each in started]
    assert statuses == [0] * len(started), "\n".join(each.output for each in started)


@pytest.fixture
def web_address() -> str:
    """`host:port` that is free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def run_script() -> Callable[..., str]:
    """`run_script("rpc_client.py", ...)`: runs an example that is no service to its end; what it printed."""

    def run(name: str, *arguments: str) -> str:
        completed = subprocess.run(
            [sys.executable, ROOT / "examples" / name, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert completed.returncode == 0, completed.stderr
        return completed.stdout

    return run


@pytest.fixture
def fetch() -> Callable[..., tuple[int, dict[str, str], str]]:
    """`fetch(url, method="GET", body=None)`: status, header fields and body, whatever the status."""

    class KeepErrors(urllib.request.HTTPErrorProcessor):
        def http_response(self, request: object, response: object) -> object:
            return response

    opener = urllib.request.build_opener(KeepErrors)

    def get(url: str, method: str = "GET", body: str | None = None) -> tuple[int, dict[str, str], str]:
        request = urllib.request.Request(url, method=method, data=None if body is None else body.encode())
        with opener.open(request, timeout=10) as response:
            return response.status, dict(response.headers), response.read().decode()

    return get
