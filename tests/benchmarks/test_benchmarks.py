"""The benchmarks: every case runs, and the goals say what was reached."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_case_that_does_not_exist_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--case", "no such case"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "no case has 'no such case' in its name; they are RPC, 50 in flight" in done.stderr


@pytest.mark.benchmarks
@pytest.mark.rabbitmq
@pytest.mark.timeout(900)
def test_every_case_of_every_peer_runs_and_is_compared_with_the_goals(rabbitmq_uri: str) -> None:
    shown = run("--quick", "--uri", rabbitmq_uri)
    figures: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / "figures.json").read_text())
    assert {case: len(peers) for case, peers in figures["peers"].items()} == {
        "RPC, 50 in flight": 6,
        "RPC, 50 wait for 10 workers": 6,
        "RPC, one after the other": 6,
        "nested RPC, 50 in flight": 4,
        "events, one dispatcher": 4,
        "events, 50 dispatchers": 4,
    }
    assert all(each["rate"] > 0 for peers in figures["peers"].values() for each in peers.values())
    assert sum("goal" not in line and (">=" in line or "<=" in line) for line in shown.splitlines()) == 21
    assert (ROOT / "benchmarks" / "results" / "peers.png").stat().st_size > 10_000


def test_a_goal_is_reached_or_missed_by_its_bound() -> None:
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks import goals
    finally:
        sys.path.remove(str(ROOT))
    old = {"rate": 100.0, "median_us": 1000.0}
    peers = {"RPC, 50 in flight": {"nameko 3": {"rate": 499.0, "median_us": 1.0}, "nameko-2.14.1": old}}
    sequential = {"nameko 3": {"rate": 1.0, "median_us": 500.0}, "nameko-2.14.1": old}
    shown = goals.table(goals.Figures(peers={**peers, "RPC, one after the other": sequential}))
    assert [line.split()[-1] == "missed" for line in shown.splitlines() if "2.14.1" in line] == [True, False]
