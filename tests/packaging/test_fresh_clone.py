"""What the README promises a newcomer: its first line, typed into a fresh clone with nothing but Python and pip."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.documented_ports import documented_ports

PORT = 8000
INSTALL_TIMEOUT_S = 240
NEEDED_TOOLS = ("bash", "git", "cc", "gcc")


@pytest.fixture
def clone(repository: Path, tmp_path: Path) -> Path:
    """A clone of what is committed."""
    path = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", repository, path], check=True, timeout=60)
    return path


@pytest.fixture
def bare_environ(tmp_path: Path, uv: Any) -> dict[str, str]:
    """The variables of a machine that has Python with pip, and no uv."""
    uv("venv", "--quiet", "--seed", "--python", sys.executable, tmp_path / "python")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in NEEDED_TOOLS:
        if path := shutil.which(name):
            (tools / name).symlink_to(path)
    # uv makes environments from the system's Python, which the one with pip was made from.
    (tools / "python3").symlink_to(Path(sys.base_prefix) / f"bin/python3.{sys.version_info.minor}")
    kept = {name: os.environ[name] for name in os.environ if name.startswith(("PIP_", "UV_INDEX", "UV_DEFAULT_INDEX"))}
    for name in ("HOME", "LANG", "SSL_CERT_FILE", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        if name in os.environ:
            kept[name] = os.environ[name]
    return kept | {"PATH": f"{tmp_path / 'python/bin'}:{tools}", "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def first_command(repository: Path) -> str:
    """The first command of the README."""
    lines = (repository / "README.md").read_text().splitlines()
    return next(line.removeprefix("$ ") for line in lines if line.startswith("$ "))


@pytest.fixture
def quickstart(
    clone: Path, bare_environ: dict[str, str], first_command: str, tmp_path: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """That command, running; it is stopped as Ctrl-C would."""
    with documented_ports():
        with (tmp_path / "output.txt").open("wb") as stream:
            process = subprocess.Popen(
                ["bash", "-c", first_command],
                cwd=clone,
                env=bare_environ,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        yield process
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=30)


def fetch(url: str, process: subprocess.Popen[bytes], output: Path) -> str:
    deadline = time.monotonic() + INSTALL_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return str(response.read().decode())
        except urllib.error.URLError:
            time.sleep(0.2)
    pytest.fail(f"{url} does not answer; the command printed\n{output.read_text()}")


def is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def test_first_command_of_the_readme(request: pytest.FixtureRequest, tmp_path: Path, eventually: Any) -> None:
    eventually(lambda: is_free(PORT), timeout_s=60)
    process = request.getfixturevalue("quickstart")
    output = tmp_path / "output.txt"

    assert fetch(f"http://127.0.0.1:{PORT}/greet/Ada", process, output) == "Hello, Ada!\n"
    for expected in ("starting services: ", "event: Ada was greeted", "timer: Hello, it is "):
        eventually(lambda expected=expected: expected in output.read_text(), timeout_s=15)
    assert git_status(tmp_path / "clone") == ""


def git_status(clone: Path) -> str:
    command = ["git", "status", "--porcelain", "--untracked-files=all"]
    return subprocess.run(command, cwd=clone, check=True, capture_output=True, text=True, timeout=30).stdout
