"""The command line as its users have it: in processes of its own, with real signals and terminals."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.process import NAMEKO, Process
from nameko.testing.plugins import write_distribution

# Makes its standard input the controlling terminal, so that Ctrl-C there becomes a signal, and turns into `nameko`.
_IN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Project:
    """A directory with the modules of a service, and `nameko` run in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environ = {**os.environ, "XDG_RUNTIME_DIR": str(path), "PYTHONUNBUFFERED": "1", "TERM": "dumb"}
        for name in ("NAMEKO_DISABLE_PLUGINS", "NAMEKO_DEBUG", "PYTHONSTARTUP"):
            self.environ.pop(name, None)
        self.processes: list[Process | Terminal] = []

    def write(self, name: str, text: str) -> Path:
        """Write a file, its text dedented."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def install(
        self, distribution: str, entry_points: dict[str, str], version: str = "1.2", requires: tuple[str, ...] = ()
    ) -> None:
        """Make an installed distribution that brings plugins; their modules are for `write`."""
        self.environ["PYTHONPATH"] = str(self.path)
        write_distribution(self.path, distribution, entry_points, version=version, requires=requires)

    def nameko(self, *arguments: str, stdin: str = "", timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
        """Run `nameko` to its end."""
        return subprocess.run(
            [*NAMEKO, *arguments],
            cwd=self.path,
            env=self.environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def start(self, *arguments: str) -> Process:
        """Start `nameko`."""
        output_path = self.path / f"output-{len(self.processes)}"
        process = Process([*NAMEKO, *arguments], self.path, self.environ, output_path)
        self.processes.append(process)
        return process

    def start_in_terminal(self, *arguments: str) -> Terminal:
        """Start `nameko` in a terminal of its own."""
        terminal = Terminal(self, arguments)
        self.processes.append(terminal)
        return terminal


class Terminal:
    """A running `nameko` in a pseudo terminal."""

    def __init__(self, project: Project, arguments: tuple[str, ...]) -> None:
        self._fd, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _IN_TERMINAL, *NAMEKO, *arguments],
            cwd=project.path,
            env=project.environ,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
        )
        os.close(inner)
        self.output = ""
        self._searched = 0

    def send(self, text: str) -> None:
        """Type `text`."""
        os.write(self._fd, text.encode())

    def interrupt(self) -> None:
        """Type Ctrl-C, as late after a prompt as a person would.

        Python's own prompt forgets a signal that comes between its last output and its wait for input.
        """
        time.sleep(0.3)
        self.send("\x03")

    def expect(self, text: str, timeout_s: float = 20) -> str:
        """Wait for `text` after what was expected before; what came up to there."""
        deadline = time.monotonic() + timeout_s
        while (index := self.output.find(text, self._searched)) < 0:
            assert time.monotonic() < deadline, f"{text!r} is not in: {self.output[self._searched :]!r}"
            assert self._read(), f"ended before {text!r} came: {self.output[self._searched :]!r}"
        start, self._searched = self._searched, index + len(text)
        return self.output[start:index]

    def _read(self) -> bool:
        readable, _, _ = select.select([self._fd], [], [], 0.1)
        if not readable:
            return True
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # what Linux says when the other side has closed
            return False
        if b"\x1b[6n" in data:
            self.send("\x1b[1;1R")  # where the cursor is, as some programs ask
        text = data.decode(errors="replace").replace("\r\n", "\n")
        self.output += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
        return bool(data)

    def wait(self, timeout_s: float = 20) -> int:
        """Wait for its end; the exit status."""
        deadline = time.monotonic() + timeout_s
        while self._process.poll() is None:
            assert time.monotonic() < deadline, f"still runs: {self.output}"
            self._read()
        return self._process.wait()

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._fd)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """An empty directory to run `nameko` in."""
    tmp_path.chmod(0o700)
    project = Project(tmp_path)
    yield project
    for process in project.processes:
        process.close()


@contextmanager
def _logging_of_its_own() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(level)


@pytest.fixture
def here(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """`here(*arguments)`: runs `nameko` in this process, which saves a second; for what does not host services."""
    from nameko import config
    from nameko.cli.main import main

    monkeypatch.chdir(project.path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = dict(sys.modules)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        for name in ("NAMEKO_DISABLE_PLUGINS", "NAMEKO_DEBUG"):
            monkeypatch.delenv(name, raising=False)
        for name in project.environ.keys() - os.environ.keys():
            monkeypatch.setenv(name, project.environ[name])
        if project.environ.get("PYTHONPATH") and project.environ["PYTHONPATH"] not in sys.path:
            sys.path.append(project.environ["PYTHONPATH"])
        with config.patch({}, clear=True), _logging_of_its_own(), pytest.raises(SystemExit) as ended:
            main(list(arguments))
        captured = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, int(str(ended.value.code)), captured.out, captured.err)

    yield run
    os.environ.pop("NAMEKO_DEBUG", None)
    for name in sys.modules.keys() - modules.keys():
        if str(project.path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


@pytest.fixture
def tick_service(project: Project) -> Callable[..., Any]:
    """`tick_service(body)`: writes the module `ticking`, whose service runs `body` in workers, one after the other."""

    def write(body: str) -> Path:
        return project.write(
            "ticking.py",
            f"""
            import time
            from nameko import concurrency
            from nameko.extensions import Entrypoint

            class Ticker(Entrypoint):
                stopped = False

                def start(self):
                    self.container.spawn_managed_thread(self.run)

                def run(self):
                    while not self.stopped:
                        done = concurrency.Event()
                        self.container.spawn_worker(
                            self, (), {{}}, handle_result=lambda ctx, *outcome: (done.send(None), outcome)[1]
                        )
                        done.wait()
                        concurrency.sleep(0.05)

                def stop(self):
                    self.stopped = True

            tick = Ticker.decorator

            class Ticking:
                name = "ticking"

                @tick
                def method(self):
                    {body}
            """,
        )

    return write
