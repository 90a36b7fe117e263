"""Environments with earlier versions of the framework, beside ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.missing import missing

BUILD_TIMEOUT_S = 120
# What the old versions were written for; later ones of these they do not start with.
OLD_REQUIREMENTS = ("importlib-metadata<5", "setuptools<70", "werkzeug<3")


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise RuntimeError(f"{Path(command[0]).name} {command[1]}: {lines[-1]}")


def _build(directory: Path, requirements: list[str]) -> None:
    uv = shutil.which("uv")
    if uv:
        _run(uv, "venv", "--python", sys.executable, directory)
        _run(uv, "pip", "install", "--python", directory / "bin" / "python", *requirements)
    else:
        _run(sys.executable, "-m", "venv", directory)
        _run(directory / "bin" / "python", "-m", "pip", "install", "--quiet", *requirements)


def environment_with(version: str, config: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment with nameko `version`, which is built once and kept in pytest's cache.

    Skips the test where none can be built; in CI, it fails.
    """
    cache = getattr(config, "cache", None)  # unless it is switched off
    try:
        parent = cache.mkdir("interop") if cache else tmp_path_factory.mktemp("interop")
        directory = parent / f"py{sys.version_info[0]}.{sys.version_info[1]}-nameko-{version}"
        complete = directory / "complete"
        if not complete.exists():
            shutil.rmtree(directory, ignore_errors=True)
            _build(directory, [f"nameko=={version}", *OLD_REQUIREMENTS])
            complete.touch()
    except (RuntimeError, OSError, subprocess.SubprocessError) as exc:
        missing(f"no environment with nameko {version}: {exc}")
    return directory / "bin"
