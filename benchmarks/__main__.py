"""Runs the peers in turn (A B C A B C ...), since absolute figures of a shared machine mean little and drift."""

from __future__ import annotations

import argparse
import statistics
import sys

from benchmarks.measure import SCRIPTS, Case, Run, run

CASES = [
    Case("RPC, 50 in flight", "rpc", 50),
    Case("RPC, one after the other", "rpc", 1),
    Case("nested RPC, 50 in flight", "nested", 50),
    Case("events, one dispatcher", "events", 1),
    Case("events, 50 dispatchers", "events", 50),
]


def peers_for(case: Case, chosen: list[str]) -> list[str]:
    """The peers that can do `case`."""
    return [peer for peer in chosen if case.work == "rpc" or peer != "bare py-amqp"]


def measure(case: Case, peers: list[str], uri: str, rounds: int, seconds: float) -> dict[str, list[Run]]:
    """`rounds` runs of each peer, in turn."""
    results: dict[str, list[Run]] = {peer: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            results[peer].append(run(peer, case, uri, seconds))
    return results


def medians_of(runs: list[Run]) -> dict[str, float]:
    """The median of each figure."""
    return {field: statistics.median(getattr(each, field) for each in runs) for field in Run.__dataclass_fields__}


def show(case: Case, results: dict[str, list[Run]]) -> None:
    """Print the medians of `results` as a table; `ours x` is the first peer's rate over this one's."""
    print(f"\n{case.name}")
    headings = ("calls/s", "ours x", "median us", "p99 us", "client us", "service us", "broker us")
    print(" " * 20, *(f"{heading:>10}" for heading in headings))
    ours = medians_of(next(iter(results.values())))["rate"]
    for peer, runs in results.items():
        figures = medians_of(runs)
        rate = figures.pop("rate")
        print(f"{peer:20} {rate:10.0f} {ours / rate:10.2f}", *(f"{figure:10.0f}" for figure in figures.values()))
    sys.stdout.flush()


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--uri", default="pyamqp://guest:guest@127.0.0.1:5672/", help="the broker")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one run")
    parser.add_argument("--peer", action="append", choices=list(SCRIPTS), help="only these (repeatable)")
    parser.add_argument("--case", action="append", help="only cases whose name contains this (repeatable)")
    options = parser.parse_args()
    for case in CASES:
        if options.case and not any(word in case.name for word in options.case):
            continue
        peers = peers_for(case, options.peer or list(SCRIPTS))
        show(case, measure(case, peers, options.uri, options.rounds, options.seconds))


if __name__ == "__main__":
    main()
