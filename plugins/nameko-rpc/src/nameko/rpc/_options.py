"""How requests are sent: the options of a proxy, checked and merged once rather than with each call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from nameko.amqp.publish_options import DELIVERY_MODES, PublishOptions, check_seconds
from nameko.exceptions import ConfigurationError
from nameko.suggestions import did_you_mean

RPC_TIMEOUT_CONFIG_KEY = "RPC_TIMEOUT"
DEFAULT_RPC_TIMEOUT_S = 300.0
RPC_EXPIRE_REQUESTS_CONFIG_KEY = "RPC_EXPIRE_REQUESTS"

# Where a request goes is decided by the call.
_ROUTING = frozenset(["exchange", "routing_key", "mandatory", "reply_to", "correlation_id"])
# nameko 2.14's switches for what is always so now (confirms), or has a deadline instead (retries).
_OBSOLETE = frozenset(["retry", "retry_policy", "use_confirms", "declare", "confirm_timeout", "immediate"])

# What else there is to say about a request: how its body is encoded, and properties of its message.
_PUBLISHING = PublishOptions.__annotations__.keys() - _ROUTING - {"cluster_id", "expiration_s", "headers", "timeout_s"}
_KNOWN = {"timeout", "expiration", "headers"} | _PUBLISHING | _ROUTING | _OBSOLETE

_MAX_EXPIRATION_S = 2**31 / 1000  # RabbitMQ refuses more than 32 bits of milliseconds


@dataclass(frozen=True)
class RequestOptions:
    """How to send a request, and how long to wait for its reply.

    :param timeout_s: seconds from call to reply
    :param expiration_s: seconds after which the broker may drop a request that nobody has taken; it never lives longer
        than its caller waits
    :param expires: whether requests expire that have no `expiration_s`
    :param headers: headers besides the context data, which they override
    :param publishing: further keyword arguments of `Broker.publish`
    :param open_ended: whether there may be options that mean nothing here: whoever derives from nameko 2.14's classes
        may have some
    """

    timeout_s: float
    expiration_s: float | None = None
    expires: bool = True
    headers: Mapping[str, Any] = field(default_factory=dict)
    publishing: Mapping[str, Any] = field(default_factory=dict)
    open_ended: bool = False

    def changed(self, options: Mapping[str, Any]) -> RequestOptions:
        """These options with the user's `options` on top: `timeout`, and those of nameko 2.14's publisher.

        :raises ConfigurationError: when the timeout is not a positive number of seconds, or there is no such option
        """
        if not self.open_ended:
            refuse_unknown(options)
        check_seconds("an RPC client", options, ["expiration"])
        further = {key: value for key, value in options.items() if key not in _ROUTING | _OBSOLETE}
        timeout_s = further.pop("timeout", None)
        expiration_s = further.pop("expiration", self.expiration_s)
        headers = {**self.headers, **(further.pop("headers", None) or {})}
        if "delivery_mode" in further:
            further["delivery_mode"] = DELIVERY_MODES.get(further["delivery_mode"], further["delivery_mode"])
        return replace(
            self,
            timeout_s=self.timeout_s if timeout_s is None else checked_timeout("timeout", timeout_s),
            expiration_s=expiration_s,
            headers=headers,
            publishing={**self.publishing, **further},
        )

    @property
    def message_expiration_s(self) -> float | None:
        """Seconds that the request may wait in its queue; None for as long as it takes."""
        if self.expiration_s is None and not self.expires:
            return None
        own_s = self.timeout_s if self.expiration_s is None else self.expiration_s
        return min(own_s, self.timeout_s, _MAX_EXPIRATION_S)


def default_options(
    config: Mapping[str, Any], serializer: str, options: Mapping[str, Any], *, open_ended: bool = False
) -> RequestOptions:
    """The options of a proxy: what the configuration says, and the user's `options` on top.

    :param open_ended: see `RequestOptions`
    :raises ConfigurationError: when a timeout is not a positive number of seconds, or there is no such option
    """
    timeout_s = checked_timeout(RPC_TIMEOUT_CONFIG_KEY, config.get(RPC_TIMEOUT_CONFIG_KEY, DEFAULT_RPC_TIMEOUT_S))
    expires = bool(config.get(RPC_EXPIRE_REQUESTS_CONFIG_KEY, True))
    publishing = {"serializer": serializer}
    return RequestOptions(timeout_s, expires=expires, publishing=publishing, open_ended=open_ended).changed(options)


def checked_timeout(name: str, value: Any) -> float:
    """`value` as a number of seconds.

    :raises ConfigurationError: when it is not a number above 0
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < inf:
        raise ConfigurationError(f"{name} must be a number of seconds above 0, not {value!r}.")
    return float(value)


def checked_target(owner: str, service_name: Any) -> str:
    """The name of the service that a client is for.

    :param owner: the client's class
    :raises ConfigurationError: when it is not a string, or empty
    """
    if not isinstance(service_name, str) or not service_name:
        # Not as it is: arguments in the wrong order make it a configuration, with its passwords.
        given = "an empty one" if service_name == "" else type(service_name).__name__
        raise ConfigurationError(f"{owner} takes the name of a service, a string, not {given}.")
    return service_name


def refuse_unknown(options: Mapping[str, Any]) -> None:
    """Check that all of the user's `options` mean something.

    :raises ConfigurationError: when one does not
    """
    if not options.keys() <= _KNOWN:
        unknown = [f"{name}{did_you_mean(name, _KNOWN)}" for name in options if name not in _KNOWN]
        raise ConfigurationError(f"an RPC client has no such option: {', '.join(unknown)}.")
