"""Publishing as nameko 2.14 has it: kombu's pools of connections and producers, and a publisher with options.

For code that uses these names. Services publish through `nameko.amqp.broker.Broker`, which waits for no other
publisher, and gives every message one outcome.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import kombu
import kombu.pools

from nameko.amqp._pooled import Connection
from nameko.amqp.errors import UndeliverableMessage as UndeliverableMessage
from nameko.amqp.settings import asks_for_tls, is_in_process, split_uri
from nameko.amqp.transport import transport_class
from nameko.constants import AMQP_SSL_CONFIG_KEY, DEFAULT_SERIALIZER, DEFAULT_TRANSPORT_OPTIONS, PERSISTENT
from nameko.exceptions import ConfigurationError

__all__ = ["Publisher", "UndeliverableMessage", "get_connection", "get_producer"]


@contextmanager
def get_connection(
    amqp_uri: str,
    ssl: Any = None,
    login_method: str | None = None,
    transport_options: Mapping[str, Any] | None = None,
) -> Iterator[kombu.Connection]:
    """A connection from kombu's pool for these arguments, to which it returns at the end of the block."""
    connection = make_connection(amqp_uri, ssl, login_method, transport_options)
    with kombu.pools.connections[connection].acquire(block=True) as pooled:
        yield pooled


@contextmanager
def get_producer(
    amqp_uri: str,
    confirms: bool = True,
    ssl: Any = None,
    login_method: str | None = None,
    transport_options: Mapping[str, Any] | None = None,
) -> Iterator[kombu.Producer]:
    """A producer from kombu's pool for these arguments, to which it returns at the end of the block.

    :param confirms: whether `publish` waits for the broker's confirm
    """
    options = {**(transport_options or DEFAULT_TRANSPORT_OPTIONS), "confirm_publish": confirms}
    connection = make_connection(amqp_uri, ssl, login_method, options)
    with kombu.pools.producers[connection].acquire(block=True) as pooled:
        yield pooled


def make_connection(
    amqp_uri: str, ssl: Any, login_method: str | None, transport_options: Mapping[str, Any] | None
) -> kombu.Connection:
    """A kombu connection of the caller's own, not opened yet.

    :param amqp_uri: one address, or several separated by `;`, all of which get TLS when one of them asks for it
    :param ssl: as for `AMQP_SSL`; TLS is verified unless it says otherwise
    :raises ConfigurationError: when `ssl` is false and an address asks for TLS
    """
    options = dict(transport_options or DEFAULT_TRANSPORT_OPTIONS)
    addresses = split_uri(amqp_uri)
    uri = ";".join(addresses)
    if is_in_process(uri):
        return kombu.Connection(uri, transport=transport_class(uri), transport_options=options)
    if asks_for_tls(addresses):
        ssl = _tls(ssl)
    return Connection(uri, transport="pyamqp", ssl=ssl, login_method=login_method, transport_options=options)


def _tls(ssl: Any) -> Any:
    if ssl is None:
        return True
    if not ssl and not isinstance(ssl, Mapping):
        # The scheme does not count any more for kombu: it would send the password in clear.
        raise ConfigurationError(
            f"ssl ({AMQP_SSL_CONFIG_KEY}) is false, but the URI asks for TLS (amqps): leave one of them out."
        )
    return ssl


