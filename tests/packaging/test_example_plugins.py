"""The example plugins, each installed into an environment of its own: its tests, and the service of its README."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples/plugins"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/pyproject.toml"))


def try_spool(directory: Path, output: Path) -> bool:
    incoming = directory / "incoming"
    if not (incoming / "failed").exists():  # the service is not set up yet
        return False
    (incoming / "order").write_text("two teas")
    return "an order: two teas" in output.read_text()


def try_session(directory: Path, output: Path) -> bool:
    return "the database says 42" in output.read_text()


def try_audit_trail(directory: Path, output: Path) -> bool:
    path = directory / "audit.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return {"started", "returned"} <= {json.loads(line)["event"] for line in lines}


#: The service of the README, how it is configured, and whether it does what the README says.
SERVICES: dict[str, tuple[str, list[str], Callable[[Path, Path], bool]]] = {
    "nameko-spool": ("orders", ["-d", "SPOOL_INTERVAL_S=0.05"], try_spool),
    "nameko-sqlalchemy-session": ("shop", ["-d", "DATABASE_URL=sqlite:///shop.db"], try_session),
    "nameko-audit-trail": ("clock", ["-d", "AUDIT_FILE=audit.jsonl"], try_audit_trail),
}


@pytest.fixture
def project(name: str, tmp_path: Path) -> Path:
    """A copy, in which building and testing may leave what they like."""
    return Path(shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", ".*")))


@pytest.fixture
def environment(project: Path, make_environment: Callable[..., Any]) -> Any:
    # One for each example, however often it is asked for: the requirement names the original.
    return make_environment("nameko-timer", "mypy", f"{EXAMPLES / project.name}[test]")


def test_each_example_is_tried_here() -> None:
    assert sorted(SERVICES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_its_tests_pass(environment: Any, project: Path) -> None:
    for command in (["pytest", "-q", "-p", "no:cacheprovider"], ["mypy"]):
        done = environment.run(*command, cwd=project, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_it_is_listed(environment: Any, name: str, tmp_path: Path) -> None:
    listed = json.loads(environment.run("nameko", "plugins", "--verbose", "--json", cwd=tmp_path).stdout)
    (row,) = [row for row in listed if row["distribution"] == name]
    assert row["status"] == "loaded"
    assert row["hooks"]


@pytest.mark.parametrize("name", NAMES)
def test_the_service_of_its_readme_runs(
    environment: Any, project: Path, name: str, tmp_path: Path, eventually: Callable[..., object]
) -> None:
    module, options, is_done = SERVICES[name]
    source = re.search(rf"^```python file={module}\.py\n(.*?)^```$", (project / "README.md").read_text(), re.M | re.S)
    assert source is not None
    (tmp_path / f"{module}.py").write_text(source[1])
    (tmp_path / "incoming").mkdir()
    output = tmp_path / "output.txt"
    process = environment.start("nameko", "run", *options, module, cwd=tmp_path, output=output)
    try:
        eventually(lambda: is_done(tmp_path, output), timeout_s=30)
    finally:
        process.terminate()
        assert process.wait(timeout=20) == 0, output.read_text()
