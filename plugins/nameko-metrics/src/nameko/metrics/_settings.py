"""The configuration of metrics: every key, and its check."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from nameko.exceptions import ConfigurationError

ADDRESS_KEY = "METRICS_ADDRESS"
PATH_KEY = "METRICS_PATH"
BUCKETS_KEY = "METRICS_BUCKETS"

DEFAULT_PATH = "/metrics"
#: Seconds: from what a handler takes that only computes, to what a caller gives up on.
DEFAULT_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
#: Each bucket is a time series for every entrypoint.
MAX_BUCKETS = 100


@dataclass(frozen=True)
class MetricsSettings:
    """The settings of metrics.

    :param address: where to show them, besides the service's web server; None for nowhere
    :param path: at which path
    :param on_web_server: whether the web server of the service shows them
    :param buckets_s: the upper bounds of the histograms' buckets
    """

    address: str | int | None
    path: str
    on_web_server: bool
    buckets_s: tuple[float, ...]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> MetricsSettings:
        """The settings in `config`, and the defaults of those that it does not have.

        :raises ConfigurationError: when a value cannot be what its key means
        """
        path = config.get(PATH_KEY)
        if path is not None and path is not False and not isinstance(path, str):
            raise ConfigurationError(f"{PATH_KEY} must be a path, or false, not {path!r}")
        buckets_s = config.get(BUCKETS_KEY)
        return cls(
            address=config.get(ADDRESS_KEY),
            path=path or DEFAULT_PATH,
            on_web_server=path is not False,
            buckets_s=DEFAULT_BUCKETS_S if buckets_s is None else _checked_buckets(buckets_s),
        )


def _checked_buckets(value: Any) -> tuple[float, ...]:
    if (
        not isinstance(value, (list, tuple))
        or not 0 < len(value) <= MAX_BUCKETS
        or not all(_is_number(each) for each in value)
        or not _ascends((0, *value))
    ):
        raise ConfigurationError(
            f"{BUCKETS_KEY} must be a list of 1 to {MAX_BUCKETS} numbers of seconds above 0, in ascending order, "
            f"not {value!r}"
        )
    return tuple(value)


def _ascends(values: Sequence[float]) -> bool:
    return all(lower < upper for lower, upper in pairwise(values))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
