"""What nameko-metrics tells the framework about itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nameko.metrics._settings import ADDRESS_KEY, BUCKETS_KEY, DEFAULT_BUCKETS_S, DEFAULT_PATH, PATH_KEY
from nameko.plugins import ConfigKey, hookimpl

if TYPE_CHECKING:
    from nameko.extensions import Extension


@hookimpl
def nameko_config_keys() -> Sequence[ConfigKey]:
    """Where metrics are shown, and how finely."""
    return [
        ConfigKey(
            ADDRESS_KEY,
            "str or int",
            None,
            "Where to show metrics on an address of their own: `[host:]port` or `unix:/path`; without a host, on the "
            "loopback interface. Process n of several (`--workers`) has that port + n.",
        ),
        ConfigKey(
            PATH_KEY,
            "str or bool",
            DEFAULT_PATH,
            "At which path, there and on the service's web server; `false` keeps them off the web server.",
        ),
        ConfigKey(
            BUCKETS_KEY,
            "list of float",
            list(DEFAULT_BUCKETS_S),
            "The upper bounds of the buckets of worker durations and waits, in seconds.",
        ),
    ]


@hookimpl
def nameko_service_extensions() -> Mapping[str, Extension]:
    """Every service is observed."""
    from nameko.metrics._extension import ServiceMetrics  # imports prometheus_client

    return {"nameko_metrics": ServiceMetrics()}
