"""What can be seen of a broker from outside, in the terms of RabbitMQ's management API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nameko.amqp.memory._exchanges import Binding
    from nameko.amqp.memory._queues import MessageQueue


@dataclass(frozen=True)
class QueueInfo:
    """The state of a queue at one moment."""

    name: str
    durable: bool
    auto_delete: bool
    exclusive: bool
    arguments: Mapping[str, Any]
    messages_ready: int
    messages_unacknowledged: int
    consumers: int

    @property
    def messages(self) -> int:
        """All messages, those with consumers included."""
        return self.messages_ready + self.messages_unacknowledged

    @classmethod
    def of(cls, queue: MessageQueue) -> QueueInfo:
        """The state of `queue` now."""
        return cls(
            name=queue.name,
            durable=queue.durable,
            auto_delete=queue.auto_delete,
            exclusive=queue.owner is not None,
            arguments=dict(queue.arguments),
            messages_ready=len(queue),
            messages_unacknowledged=queue.unacknowledged,
            consumers=len(queue.consumers),
        )


@dataclass(frozen=True)
class BindingInfo:
    """A binding: from which exchange, to which queue or exchange, with which routing key."""

    source: str
    destination: str
    routing_key: str
    arguments: Mapping[str, Any]

    @classmethod
    def of(cls, binding: Binding) -> BindingInfo:
        """The names of `binding`."""
        return cls(binding.source.name, binding.destination.name, binding.routing_key, dict(binding.arguments))
