"""What the packaging tests share: the built distributions, and fresh environments to install them into."""

from __future__ import annotations

import email
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from dataclasses import dataclass
from email.message import Message
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Seconds that building everything, or filling an environment from the package index, may take.
INSTALL_TIMEOUT_S = 300


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory is a packaging test, and has the time that installing takes."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("packaging")
            item.add_marker(pytest.mark.timeout(INSTALL_TIMEOUT_S))


def clean_environ() -> dict[str, str]:
    """The environment variables of a shell that knows nothing of this test run and its virtual environment."""
    own = {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "UV_PROJECT_ENVIRONMENT", "UV_NO_SYNC"}
    return {
        name: value
        for name, value in os.environ.items()
        if name not in own and not name.startswith(("COVERAGE_", "PYTEST_", "NAMEKO_"))
    }


@dataclass(frozen=True)
class Wheel:
    """One built wheel, to be asked."""

    path: Path

    @cached_property
    def files(self) -> list[str]:
        """The paths in it, without its metadata."""
        return [name for name in self._names if ".dist-info/" not in name]

    @cached_property
    def metadata(self) -> Message:
        """Its core metadata: `metadata["Name"]`, `metadata.get_all("Requires-Dist")`."""
        return email.message_from_string(self._metadata_file("METADATA"))

    @cached_property
    def entry_points(self) -> dict[str, dict[str, str]]:
        """Its entry points: object reference by name by group."""
        parser = ConfigParser(delimiters=("=",))
        parser.read_string(self._metadata_file("entry_points.txt"))
        return {group: dict(parser[group]) for group in parser.sections()}

    @property
    def name(self) -> str:
        """The distribution's name."""
        return str(self.metadata["Name"])

    @cached_property
    def licences(self) -> list[str]:
        """The texts of its licence files."""
        return [self._read(name) for name in self._names if ".dist-info/licenses/" in name]

    @cached_property
    def _names(self) -> list[str]:
        with zipfile.ZipFile(self.path) as archive:
            return [name for name in archive.namelist() if not name.endswith("/")]

    def _metadata_file(self, file_name: str) -> str:
        return "".join(self._read(name) for name in self._names if name.endswith(f".dist-info/{file_name}"))

    def _read(self, name: str) -> str:
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(name).decode()


@dataclass(frozen=True)
class Wheelhouse:
    """A directory with a wheel and an sdist of each of our distributions."""

    path: Path

    @cached_property
    def wheels(self) -> dict[str, Wheel]:
        """The wheels by the names of their distributions."""
        return {wheel.name: wheel for wheel in map(Wheel, sorted(self.path.glob("*.whl")))}

    @cached_property
    def sdists(self) -> dict[str, list[str]]:
        """The paths in each sdist, below its top directory, by the name of the distribution."""
        return {path.name.rsplit("-", 1)[0].replace("_", "-"): _members(path) for path in self.path.glob("*.tar.gz")}


def _members(sdist: Path) -> list[str]:
    with tarfile.open(sdist) as archive:
        return [member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()]


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    path: Path

    def run(self, command: str, *arguments: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one of its commands to the end."""
        return subprocess.run(
            [self.path / "bin" / command, *arguments],
            cwd=cwd,
            env=clean_environ(),
            check=check,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def start(self, command: str, *arguments: str, cwd: Path, output: Path) -> subprocess.Popen[bytes]:
        """Start one of its commands; what it prints goes to the file `output`."""
        with output.open("wb") as stream:
            return subprocess.Popen(
                [self.path / "bin" / command, *arguments],
                cwd=cwd,
                env=clean_environ() | {"PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    @property
    def distributions(self) -> set[str]:
        """The names of what is installed in it, in lower case."""
        code = "from importlib.metadata import distributions as d; print(*{x.name.lower() for x in d()}, sep='\\n')"
        return set(self.run("python", "-c", code, cwd=self.path).stdout.split())


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return ROOT


@pytest.fixture(scope="session")
def source_files() -> Callable[[str], list[str]]:
    """`source_files("nameko-rpc")`: the paths of its modules and data files below `src/`."""

    def files(distribution: str) -> list[str]:
        source = ROOT / ("core" if distribution == "nameko-core" else f"plugins/{distribution}") / "src"
        paths = [path.relative_to(source) for path in source.rglob("*") if path.is_file()]
        return sorted(str(path) for path in paths if "__pycache__" not in path.parts)

    return files


@pytest.fixture(scope="session")
def uv() -> Callable[..., str]:
    """`uv("build", ...)` runs uv and returns what it printed."""
    command = os.environ.get("UV") or shutil.which("uv")
    assert command is not None, "The packaging tests need uv: pip install uv"

    def run(*arguments: str | Path, cwd: Path = ROOT) -> str:
        completed = subprocess.run(
            [command, *arguments],
            cwd=cwd,
            env=clean_environ(),
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
        )
        assert completed.returncode == 0, f"uv {' '.join(map(str, arguments))}\n{completed.stdout}{completed.stderr}"
        return completed.stdout

    return run


@pytest.fixture(scope="session")
def wheelhouse(uv: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Wheelhouse:
    """Every distribution, built: the sdist from the sources and the wheel from the sdist."""
    path = tmp_path_factory.mktemp("wheelhouse")
    uv("build", "--quiet", "--all-packages", "--out-dir", path)
    return Wheelhouse(path)


@pytest.fixture(scope="session")
def make_environment(
    uv: Callable[..., str], wheelhouse: Wheelhouse, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Environment]]:
    """`make_environment("nameko-rpc")`: an environment with just that, its own requirements and no source tree.

    The same requirements give the same environment.
    """
    made: dict[tuple[str, ...], Environment] = {}

    def make(*requirements: str) -> Environment:
        if requirements not in made:
            path = tmp_path_factory.mktemp("environment") / "venv"
            uv("venv", "--quiet", "--python", sys.executable, path)
            # Constraining by path: our own names can come from nowhere else.
            constraints = path.parent / "constraints.txt"
            constraints.write_text("".join(f"{name} @ file://{w.path}\n" for name, w in wheelhouse.wheels.items()))
            uv("pip", "install", "--quiet", "--python", path, "--constraints", constraints, *requirements)
            made[requirements] = Environment(path)
        return made[requirements]

    yield make
    for environment in made.values():
        shutil.rmtree(environment.path)
