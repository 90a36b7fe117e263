"""Runs the documentation: every fenced block of a page is executed, compared, or says why not.

What a block is follows from the first line of its fence::

    ```python                       a script: it must end without an error
    ```python file=shop.py          a file, of any language: later blocks of the page find it
    ```python from=examples/x.py    is that example, to the letter; every block finds the examples under `examples/`
    ```console                      what is typed after `$ `, and below it what comes out (`...` stands for anything)
    ```console exit=1               the same; the last command ends with that status
    ```text                         not code
    ```python skip="reason"         not run

`nameko run` and commands that end in `&` go on in the background until their section ends.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.documented_ports import documented_ports

ROOT = Path(__file__).parents[2]
#: What pages call the broker; the tests put a virtual host of their own in its place.
BROKER_URI = "pyamqp://guest:guest@localhost"
#: Where HTTP services listen unless they are told otherwise.
DEFAULT_PORT = 8000
COMMAND_TIMEOUT_S = 90
#: How long a command may go on failing because a service in the background is not up yet.
SETTLE_TIMEOUT_S = 15

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w{}]*) *(?P<options>.*)$")
_LOOPBACK_PORT = re.compile(r"127\.0\.0\.1:([0-9]+)")
_HEADING = re.compile(r"^##+ +(?P<title>.+)$")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    :param line: where it begins, counted from 1
    """

    line: int
    language: str
    options: dict[str, str]
    text: str

    @property
    def is_file(self) -> bool:
        """Whether it is a file, rather than something to run."""
        return "file" in self.options or "from" in self.options


@dataclass
class Section:
    """What stands between two headings of a page, with the files of the sections before it."""

    page: Path
    title: str
    blocks: list[Block] = field(default_factory=list)
    files_before: list[Block] = field(default_factory=list)

    @property
    def id(self) -> str:
        """How test reports call it."""
        return f"{self.page.relative_to(ROOT)}#{self.title.lower().replace(' ', '-')}"

    @property
    def needs_rabbitmq(self) -> bool:
        """Whether it names the broker."""
        return any(BROKER_URI in block.text for block in self.blocks if "skip" not in block.options)


def sections(page: Path) -> list[Section]:
    """The sections of `page` that have blocks."""
    found = [Section(page, page.stem)]
    for item in _blocks_and_headings(page.read_text().splitlines()):
        if isinstance(item, str):
            files = [block for block in found[-1].blocks if block.is_file]
            found.append(Section(page, item, files_before=found[-1].files_before + files))
        else:
            found[-1].blocks.append(item)
    return [section for section in found if section.blocks]


def _blocks_and_headings(lines: list[str]) -> Iterator[Block | str]:
    numbered = iter(enumerate(lines, start=1))
    for number, line in numbered:
        if fence := _FENCE.match(line):
            body = []
            for _, inside in numbered:
                if inside.strip() == "```":
                    break
                body.append(inside)
            options = dict(option.partition("=")[::2] for option in shlex.split(fence["options"]))
            yield Block(number, fence["language"], options, textwrap.dedent("\n".join(body)) + "\n")
        elif heading := _HEADING.match(line):
            yield heading["title"]


