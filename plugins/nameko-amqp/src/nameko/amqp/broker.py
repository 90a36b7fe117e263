"""The broker, as the extensions of a container see it: publish, declare, subscribe."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

import kombu

import amqp
from amqp.exceptions import AMQPError, ChannelError
from nameko import concurrency
from nameko.amqp import wire
from nameko.amqp._declared import Entity
from nameko.amqp._stats import broker_stats
from nameko.amqp.consuming import Subscription
from nameko.amqp.errors import BrokerRefused
from nameko.amqp.hub_watch import STALL_S, watches
from nameko.amqp.messages import Message
from nameko.amqp.publication import Callback, Confirmation, Publication
from nameko.amqp.publish_options import PublishOptions
from nameko.amqp.publishing import ConfirmingPublisher
from nameko.amqp.registry import Lease, registry
from nameko.amqp.serializers import Codecs
from nameko.amqp.settings import AmqpSettings
from nameko.concurrency import SpawningProxy
from nameko.constants import PERSISTENT, PREFETCH_COUNT_CONFIG_KEY
from nameko.exceptions import ConfigurationError
from nameko.extensions import SharedExtension
from nameko.plugins import Stat

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Broker", "Message", "Publication", "Subscription"]

_log = logging.getLogger(__name__)

# Seconds that a stopping container gives what it has published without waiting, replies above all.
_FLUSH_TIMEOUT_S = 1.5
# Seconds to wait for the end of a greenthread that has been told to end.
_JOIN_TIMEOUT_S = 1.0
# Seconds between attempts to declare.
_RETRY_S = 0.1
# Of the operating system's thread: a monkey-patched `get_ident` tells greenthreads apart instead.
_thread_id: Callable[[], int] = concurrency.original("threading").get_ident


class Broker(SharedExtension):
    """Declare it on an extension that talks AMQP: `broker = Broker()`. A container has one.

    Its two connections are shared by all containers of the process that use the same broker, and are made by the
    first one. Every method works from `setup()` on, in any order.
    """

    def __init__(self) -> None:
        self._settings: AmqpSettings | None = None
        self._codecs: Codecs | None = None
        self._publish_lease: Lease | None = None
        self._consume_lease: Lease | None = None
        self._publisher: ConfirmingPublisher | None = None
        self._thread_id: int | None = None  # whose greenthreads the connections belong to
        self._subscriptions: list[Subscription] = []
        self._finishing: set[Any] = set()  # greenthreads that a stop waits for
        self._stopped = False
        #: Of what there was how much: `messages_rejected`, and what other extensions count.
        self.counters: Counter[str] = Counter()

    # -- life cycle

    @property
    def settings(self) -> AmqpSettings:
        """The broker's, from the container's configuration.

        :raises ConfigurationError: when that cannot work
        """
        if self._settings is None:
            self._settings = AmqpSettings.from_config(self.container.config)
        return self._settings

    @property
    def codecs(self) -> Codecs:
        """What the container sends and accepts.

        :raises ConfigurationError: when the configuration names an unknown serializer
        """
        if self._codecs is None:
            self._codecs = Codecs.from_config(self.container.config, self.settings)
        return self._codecs

    def setup(self) -> None:
        """Connect.

        :raises BrokerUnreachable: when there is no connection within `START_TIMEOUT`
        :raises BrokerRefused: when the broker refuses
        :raises ConfigurationError: when the configuration cannot work
        """
        _ = self.codecs
        deadline = monotonic() + self.settings.start_timeout_s
        try:
            for lease in (self._publishing(), self._consuming()):
                lease.connection.wait_connected(deadline - monotonic())
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Give back subscriptions and connections.

        What is published without waiting gets a moment to be confirmed before that: a reply that is confirmed settles
        its request, as long as there is a channel to do so.
        """
        if self._stopped:
            return
        self._stopped = True
        try:
            SpawningProxy(self._subscriptions).stop()
            self._finish_publishing(monotonic() + _FLUSH_TIMEOUT_S)
            SpawningProxy(self._subscriptions).close()
            SpawningProxy(self._subscriptions).join(_JOIN_TIMEOUT_S)
        except BaseException:  # given up, as it takes too long
            self._abandon()
            raise
        self._release(orderly=True)

    def _finish_publishing(self, deadline: float) -> None:
        if self._publisher is not None and self._publisher.flush(deadline - monotonic()):
            concurrency.wait_all(self._finishing, max(deadline - monotonic(), 0))

    def spawn_finishing(self, fn: Callable[..., None], *args: Any) -> None:
        """Run `fn(*args)` in a greenthread that publishes something further.

        `stop()` waits a moment for its end, as for what is published without waiting. Then it is killed.
        """
        thread = concurrency.spawn_task(fn, *args)
        self._finishing.add(thread)
        thread.link(self._finishing.discard)

    def kill(self) -> None:
        """Give everything back at once."""
        if self._stopped:
            return
        self._stopped = True
        self._abandon()

    def _abandon(self) -> None:
        for subscription in self._subscriptions:
            subscription.kill()
        self._release(orderly=False)

    def _release(self, orderly: bool) -> None:
        SpawningProxy(self._finishing).kill()
        if self._publisher is not None:
            self._publisher.close()
            self._publisher = None
        leases = [lease for lease in (self._consume_lease, self._publish_lease) if lease is not None]
        self._consume_lease = self._publish_lease = None
        SpawningProxy(leases).give_back(orderly)

    def check_thread(self) -> None:
        """Check that this is the native thread of the container, whose hub its connections belong to.

        :raises RuntimeError: when it is another one, which would wait for ever
        """
        if _thread_id() == self._thread_id:
            return
        if self._thread_id is not None:
            raise RuntimeError(
                f"{self.container.service_name}: messages cannot be sent or received from another native thread than "
                "the service's own; do so before or after `run_in_native_thread`, or use a standalone client there"
            )
        self._thread_id = _thread_id()

    # Methods, since binding looks at every property.

    def _publishing(self) -> Lease:
        self.check_thread()
        if self._publish_lease is None:
            self._refuse_when_stopped()
            self._publish_lease = registry.lease(self.settings, "publish")
            self._publisher = ConfirmingPublisher(self._publish_lease.connection)
        return self._publish_lease

    def _consuming(self) -> Lease:
        self.check_thread()
        if self._consume_lease is None:
            self._refuse_when_stopped()
            self._consume_lease = registry.lease(self.settings, "consume")
        return self._consume_lease

    def _refuse_when_stopped(self) -> None:
        if self._stopped:
            raise RuntimeError(f"{self.container.service_name} has stopped: its connections to the broker are closed")

    def not_ready_reasons(self) -> list[str]:
        """Why messages cannot be sent or received right now, one line each; empty when they can."""
        idle = [each for each in self._subscriptions if not each.consuming and not each.closed]
        reasons = [f"{each.name} is not consumed" for each in idle]
        for lease in (self._publish_lease, self._consume_lease):
            if lease is not None:
                reasons += lease.connection.not_ready_reasons()
        lag_s = watches.current().lag_s
        if lag_s >= STALL_S:
            reasons.append(f"greenthreads had to wait {lag_s:.1f} s for their turn")
        return reasons

    def stats(self) -> list[Stat]:
        """The numbers of the broker, as the hook `nameko_stats` gives them."""
        leases = [lease for lease in (self._publish_lease, self._consume_lease) if lease is not None]
        waiting = sum(each.waiting for each in self._subscriptions)
        return broker_stats([lease.connection for lease in leases], self.counters, waiting)

    # -- publishing

    def publish(self, payload: Any, *, exchange: str, routing_key: str, **options: Unpack[PublishOptions]) -> None:
        """Send a message; returns when the broker has confirmed it.

        Any number of greenthreads may publish at once; none waits for another. When the connection is lost before the
        confirm, the message is sent again over the next one: it arrives at least once.

        :param payload: what the serializer can serialize; bytes or str when `content_type` is among the options
        :param options: see `PublishOptions`
        :raises UndeliverableMessage: when it is mandatory and no queue gets it
        :raises MessageRefused: when a queue that it goes to is at its limit and refuses it; others may have got it
        :raises PublishTimeout: when there is no confirm in time; it may have arrived, or still arrive
        :raises kombu.exceptions.EncodeError: when it cannot be serialized or is too big; nothing was sent
        :raises amqp.exceptions.NotFound: when there is no such exchange
        :raises amqp.exceptions.FrameSyntaxError, ValueError: when a name or a property is nothing that AMQP can send,
            or headers and properties are too big
        :raises RuntimeError: in another native thread than the container's
        """
        confirmation = Confirmation()
        publication = self.publish_nowait(
            payload, exchange=exchange, routing_key=routing_key, on_done=confirmation, **options
        )
        _wait(confirmation, publication)

    def publish_nowait(
        self,
        payload: Any,
        *,
        exchange: str,
        routing_key: str,
        on_done: Callback,
        serializer: str | None = None,
        mandatory: bool = False,
        headers: Mapping[str, Any] | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        expiration_s: float | None = None,
        priority: int = 0,
        delivery_mode: int = PERSISTENT,
        compression: str | None = None,
        timeout_s: float | None = None,
        **properties: Any,
    ) -> Publication:
        """Send a message without waiting. Parameters as for `publish`.

        :param on_done: called once, from the connection's greenthread, with None when the broker has confirmed the
            message, else with the exception that `publish` would raise; must not block
        :returns: the publication, which can be cancelled
        :raises kombu.exceptions.EncodeError: when it cannot be serialized or is too big; nothing was sent
        """
        body = self._encode(payload, serializer, properties)
        if compression is not None:
            body, name = self.codecs.compress(body, compression)
            headers = {**(headers or {}), "compression": name}
        properties["application_headers"] = dict(headers) if headers else {}
        properties["delivery_mode"] = delivery_mode
        properties["priority"] = priority
        if correlation_id is not None:
            properties["correlation_id"] = correlation_id
        if reply_to is not None:
            properties["reply_to"] = reply_to
        now, expires_at = monotonic(), None
        if expiration_s is not None:
            properties["expiration"] = str(max(int(expiration_s * 1000), 0))  # milliseconds, as a string
            expires_at = now + expiration_s
        deadline = now + (self.settings.publish_timeout_s if timeout_s is None else timeout_s)
        message = self._prepare(body, properties)
        publication = Publication(message, exchange, routing_key, mandatory, deadline, on_done, expires_at)
        self._require_publisher().submit(publication)
        return publication

    def publish_raw(
        self,
        body: bytes,
        properties: Mapping[str, Any],
        *,
        exchange: str,
        routing_key: str,
        mandatory: bool = False,
    ) -> None:
        """Send what another message consists of; returns when the broker has confirmed it.

        :param body: encoded, and compressed if the headers say so
        :param properties: by their names in AMQP; headers are `application_headers`
        :raises: what `publish` raises
        """
        self.codecs.check_size(body)
        deadline = monotonic() + self.settings.publish_timeout_s
        confirmation = Confirmation()
        message = self._prepare(body, properties)
        publication = Publication(message, exchange, routing_key, mandatory, deadline, confirmation)
        self._require_publisher().submit(publication)
        _wait(confirmation, publication)

    def _encode(self, payload: Any, serializer: str | None, properties: dict[str, Any]) -> bytes:
        if properties.get("content_type") is not None:  # encoded by the caller
            if isinstance(payload, str):
                properties["content_encoding"] = properties.get("content_encoding") or "utf-8"
            return self.codecs.encoded_body(payload, properties["content_type"], properties.get("content_encoding"))
        properties["content_type"], properties["content_encoding"], body = self.codecs.encode(payload, serializer)
        return body

    def _prepare(self, body: bytes, properties: Mapping[str, Any]) -> Any:
        if self.settings.in_process:
            return amqp.Message(body, **properties)
        return wire.OutboundMessage(body, properties)

    def _require_publisher(self) -> ConfirmingPublisher:
        if self._publisher is None or _thread_id() != self._thread_id:
            self._publishing()
        return self._publisher  # type: ignore[return-value]

    # -- declaring and subscribing

    def declare(self, *entities: Entity) -> None:
        """Declare exchanges and queues, with what they are bound to: now, and again after each reconnect.

        :raises ConfigurationError: when one exists with other properties, or is not to be declared by this user
        :raises amqp.exceptions.ChannelError: when the broker refuses otherwise
        :raises BrokerUnreachable: when there is no connection within `START_TIMEOUT`
        """
        self._declare(entities, passing=False)

    def declare_for_message(self, *entities: Entity) -> None:
        """Declare what a message needs that is about to be published, unless that is known to have been done.

        The 256 entities that were named last are remembered: not declared by the next message, but again after a
        reconnect. What has to be there for as long as the service runs is for `declare`.

        :raises: what `declare` raises
        """
        declared = self._require_publisher().declared
        new = [entity for entity in entities if not declared.knows(entity)]
        if new:
            self._declare(new, passing=True)

    def _declare(self, entities: Sequence[Entity], passing: bool) -> None:
        publisher = self._require_publisher()
        deadline = monotonic() + self.settings.start_timeout_s
        while True:
            self._publishing().connection.wait_connected(deadline - monotonic())
            try:
                publisher.declare(entities, passing)
            except (ChannelError, BrokerRefused):
                raise
            except (AMQPError, OSError):  # lost meanwhile, or no answer
                if monotonic() > deadline:
                    raise
                concurrency.sleep(_RETRY_S)
            else:
                return

    def subscribe(
        self,
        queue: kombu.Queue,
        on_message: Callable[[Message], None],
        *,
        prefetch: int | None = None,
        inline: bool = False,
        name: str | None = None,
        on_lost: Callable[[Exception], None] | None = None,
    ) -> Subscription:
        """Consume `queue`, on a channel of its own; returns when the broker has agreed.

        The queue, its exchange and its bindings are declared, now and again after each reconnect and when the queue
        was deleted.

        :param on_message: called with each message. It runs in the subscription's own greenthread, one message after
            the other, and may block; when it raises, the message is rejected (requeued for `ContainerBeingKilled`)
        :param prefetch: how many messages the broker sends ahead of their acknowledgements; by default
            `PREFETCH_COUNT`, or `max_workers`
        :param inline: run `on_message` in the connection's greenthread instead; it must not block
        :param name: what to call it in the log
        :param on_lost: called with the error when the queue was deleted or cannot be consumed again; must not block
        :raises ConfigurationError: when the queue exists with other properties
        :raises BrokerUnreachable: when there is no connection within `START_TIMEOUT`
        """
        subscription = Subscription(
            self._consuming().connection,
            queue,
            on_message,
            self.codecs,
            prefetch=self._prefetch if prefetch is None else prefetch,
            inline=inline,
            name=name,
            on_lost=on_lost,
            count=self._count,
        )
        subscription.start(self.settings.start_timeout_s)
        if self._stopped:  # meanwhile
            subscription.kill()
            self._refuse_when_stopped()
        self._subscriptions = [*(each for each in self._subscriptions if not each.closed), subscription]
        if not inline:
            self.container.spawn_managed_thread(subscription.run, identifier=subscription.name)
        return subscription

    @property
    def _prefetch(self) -> int:
        value = self.container.config.get(PREFETCH_COUNT_CONFIG_KEY)
        if value is None:
            return self.container.max_workers
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= 65535:
            raise ConfigurationError(f"{PREFETCH_COUNT_CONFIG_KEY} must be a number from 1 to 65535, not {value!r}.")
        return value

    def _count(self, name: str) -> None:
        self.counters[name] += 1


def _wait(confirmation: Confirmation, publication: Publication) -> None:
    try:
        confirmation.wait()
    except BaseException:
        publication.cancel()  # killed, or struck by a timeout, while waiting
        raise
