"""Runs the servers in turn (A B C A B C ...) and prints the medians: `uv run python -m benchmarks.http`.

Needs wrk (Debian's package of that name). The client and the server share one machine: only ratios within one run mean
anything.
"""

from __future__ import annotations

import argparse
import statistics
import sys

from benchmarks.http.measure import CASES, PEERS, Case, Run, run, run_idle


def measure(case: Case, peers: list[str], connections: int, rounds: int, seconds: float) -> dict[str, list[Run]]:
    """`rounds` runs of each peer, in turn."""
    results: dict[str, list[Run]] = {peer: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            results[peer].append(run(peer, case, connections, seconds))
    return results


def show(case: Case, results: dict[str, list[Run]]) -> None:
    """Print the medians of `results`; `ours x` is the first peer's rate over this one's."""
    print(f"\n{case.name}")
    print(" " * 16, *(f"{heading:>12}" for heading in ("requests/s", "ours x", "median us", "p99 us", "cpu us")))
    medians = {
        peer: [statistics.median(getattr(each, field) for each in runs) for field in Run.__dataclass_fields__]
        for peer, runs in results.items()
    }
    ours = next(iter(medians.values()))[0]
    for peer, (rate, *times) in medians.items():
        print(f"{peer:16} {rate:12.0f} {ours / rate:12.2f}", *(f"{value:12.0f}" for value in times))
    sys.stdout.flush()


def show_idle(peers: list[str], idle: int, connections: int, seconds: float) -> None:
    """Print what idle connections cost each peer."""
    print(f"\n{idle} idle keep-alive connections")
    print(" " * 16, *(f"{heading:>12}" for heading in ("bytes each", "rate without", "rate with")))
    for peer in peers:
        result = run_idle(peer, idle, connections, seconds)
        print(f"{peer:16} {result.bytes_each:12.0f} {result.rate_without:12.0f} {result.rate_with:12.0f}")


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one run")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--idle", type=int, default=900, help="idle connections; 0 to leave that out")
    parser.add_argument("--peer", action="append", choices=list(PEERS), help="only these (repeatable)")
    options = parser.parse_args()
    peers = options.peer or list(PEERS)
    for case in CASES:
        show(case, measure(case, peers, options.connections, options.rounds, options.seconds))
    if options.idle:
        show_idle(peers, options.idle, options.connections, options.seconds)


if __name__ == "__main__":
    main()
