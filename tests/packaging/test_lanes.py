"""`scripts/test_in_lanes.py` runs everything, and notices what fails."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def in_lanes() -> Any:
    spec = spec_from_file_location("test_in_lanes", ROOT / "scripts/test_in_lanes.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_every_test_is_in_a_lane(in_lanes: Any) -> None:
    folders = {path.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").rglob("test_*.py")}
    assert folders <= set(in_lanes.lanes())


def test_every_marker_that_is_left_out_by_default_is_a_lane_or_takes_too_long(
    in_lanes: Any, pytestconfig: pytest.Config
) -> None:
    options = pytestconfig.getini("addopts")
    left_out = options[options.index("-m") + 1].removeprefix("not ").split(" and not ")
    assert {f"@{marker}" for marker in left_out} - set(in_lanes.MARKED) == {"@matrix", "@benchmarks"}


@pytest.mark.parametrize(
    ("output", "status", "passed", "counts"),
    [
        ("..\n2 passed in 0.1s\n", 0, True, (2, 0, 0)),
        ("F.\n1 failed, 1 passed, 3 skipped in 0.1s\n", 1, False, (1, 1, 3)),
        ("E\n1 passed, 2 errors in 0.1s", 1, False, (1, 2, 0)),
        ("2 deselected in 0.1s", 5, True, (0, 0, 0)),
        ("Fatal Python error: Segmentation fault", -11, False, (0, 1, 0)),
    ],
)
def test_reads_what_pytest_says(in_lanes: Any, output: str, status: int, passed: bool, counts: Any) -> None:
    report = in_lanes.Report("area", output, status, 1.0)
    assert report.passed is passed
    assert (report.counts["passed"], report.counts["failed"], report.counts["skipped"]) == counts


def test_refuses_a_lane_that_does_not_exist() -> None:
    command = [sys.executable, str(ROOT / "scripts/test_in_lanes.py"), "nowhere"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "there is no lane nowhere" in ended.stderr
