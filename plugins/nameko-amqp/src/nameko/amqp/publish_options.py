"""How a message may be published: the options, and what is checked about them once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import TYPE_CHECKING, Any, TypedDict

from nameko.constants import NON_PERSISTENT, PERSISTENT
from nameko.exceptions import ConfigurationError
from nameko.suggestions import did_you_mean

if TYPE_CHECKING:
    from kombu import Exchange

#: kombu's names of delivery modes, and what AMQP has for them.
DELIVERY_MODES = {"transient": NON_PERSISTENT, "persistent": PERSISTENT}


class PublishOptions(TypedDict, total=False):
    """How to publish a message; none of it has to be said.

    :param serializer: its name; by default the container's
    :param mandatory: fail when there is no queue for the message
    :param expiration_s: the broker drops the message when it has not been delivered for so long, from now on
    :param delivery_mode: 2, the default, for a message that outlives the broker's end, or 1
    :param compression: its name, as kombu knows it
    :param timeout_s: how long to wait for the confirm; by default `PUBLISH_TIMEOUT`

    The others are properties of the message. One that has a `content_type` is encoded by the caller.
    """

    serializer: str | None
    mandatory: bool
    headers: Mapping[str, Any] | None
    correlation_id: str | None
    reply_to: str | None
    expiration_s: float | None
    priority: int
    delivery_mode: int
    compression: str | None
    timeout_s: float | None
    content_type: str
    content_encoding: str
    message_id: str
    timestamp: int
    type: str
    user_id: str
    app_id: str
    cluster_id: str


# Below: the names that nameko 2.14 and kombu have for them. First, what `Broker.publish` takes under the same name.
_AS_THEY_ARE = (PublishOptions.__annotations__.keys() | {"routing_key"}) - {"delivery_mode", "headers"}
_RENAMED = {"expiration": "expiration_s", "timeout": "timeout_s", "confirm_timeout": "timeout_s"}
#: Options that are numbers of seconds.
IN_SECONDS = ("expiration", "timeout", "confirm_timeout", "expiration_s", "timeout_s")
# Every message is sent again until it is confirmed or its deadline passes: there is nothing to say about retries.
_NO_LONGER_NEEDED = frozenset(["retry", "retry_policy", "immediate"])
_HANDLED_ELSEWHERE = frozenset(["declare", "exchange", "headers", "use_confirms"])
_KNOWN = _AS_THEY_ARE | _RENAMED.keys() | _NO_LONGER_NEEDED | _HANDLED_ELSEWHERE | {"delivery_mode"}


def check_seconds(owner: str, options: Mapping[str, Any], names: Iterable[str]) -> None:
    """Check those of a publisher's `options` that are numbers of seconds; None counts as not given.

    :param owner: whose options they are, for the error
    :raises ConfigurationError: when one is not a number from 0 on
    """
    for name in names:
        value = options.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < inf:
            raise ConfigurationError(f"{owner}: {name} must be a number of seconds, not {value!r}.")


def unknown_options(options: Mapping[str, Any]) -> str:
    """The names among `options` that mean nothing, sorted, each with what may have been meant; empty for none."""
    if options.keys() <= _KNOWN:
        return ""
    useful = sorted(_KNOWN - _NO_LONGER_NEEDED)
    return ", ".join(f"`{name}`{did_you_mean(name, useful)}" for name in sorted(options.keys() - _KNOWN))


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
