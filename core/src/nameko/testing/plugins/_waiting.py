"""Waiting for a condition, which a test on a loaded machine does instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from nameko import concurrency

T = TypeVar("T")

DEFAULT_TIMEOUT_S = 20.0
_INTERVAL_S = 0.01


def wait_until(
    condition: Callable[[], T],
    timeout_s: float = DEFAULT_TIMEOUT_S,
    message: str | Callable[[], str] = "the condition",
) -> T:
    """Wait until `condition()` is true; other greenthreads run meanwhile.

    :param message: what has not come true then, or a function that tells
    :returns: what the condition returned
    :raises AssertionError: when it is not true within `timeout_s` seconds
    """
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            text = message if isinstance(message, str) else message()
            raise AssertionError(f"not within {timeout_s:g} s: {text}")
        concurrency.sleep(_INTERVAL_S)
    return value
