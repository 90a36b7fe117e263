"""Waiting for a condition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nameko import concurrency


def eventually(condition: Callable[[], Any], timeout_s: float = 20, interval_s: float = 0.01) -> Any:
    """Wait until `condition()` is true, and return what it returned; fail when it never is.

    The time is for a busy machine: what has to be quick is measured.
    """
    clock = concurrency.original("time").monotonic
    deadline = clock() + timeout_s
    while not (value := condition()):
        assert clock() < deadline, f"not within {timeout_s} s: {condition}"
        concurrency.sleep(interval_s)
    return value
