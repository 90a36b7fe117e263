"""`nameko run --reload`: services start anew when a source file changes."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest


@pytest.fixture
def write_version(tick_service: Any) -> Any:
    """`write_version(n)`: the service says its version with each tick."""
    return lambda version: tick_service(f'print("version", {version}, flush=True)')


def test_runs_the_changed_source(project: Any, write_version: Any) -> None:
    write_version(1)
    process = project.start("run", "--reload", "ticking")
    process.expect("version 1")
    write_version(2)
    process.expect("version 2")
    assert "reloading: ticking.py changed" in process.output
    assert "1 change detected" not in process.output
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0


def test_bytecode_of_a_moment_ago_is_not_run(project: Any, write_version: Any) -> None:
    project.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    written = os.stat(write_version(1))
    process = project.start("run", "--reload", "ticking")
    process.expect("version 1")
    os.utime(write_version(2), ns=(written.st_atime_ns, written.st_mtime_ns))  # as big, and within the same second
    process.expect("version 2")


def test_a_change_that_does_not_import_waits_for_the_next(project: Any, write_version: Any) -> None:
    write_version(1)
    process = project.start("run", "--reload", "--workers", "2", "ticking")
    process.expect("version 1")
    project.write("ticking.py", "this is no python")
    process.expect("waiting for a change of its sources")
    write_version(2)
    process.expect("version 2")
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0


def test_a_first_start_that_fails_waits_for_a_change(project: Any, write_version: Any) -> None:
    project.write("ticking.py", "import nothing_of_that_name")
    process = project.start("run", "--reload", "ticking")
    process.expect("waiting for a change of its sources")
    assert "the services (pid " in process.output
    write_version(1)
    process.expect("version 1")


def test_watches_the_directories_that_it_is_told(project: Any, write_version: Any) -> None:
    write_version(1)
    watched = project.write("watched/settings.yaml", "a: 1")
    project.write("watched/notes.txt", "no source")
    process = project.start("run", "--reload", "--reload-dir", "watched", "ticking")
    process.expect("version 1")
    write_version(2)  # which is not watched
    project.write("watched/notes.txt", "no source either")
    watched.write_text("a: 2")
    process.expect("reloading: watched/settings.yaml changed")
    process.expect("version 2")
    assert process.output.count("reloading") == 1


def test_a_signal_while_services_are_replaced_lets_workers_finish(
    project: Any, tick_service: Any, eventually: Any
) -> None:
    tick_service('print("busy", flush=True); concurrency.sleep(3); print("done", flush=True)')
    watched = project.write("watched/settings.yaml", "a: 1")
    process = project.start("run", "--reload", "--reload-dir", "watched", "ticking")
    process.expect("busy")
    process.expect("services ready")
    watched.write_text("a: 2")
    process.expect("stopping services")
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    assert "killing services" not in process.output
    assert process.output.count("busy") == process.output.count("done")


def test_says_that_files_cannot_be_watched_any_more(project: Any, write_version: Any) -> None:
    write_version(1)
    project.write(
        "watchfiles.py",
        """
        DefaultFilter = dict

        def watch(*directories, **options):
            raise OSError("OS file watch limit reached")
        """,
    )
    project.environ["PYTHONPATH"] = str(project.path)
    process = project.start("run", "--reload", "ticking")
    process.expect("version 1")
    assert "sources are not watched any more, services go on as they are: OS file watch limit" in process.output
    assert "Traceback" not in process.output
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0


def test_says_what_to_install_when_watchfiles_is_missing(project: Any, write_version: Any) -> None:
    write_version(1)
    project.write("watchfiles.py", "raise ImportError")
    project.environ["PYTHONPATH"] = str(project.path)
    ended = project.nameko("run", "--reload", "ticking")
    assert ended.returncode == 1
    assert ended.stderr == "Error: --reload needs watchfiles: pip install 'nameko-core[reload]'\n"
