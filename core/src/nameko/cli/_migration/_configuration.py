"""The configuration: keys that are unknown, of another type, or mean something else now."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nameko.cli._migration._finding import Finding, shown_path
from nameko.config_keys import check_types, suggestions
from nameko.constants import ACCEPT_CONFIG_KEY, SERIALIZER_CONFIG_KEY, TRANSPORT_OPTIONS_CONFIG_KEY
from nameko.exceptions import ConfigurationError
from nameko.plugins import ConfigKey

#: The key of nameko-amqp that allows pickle.
ALLOW_PICKLE = "ALLOW_PICKLE"
_RETRY_OPTIONS = ("max_retries", "interval_start", "interval_step", "interval_max")


def check_configuration(
    config: Mapping[str, Any], keys: Mapping[str, ConfigKey], path: str | None
) -> Iterator[Finding]:
    """Findings in a configuration.

    :param keys: those that the core and the plugins declare
    :param path: the file that the configuration is from, if any
    """
    places = _Places(path)
    for key, meant in suggestions(config, keys).items():
        yield places.finding(key, f"configuration key {key!r} is not known", f"did you mean {meant!r}?")
    for key, value in config.items():
        yield from (places.finding(key, *each) for each in _wrong_type(key, value, keys))
    for key in _keys_with_pickle(config):
        yield places.finding(
            key, f"`{key}` names pickle, which runs whatever code a message holds", f"set `{ALLOW_PICKLE}: true` too"
        )
    for name in _RETRY_OPTIONS:
        if name in (config.get(TRANSPORT_OPTIONS_CONFIG_KEY) or ()):
            yield places.finding(
                TRANSPORT_OPTIONS_CONFIG_KEY,
                f"`{name}` of `{TRANSPORT_OPTIONS_CONFIG_KEY}` is ignored: a lost connection is always made again",
                "remove it; `START_TIMEOUT` says, in seconds, how long a starting service waits for the broker",
            )


def _wrong_type(key: str, value: Any, keys: Mapping[str, ConfigKey]) -> Iterator[tuple[str, str]]:
    try:
        check_types({key: value}, keys)
    except ConfigurationError as exc:
        yield str(exc), "nameko 3 refuses to start with it: give it a value of that type"


def _keys_with_pickle(config: Mapping[str, Any]) -> Iterator[str]:
    if config.get(ALLOW_PICKLE) is True:
        return
    if config.get(SERIALIZER_CONFIG_KEY) == "pickle":
        yield SERIALIZER_CONFIG_KEY
    accepted = config.get(ACCEPT_CONFIG_KEY)
    if isinstance(accepted, Iterable) and "pickle" in accepted:
        yield ACCEPT_CONFIG_KEY


class _Places:
    """Where keys stand in a configuration file."""

    def __init__(self, path: str | None) -> None:
        self._name = "configuration" if path is None else shown_path(path)
        self._lines = [] if path is None else Path(path).read_text(encoding="utf-8").splitlines()

    def finding(self, key: str, difference: str, remedy: str) -> Finding:
        """A finding about `key`."""
        start = re.compile(rf"""["']?{re.escape(key)}["']?\s*:""")
        number = next((number for number, line in enumerate(self._lines, 1) if start.match(line)), 0)
        return Finding(self._name, number, difference, remedy)