class Publisher:
    """Publishes to one broker, with options that stand on the class, come with the constructor, or with each message.

    The later ones win; `headers` of all are merged, with `extra_headers` on top, and `declare` lists are joined. Every
    option that is not named here goes to `kombu.Producer.publish`.

    :param amqp_uri: the broker
    :param use_confirms: wait for the broker's confirm
    :param declare: exchanges and queues to declare before publishing (once per connection)
    :param retry: try again when the connection is lost, as `retry_policy` says
    """

    use_confirms: bool = True
    transport_options: Mapping[str, Any] = MappingProxyType(DEFAULT_TRANSPORT_OPTIONS)
    delivery_mode: int | None = PERSISTENT
    mandatory: bool = False
    priority: int = 0
    expiration: float | None = None  # seconds
    serializer: str | None = DEFAULT_SERIALIZER
    compression: str | None = None
    retry: bool = True
    retry_policy: Mapping[str, Any] = MappingProxyType({"max_retries": 3})
    declare: Any = ()

    def __init__(
        self,
        amqp_uri: str,
        use_confirms: bool | None = None,
        serializer: str | None = None,
        compression: str | None = None,
        delivery_mode: int | None = None,
        mandatory: bool | None = None,
        priority: int | None = None,
        expiration: float | None = None,
        declare: Any = None,
        retry: bool | None = None,
        retry_policy: Mapping[str, Any] | None = None,
        ssl: Any = None,
        login_method: str | None = None,
        **publish_kwargs: Any,
    ) -> None:
        self.amqp_uri = amqp_uri
        self.ssl = ssl
        self.login_method = login_method
        self.publish_kwargs = publish_kwargs
        given = {
            "use_confirms": use_confirms,
            "serializer": serializer,
            "compression": compression,
            "delivery_mode": delivery_mode,
            "mandatory": mandatory,
            "priority": priority,
            "expiration": expiration,
            "declare": declare,
            "retry": retry,
            "retry_policy": retry_policy,
        }
        for name, value in given.items():
            if value is not None:
                setattr(self, name, value)

    def publish(self, payload: Any, **kwargs: Any) -> None:
        """Publish `payload`.

        :param kwargs: options for this message alone
        :raises UndeliverableMessage: when it is mandatory, with confirms, and no queue gets it
        :raises kombu.exceptions.OperationalError: when the broker is away and does not come back in time
        """
        options = self._options(kwargs)
        use_confirms = kwargs.pop("use_confirms", self.use_confirms)
        transport_options = kwargs.pop("transport_options", self.transport_options)
        if options["mandatory"] and not use_confirms:
            warnings.warn(
                "Mandatory delivery was requested, but without confirms an undeliverable message is lost silently.",
                UserWarning,
                stacklevel=2,
            )
        with get_producer(self.amqp_uri, use_confirms, self.ssl, self.login_method, transport_options) as producer:
            if use_confirms:
                _publish_confirmed(producer, payload, options)
            else:
                producer.channel.events["basic_return"].add(_ignore_return)
                producer.publish(payload, **options)

    def _options(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        options: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("delivery_mode", "mandatory", "priority", "expiration", "serializer", "compression", "retry")
        }
        options["retry_policy"] = self.retry_policy
        options.update(self.publish_kwargs)
        options.update(kwargs)
        for name in ("use_confirms", "transport_options", "extra_headers"):
            options.pop(name, None)
        options["retry_policy"] = dict(options["retry_policy"] or {})
        options["headers"] = {
            **(self.publish_kwargs.get("headers") or {}),
            **(kwargs.get("headers") or {}),
            **(kwargs.get("extra_headers") or {}),
        }
        options["declare"] = [*self.declare, *(kwargs.get("declare") or ())]
        return options


def _ignore_return(error: Exception, exchange: str, routing_key: str, message: Any) -> None:
    # Without confirms a return comes when nobody waits for it: py-amqp would raise it at whoever uses the channel next.
    pass


def _publish_confirmed(producer: kombu.Producer, payload: Any, options: dict[str, Any]) -> None:
    returned: list[UndeliverableMessage] = []

    def on_return(error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        returned.append(UndeliverableMessage(exchange, routing_key))

    producer.on_return = on_return  # for channels to come, when it tries again
    producer.channel.events["basic_return"].add(on_return)
    try:
        producer.publish(payload, **options)
    finally:
        producer.on_return = None
        producer.channel.events["basic_return"].discard(on_return)
    if returned:
        raise returned[0]
