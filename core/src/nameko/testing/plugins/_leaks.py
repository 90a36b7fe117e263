"""What a block has left behind: greenthreads that run, file descriptors that are open."""

from __future__ import annotations

import gc
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nameko import concurrency

_SETTLE_S = 5.0
_INTERVAL_S = 0.05
_FILE_DESCRIPTORS = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"


@contextmanager
def no_leaks(settle_s: float = _SETTLE_S) -> Iterator[None]:
    """Fail when the block leaves a greenthread running or a file descriptor open.

    What is made once for the process and kept on purpose, a cache for instance, counts as well: do once what the block
    does before it.

    :param settle_s: how many seconds what is on its way out may take to be gone
    :raises AssertionError: at the end of the block, saying what is left: each file, and where each greenthread stands
    """
    gc.collect()
    threads_before = {id(thread): thread for thread in concurrency.running_greenthreads()}
    files_before = _open_files()
    yield
    deadline = time.monotonic() + settle_s
    while left := _left(threads_before, files_before):
        if time.monotonic() > deadline:
            raise AssertionError(f"left behind: {'; '.join(left)}")
        concurrency.sleep(_INTERVAL_S)
        gc.collect()


def _left(threads_before: dict[int, Any], files_before: set[tuple[int, str]]) -> list[str]:
    files = [f"file descriptor {number} ({target})" for number, target in sorted(_open_files() - files_before)]
    threads = [each for each in concurrency.running_greenthreads() if id(each) not in threads_before]
    return files + [f"greenthread at {_position(thread)}" for thread in threads]


def _open_files() -> set[tuple[int, str]]:
    found = set()
    for name in os.listdir(_FILE_DESCRIPTORS):
        try:
            found.add((int(name), os.readlink(f"{_FILE_DESCRIPTORS}/{name}")))
        except OSError:  # that of the listing itself
            pass
    return found


def _position(thread: Any) -> str:
    frames = traceback.extract_stack(thread.gr_frame) if thread.gr_frame is not None else []
    own = [frame for frame in frames if "/eventlet/" not in frame.filename] or frames
    return " <- ".join(f"{frame.filename}:{frame.lineno} ({frame.name})" for frame in reversed(own[-3:]))
