"""A process as the kernel sees it."""

from __future__ import annotations

import os
from pathlib import Path


def environ(pid: int) -> dict[str, str]:
    """The environment that it was started with."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(pair.decode(errors="replace").partition("=")[::2] for pair in pairs if pair)


def descriptors(pid: int) -> int:
    """How many files and sockets it has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int) -> int:
    """How many threads of the operating system it has."""
    return len(os.listdir(f"/proc/{pid}/task"))


def resident_bytes(pid: int) -> int:
    """How much memory it occupies."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """The processor time it has used, in seconds, in itself and the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_pending(pid: int, signal_number: int) -> bool:
    """Whether it was sent that signal and has not taken it yet."""
    mask = int(_status(pid).get("ShdPnd", "0"), 16)
    return bool(mask >> (signal_number - 1) & 1)


def is_asleep(pid: int) -> bool:
    """Whether it waits for something to happen."""
    return _status(pid).get("State", "").startswith("S")


def _status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
