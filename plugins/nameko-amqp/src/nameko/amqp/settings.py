"""Everything about one broker, read from the configuration once, checked, and frozen."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from inspect import signature
from itertools import starmap
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from nameko.config import config as global_config
from nameko.constants import (
    AMQP_SSL_CONFIG_KEY,
    AMQP_URI_CONFIG_KEY,
    DEFAULT_HEARTBEAT,
    HEARTBEAT_CONFIG_KEY,
    LOGIN_METHOD_CONFIG_KEY,
    TRANSPORT_OPTIONS_CONFIG_KEY,
)
from nameko.exceptions import ConfigurationError
from nameko.masking import mask_uri as mask_uri
from nameko.suggestions import did_you_mean

_log = logging.getLogger(__name__)

PUBLISH_TIMEOUT_CONFIG_KEY = "PUBLISH_TIMEOUT"
START_TIMEOUT_CONFIG_KEY = "START_TIMEOUT"
CONNECT_TIMEOUT_CONFIG_KEY = "CONNECT_TIMEOUT"
MAX_MESSAGE_BYTES_CONFIG_KEY = "MAX_MESSAGE_BYTES"
ACCEPT_COMPRESSION_CONFIG_KEY = "ACCEPT_COMPRESSION"
ALLOW_PICKLE_CONFIG_KEY = "ALLOW_PICKLE"

DEFAULT_PUBLISH_TIMEOUT_S = 30.0
DEFAULT_START_TIMEOUT_S = 60.0
# How often a message whose method raises is tried, and how long it waits in between.
DEFAULT_ATTEMPTS = 20
DEFAULT_DELAY_S = 0.5
DEFAULT_MAX_DELAY_S = 60.0
DEFAULT_CONNECT_TIMEOUT_S = 10.0
#: What RabbitMQ 4 accepts by default.
DEFAULT_MAX_MESSAGE_BYTES = 16 * 1024 * 1024

#: The broker when none is configured: in this process, no installation needed.
IN_PROCESS_URI = "memory://localhost"

_MEMORY_SCHEMES = frozenset(["memory"])
_PLAIN_SCHEMES = frozenset(["amqp", "pyamqp"])
_TLS_SCHEMES = frozenset(["amqps", "pyamqps"])
_SCHEMES = _MEMORY_SCHEMES | _PLAIN_SCHEMES | _TLS_SCHEMES
_LOGIN_METHODS = frozenset(["PLAIN", "AMQPLAIN", "EXTERNAL", "GSSAPI"])
_LOOPBACK_HOSTS = frozenset(["localhost", "127.0.0.1", "::1", ""])
# Keys of TRANSPORT_OPTIONS that are kombu's, and say how to wait between attempts to connect: ours has its own backoff.
_RETRY_OPTIONS = frozenset(
    [
        "callback",
        "connect_retries_timeout",
        "errback",
        "interval_max",
        "interval_start",
        "interval_step",
        "max_retries",
    ]
)

_UNSET: Any = object()


class FrozenOptions(Mapping[str, Any]):
    """A hashable mapping of options."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = dict(options)
        self._hash = hash(repr(sorted(self._options.items(), key=lambda item: str(item[0]))))

    def __getitem__(self, key: str) -> Any:
        return self._options[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._options)

    def __len__(self) -> int:
        return len(self._options)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:  # the values may be secrets
        return f"<options {', '.join(map(str, self._options))}>"


