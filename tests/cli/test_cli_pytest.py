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

        def test_other():
            assert False
        """,
    )
    done = project.nameko("test", "-p", "no:cacheprovider", "--no-header", "--deselect", "test_it.py::test_other")
    assert done.returncode == 1
    assert "1 failed, 1 passed, 1 deselected" in done.stdout
    assert "rootdir" not in done.stdout
    assert not (project.path / ".pytest_cache").exists()


def test_help_is_pytests(project: Any) -> None:
    assert "pytest-warnings" in project.nameko("test", "--help").stdout


def test_without_pytest(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pytest", None)
    done = here("test")
    assert (done.returncode, done.stderr) == (1, "Error: pytest is not installed: pip install pytest\n")
