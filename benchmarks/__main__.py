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


def show(case: Case, results: dict[str, list[Run]]) -> None:
    """Print the medians of `results` as a table, with the ratios to the first peer."""
    print(f"\n{case.name}")
    print(
        f"{'':20} {'calls/s':>9} {'ours x':>7} {'median us':>10} {'p99 us':>9} {'client us':>10} {'service us':>11} {'broker us':>10}"
    )
    ours = statistics.median(each.rate for each in next(iter(results.values())))
    for peer, runs in results.items():
        medians = {
            field: statistics.median(getattr(each, field) for each in runs) for field in Run.__dataclass_fields__
        }
        print(
            f"{peer:20} {medians['rate']:9.0f} {ours / medians['rate']:7.2f} {medians['median_us']:10.0f}"
            f" {medians['p99_us']:9.0f} {medians['client_cpu_us']:10.0f} {medians['service_cpu_us']:11.0f}"
            f" {medians['broker_cpu_us']:10.0f}"
        )
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
