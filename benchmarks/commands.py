"""Processor time of commands that do next to nothing: `nameko --help` and `nameko plugins`, beside nameko 2.14.1."""

from __future__ import annotations

import os
import statistics
import subprocess

from benchmarks.environments import python_of
from benchmarks.figures import OLD, OURS

#: A name for each, with the peer whose `nameko` it is.
COMMANDS = {
    "nameko --help": (OURS, ["--help"]),
    "nameko plugins": (OURS, ["plugins"]),
    "nameko 2.14.1 --help": (OLD, ["--help"]),
}


def measure(rounds: int) -> dict[str, float]:
    """The median of each, in seconds of user and system time."""
    costs: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, (peer, arguments) in COMMANDS.items():
            costs[name].append(_cpu_s([str(python_of(peer).with_name("nameko")), *arguments]))
    return {name: statistics.median(each) for name, each in costs.items()}


def _cpu_s(command: list[str]) -> float:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime
