"""The configuration of the web server: every key, its default, its check."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nameko.exceptions import ConfigurationError
from nameko.web._address import DEFAULT_ADDRESS, BindAddress, parse_address

ADDRESS_KEY = "WEB_SERVER_ADDRESS"


@dataclass(frozen=True)
class Key:
    """A configuration key: `(name, type in words, default, help)`, and how its value is checked."""

    name: str
    type: str
    default: Any
    help: str
    check: Callable[[str, Any], Any]


@dataclass(frozen=True)
class HttpSettings:
    """The web server's settings. What each means, `KEYS` says."""

    address: BindAddress
    ssl: Mapping[str, Any] | None
    max_request_line_bytes: int
    max_header_fields: int
    max_header_bytes: int
    max_body_bytes: int
    body_buffer_bytes: int
    header_timeout_s: float
    keepalive_timeout_s: float
    stall_timeout_s: float
    min_rate_bytes_per_s: int
    max_connections: int
    graceful_timeout_s: float
    middleware: Sequence[Any]
    cors: Mapping[str, Any] | None
    trusted_proxies: Sequence[str]
    access_log: str
    openapi_path: str | None
    websocket_max_message_bytes: int
    websocket_idle_timeout_s: float
    websocket_allowed_origins: Sequence[str]
    websocket_expose_errors: bool

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> HttpSettings:
        """The settings in `config`, and the defaults of those that it does not have.

        :raises ConfigurationError: when a value cannot be what its key means
        """
        return cls(**{field: _value(key, config) for field, key in KEYS.items()})


def _value(key: Key, config: Mapping[str, Any]) -> Any:
    value = config.get(key.name)
    return key.check(key.name, key.default if value is None else value)


def _wrong(name: str, value: Any, should_be: str) -> ConfigurationError:
    return ConfigurationError(f"{name} must be {should_be}, not {value!r}.")


def count(name: str, value: Any) -> int:
    """A whole number, 1 at least."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _wrong(name, value, "a whole number of 1 or more")
    return value


def count_or_zero(name: str, value: Any) -> int:
    """A whole number, 0 at least."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _wrong(name, value, "a whole number of 0 or more")
    return value


def seconds(name: str, value: Any) -> float:
    """A length of time above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise _wrong(name, value, "a number of seconds above 0")
    return float(value)


def strings(name: str, value: Any) -> tuple[str, ...]:
    """A list of strings; one string stands for a list of it."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
        raise _wrong(name, value, "a list of strings")
    return tuple(items)