@dataclass(frozen=True)
class AmqpSettings:
    """One broker and how to talk to it; equal settings share their connections.

    :param uri: `pyamqp://user:password@host:port/vhost`, several separated by `;`, or `memory://localhost/name`
    :param ssl: TLS options; empty for the defaults, None for no TLS
    :param login_method: SASL mechanism; None lets the library choose
    :param heartbeat_s: AMQP heartbeat in seconds; None for none
    :param connect_timeout_s: for one attempt to connect, handshakes included
    :param start_timeout_s: how long a starting service waits for the broker
    :param publish_timeout_s: how long a publisher waits for its confirm
    :param max_message_bytes: bigger bodies are neither sent nor accepted
    :param transport_options: further arguments of the AMQP library's connection
    """

    uri: str = field(repr=False)
    ssl: FrozenOptions | None = None
    login_method: str | None = None
    heartbeat_s: float | None = float(DEFAULT_HEARTBEAT)
    connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S
    start_timeout_s: float = DEFAULT_START_TIMEOUT_S
    publish_timeout_s: float = DEFAULT_PUBLISH_TIMEOUT_S
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
    transport_options: FrozenOptions = field(default_factory=lambda: FrozenOptions({}))

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, uri: str | None = None, ssl: Any = _UNSET, login_method: Any = _UNSET
    ) -> AmqpSettings:
        """The settings that `config` describes.

        :param uri: instead of the configuration's `AMQP_URI`; likewise `ssl` and `login_method`
        :raises ConfigurationError: when a value cannot work, naming the key
        """
        uri = uri or config.get(AMQP_URI_CONFIG_KEY) or _default_uri()
        if not isinstance(uri, str):
            raise ConfigurationError(f"{AMQP_URI_CONFIG_KEY} must be a string, not {type(uri).__name__}.")
        parts = [_check_uri(each, uri) for each in split_uri(uri)]
        ssl = config.get(AMQP_SSL_CONFIG_KEY) if ssl is _UNSET else ssl
        settings = cls(
            uri=uri,
            ssl=_tls_options(ssl, parts),
            login_method=_login_method(config.get(LOGIN_METHOD_CONFIG_KEY) if login_method is _UNSET else login_method),
            heartbeat_s=_heartbeat(config),
            connect_timeout_s=_positive_seconds(config, CONNECT_TIMEOUT_CONFIG_KEY, DEFAULT_CONNECT_TIMEOUT_S),
            start_timeout_s=_positive_seconds(config, START_TIMEOUT_CONFIG_KEY, DEFAULT_START_TIMEOUT_S),
            publish_timeout_s=_positive_seconds(config, PUBLISH_TIMEOUT_CONFIG_KEY, DEFAULT_PUBLISH_TIMEOUT_S),
            max_message_bytes=_max_message_bytes(config),
            transport_options=_transport_options(config),
        )
        _warn_of_guest(parts)
        return settings

    @cached_property
    def uris(self) -> tuple[str, ...]:
        """The brokers to try, one after the other."""
        return tuple(split_uri(self.uri))

    @cached_property
    def in_process(self) -> bool:
        """Whether the broker lives in this process."""
        return is_in_process(self.uris[0])

    def tls_options(self, uri: str) -> dict[str, Any] | None:
        """The TLS options for the broker at `uri`, the host name to verify among them; None for no TLS."""
        if self.ssl is None:
            return None
        # kombu turns `localhost` into an address, which no certificate is for.
        return {"server_hostname": urlsplit(uri).hostname or "localhost", **self.ssl}

    @property
    def masked_uri(self) -> str:
        """The URI with its password replaced, for logs and errors."""
        return mask_uri(self.uri)


