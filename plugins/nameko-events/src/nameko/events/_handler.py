"""The entrypoint: a queue on the exchange of another service, shared by those who are to share the work."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from kombu import Queue

from nameko.exceptions import ConfigurationError
from nameko.messaging import Consumer
from nameko.standalone.events import get_event_exchange

if TYPE_CHECKING:
    from nameko.amqp import Retry
    from nameko.containers import ServiceContainer

#: One instance of each service that handles the event gets it.
SERVICE_POOL: Final = "service_pool"
#: One instance of one service gets it, whatever services handle it.
SINGLETON: Final = "singleton"
#: Every instance of every service that handles it gets it.
BROADCAST: Final = "broadcast"

_HANDLER_TYPES = (SERVICE_POOL, SINGLETON, BROADCAST)

# AMQP 0-9-1 sends names as short strings: a length byte, then at most that many bytes.
_MAX_NAME_BYTES = 255


class EventHandlerConfigurationError(ConfigurationError):
    """An event handler is declared in a way that cannot work."""


class EventHandler(Consumer):
    """Runs the method with the payload of each event of a type, from one source service.

    :param source_service: the name of the service that dispatches
    :param event_type: the type of the event; `*` stands for one word between dots, `#` for any number of them
    :param handler_type: who gets an event: `SERVICE_POOL`, `SINGLETON` or `BROADCAST`
    :param reliable_delivery: keep events in the queue while no handler is running; otherwise the queue goes away
        with the last handler. A reliable `BROADCAST` needs a `broadcast_identifier` that stays the same over restarts
    :param requeue_on_error: try the event again when the method raises, after a delay that grows, and park it after
        the last attempt; otherwise, and without `retry`, it is done with
    :param retry: a `nameko.amqp.Retry`, which says how often and after what to try the event again
    :param kwargs: `expected_exceptions`, `sensitive_arguments`
    :raises EventHandlerConfigurationError: when the container is made, if these do not go together
    """

    def __init__(
        self,
        source_service: str,
        event_type: str,
        handler_type: str = SERVICE_POOL,
        reliable_delivery: bool = True,
        requeue_on_error: bool = False,
        retry: Retry | None = None,
        **kwargs: Any,
    ) -> None:
        self.source_service = source_service
        self.event_type = event_type
        self.handler_type = handler_type
        self.reliable_delivery = reliable_delivery
        super().__init__(queue=None, requeue_on_error=requeue_on_error, retry=retry, **kwargs)

    @property
    def broadcast_identifier(self) -> str | None:
        """What tells the queues of the instances of a `BROADCAST` handler apart; None for the other types.

        A fresh id at each access, which is why a reliable broadcast has to override it: the events that its queue
        has kept would never be asked for again. A host name or the number of a replica can serve.

        :raises EventHandlerConfigurationError: when the handler is a reliable broadcast and this is not overridden
        """
        if self.handler_type != BROADCAST:
            return None
        if self.reliable_delivery:
            raise EventHandlerConfigurationError(
                f"{self._declaration}: a broadcast with reliable delivery needs a queue that is found again after a "
                "restart: override `broadcast_identifier` in a subclass of EventHandler, or use "
                "reliable_delivery=False."
            )
        return uuid.uuid4().hex

    def bind(self, container: ServiceContainer, method_name: str) -> EventHandler:  # type: ignore[override]
        """A clone that belongs to `container` and runs its service's method `method_name`.

        :raises EventHandlerConfigurationError: when the declaration cannot work
        """
        bound: EventHandler = super().bind(container, method_name)
        bound._check_declaration()
        return bound

    def _check_declaration(self) -> None:
        for what, value in ("source_service", self.source_service), ("event_type", self.event_type):
            if not isinstance(value, str):
                raise EventHandlerConfigurationError(f"{self._declaration}: `{what}` must be a string.")
        if self.handler_type not in _HANDLER_TYPES:
            raise EventHandlerConfigurationError(
                f"{self._declaration}: handler type {self.handler_type!r} is not one of SERVICE_POOL, SINGLETON "
                "and BROADCAST."
            )
        name = self._queue_name()
        if len(name.encode()) > _MAX_NAME_BYTES:
            raise EventHandlerConfigurationError(
                f"{self._declaration}: the name of its queue, {name!r}, is longer than {_MAX_NAME_BYTES} bytes."
            )

    def describe(self) -> Mapping[str, str]:
        """Which events it handles, and the queue that they come from."""
        return {
            "listens_to": self.source_service,
            "event": self.event_type,
            "handler_type": self.handler_type,
            # The queue of an unreliable broadcast has another name after each start.
            "queue": f"{name}-*" if (name := self._parked_as()) else self._queue_name(),
            "exchange": get_event_exchange(self.source_service, self.container.config).name,
        }

    def setup(self) -> None:
        """Describe the queue; consuming from it starts with the container."""
        exclusive = self.handler_type == BROADCAST and not self.reliable_delivery
        self.queue = Queue(
            self._queue_name(),
            exchange=get_event_exchange(self.source_service, self.container.config),
            routing_key=self.event_type,
            durable=True,
            auto_delete=not self.reliable_delivery,
            exclusive=exclusive,
        )
        super().setup()

    def _queue_name(self) -> str:
        if self.handler_type == SINGLETON:
            return self._name_shared_by_all()
        if self.handler_type == SERVICE_POOL:
            return self._name_shared_by_service()
        return f"{self._name_shared_by_service()}-{self.broadcast_identifier}"

    def _name_shared_by_all(self) -> str:
        return f"evt-{self.source_service}-{self.event_type}"

    def _name_shared_by_service(self) -> str:
        return f"{self._name_shared_by_all()}--{self.container.service_name}.{self.method_name}"

    def _parked_as(self) -> str | None:
        # The queue of an unreliable broadcast has another name after each start, and would leave a parking queue each.
        if self.handler_type == BROADCAST and not self.reliable_delivery:
            return self._name_shared_by_service()
        return None

    @property
    def _declaration(self) -> str:
        return f"event_handler({self.source_service!r}, {self.event_type!r})"


# Where users find them, and what tracebacks and pickles should say.
EventHandler.__module__ = EventHandlerConfigurationError.__module__ = "nameko.events"

#: Decorates a method with an `EventHandler`: `@event_handler("source_service", "event_type")`.
event_handler = EventHandler.decorator
