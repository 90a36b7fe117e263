"""What it takes to start the command line: CPU time of `nameko --help` and `nameko plugins`, beside nameko 2.14.1.

Ours is installed from wheels into an environment with what its users have and nothing else, since much of the time goes
into finding modules and distributions; pip compiles both.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.environments import python_of

ROOT = Path(__file__).parents[1]
#: The distributions that `pip install nameko` brings.
OURS = (
    "core",
    "plugins/nameko-amqp",
    "plugins/nameko-rpc",
    "plugins/nameko-events",
    "plugins/nameko-http",
    "plugins/nameko-timer",
    ".",
)


def install_ours(directory: Path) -> Path:
    """The interpreter of a new environment with nameko as it is here."""
    subprocess.run([sys.executable, "-m", "venv", directory / "venv"], check=True)
    for source in OURS:
        subprocess.run(
            [sys.executable, "-m", "build", "-w", "-o", directory, ROOT / source], check=True, capture_output=True
        )
    python = directory / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", *directory.glob("*.whl")], check=True)
    return python


def cpu_ms(command: list[str | Path]) -> float:
    """CPU milliseconds of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start_up", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="nameko-start-up-"))
    try:
        ours, old = install_ours(directory).parent / "nameko", python_of("nameko-2.14.1").parent / "nameko"
        commands: dict[str, list[str | Path]] = {
            "nameko 2.14.1 --help": [old, "--help"],
            "nameko --help": [ours, "--help"],
            "nameko plugins": [ours, "plugins"],
        }
        show(commands, options.rounds)
    finally:
        shutil.rmtree(directory)


def show(commands: dict[str, list[str | Path]], rounds: int) -> None:
    """Run the commands in turn, and print the median of each and its ratio to the first."""
    for command in commands.values():
        cpu_ms(command)  # fills the caches
    figures: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            figures[name].append(cpu_ms(command))
    first = statistics.median(next(iter(figures.values())))
    for name, values in figures.items():
        print(f"{name:24} {statistics.median(values):6.0f} ms {statistics.median(values) / first:6.2f}")


if __name__ == "__main__":
    main()