class Shell:
    """Runs the blocks of a section in a directory of its own.

    :param broker_uri: what to put in the place of `BROKER_URI`
    """

    def __init__(self, directory: Path, broker_uri: str | None) -> None:
        self.directory = directory
        (directory / "examples").symlink_to(ROOT / "examples")
        self._broker_uri = broker_uri
        self._background: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._ports = ExitStack()
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "120",
            "PYTEST_ADDOPTS": "--ignore=examples",  # a reader's directory has none
        }

    def run(self, block: Block) -> None:
        """Do what the block asks for."""
        if block.is_file:
            self.write(block)
        elif block.language == "python":
            script = self.directory / f"block_{block.line}.py"
            script.write_text(self._localized(block.text))
            self._finish([sys.executable, script.name], [], 0)
        elif block.language == "console":
            self._run_console(block)
        else:
            pytest.fail(f"line {block.line}: a {block.language or 'nameless'} block is a file, or says why not to run")

    def write(self, block: Block) -> None:
        """Write the file that the block is."""
        if "from" in block.options:
            assert block.text == (ROOT / block.options["from"]).read_text(), f"line {block.line} differs from the file"
            return
        path = self.directory / block.options["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._localized(block.text))

    def _localized(self, text: str) -> str:
        return text.replace(BROKER_URI, self._broker_uri) if self._broker_uri else text

    def _run_console(self, block: Block) -> None:
        commands = _commands(block.text)
        for index, (command, expected) in enumerate(commands):
            status = int(block.options.get("exit", 0)) if index == len(commands) - 1 else 0
            # The environment of the tests is the one that `uv run` would make.
            command = command.replace("pip install -q uv && ", "").replace("uv run ", "")
            if command.endswith("&") or command.startswith("nameko run "):
                self._start(command.rstrip("& "), expected)
            else:
                self._finish(["bash", "-c", self._localized(command)], expected, status)

    def _start(self, command: str, expected: list[str]) -> None:
        if not self._background:
            self._ports.enter_context(documented_ports())
        named = {int(port) for port in _LOOPBACK_PORT.findall(command)}
        for port in named | (set() if self._background else {DEFAULT_PORT}):
            _wait_for_free_port(port)
        output = self.directory / f"output_{len(self._background)}.txt"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                shlex.split(self._localized(command)),
                cwd=self.directory,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        self._background.append((command, process))
        pattern = _pattern("...".join(expected))
        self._wait(lambda: pattern.search(output.read_text()), process, lambda: f"{command}\n{output.read_text()}")

    def _wait(
        self, condition: Callable[[], object], process: subprocess.Popen[bytes], describe: Callable[[], str]
    ) -> None:
        deadline = time.monotonic() + COMMAND_TIMEOUT_S
        while not condition():
            assert process.poll() is None, f"ended with {process.returncode}: {describe()}"
            assert time.monotonic() < deadline, f"not what the page says: {describe()}"
            time.sleep(0.05)

    def _finish(self, command: list[str], expected: list[str], status: int) -> None:
        deadline = time.monotonic() + (SETTLE_TIMEOUT_S if self._background else 0)
        while True:
            done = subprocess.run(
                command,
                cwd=self.directory,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_TIMEOUT_S,
            )
            if done.returncode == status or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        printed = done.stdout + done.stderr
        assert done.returncode == status, f"{command} ended with {done.returncode}\n{printed}"
        if expected:
            # Of curl, a terminal shows stdout alone: its progress is for those who have that in a file.
            pattern = _pattern("\n".join(expected))
            outputs = done.stdout.rstrip(), printed.rstrip()
            assert any(pattern.fullmatch(each) for each in outputs), f"{command} printed\n{printed}"

    def close(self) -> None:
        """Stop what runs in the background; it has to stop in an orderly way."""
        with self._ports:
            self._stop_background()

    def _stop_background(self) -> None:
        for _, process in self._background:
            process.terminate()
        for command, process in self._background:
            try:
                status = process.wait(COMMAND_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                status = -signal.SIGKILL
            orderly = (0,) if command.startswith("nameko ") else (0, -signal.SIGTERM)
            assert status in orderly, f"{command} ended with {status} on SIGTERM"


def _wait_for_free_port(port: int) -> None:
    # Pages name their ports. Whoever has it now, another test run perhaps, may soon be done with it.
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while not _is_free(port):
        assert time.monotonic() < deadline, f"port {port}, which the pages name, is in use"
        time.sleep(0.2)


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _commands(text: str) -> list[tuple[str, list[str]]]:
    commands: list[tuple[str, list[str]]] = []
    for line in text.replace("\\\n", "").splitlines():
        if line.startswith("$ "):
            commands.append((line[2:].strip(), []))
        elif line.strip():
            commands[-1][1].append(line)
    return commands


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*?".join(re.escape(part) for part in text.split("...")), re.DOTALL)


@pytest.fixture
def shell(request: pytest.FixtureRequest, section: Section, tmp_path: Path) -> Iterator[Shell]:
    """Where the section's blocks run: in a new directory with the files of the sections before."""
    broker_uri = request.getfixturevalue("rabbitmq_uri") if section.needs_rabbitmq else None
    shell = Shell(tmp_path, broker_uri)
    for block in section.files_before:
        shell.write(block)
    yield shell
    shell.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each section of each page, and for each block that is not run."""
    found = [section for page in pages() for section in sections(page)]
    if "section" in metafunc.fixturenames:
        marks = [[pytest.mark.timeout(600)] + [pytest.mark.rabbitmq] * each.needs_rabbitmq for each in found]
        metafunc.parametrize(
            "section", [pytest.param(each, id=each.id, marks=mark) for each, mark in zip(found, marks, strict=True)]
        )
    if "skipped_block" in metafunc.fixturenames:
        skipped = [(each, block) for each in found for block in each.blocks if "skip" in block.options]
        metafunc.parametrize(
            "skipped_block", [pytest.param(block, id=f"{each.id}:{block.line}") for each, block in skipped]
        )


def pages() -> list[Path]:
    """Every page of documentation."""
    places = ["*.md", "core/*.md", "plugins/*/*.md", "examples/**/*.md", "docs/**/*.md"]
    return sorted(path for place in places for path in ROOT.glob(place))
