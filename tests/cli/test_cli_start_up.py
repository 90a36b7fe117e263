"""What each command imports, and what it costs to start."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

HEAVY = ("eventlet", "greenlet", "kombu", "amqp", "werkzeug", "httptools", "yaml", "importlib_metadata")

# Runs the command line and writes the names of the imported modules to stderr.
PROBE = """
import json, sys
from nameko.cli.main import main
try:
    main()
finally:
    sys.stderr.write(json.dumps(sorted(sys.modules)))
"""


def _unmeasured(environ: dict[str, str]) -> dict[str, str]:
    # Measuring coverage imports eventlet itself.
    return {name: value for name, value in environ.items() if not name.startswith("COVERAGE_")}


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["plugins"], ["plugins", "--json"], ["plugins", "--help"], ["backdoor", "--help"]],
)
def test_what_inspects_imports_neither_plugins_nor_libraries(project: Any, arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        cwd=project.path,
        env=_unmeasured(project.environ),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    modules = set(json.loads(done.stderr))
    assert "nameko.cli" in modules
    assert not modules & set(HEAVY)
    plugins = {"nameko.amqp", "nameko.rpc", "nameko.events", "nameko.web", "nameko.timer", "nameko.tracing"}
    assert not modules & plugins
    assert "nameko.containers" not in modules


def test_declarations_of_plugins_import_no_libraries(project: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, "show-config", "--defaults"],
        cwd=project.path,
        env=_unmeasured(project.environ),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    modules = set(json.loads(done.stderr))
    assert "nameko.amqp._plugin" in modules
    assert not modules & {"eventlet", "greenlet", "kombu", "amqp", "werkzeug", "httptools"}


def test_importing_what_a_plugin_author_needs_is_light(project: Any) -> None:
    program = "import json, sys, nameko.plugins, nameko.hookspecs; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=_unmeasured(project.environ),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert not set(json.loads(done.stdout)) & {*HEAVY, "click", "packaging"}


def test_version(project: Any) -> None:
    done = project.nameko("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, "nameko 3.0.0\n", "")


def test_help_names_the_commands(project: Any) -> None:
    done = project.nameko("--help")
    assert done.returncode == 0
    for command in ("run", "shell", "show-config", "backdoor", "test", "plugins"):
        assert f"\n  {command} " in done.stdout


def test_the_installed_script_is_the_same(project: Any) -> None:
    import importlib_metadata

    (script,) = importlib_metadata.entry_points(group="console_scripts", name="nameko")
    from nameko.cli.main import main

    assert script.load() is main


def test_names_that_others_use() -> None:
    import nameko.cli
    import nameko.cli.commands
    import nameko.cli.main
    import nameko.cli.run

    assert nameko.cli.cli.name == "nameko"
    assert callable(nameko.cli.main.setup_yaml_parser)
    assert callable(nameko.cli.run.run)
    assert callable(nameko.cli.run.import_service)
    assert nameko.cli.commands.run in nameko.cli.commands.BUILT_IN


def test_the_process_is_patched_before_anything_of_a_service_or_a_plugin_is_imported(project: Any) -> None:
    probe = "from nameko import concurrency\nprint(__name__, concurrency.is_monkey_patched(), flush=True)\n"
    project.write("local_plugin.py", probe)
    project.write("service.py", probe + "raise SystemExit")
    done = project.nameko("run", "-p", "local_plugin", "service")
    assert done.stdout == "local_plugin True\nservice True\n"


def test_a_foreign_package_is_reported(project: Any) -> None:
    # The older distribution in the same environment: its `nameko/__init__.py` beside our modules.
    import nameko.cli

    ours = next(path for path in nameko.__path__ if nameko.cli.__file__ and nameko.cli.__file__.startswith(path))
    package = project.path / "site" / "nameko"
    package.parent.mkdir()
    package.mkdir()
    (package / "__init__.py").write_text(f"__path__.append({ours!r})\n")
    info = project.path / "site" / "nameko-2.14.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nameko\nVersion: 2.14.1\n")
    (info / "RECORD").write_text("nameko/__init__.py,,\n")
    project.environ["PYTHONPATH"] = str(package.parent)
    done = project.nameko("run", "service")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert str(package / "__init__.py") in done.stderr
    assert "pip uninstall nameko" in done.stderr
