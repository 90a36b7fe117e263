"""Publishing through a publisher that a subclass of `nameko.messaging.Publisher` brings along, as in nameko 2.14."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nameko.amqp.publish import Publisher, get_producer


class OwnPublisher:
    """Publishes through an instance of some subclass of `nameko.amqp.publish.Publisher`.

    :param publisher: the instance, with the options of its provider
    """

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def declare_all(self) -> None:
        """Declare the exchanges and queues that are to be there.

        :raises amqp.exceptions.PreconditionFailed: when one of them exists with other properties
        """
        publisher = self._publisher
        with get_producer(
            publisher.amqp_uri, publisher.use_confirms, publisher.ssl, publisher.login_method
        ) as producer:
            for entity in publisher.declare:
                entity(producer.channel).declare()

    def publish(self, payload: Any, headers: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        """Publish `payload`.

        :param headers: the worker's context data
        :param options: what the service gave with this message
        :raises: what the publisher does
        """
        self._publisher.publish(payload, **options, extra_headers=headers)
