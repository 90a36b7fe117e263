"""The configuration: keys that are unknown, of another type, or mean something else now."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nameko.cli._migration._calls import ALLOW_PICKLE
from nameko.cli._migration._finding import Difference, Finding, note, shown_path
from nameko.config_keys import check_types, suggestions
from nameko.constants import (
    ACCEPT_CONFIG_KEY,
    AMQP_SSL_CONFIG_KEY,
    AMQP_URI_CONFIG_KEY,
    RPC_EXCHANGE_CONFIG_KEY,
    SERIALIZER_CONFIG_KEY,
    TRANSPORT_OPTIONS_CONFIG_KEY,
)
from nameko.exceptions import ConfigurationError
from nameko.plugins import ConfigKey

_TLS_URIS = ("amqps://", "pyamqps://")
_TLS_DECISIONS = frozenset(["check_hostname", "server_hostname", "verify"])
_NO_CERTIFICATE = (0, "CERT_NONE")
_RETRY_OPTIONS = ("max_retries", "interval_start", "interval_step", "interval_max")


def check_configuration(
    config: Mapping[str, Any], keys: Mapping[str, ConfigKey], path: str | None
) -> Iterator[Finding]:
    """Findings in a configuration.

    :param keys: those that the core and the plugins declare
    :param path: the file that the configuration is from, if any
    """
    places = _Places(path)
    for key, difference in _differences(config, keys):
        yield places.finding(key, difference)


def _differences(config: Mapping[str, Any], keys: Mapping[str, ConfigKey]) -> Iterator[tuple[str, Difference]]:
    for key, meant in suggestions(config, keys).items():
        text = f"configuration key {key!r} is not known, and each start warns of it"
        yield key, note(text, f"nothing, if it is a key of your own; or did you mean {meant!r}?")
    for key, value in config.items():
        yield from ((key, each) for each in _wrong_type(key, value, keys))
    for key in _keys_with_pickle(config):
        text = f"`{key}` names pickle, which runs whatever code a message holds"
        yield key, Difference(text, f"set `{ALLOW_PICKLE}: true` too, if that is wanted")
    if _verifies_more(config):
        text = "the certificate of the broker is verified, chain and host name; nameko 2.14 left the host name alone"
        remedy = (
            f"say in `{AMQP_SSL_CONFIG_KEY}` what is to be verified, once no nameko 2.14 reads it: `verify` and "
            "`check_hostname`, true or false; or `server_hostname`, which both know"
        )
        yield (
            (AMQP_SSL_CONFIG_KEY if config.get(AMQP_SSL_CONFIG_KEY) else AMQP_URI_CONFIG_KEY),
            Difference(text, remedy),
        )
    yield from _exchange_of_the_broker(config)
    for name in _RETRY_OPTIONS:
        if name in (config.get(TRANSPORT_OPTIONS_CONFIG_KEY) or ()):
            yield (
                TRANSPORT_OPTIONS_CONFIG_KEY,
                note(
                    f"`{name}` of `{TRANSPORT_OPTIONS_CONFIG_KEY}` is ignored: a lost connection is always made again",
                    "nothing: it may be removed; `START_TIMEOUT` says, in seconds, how long a starting service waits "
                    "for the broker",
                ),
            )


def _exchange_of_the_broker(config: Mapping[str, Any]) -> Iterator[tuple[str, Difference]]:
    exchange = str(config.get(RPC_EXCHANGE_CONFIG_KEY))
    if exchange.startswith("amq.") and exchange != "amq.topic":
        text = f"`{RPC_EXCHANGE_CONFIG_KEY}` `{exchange}` cannot carry RPC: it belongs to the broker"
        yield (
            RPC_EXCHANGE_CONFIG_KEY,
            Difference(text, "nameko 3 refuses to start with it: give it another name, the same for all services"),
        )


def _verifies_more(config: Mapping[str, Any]) -> bool:
    options = config.get(AMQP_SSL_CONFIG_KEY)
    if not options:
        addresses = str(config.get(AMQP_URI_CONFIG_KEY)).lower().split(";")
        return options is None and any(each.strip().startswith(_TLS_URIS) for each in addresses)
    decided = _TLS_DECISIONS.intersection(options) if isinstance(options, Mapping) else ()
    return not decided and not (isinstance(options, Mapping) and options.get("cert_reqs") in _NO_CERTIFICATE)


def _wrong_type(key: str, value: Any, keys: Mapping[str, ConfigKey]) -> Iterator[Difference]:
    try:
        check_types({key: value}, keys)
    except ConfigurationError as exc:
        yield Difference(str(exc), "nameko 3 refuses to start with it: give it a value of that type")


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

    def finding(self, key: str, difference: Difference) -> Finding:
        """A difference about `key`, at its place."""
        start = re.compile(rf"""["']?{re.escape(key)}["']?\s*:""")
        number = next((number for number, line in enumerate(self._lines, 1) if start.match(line)), 0)
        return difference.at(self._name, number)
