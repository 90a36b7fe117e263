"""The dependency: a function that publishes to an exchange."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from kombu import Exchange, Queue

from nameko.amqp.broker import Broker
from nameko.amqp.publish import Publisher as KombuPublisher
from nameko.amqp.publish_options import IN_SECONDS, broker_arguments, check_seconds, exchange_name, unknown_options
from nameko.amqp.settings import IN_PROCESS_URI
from nameko.constants import AMQP_SSL_CONFIG_KEY, AMQP_URI_CONFIG_KEY, LOGIN_METHOD_CONFIG_KEY
from nameko.exceptions import ConfigurationError
from nameko.extensions import DependencyProvider
from nameko.messaging._headers import HeaderEncoder
from nameko.messaging._own_publisher import OwnPublisher
from nameko.outgoing_calls import CallKind, OutgoingCall

if TYPE_CHECKING:
    from nameko.containers import WorkerContext

_log = logging.getLogger(__name__)

Entity: TypeAlias = "Exchange | Queue"


class Publisher(HeaderEncoder, DependencyProvider):
    """Injects `publish(msg, **options)`, which returns when the broker has the message.

    The worker's context data travels in the message's headers. A message that the broker could not confirm because the
    connection was lost is sent again, until `timeout` seconds have passed.

    :param exchange: where to publish, unless a call says otherwise; the default exchange when not given
    :param queue: deprecated: its exchange is used, and it is declared
    :param declare: exchanges and queues to declare at start, besides `exchange`
    :param options: for each message, unless a call says otherwise: `routing_key`, `serializer`, `headers`, `priority`,
        `expiration` (seconds), `delivery_mode`, `mandatory`, `compression`, `timeout` (seconds), `correlation_id` and
        other properties of messages; and `use_confirms=False`: do not wait for the broker, failures are only logged
    """

    broker = Broker()

    _kind: CallKind = "message"

    #: As in nameko 2.14: a subclass that sets another one, or overrides `amqp_uri`, publishes through it.
    publisher_cls: type[KombuPublisher] = KombuPublisher

    def __init__(
        self,
        exchange: Exchange | None = None,
        queue: Queue | None = None,
        declare: Sequence[Entity] | None = None,
        **options: Any,
    ) -> None:
        self.exchange = exchange
        self.declare = list(declare or ())
        self.options = options
        if queue is not None:
            warnings.warn(
                "Publisher(queue=...) is deprecated: pass its exchange as `exchange`, and the queue in `declare`.",
                DeprecationWarning,
                stacklevel=2,
            )
            self.exchange = queue.exchange if exchange is None else exchange
            self.declare.append(queue)
        self._arguments: dict[str, Any] = {}
        self._own_publisher: OwnPublisher | None = None

    def describe(self) -> Mapping[str, str]:
        """Where it publishes, unless a call says otherwise."""
        return {"exchange": exchange_name(self.exchange)}

    @property
    def amqp_uri(self) -> str:
        """The broker to publish to: the container's, unless overridden."""
        return self.container.config.get(AMQP_URI_CONFIG_KEY) or IN_PROCESS_URI

    @property
    def serializer(self) -> str:
        """The name of the serializer, where the options say nothing: the container's, unless overridden."""
        return self.container.serializer

    def setup(self) -> None:
        """Declare the exchange and what else is to be there.

        :raises ConfigurationError: when one of them exists with other properties, or an option cannot work
        """
        if self._has_own_publisher():
            self._own_publisher = self._make_own_publisher()
            self._own_publisher.declare_all()
            return
        where = f"{self.container.service_name}.{self.attr_name}"
        if unknown := unknown_options(self.options):
            raise ConfigurationError(f"{where}: {type(self).__name__} has no option {unknown}.")
        check_seconds(where, self.options, IN_SECONDS)
        self._arguments = {"routing_key": "", "serializer": self.serializer, **broker_arguments(self.options)}
        self.broker.declare(*self._entities())

    def _entities(self) -> list[Entity]:
        exchange = self.exchange
        return [exchange, *self.declare] if isinstance(exchange, Exchange) else self.declare

    def _has_own_publisher(self) -> bool:
        cls = type(self)
        return cls.publisher_cls is not KombuPublisher or cls.amqp_uri is not Publisher.amqp_uri

    def _make_own_publisher(self) -> OwnPublisher:
        config = self.container.config
        publisher = self.publisher_cls(
            self.amqp_uri,
            declare=self._entities(),
            ssl=config.get(AMQP_SSL_CONFIG_KEY),
            login_method=config.get(LOGIN_METHOD_CONFIG_KEY),
            **{"serializer": self.serializer, "exchange": self.exchange, **self.options},
        )
        return OwnPublisher(publisher)

    def get_dependency(self, worker_ctx: WorkerContext) -> Callable[..., None]:
        """The function to inject."""

        def publish(msg: Any, **options: Any) -> None:
            """Publish `msg`.

            :param options: as for the `Publisher`, and `exchange`; `headers` are merged, `declare` is added: those
                256 exchanges and queues that were named last are also declared again after a reconnect
            :raises TypeError: when an option is unknown
            :raises UndeliverableMessage: when it is `mandatory` and no queue gets it
            :raises MessageRefused: when a queue that it goes to is at its limit and refuses it; others may have got it
            :raises PublishTimeout: when the broker has not confirmed it in time; it may have arrived
            :raises kombu.exceptions.EncodeError: when it cannot be serialized
            :raises amqp.exceptions.NotFound: when there is no such exchange
            """
            self._publish(worker_ctx, msg, options)

        return publish

    def _publish(self, worker_ctx: WorkerContext, msg: Any, options: dict[str, Any]) -> None:
        observers = self.container.observers
        headers = self.get_message_headers(worker_ctx)
        if not observers.observe_calls:
            self._send(msg, options, headers)
            return
        routing_key = {"routing_key": "", **self.options, **options}["routing_key"]
        exchange = exchange_name(self._exchange_for(options))
        config = self.container.config
        with OutgoingCall(observers, self._kind, exchange, routing_key, worker_ctx, config) as call:
            self._send(msg, options, {**headers, **call.added_headers()})

    def _send(self, msg: Any, options: dict[str, Any], own_headers: Mapping[str, Any]) -> None:
        if self._own_publisher is not None:
            self._own_publisher.publish(msg, own_headers, options)
            return
        if unknown := unknown_options(options):
            raise TypeError(f"publish() has no option {unknown}")
        if options.get("declare"):
            self.broker.declare_for_message(*options["declare"])
        arguments = self._arguments_for(options)
        arguments["headers"] = self._merged_headers(options.get("headers"), own_headers)
        if options.get("use_confirms", self.options.get("use_confirms")) is False:
            self.broker.publish_nowait(msg, on_done=_LogFailure(arguments), **arguments)
        else:
            self.broker.publish(msg, **arguments)

    def _arguments_for(self, options: Mapping[str, Any]) -> dict[str, Any]:
        exchange = self._exchange_for(options)
        arguments = {**self._arguments, **broker_arguments(options), "exchange": exchange_name(exchange)}
        mode_of_exchange = getattr(exchange, "delivery_mode", None)
        if mode_of_exchange is not None:
            arguments.setdefault("delivery_mode", mode_of_exchange)
        return arguments

    def _merged_headers(self, given: Mapping[str, Any] | None, own: Mapping[str, Any]) -> Mapping[str, Any]:
        defaults = self.options.get("headers")
        return {**(defaults or {}), **(given or {}), **own} if defaults or given else own

    def _exchange_for(self, options: Mapping[str, Any]) -> Exchange | str | None:
        exchange: Exchange | str | None = options.get("exchange")
        return self.exchange if exchange is None else exchange  # an empty name is the default exchange


class _LogFailure:
    # The outcome of a message that nobody waits for.

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._place = f"exchange `{arguments['exchange']}` with routing key `{arguments['routing_key']}`"

    def __call__(self, error: BaseException | None) -> None:
        if error is not None:
            _log.error("a message to %s was not published: %s", self._place, error)
