"""The dependency: dispatches events of the service that declares it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nameko.messaging import Publisher
from nameko.outgoing_calls import CallKind
from nameko.standalone.events import get_event_exchange

if TYPE_CHECKING:
    from nameko.containers import WorkerContext


class EventDispatcher(Publisher):
    """Injects `dispatch(event_type, event_data)`, which returns when the broker has the event.

    Nobody needs to listen: an event that no handler asks for is dropped by the broker.

    :param options: how to publish, as for `nameko.messaging.Publisher`: `serializer`, `expiration`, `priority`,
        `delivery_mode`, `headers`, ... Where an event goes is not an option.
    """

    _kind: CallKind = "event"

    def describe(self) -> Mapping[str, str]:
        """Where its events go."""
        return {"exchange": get_event_exchange(self.container.service_name, self.container.config).name}

    def setup(self) -> None:
        """Declare the service's event exchange."""
        self.exchange = get_event_exchange(self.container.service_name, self.container.config)
        super().setup()

    def get_dependency(self, worker_ctx: WorkerContext) -> Callable[[str, Any], None]:
        """The function to inject."""
        publish = super().get_dependency(worker_ctx)
        exchange = self.exchange

        def dispatch(event_type: str, event_data: Any) -> None:
            publish(event_data, exchange=exchange, routing_key=event_type)

        return dispatch


EventDispatcher.__module__ = "nameko.events"  # where users find it
