"""Runs one server, loads it with wrk, and reads what it costs."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import python_of
from benchmarks.measure import cpu_s

APPS = Path(__file__).parent / "apps"
PEERS = ("nameko 3", "nameko-2.14.1", "eventlet.wsgi", "uvicorn")
_SCRIPTS = {"eventlet.wsgi": "eventlet_wsgi_app.py", "uvicorn": "starlette_app.py"}
_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}


@dataclass(frozen=True)
class Case:
    """A kind of request."""

    name: str
    path: str
    body: str | None = None


CASES = [
    Case("GET /hello/<int:number>", "/hello/42"),
    Case("POST /json, 1 kB", "/json", json.dumps({"values": list(range(200)), "text": "x" * 100})),
]


@dataclass(frozen=True)
class Run:
    """One run: requests a second, times in microseconds; processor time is per request."""

    rate: float
    median_us: float
    p99_us: float
    cpu_us: float


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def server_of(peer: str) -> Iterator[tuple[int, int]]:
    """The peer's server, answering: its process id and its port."""
    port = free_port()
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:
        config.write(f"WEB_SERVER_ADDRESS: 127.0.0.1:{port}\nmax_workers: 100\n")
        config.write("plugins: {only: [amqp, rpc, events, http, timer]}\n")  # what `pip install nameko` brings
        config.flush()
        arguments = [_SCRIPTS[peer], str(port)] if peer in _SCRIPTS else _nameko_run(config.name)
        command = [str(python_of(peer)), "-W", "ignore", *arguments]
        process = subprocess.Popen(command, cwd=APPS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_until_it_answers(process, port, peer)
            yield process.pid, port
        finally:
            process.kill()
            process.wait()


def _nameko_run(config_path: str) -> list[str]:
    return ["-m", "nameko", "run", "--config", config_path, "nameko_app"]


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int, peer: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{peer}: its server ended with status {process.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
                sock.sendall(b"GET /hello/1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                if b"hello 1" in b"".join(iter(lambda: sock.recv(4096), b"")):
                    return
        except OSError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{peer}: its server does not answer")


def load(port: int, case: Case, connections: int, seconds: float) -> tuple[int, float, float, float]:
    """Load a server with wrk: requests, their rate, the median and the 99th percentile of their times.

    :raises RuntimeError: when an answer was not 2xx or a connection failed
    """
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        if case.body is not None:
            script.write(f"wrk.method = 'POST'\nwrk.body = [[{case.body}]]\n")
            script.write("wrk.headers['Content-Type'] = 'application/json'\n")
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "-s", script.name]
        url = f"http://127.0.0.1:{port}{case.path}"
        output = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(output)
    requests = int(_find(r"(\d+) requests in", output))
    rate = float(_find(r"Requests/sec:\s+([\d.]+)", output))
    return requests, rate, _time_us(r"(?m)^\s+50%\s+(\S+)", output), _time_us(r"(?m)^\s+99%\s+(\S+)", output)


def _find(pattern: str, output: str) -> str:
    match = re.search(pattern, output)
    if match is None:
        raise RuntimeError(output)
    return match[1]


def _time_us(pattern: str, output: str) -> float:
    match = re.fullmatch(r"([\d.]+)([a-z]+)", _find(pattern, output))
    assert match is not None
    return float(match[1]) * _UNITS[match[2]]


def run(peer: str, case: Case, connections: int, seconds: float) -> Run:
    """Measure `peer` at `case`, after a second of warming up."""
    with server_of(peer) as (pid, port):
        load(port, case, connections, 1)
        before_s = cpu_s(pid)
        requests, rate, median_us, p99_us = load(port, case, connections, seconds)
        return Run(rate, median_us, p99_us, (cpu_s(pid) - before_s) / requests * 1e6)


@dataclass(frozen=True)
class IdleRun:
    """What idle connections cost: memory of each, and the rate of an active client without and with them."""

    bytes_each: float
    rate_without: float
    rate_with: float


def run_idle(peer: str, idle: int, connections: int, seconds: float) -> IdleRun:
    """Measure `peer` with `idle` keep-alive connections, each of which has made one request."""
    case = CASES[0]
    with server_of(peer) as (pid, port):
        load(port, case, connections, 1)
        rate_without = load(port, case, connections, seconds)[1]
        before = _rss_bytes(pid)
        socks = [_idle_connection(port) for _ in range(idle)]
        bytes_each = (_rss_bytes(pid) - before) / idle
        rate_with = load(port, case, connections, seconds)[1]
        for sock in socks:
            sock.close()
        return IdleRun(bytes_each, rate_without, rate_with)


def _idle_connection(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    sock.sendall(b"GET /hello/1 HTTP/1.1\r\nHost: h\r\n\r\n")
    received = b""
    while b"hello 1" not in received:
        received += sock.recv(4096)
    return sock


def _rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