def yes_or_no(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise _wrong(name, value, "true or false")
    return value


def _address(name: str, value: Any) -> BindAddress:
    return parse_address(value)


def _mapping_or_none(name: str, value: Any) -> Mapping[str, Any] | None:
    if value is not None and not isinstance(value, Mapping):
        raise _wrong(name, value, "a mapping")
    return value


def _list(name: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise _wrong(name, value, "a list")
    return tuple(value)


def _access_log(name: str, value: Any) -> str:
    choice = "off" if value is False else value  # an unquoted `off` is False in YAML
    if choice not in ("off", "common", "json"):
        raise _wrong(name, value, "`off`, `common` or `json`")
    return str(choice)


def _path_or_none(name: str, value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and value.startswith("/")):
        raise _wrong(name, value, "a path that starts with `/`")
    return value


#: Field of `HttpSettings` -> the key that sets it.
KEYS: Mapping[str, Key] = {
    "address": Key(
        ADDRESS_KEY,
        "str or int",
        DEFAULT_ADDRESS,
        "Where to listen: `[host:]port` (port 0: any free one; without a host on every interface), `[v6]:port` or "
        "`unix:/path`.",
        _address,
    ),
    "ssl": Key(
        "WEB_SERVER_SSL",
        "mapping",
        None,
        "Serve HTTPS: `certfile`, `keyfile`, `password`, `ciphers`; with `cafile`, clients need a certificate.",
        _mapping_or_none,
    ),
    "max_request_line_bytes": Key(
        "WEB_SERVER_MAX_REQUEST_LINE_BYTES", "int", 8 * 1024, "Longest request line; else 414.", count
    ),
    "max_header_fields": Key("WEB_SERVER_MAX_HEADER_FIELDS", "int", 100, "Most header fields; else 431.", count),
    "max_header_bytes": Key(
        "WEB_SERVER_MAX_HEADER_BYTES", "int", 32 * 1024, "Most bytes of header fields; else 431.", count
    ),
    "max_body_bytes": Key(
        "WEB_SERVER_MAX_BODY_BYTES", "int", 16 * 1024 * 1024, "Largest request body; else 413.", count_or_zero
    ),
    "body_buffer_bytes": Key(
        "WEB_SERVER_BODY_BUFFER_BYTES",
        "int",
        1024 * 1024,
        "How much of a body is read before its worker starts: slow clients occupy none; the rest is streamed.",
        count_or_zero,
    ),
    "header_timeout_s": Key(
        "WEB_SERVER_HEADER_TIMEOUT", "seconds", 10, "How long a request's head, or a TLS handshake, may take.", seconds
    ),
    "keepalive_timeout_s": Key(
        "WEB_SERVER_KEEPALIVE_TIMEOUT", "seconds", 15, "How long a connection may be idle between requests.", seconds
    ),
    "stall_timeout_s": Key(
        "WEB_SERVER_STALL_TIMEOUT", "seconds", 30, "How long a body, either way, may make no progress.", seconds
    ),
    "min_rate_bytes_per_s": Key(
        "WEB_SERVER_MIN_RATE",
        "bytes per second",
        500,
        "How fast a client must send and take bodies, on average after `WEB_SERVER_HEADER_TIMEOUT`; 0 for any rate.",
        count_or_zero,
    ),
    "max_connections": Key(
        "WEB_SERVER_MAX_CONNECTIONS", "int", 1000, "Most connections at once; more wait to be accepted.", count
    ),
    "graceful_timeout_s": Key(
        "WEB_SERVER_GRACEFUL_TIMEOUT", "seconds", 30, "How long requests in flight may take to finish at stop.", seconds
    ),
    "middleware": Key(
        "WEB_SERVER_MIDDLEWARE",
        "list",
        (),
        "WSGI middleware, outermost first: paths of callables that take the application, or `path: {option: value}`.",
        _list,
    ),
    "cors": Key(
        "WEB_SERVER_CORS",
        "mapping",
        None,
        "Cross-origin requests: `origins`, `methods`, `headers`, `expose_headers`, `credentials`, `max_age`.",
        _mapping_or_none,
    ),
    "trusted_proxies": Key(
        "WEB_SERVER_TRUSTED_PROXIES",
        "list of str",
        (),
        "Addresses and networks whose X-Forwarded headers are believed; `unix` for peers on a Unix socket.",
        strings,
    ),
    "access_log": Key(
        "WEB_SERVER_ACCESS_LOG",
        "str",
        "off",
        "`common` or `json`: log each request to the logger `nameko.web.access`.",
        _access_log,
    ),
    "openapi_path": Key(
        "WEB_SERVER_OPENAPI_PATH",
        "str",
        None,
        "Where to serve an OpenAPI document of the routes; nowhere by default.",
        _path_or_none,
    ),
    "websocket_max_message_bytes": Key(
        "WEBSOCKET_MAX_MESSAGE_BYTES", "int", 64 * 1024, "Largest message that a websocket client may send.", count
    ),
    "websocket_idle_timeout_s": Key(
        "WEBSOCKET_IDLE_TIMEOUT",
        "seconds",
        60,
        "How long a websocket client may be silent; after half of it, it is sent a ping.",
        seconds,
    ),
    "websocket_allowed_origins": Key(
        "WEBSOCKET_ALLOWED_ORIGINS",
        "list of str",
        (),
        "Origins whose pages may open websockets, such as `https://app.example.com`; any by default.",
        strings,
    ),
    "websocket_expose_errors": Key(
        "WEBSOCKET_EXPOSE_ERRORS",
        "bool",
        True,
        "Tell websocket clients what a method raised; with false, an id that is in the log, unless expected.",
        yes_or_no,
    ),
}
