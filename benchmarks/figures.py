"""The cases of RPC and events, run for each peer in turn (A B C A B C ...), and their medians."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields

from benchmarks.measure import SCRIPTS, Case, Run, run

OURS = "nameko 3"
OLD = "nameko-2.14.1"

CASES = [
    Case("RPC, 50 in flight", "rpc", 50, workers=50),
    Case("RPC, 50 wait for 10 workers", "rpc", 50),
    Case("RPC, one after the other", "rpc", 1),
    Case("nested RPC, 50 in flight", "nested", 50, workers=50),
    Case("events, one dispatcher", "events", 1),
    Case("events, 50 dispatchers", "events", 50, workers=50),
]
# These echo, and nothing else.
_LIMITS = ("bare py-amqp", "guaranteed loop")

#: Medians by case, peer and figure (the fields of `Run`).
Results = dict[str, dict[str, dict[str, float]]]


def peers_for(case: Case, chosen: Iterable[str]) -> list[str]:
    """The peers that can do `case`."""
    return [peer for peer in chosen if case.work == "rpc" or peer not in _LIMITS]


def measure(
    cases: Iterable[Case], chosen: list[str] | None, uri: str, rounds: int, seconds: float, show: Callable[[str], None]
) -> Results:
    """Run each case, and show its medians as a table."""
    results: Results = {}
    for case in cases:
        runs: dict[str, list[Run]] = {}
        peers = peers_for(case, chosen or list(SCRIPTS))
        for number in range(rounds):
            for peer in peers:
                print(f"\r{case.name}: round {number + 1} of {rounds}, {peer:20}", end="", file=sys.stderr, flush=True)
                runs.setdefault(peer, []).append(run(peer, case, uri, seconds))
        print(f"\r{'':70}\r", end="", file=sys.stderr, flush=True)
        results[case.name] = {peer: _medians_of(each) for peer, each in runs.items()}
        show(table(case.name, results[case.name]))
    return results


def _medians_of(runs: list[Run]) -> dict[str, float]:
    return {field.name: statistics.median(getattr(each, field.name) for each in runs) for field in fields(Run)}


def table(name: str, medians: dict[str, dict[str, float]]) -> str:
    """The medians of one case, with our rate over each peer's and a bar for the rate."""
    headings = ("calls/s", "ours x", "median us", "p99 us", "client us", "service us", "broker us", "handled/s")
    lines = ["", name, " ".join([f"{'':18}", *(f"{heading:>10}" for heading in headings)])]
    ours = next(iter(medians.values()))["rate"]
    best = max(figures["rate"] for figures in medians.values())
    for peer, figures in medians.items():
        rate, *others = figures.values()
        numbers = [f"{rate:10.0f}", f"{ours / rate:10.2f}", *(f"{other:10.0f}" for other in others)]
        lines.append(" ".join([f"{peer:18}", *numbers, "#" * round(24 * rate / best)]))
    return "\n".join(lines)
