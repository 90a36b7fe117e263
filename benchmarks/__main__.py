"""Measures what there is and compares it with the goals: `uv run python -m benchmarks`.

The peers run in turn (A B C A B C ...), since absolute figures of a shared machine mean little and drift.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks import chart, commands, figures, goals, growth, in_process, starting
from benchmarks.environments import HERE, versions_of
from benchmarks.measure import SCRIPTS

RESULTS = HERE / "results"
PARTS = ("peers", "starting", "in-process", "growth", "commands")


class Report:
    """Prints, and keeps what was printed for `results/report.txt`."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def __call__(self, text: str) -> None:
        """Print `text`."""
        print(text, flush=True)
        self._lines.append(text)

    def save(self, path: Path) -> None:
        """Write everything to `path`."""
        path.write_text("\n".join(self._lines) + "\n")


def main() -> None:
    """Measure what the command line asks for."""
    options = _options()
    report = Report()
    began = time.monotonic()
    report(f"Python {platform.python_version()}, {', '.join(f'{peer} {versions_of(peer)}' for peer in SCRIPTS)}")
    measured = _measure(options, report)
    report(goals.table(measured))
    report(f"\nmeasured in {(time.monotonic() - began) / 60:.0f} minutes")
    RESULTS.mkdir(exist_ok=True)
    report.save(RESULTS / "report.txt")
    (RESULTS / "figures.json").write_text(json.dumps(asdict(measured), indent=1))
    if measured.peers:
        chart.draw(measured.peers, RESULTS / "peers.png")
        print(f"\n{RESULTS / 'peers.png'}, report.txt and figures.json are written")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--uri", default="pyamqp://guest:guest@127.0.0.1:5672/", help="the broker")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one run")
    parser.add_argument("--quick", action="store_true", help="one round of a second each: a look, not a measurement")
    parser.add_argument("--peer", action="append", choices=list(SCRIPTS), help="only these (repeatable)")
    parser.add_argument("--case", action="append", help="only cases whose name contains this (repeatable)")
    parser.add_argument("--part", action="append", choices=PARTS, help="only these parts (repeatable)")
    options = parser.parse_args()
    for word in options.case or ():
        if not any(word in each.name for each in figures.CASES):
            names = "; ".join(each.name for each in figures.CASES)
            parser.error(f"no case has {word!r} in its name; they are {names}")
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
    return options


def _measure(options: argparse.Namespace, report: Report) -> goals.Figures:
    uri, rounds, seconds = options.uri, options.rounds, options.seconds
    parts = options.part or (["peers"] if options.case or options.peer else PARTS)
    measured = goals.Figures()
    if "peers" in parts:
        wanted = [each for each in figures.CASES if not options.case or any(word in each.name for word in options.case)]
        measured.peers = figures.measure(wanted, options.peer, uri, rounds, seconds, report)
    if "starting" in parts:
        measured.starting = starting.measure(uri, rounds)
        for peer, each in measured.starting.items():
            report(
                f"{peer:18} first answer after {each['answer_s']:.2f} s and {each['cpu_s']:.2f} s of CPU, "
                f"{each['idle_mib']:.0f} MiB when idle"
            )
    if "in-process" in parts:
        measured.in_process = in_process.measure()
        report("\n" + ", ".join(f"{name} {value:,.2f}" for name, value in measured.in_process.items()))
    if "growth" in parts:
        measured.growth = {
            "services": growth.of_services(uri, rounds, seconds),
            "waiting": growth.of_waiting(uri, rounds, seconds),
            "sizes": growth.of_sizes(uri, rounds, seconds),
        }
        report(goals.growth_table(measured.growth))
    if "commands" in parts:
        measured.commands = commands.measure(rounds * 3)
        report(
            "\n" + "\n".join(f"{name:22} {value * 1000:5.0f} ms of CPU" for name, value in measured.commands.items())
        )
    return measured


if __name__ == "__main__":
    main()
