"""Logging how long something takes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any


def make_timing_logger(
    logger: logging.Logger, precision: int = 3, level: int = logging.DEBUG
) -> Callable[..., AbstractContextManager[None]]:
    """A context manager that logs how long its block takes: `with log_time("loading %s", name): ...`.

    It logs the message followed by ` in 0.123s`, also when the block raises.

    :param precision: digits after the point of the seconds
    """

    @contextmanager
    def log_time(message: str, *args: Any) -> Iterator[None]:
        started_at = time.perf_counter()
        try:
            yield
        finally:
            logger.log(level, f"{message} in %.{precision}fs", *args, time.perf_counter() - started_at)

    return log_time
