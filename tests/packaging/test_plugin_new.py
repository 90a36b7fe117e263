"""What `nameko plugin new` writes, in a fresh environment: its tests pass, it is listed, and services run with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nameko.cli.new_plugin import KINDS

SERVICE = """
from nameko.timer import timer

class Service:
    name = "service"

    @timer(interval=0.1)
    def run(self):
        pass
"""


@pytest.mark.parametrize("kinds", [KINDS, *((kind,) for kind in KINDS)], ids="-".join)
def test_it_works_without_an_edit(
    kinds: tuple[str, ...],
    make_environment: Callable[..., Any],
    uv: Callable[..., str],
    tmp_path: Path,
    eventually: Callable[..., object],
) -> None:
    # One environment for all of them: each is installed into it in turn, and is called by a name of its own.
    environment = make_environment("nameko-timer", "pytest", "hatchling", "ruff", "mypy")
    name = f"acme-{'-'.join(kinds)}"
    options = [argument for kind in kinds for argument in ("--kind", kind)]
    environment.run("nameko", "plugin", "new", name, *options, cwd=tmp_path)
    project = tmp_path / name

    uv("pip", "install", "--quiet", "--python", environment.path, "--no-build-isolation", "--offline", f"{project}")
    try:
        # What single kinds bring is linted and typed in tests/cli, in a fraction of the time.
        linters = (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]) if kinds == KINDS else ()
        for command in (["pytest", "-q"], *linters):
            done = environment.run(*command, cwd=project, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        listed = environment.run("nameko", "plugins", "--verbose", cwd=tmp_path).stdout
        (line,) = [line for line in listed.splitlines() if line.startswith(f"{name} ")]
        assert line.split() == [name, name, "0.1.0", "loaded"]
        if "command" in kinds:
            assert environment.run("nameko", name, cwd=tmp_path).stdout == f"{name} 0.1.0\n"

        (tmp_path / "service.py").write_text(SERVICE)
        output = tmp_path / "output.txt"
        process = environment.start("nameko", "run", "service", cwd=tmp_path, output=output)
        try:
            eventually(lambda: "services ready: service" in output.read_text(), timeout_s=30)
        finally:
            process.terminate()
            assert process.wait(timeout=20) == 0
        assert f"{name} ({name} 0.1.0)" in output.read_text()
    finally:
        uv("pip", "uninstall", "--quiet", "--python", environment.path, name)
