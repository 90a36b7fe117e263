"""Options of a publisher: the names that nameko 2.14 and kombu have for them, checked and put in `Broker`'s terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kombu import Exchange

from nameko.amqp.publish_options import DELIVERY_MODES, PublishOptions

#: What `Broker.publish` takes under the same name.
_AS_THEY_ARE = (PublishOptions.__annotations__.keys() | {"routing_key"}) - {"delivery_mode", "headers"}
_RENAMED = {"expiration": "expiration_s", "timeout": "timeout_s", "confirm_timeout": "timeout_s"}
#: Options that are numbers of seconds.
IN_SECONDS = ("expiration", "timeout", "confirm_timeout", "expiration_s", "timeout_s")
# Every message is sent again until it is confirmed or its deadline passes: there is nothing to say about retries.
_NO_LONGER_NEEDED = frozenset(["retry", "retry_policy", "immediate"])
_HANDLED_ELSEWHERE = frozenset(["declare", "exchange", "headers", "use_confirms"])
_KNOWN = _AS_THEY_ARE | _RENAMED.keys() | _NO_LONGER_NEEDED | _HANDLED_ELSEWHERE | {"delivery_mode"}


def unknown_options(options: Mapping[str, Any]) -> list[str]:
    """The names among `options` that mean nothing, sorted."""
    return [] if options.keys() <= _KNOWN else sorted(options.keys() - _KNOWN)


def broker_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` as arguments of `Broker.publish`; those that are None are left out.

    `declare`, `exchange`, `headers` and `use_confirms` are not among them: they are the publisher's own business.
    """
    arguments = {}
    for name, value in options.items():
        if value is None:
            continue
        if name in _AS_THEY_ARE:
            arguments[name] = value
        elif name in _RENAMED:
            arguments[_RENAMED[name]] = value
        elif name == "delivery_mode":
            arguments[name] = DELIVERY_MODES.get(value, value)
    return arguments


def exchange_name(exchange: Exchange | str | None) -> str:
    """The name of an exchange that is given by itself, by name, or not at all (the default exchange)."""
    if exchange is None:
        return ""
    return exchange if isinstance(exchange, str) else str(exchange.name)