def given_config(owner: str, config: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The configuration of a client outside of services: `config`, or the process-wide `nameko.config` for None.

    :param owner: whose it is, for the error
    :raises ConfigurationError: when it is no mapping; it is not shown, as a URI may hold a password
    """
    if config is None:
        return global_config
    if not isinstance(config, Mapping):
        example = f'{{"{AMQP_URI_CONFIG_KEY}": "pyamqp://host"}}'
        raise ConfigurationError(
            f"{owner}: the configuration must be a mapping, like {example}, not {type(config).__name__}."
        )
    return config


def split_uri(uri: str) -> list[str]:
    """The addresses in `uri`, which are separated by `;`."""
    return [each.strip() for each in uri.split(";") if each.strip()]


def is_in_process(address: str) -> bool:
    """Whether the broker at `address` lives in this process."""
    return urlsplit(address).scheme in _MEMORY_SCHEMES


def asks_for_tls(addresses: Iterable[str]) -> bool:
    """Whether one of `addresses` does: then all get it, as the password may be the same for all."""
    return any(urlsplit(each).scheme in _TLS_SCHEMES for each in addresses)


@cache
def _default_uri() -> str:
    # Remembered, so that it is said once, however many services there are.
    _log.info("AMQP_URI is not set: using the in-process broker (%s), which no other process can reach", IN_PROCESS_URI)
    return IN_PROCESS_URI


def _check_uri(uri: str, given: str) -> SplitResult:
    parts = None
    try:
        parts = urlsplit(uri)
        problem = _problem(uri, parts)
    except ValueError:  # whose text may have a part of the password in it
        problem = "it cannot be parsed" if parts is None else "the port is not a number up to 65535"
    if parts is None or problem:
        # Shown without a password, which would be hidden on the command line.
        expected = "expected something like `pyamqp://host:5672/vhost`, with user and password before the host"
        masked = mask_uri(given)  # all of it: a password may have been taken apart at a `;`
        raise ConfigurationError(
            f"{AMQP_URI_CONFIG_KEY} `{masked}`: {problem}; {expected}, each percent-encoded (`@` as `%40`)."
        )
    return parts


def _problem(uri: str, parts: SplitResult) -> str | None:
    known = f"one of {', '.join(sorted(_SCHEMES))}"
    if "://" not in uri:  # and the scheme may be a user
        missing = f"`://` is missing after scheme `{parts.scheme}`"
        return missing if parts.scheme in _SCHEMES else f"it has no scheme ({known})"
    if parts.scheme not in _SCHEMES:
        return f"scheme `{parts.scheme}` is not {known}"
    parts.port  # noqa: B018  (parsed, and checked, on access)
    if "@" in parts.path + parts.query + parts.fragment:
        return "there is an `@` behind the host"  # of a password with a slash, or of a virtual host
    return next(filter(None, starmap(_problem_of_option, parse_qsl(parts.query, keep_blank_values=True))), None)


def _problem_of_option(name: str, value: str) -> str | None:
    # What kombu would take for an argument: it fails at each attempt to connect with one that it does not know.
    if name == "heartbeat" and not value.isdecimal():
        return "`heartbeat` in its query is not a number of seconds"
    if name == "login_method" and value not in _LOGIN_METHODS:
        return f"`login_method` in its query is not one of {', '.join(sorted(_LOGIN_METHODS))}"
    if name not in ("heartbeat", "login_method") and not name.startswith("ssl"):
        return f"there is no option `{name}` for its query; the configuration has {TRANSPORT_OPTIONS_CONFIG_KEY}"
    return None


def _tls_options(ssl: Any, parts: list[SplitResult]) -> FrozenOptions | None:
    if ssl is None and any(each.scheme in _TLS_SCHEMES for each in parts):
        ssl = True
    if ssl is None or ssl is False:
        if any(each.scheme in _TLS_SCHEMES for each in parts):
            raise ConfigurationError(f"{AMQP_SSL_CONFIG_KEY} is false, but {AMQP_URI_CONFIG_KEY} asks for TLS (amqps).")
        return None
    if ssl is True:
        return FrozenOptions({})
    if not isinstance(ssl, Mapping):
        raise ConfigurationError(f"{AMQP_SSL_CONFIG_KEY} must be true, false or a mapping, not {type(ssl).__name__}.")
    from nameko.amqp.tls import refuse_unknown_options  # which needs `ssl`, as only those with TLS do

    refuse_unknown_options(ssl)
    return FrozenOptions(ssl)


def _login_method(value: Any) -> str | None:
    if value is not None and value not in _LOGIN_METHODS:
        known = ", ".join(sorted(_LOGIN_METHODS))
        raise ConfigurationError(f"{LOGIN_METHOD_CONFIG_KEY} `{value}` is not one of {known}.")
    return value  # type: ignore[no-any-return]


def _heartbeat(config: Mapping[str, Any]) -> float | None:
    value = config.get(HEARTBEAT_CONFIG_KEY, DEFAULT_HEARTBEAT)
    if value is None or value == 0:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 1 <= value <= 65535:
        raise ConfigurationError(f"{HEARTBEAT_CONFIG_KEY} must be from 1 to 65535 seconds, or null, not {value!r}.")
    return float(value)


def _positive_seconds(config: Mapping[str, Any], key: str, default: float) -> float:
    value = config.get(key, default)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
        raise ConfigurationError(f"{key} must be a number of seconds above 0, not {value!r}.")
    return float(value)


def _max_message_bytes(config: Mapping[str, Any]) -> int:
    value = config.get(MAX_MESSAGE_BYTES_CONFIG_KEY, DEFAULT_MAX_MESSAGE_BYTES)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ConfigurationError(f"{MAX_MESSAGE_BYTES_CONFIG_KEY} must be a number of bytes above 0, not {value!r}.")
    return value


def _transport_options(config: Mapping[str, Any]) -> FrozenOptions:
    value = config.get(TRANSPORT_OPTIONS_CONFIG_KEY) or {}
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{TRANSPORT_OPTIONS_CONFIG_KEY} must be a mapping, not {type(value).__name__}.")
    options = {key: option for key, option in value.items() if key not in _RETRY_OPTIONS}
    _warn_of_unknown(tuple(options))
    return FrozenOptions(options)


@cache
def _warn_of_unknown(options: tuple[str, ...]) -> None:
    # Said once, however many services there are. Not refused: py-amqp ignores what it does not know, and 2.14 did.
    if not options:
        return
    from amqp import Connection  # whoever declares or shows configuration does without it

    known = signature(Connection.__init__).parameters
    for name in options:
        if name not in known:
            hint = did_you_mean(str(name), [*known, *_RETRY_OPTIONS])
            _log.warning("%s: option %r%s is not known to the AMQP library", TRANSPORT_OPTIONS_CONFIG_KEY, name, hint)


def _warn_of_guest(parts: list[SplitResult]) -> None:
    for each in parts:
        if each.scheme in _MEMORY_SCHEMES or (each.hostname or "") in _LOOPBACK_HOSTS:
            continue
        if (each.username or "guest") == "guest":
            _log.warning("connecting to the broker on %s as `guest`: give the service an account", each.hostname)
