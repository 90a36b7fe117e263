"""The import contracts of pyproject.toml: they hold, and each of them notices when it is broken."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from importlinter import api

# Without the site module, so that the editable installation of the real sources is not on the path.
LINT = """
import sys
sys.path += sys.argv.pop(1).split(":")
from importlinter.cli import lint_imports_command
lint_imports_command()
"""

VIOLATIONS = {
    "Core is built in layers": ("constants.py", "import nameko.runners"),
    "Core needs neither AMQP nor HTTP": ("containers.py", "import kombu"),
    "Only nameko.concurrency knows the concurrency library": ("rpc/_plugin.py", "import eventlet"),
    "Extensions know nothing of each other": ("timer/_plugin.py", "import nameko.web._plugin"),
    "Nothing but RPC and events builds on AMQP": ("web/_plugin.py", "import nameko.amqp._plugin"),
}


@pytest.fixture
def sources(repository: Path, tmp_path: Path) -> Path:
    """A copy of all sources in one tree."""
    for source in [repository / "core/src", *(repository / "plugins").glob("*/src")]:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, tmp_path / "src", dirs_exist_ok=True, ignore=ignore)
    return tmp_path / "src"


def lint_imports(sources: Path, repository: Path) -> subprocess.CompletedProcess[str]:
    path = f"{sources}:{sysconfig.get_path('purelib')}:{sysconfig.get_path('platlib')}"
    options = ["--config", str(repository / "pyproject.toml"), "--no-cache", "--no-logo"]
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", LINT, path, *options],
        cwd=sources,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_all_contracts_are_kept(sources: Path, repository: Path) -> None:
    completed = lint_imports(sources, repository)
    assert completed.returncode == 0, completed.stdout
    assert f"{len(VIOLATIONS)} kept, 0 broken" in completed.stdout


@pytest.mark.parametrize("contract", VIOLATIONS)
def test_contract_notices_a_violation(sources: Path, repository: Path, contract: str) -> None:
    module, statement = VIOLATIONS[contract]
    with (sources / "nameko" / module).open("a") as stream:
        stream.write(f"\n{statement}\n")

    completed = lint_imports(sources, repository)

    assert completed.returncode == 1, completed.stdout + completed.stderr
    assert f"{contract} BROKEN" in completed.stdout


def test_contract_of_the_core_names_all_of_it(repository: Path) -> None:
    configuration = api.read_configuration(str(repository / "pyproject.toml"))
    contracts = {contract["id"]: contract for contract in configuration["contracts_options"]}
    directory = repository / "core/src/nameko"
    found = [path for place in (directory, directory / "testing") for path in place.iterdir()]
    modules = {path for path in found if path.name not in ("py.typed", "testing", "__pycache__")}
    names = {".".join(path.relative_to(directory.parent).with_suffix("").parts) for path in modules}
    assert set(contracts["core-is-small"]["source_modules"]) == names
