"""`nameko test`: pytest in a patched process."""

from __future__ import annotations

from typing import Any

import pytest


def test_arguments_and_exit_status_are_pytests(project: Any) -> None:
    project.write(
        "test_it.py",
        """
        import pytest
        from nameko import concurrency

        def test_patched():
            assert concurrency.is_monkey_patched()

        def test_failing():
            assert False
        """,
    )
    passed = project.nameko("test", "-q", "-k", "patched", "-p", "no:cacheprovider", "--no-header")
    assert passed.returncode == 0, passed.stdout
    assert "1 passed, 1 deselected" in passed.stdout
    assert not (project.path / ".pytest_cache").exists()
    failed = project.nameko("test")
    assert failed.returncode == 1
    assert "1 failed, 1 passed" in failed.stdout


def test_help_is_pytests(project: Any) -> None:
    assert "pytest-warnings" in project.nameko("test", "--help").stdout


def test_without_pytest(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pytest", None)
    done = here("test")
    assert (done.returncode, done.stderr) == (1, "Error: pytest is not installed: pip install pytest\n")
