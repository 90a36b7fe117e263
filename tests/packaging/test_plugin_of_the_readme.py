"""The README's plugin as the distribution that the README makes of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SERVICE = """
from nameko.timer import timer

class Service:
    name = "service"

    @timer(interval=0.1)
    def run(self):
        pass
"""


@pytest.fixture(scope="module")
def plugin(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the two files of the README."""
    directory = tmp_path_factory.mktemp("slow-calls")
    text = (repository / "README.md").read_text()
    for name in ("slow_calls.py", "pyproject.toml"):
        found = re.search(rf"^```\w+ file={re.escape(name)}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        assert found is not None
        (directory / name).write_text(found[1])
    return directory


def test_it_is_short(plugin: Path) -> None:
    assert len((plugin / "slow_calls.py").read_text().splitlines()) <= 20


def test_installing_it_is_enough(
    plugin: Path, make_environment: Callable[..., Any], tmp_path: Path, eventually: Callable[..., object]
) -> None:
    environment = make_environment("nameko-timer", str(plugin))
    (tmp_path / "service.py").write_text(SERVICE)
    output = tmp_path / "output.txt"

    process = environment.start("nameko", "run", "-d", "SLOW_CALL_S=0", "service", cwd=tmp_path, output=output)
    try:
        eventually(lambda: re.search(r"service\.run\.\S+ took \d\.\d+ s", output.read_text()), timeout_s=20)
    finally:
        process.terminate()
        assert process.wait(timeout=20) == 0


def test_it_is_listed_and_can_be_blocked(plugin: Path, make_environment: Callable[..., Any], tmp_path: Path) -> None:
    environment = make_environment("nameko-timer", str(plugin))
    listed = environment.run("nameko", "plugins", cwd=tmp_path).stdout
    assert re.search(r"^slow-calls +nameko-slow-calls +1\.0 +enabled", listed, re.MULTILINE)
    listed = environment.run("nameko", "plugins", "-p", "no:slow-calls", cwd=tmp_path).stdout
    assert re.search(r"^slow-calls +nameko-slow-calls +1\.0 +(?!enabled)", listed, re.MULTILINE)
