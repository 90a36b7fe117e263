"""Calling a function again when it fails."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from nameko.concurrency import sleep


def retry(
    wrapped: Callable[..., Any] | None = None,
    for_exceptions: type[BaseException] | tuple[type[BaseException], ...] = Exception,
    max_attempts: int | None = 3,
    delay: float = 1,
    backoff: float = 1,
    max_delay: float | None = None,
) -> Any:
    """Decorates a function to be called again when it fails, with arguments or without: `@retry` or `@retry(...)`.

    :param for_exceptions: the exceptions, a class or a tuple of them, after which to try again
    :param max_attempts: how many times to try *again*: the function is called once more than that; None: for ever
    :param delay: seconds to wait before trying again
    :param backoff: what the delay is multiplied by before each wait, the first included
    :param max_delay: the longest delay, in seconds
    """
    if wrapped is None:
        return functools.partial(
            retry,
            for_exceptions=for_exceptions,
            max_attempts=max_attempts,
            delay=delay,
            backoff=backoff,
            max_delay=max_delay,
        )
    function = wrapped

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        attempts_left, wait_s = max_attempts, delay
        while True:
            try:
                return function(*args, **kwargs)
            except for_exceptions:
                if attempts_left is not None:
                    if attempts_left <= 0:
                        raise
                    attempts_left -= 1
            wait_s *= backoff
            if max_delay is not None:
                wait_s = min(wait_s, max_delay)
            sleep(wait_s)

    return call
