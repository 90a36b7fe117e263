"""Processes under test: `nameko` and what else there is, their output in files, gone afterwards."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from harness import procfs
from harness.journal import PATH_VARIABLE

_Found = TypeVar("_Found")

NAMEKO = [sys.executable, "-m", "nameko"]

# What the processes import from here.
_LIBRARY = Path(__file__).parents[1]


class Process:
    """A process whose output goes to a file.

    :param command: the program and its arguments
    :param directory: where it runs
    :param environ: its environment
    :param output_path: what it writes to either stream
    """

    def __init__(self, command: Sequence[str], directory: Path, environ: Mapping[str, str], output_path: Path) -> None:
        self._output_path = output_path
        with output_path.open("wb") as output:
            self._process = subprocess.Popen(
                command, cwd=directory, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        """What it has written so far, to either stream."""
        return self._output_path.read_text(errors="replace")

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    @property
    def alive(self) -> bool:
        return self.status is None

    def expect(self, text: str, timeout_s: float = 40) -> None:
        """Wait until `text` is in the output."""
        self._wait_until(lambda: text in self.output, f"{text!r} is not in", timeout_s)

    def find(self, pattern: str, timeout_s: float = 40) -> re.Match[str]:
        """Wait until the output has what the regular expression matches."""
        return self._wait_until(lambda: re.search(pattern, self.output), f"{pattern!r} is not in", timeout_s)

    def expect_idle(self) -> None:
        """Wait until it waits for something to happen."""
        self._wait_until(lambda: procfs.is_asleep(self.pid), "never idle")

    def _wait_until(self, condition: Callable[[], _Found | None], complaint: str, timeout_s: float = 40) -> _Found:
        deadline = time.monotonic() + timeout_s
        while not (found := condition()):
            assert self.status is None, f"ended with {self.status}: {self.output}"
            assert time.monotonic() < deadline, f"{complaint}: {self.output}"
            time.sleep(0.02)
        return found

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def deliver_signal(self, number: signal.Signals) -> None:
        """Send a signal, and wait until it was taken: one that is sent again before that is not sent at all."""
        self.send_signal(number)
        self._wait_until(
            lambda: self.status is not None or not procfs.is_pending(self.pid, number), f"{number.name} is not taken"
        )

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._process.wait()

    def wait(self, timeout_s: float = 40) -> int:
        """Wait for its end; the exit status."""
        return self._process.wait(timeout_s)

    def stop(self) -> int:
        """Have it finish; the exit status. What it has kept and not acknowledged is back in its queue then."""
        self.send_signal(signal.SIGTERM)
        return self.wait()

    def close(self) -> None:
        """Make sure that it is gone."""
        if self.alive:
            self.kill()


class Processes:
    """Starts services and scripts that share a journal, in a directory.

    :param directory: for their modules and output
    :param journal: the path of what they `log`
    """

    def __init__(self, directory: Path, journal: Path) -> None:
        self._directory = directory
        self._environ = {
            **os.environ,
            PATH_VARIABLE: str(journal),
            "PYTHONPATH": str(_LIBRARY),
            "PYTHONUNBUFFERED": "1",
        }
        self._all: list[Process] = []

    def run_services(self, source: str, config: Mapping[str, Any], ready: bool = True) -> Process:
        """`nameko run` with the services of a module.

        :param source: the module; dedented, and preceded by `harness.prelude`
        :param ready: wait until they are started
        """
        name = f"services_{len(self._all)}"
        self._write(f"{name}.py", "from harness.prelude import *\n" + textwrap.dedent(source))
        self._write(f"{name}.yaml", yaml.safe_dump(dict(config)))
        process = self._start(name, [*NAMEKO, "run", "--config", f"{name}.yaml", name])
        if ready:
            process.expect("services ready", timeout_s=30)
        return process

    def run_script(self, source: str, *arguments: str) -> Process:
        """A script of Python; it is not monkey patched."""
        name = f"script_{len(self._all)}"
        self._write(f"{name}.py", textwrap.dedent(source))
        return self._start(name, [sys.executable, f"{name}.py", *arguments])

    def run_module(self, module: str, *arguments: object) -> Process:
        """A program of this package."""
        return self._start(f"module_{len(self._all)}", [sys.executable, "-m", module, *map(str, arguments)])

    def _write(self, name: str, text: str) -> None:
        (self._directory / name).write_text(text)

    def _start(self, name: str, command: Sequence[str]) -> Process:
        process = Process(command, self._directory, self._environ, self._directory / f"{name}.output")
        self._all.append(process)
        return process

    def close(self) -> None:
        """End them all, and show what they have written: pytest prints it when the test fails."""
        for process in self._all:
            process.close()
            print(f"--- output of {process.pid}, which ended with {process.status}\n{process.output}")
