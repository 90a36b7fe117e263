"""Several processes of `nameko run --workers` that serve one address."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from nameko import concurrency
from nameko.testing.utils import find_free_port

SERVICE = """
import os
from nameko.web.handlers import http

class Service:
    name = "service"

    @http("GET", "/pid")
    def pid(self, request):
        return str(os.getpid())
"""


def _run(directory: Path, address: str) -> subprocess.Popen[str]:
    (directory / "service.py").write_text(SERVICE)
    command = [
        sys.executable,
        "-m",
        "nameko",
        "run",
        "--workers",
        "2",
        "-d",
        f"WEB_SERVER_ADDRESS={address}",
        "service",
    ]
    return subprocess.Popen(command, cwd=directory, stderr=subprocess.PIPE, text=True)


def test_workers_share_a_port(tmp_path: Path, eventually: Any) -> None:
    port = find_free_port()
    process = _run(tmp_path, f"127.0.0.1:{port}")

    def answering() -> set[str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/pid", timeout=5) as response:
            seen.add(response.read().decode())
        return seen

    def both_answer() -> bool:
        try:
            return len(answering()) == 2
        except OSError:  # not yet
            return False

    seen: set[str] = set()
    try:
        eventually(both_answer, timeout_s=30)
        assert str(process.pid) not in seen
    finally:
        process.send_signal(signal.SIGTERM)
        assert concurrency.run_in_native_thread(process.wait, 30) == 0


def test_a_unix_socket_cannot_be_shared(tmp_path: Path) -> None:
    process = _run(tmp_path, f"unix:{tmp_path / 'socket'}")
    _, errors = concurrency.run_in_native_thread(process.communicate, timeout=30)
    assert process.returncode == 1
    assert "several processes cannot share the Unix socket" in errors
    assert not os.path.exists(tmp_path / "socket")
