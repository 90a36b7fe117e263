"""`nameko plugin new`: what it writes keeps the rules that it sets, and what it refuses."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

KINDS = ("entrypoint", "dependency", "observer", "command")
COMBINATIONS = [kinds for size in range(1, 5) for kinds in combinations(KINDS, size)]


def options(*kinds: str) -> list[str]:
    return [argument for kind in kinds for argument in ("--kind", kind)]


def files(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def run(*command: str, cwd: Path) -> None:
    done = subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kinds", COMBINATIONS, ids="-".join)
def test_what_it_writes_is_linted_and_formatted(project: Any, here: Any, kinds: tuple[str, ...]) -> None:
    done = here("plugin", "new", "acme-thing", *options(*kinds))
    assert done.returncode == 0, done.stderr
    directory = project.path / "acme-thing"
    run("-m", "ruff", "check", "--no-cache", cwd=directory)
    run("-m", "ruff", "format", "--check", "--no-cache", cwd=directory)
    written = files(directory)
    for kind in KINDS:
        assert (f"tests/test_{kind}.py" in written) is (kind in kinds)
        assert (f"src/acme_thing/{kind}.py" in written) is (kind in kinds)
    assert not [path for path in written if "%%" in (directory / path).read_text() or path.endswith(".tmpl")]


@pytest.mark.parametrize("name", ["a", "a" * 60, "nameko-" + "a" * 53])
def test_names_of_any_length_are_formatted(project: Any, here: Any, name: str) -> None:
    assert here("plugin", "new", name, *options(*KINDS)).returncode == 0
    run("-m", "ruff", "check", "--no-cache", cwd=project.path / name)
    run("-m", "ruff", "format", "--check", "--no-cache", cwd=project.path / name)


@pytest.mark.parametrize("kinds", [KINDS, *combinations(KINDS, 1)], ids="-".join)
@pytest.mark.timeout(240)  # mypy takes its time on a busy machine
def test_what_it_writes_has_types(project: Any, here: Any, kinds: tuple[str, ...]) -> None:
    here("plugin", "new", "acme-thing", *options(*kinds))
    run("-m", "mypy", "--cache-dir", "/dev/null", cwd=project.path / "acme-thing")


def test_the_files_of_an_observer_by_default(project: Any, here: Any) -> None:
    done = here("plugin", "new", "nameko-thing")
    assert done.returncode == 0
    assert "is a distribution with the plugin 'thing'" in done.stdout
    assert files(project.path / "nameko-thing") == {
        ".gitignore",
        "README.md",
        "pyproject.toml",
        "src/nameko_thing/__init__.py",
        "src/nameko_thing/_plugin.py",
        "src/nameko_thing/observer.py",
        "src/nameko_thing/py.typed",
        "tests/conftest.py",
        "tests/test_observer.py",
        "tests/test_plugin.py",
    }
    assert 'thing = "nameko_thing._plugin"' in (project.path / "nameko-thing/pyproject.toml").read_text()


def test_another_directory(project: Any, here: Any) -> None:
    (project.path / "plugins").mkdir()
    assert here("plugin", "new", "acme-thing", "--directory", "plugins").returncode == 0
    assert (project.path / "plugins/acme-thing/pyproject.toml").exists()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("Acme", "use lower-case letters, digits and single hyphens"),
        ("acme_thing", "use lower-case letters, digits and single hyphens"),
        ("../acme", "use lower-case letters, digits and single hyphens"),
        ("acme--thing", "use lower-case letters, digits and single hyphens"),
        ("acme-", "use lower-case letters, digits and single hyphens"),
        ("1acme", "use lower-case letters, digits and single hyphens"),
        ("", "use lower-case letters, digits and single hyphens"),
        ("a" * 61, "60 at most"),
        ("nameko", "that name belongs to nameko"),
        ("nameko-core", "that name belongs to nameko"),
        ("nameko-timer", "that name belongs to nameko"),
        ("rpc", "that name belongs to nameko"),
        ("run", "`nameko run` is a command already"),
        ("nameko-plugins", "`nameko plugins` is a command already"),
        ("import", "Python keeps `import` to itself"),
        ("json", "Python keeps `json` to itself"),
        ("click", "a module `click` is installed already"),
        ("nameko-audit", "there is a plugin 'audit' already, acme-audit 1.2"),
    ],
)
def test_names_that_cannot_be_used(project: Any, here: Any, name: str, problem: str) -> None:
    project.install("acme-audit", {"audit": "acme_audit"})
    before = files(project.path)
    done = here("plugin", "new", "--", name)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: a plugin cannot be called {name!r}: ")
    assert problem in line
    assert files(project.path) == before


def test_a_directory_that_is_there(project: Any, here: Any) -> None:
    project.write("acme-thing/mine.txt", "mine")
    done = here("plugin", "new", "acme-thing")
    assert done.returncode == 1
    assert done.stderr == "Error: acme-thing exists already: choose another name, or remove it\n"
    assert files(project.path / "acme-thing") == {"mine.txt"}


def test_a_kind_that_there_is_not(project: Any, here: Any) -> None:
    done = here("plugin", "new", "acme-thing", "--kind", "transport")
    assert done.returncode == 2
    assert "'transport' is not one of" in done.stderr


def test_nothing_is_left_of_what_cannot_be_written(project: Any, here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.rename", fail)
    done = here("plugin", "new", "acme-thing")
    assert done.returncode == 1
    assert done.stderr == "Error: acme-thing cannot be written: No space left on device\n"
    assert list(project.path.iterdir()) == []


@pytest.mark.parametrize("file", ["README.md", "src/acme_thing/entrypoint.py"])
def test_the_use_of_an_entrypoint_that_it_shows_works(project: Any, here: Any, file: str) -> None:
    here("plugin", "new", "acme-thing", "--kind", "entrypoint")
    directory = project.path / "acme-thing"
    shown = re.findall(r"`(@poll\(.*?\))`", (directory / file).read_text())
    assert shown
    for decoration in shown:
        service = f"def fetch(): return []\n\nclass Service:\n    {decoration}\n    def take(self, item): pass\n"
        run("-c", f"from acme_thing import poll\n{service}", cwd=directory / "src")
