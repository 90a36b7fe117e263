"""The configuration keys."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from nameko.plugins import ConfigKey

_ENABLED = "TRACING_ENABLED"
_EXCLUDE = "TRACING_EXCLUDE"
_ARGUMENTS = "TRACING_ARGUMENTS"

CONFIG_KEYS = (
    ConfigKey(_ENABLED, "bool", True, "Make spans, and send their context along with calls."),
    ConfigKey(
        _EXCLUDE,
        "list of str",
        [],
        "Entrypoints that get no span, as `service.method`, where `*` stands for anything; calls that they make belong "
        "to the caller's span.",
    ),
    ConfigKey(
        _ARGUMENTS,
        "bool",
        False,
        "Record the arguments of entrypoints in their spans, but for those declared in `sensitive_arguments`.",
    ),
)


def is_enabled(config: Mapping[str, Any]) -> bool:
    """Whether there is any tracing."""
    return config.get(_ENABLED) is not False


def is_excluded(config: Mapping[str, Any], entrypoint: str) -> bool:
    """Whether the entrypoint `service.method` gets no span."""
    return any(fnmatchcase(entrypoint, pattern) for pattern in config.get(_EXCLUDE) or ())


def records_arguments(config: Mapping[str, Any]) -> bool:
    """Whether spans have the arguments of entrypoints."""
    return bool(config.get(_ARGUMENTS))
