"""The queue consumer of nameko 2.14, for extensions that register with one. Nothing of our own does."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import kombu

from nameko.amqp.broker import Broker, Message, Subscription
from nameko.amqp.publish import make_connection
from nameko.amqp.settings import IN_PROCESS_URI
from nameko.constants import (
    AMQP_SSL_CONFIG_KEY,
    AMQP_URI_CONFIG_KEY,
    LOGIN_METHOD_CONFIG_KEY,
    PREFETCH_COUNT_CONFIG_KEY,
    TRANSPORT_OPTIONS_CONFIG_KEY,
)
from nameko.extensions import ProviderCollector, SharedExtension

if TYPE_CHECKING:
    from kombu import Queue


class Provider(Protocol):
    """What registers with a `QueueConsumer`."""

    queue: Queue

    def handle_message(self, body: Any, message: Message) -> None:
        """Called with each message of the queue; is to have it acknowledged or requeued."""


class QueueConsumerStopped(Exception):
    """A provider was registered with a queue consumer that has stopped."""


class QueueConsumer(ProviderCollector, SharedExtension):
    """Consumes the queue of each provider that registers until `start()`, and hands it the messages.

    Declare one on an entrypoint, register that in its `setup()` and unregister it in its `stop()`. A provider has a
    `queue` and `handle_message(body, message)`, which settles the message through `ack_message` or `requeue_message`.
    In new extensions take `nameko.amqp.Broker`, which is beneath this.

    The `prefetch_count` of a subclass counts; connections are the broker's own.
    """

    broker = Broker()

    def __init__(self) -> None:
        super().__init__()
        self._subscriptions: dict[Provider, Subscription] = {}
        self._set_up = False
        self._stopped = False

    # -- what can be asked of it

    @property
    def amqp_uri(self) -> str:
        """The broker's URI."""
        return self.container.config.get(AMQP_URI_CONFIG_KEY) or IN_PROCESS_URI

    @property
    def prefetch_count(self) -> int:
        """How many messages to take from each queue ahead of their acknowledgements."""
        return self.container.config.get(PREFETCH_COUNT_CONFIG_KEY) or self.container.max_workers

    @property
    def accept(self) -> list[str]:
        """The names of the serializers that are accepted."""
        return self.container.accept

    @property
    def connection(self) -> kombu.Connection:
        """A connection to the broker, not opened yet, from `setup()` on: for whoever wants to look at it or clone it.

        :raises AttributeError: before, as binding looks at every property, when the URI has not been checked
        """
        if not self._set_up:
            raise AttributeError("connection")
        config = self.container.config
        return make_connection(
            self.amqp_uri,
            config.get(AMQP_SSL_CONFIG_KEY),
            config.get(LOGIN_METHOD_CONFIG_KEY),
            config.get(TRANSPORT_OPTIONS_CONFIG_KEY),
        )

    # -- life

    def setup(self) -> None:
        """Check the settings.

        :raises ConfigurationError: when they cannot work
        """
        _ = self.broker.settings
        self._set_up = True

    def register_provider(self, provider: Provider) -> None:
        """Consume the queue of `provider`, from `start()` on.

        :raises QueueConsumerStopped: when this has stopped
        """
        if self._stopped:
            raise QueueConsumerStopped(f"{self!r} has stopped: register {provider!r} in its setup()")
        super().register_provider(provider)

    def unregister_provider(self, provider: Provider) -> None:
        """Stop consuming the queue of `provider`. What it was given can still be settled."""
        subscription = self._subscriptions.get(provider)
        if subscription is not None:
            subscription.stop()
        super().unregister_provider(provider)

    def serves(self, provider: Provider) -> bool:
        """Whether `provider` is registered."""
        return provider in self._providers

    def start(self) -> None:
        """Consume.

        :raises ConfigurationError: when a queue exists with other properties
        """
        for provider in list(self._providers):
            self._subscriptions[provider] = self.broker.subscribe(
                provider.queue, partial(self._hand_over, provider), prefetch=overridden_prefetch(self)
            )

    def stop(self) -> None:
        """Wait for the providers to unregister."""
        super().stop()
        self._stopped = True

    def kill(self) -> None:
        """Consume no more, at once."""
        self._stopped = True
        for subscription in self._subscriptions.values():
            subscription.kill()

    # -- messages

    def _hand_over(self, provider: Provider, message: Message) -> None:
        provider.handle_message(message.decode(), message)

    def ack_message(self, message: Message) -> None:
        """The message is done with."""
        message.ack()

    def requeue_message(self, message: Message) -> None:
        """Give the message back to its queue."""
        message.requeue()


def overridden_prefetch(queue_consumer: QueueConsumer) -> int | None:
    """The `prefetch_count` of a subclass that has one of its own; otherwise None, for the broker's default."""
    overrides = type(queue_consumer).prefetch_count is not QueueConsumer.prefetch_count
    return queue_consumer.prefetch_count if overrides else None
