"""Processor time of commands that do next to nothing: `nameko --help` and `nameko plugins`, beside nameko 2.14.1."""

from __future__ import annotations

import os
import statistics
import subprocess

from benchmarks.environments import python_of, users_python
from benchmarks.figures import OLD


def measure(rounds: int) -> dict[str, float]:
    """The median of each, in seconds of user and system time."""
    with users_python() as python:
        ours, old = str(python.with_name("nameko")), str(python_of(OLD).with_name("nameko"))
        commands = {
            "nameko --help": [ours, "--help"],
            "nameko plugins": [ours, "plugins"],
            "nameko 2.14.1 --help": [old, "--help"],
        }
        costs: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds + 1):
            for name, command in commands.items():
                costs[name].append(_cpu_s(command))
    return {name: statistics.median(each[1:]) for name, each in costs.items()}  # the first one fills the caches


def _cpu_s(command: list[str]) -> float:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime
