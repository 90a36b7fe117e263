"""The ports that the documentation names: on a machine, only one test at a time may use them."""

from __future__ import annotations

import fcntl
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: What other test runs on this machine lock, too.
LOCK = Path(tempfile.gettempdir()) / "nameko-documented-ports.lock"
#: Whoever has them may be installing distributions meanwhile.
TIMEOUT_S = 300


@contextmanager
def documented_ports() -> Iterator[None]:
    """Have the ports for the length of the block.

    :raises AssertionError: when another test does not give them back
    """
    deadline = time.monotonic() + TIMEOUT_S
    with LOCK.open("w") as lock:  # closing it gives the ports back
        while not _locked(lock.fileno()):
            assert time.monotonic() < deadline, f"another test has had {LOCK} locked for {TIMEOUT_S} s"
            time.sleep(0.1)
        yield


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
