"""Runs the tests in lanes, several at once, since most of them wait: `uv run python scripts/test_in_lanes.py`.

A lane is an area, which is a folder of `tests`, or `@marker`: what has a marker that the plain `uv run pytest` leaves
out. Arguments are the lanes to run; without any, it is all but the long rows of the fault matrix and the benchmarks.
The output of a lane is shown when it ends. The last line is the sum; the exit status is 1 when a lane failed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
MARKED = ("@packaging", "@interop", "@published", "@faults")
#: These take the longest: they begin first.
FIRST = ("@packaging", "amqp", "cli", "rpc", "@published", "@interop")
#: Its tests compare times with bounds: it has the machine to itself, after the others.
ALONE = ("@faults",)
LANE_TIMEOUT_S = 1200
NO_TESTS = 5  # pytest's exit status

_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped)")


@dataclass(frozen=True)
class Report:
    """How a lane ended."""

    lane: str
    output: str
    status: int
    duration_s: float

    @property
    def passed(self) -> bool:
        """Whether all is well. An area may hold nothing but tests with markers."""
        return self.status in (0, NO_TESTS)

    @property
    def counts(self) -> Counter[str]:
        """How many passed, failed and were skipped; what went wrong outside of a test has failed."""
        closing = self.output.rstrip().rpartition("\n")[2]
        counts = Counter({word.rstrip("s"): int(number) for number, word in _COUNT.findall(closing)})
        counts["failed"] += counts.pop("error", 0)
        if not self.passed and not counts["failed"]:
            counts["failed"] = 1
        return counts


def lanes() -> list[str]:
    """All lanes, those that take long first."""
    areas = [path.name for path in (ROOT / "tests").iterdir() if any(path.rglob("test_*.py"))]
    return sorted([*areas, *MARKED], key=_position)


def _position(lane: str) -> tuple[int, str]:
    return FIRST.index(lane) if lane in FIRST else len(FIRST), lane


def arguments_of(lane: str) -> list[str]:
    """The arguments of pytest for a lane."""
    return ["-m", lane.removeprefix("@")] if lane in MARKED else [f"tests/{lane}"]


def run(lane: str, python: str) -> Report:
    """Run the tests of a lane."""
    started_at = time.monotonic()
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments_of(lane)]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=LANE_TIMEOUT_S,
        )
        output, status = done.stdout, done.returncode
    except subprocess.TimeoutExpired as exc:
        output = (exc.stdout or b"").decode(errors="replace") + f"\nnot done within {LANE_TIMEOUT_S} s\n"
        status = 1
    report = Report(lane, output, status, time.monotonic() - started_at)
    print(f"\n-- {lane} [{report.duration_s:.0f} s]\n{output.rstrip()}", flush=True)
    return report


def run_all(chosen: list[str], at_once: int, python: str) -> list[Report]:
    """Run lanes, so many at once, and then those that want to be alone."""
    together = [lane for lane in chosen if lane not in ALONE]
    with ThreadPoolExecutor(at_once) as executor:
        reports = list(executor.map(run, together, [python] * len(together)))
    return [*reports, *(run(lane, python) for lane in chosen if lane in ALONE)]


def main() -> int:
    """Run what the command line says; the exit status."""
    known = lanes()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("lanes", nargs="*", metavar="LANE", help=f"of {', '.join(known)}")
    parser.add_argument(
        "--at-once", type=int, default=2 * (os.cpu_count() or 1), help="how many, %(default)s by default"
    )
    parser.add_argument("--python", default=sys.executable, help="the interpreter to run them with")
    options = parser.parse_args()
    unknown = set(options.lanes) - set(known)
    if unknown:
        parser.error(f"there is no lane {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    reports = run_all(options.lanes or known, options.at_once, options.python)
    total = sum((report.counts for report in reports), Counter())
    for report in sorted(reports, key=lambda each: each.duration_s, reverse=True):
        print(f"{'passed' if report.passed else 'FAILED':8}{report.lane:14}{report.duration_s:5.0f} s")
    print(f"total: {total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return 0 if all(report.passed for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
