"""The dependency that tells a worker about the message which it runs for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nameko.amqp._retry_wire import attempts_in
from nameko.extensions import DependencyProvider

if TYPE_CHECKING:
    from nameko.amqp import Message
    from nameko.containers import WorkerContext


@dataclass(frozen=True)
class DeliveryInfo:
    """What came with a message besides its payload.

    :param redelivered: whether the broker may have delivered it before; where this is false, it has not
    :param attempt: 1 for the first time that the method runs for it, more after failures with `retry`
    :param message_id: the property of that name, which publishers may set
    :param correlation_id: the property of that name; that of a request is its call's alone
    :param headers: all of them, as they came
    :param is_lost: whether the connection that it came over is gone by now: another worker gets it as well, so what
        is done from here on may be done twice. A handler that burns CPU should `sleep(0)` before it asks.
    """

    redelivered: bool
    attempt: int
    message_id: str | None
    correlation_id: str | None
    headers: Mapping[str, Any]
    is_lost: Callable[[], bool] = field(default=lambda: False, repr=False, compare=False)


class Delivery(DependencyProvider):
    """Injects the `DeliveryInfo` of the request, event or message that a worker runs for; None for other workers."""

    def get_dependency(self, worker_ctx: WorkerContext) -> DeliveryInfo | None:
        """What came with the worker's message."""
        message: Message | None = worker_ctx.message
        if message is None:
            return None
        return DeliveryInfo(
            redelivered=message.redelivered,
            attempt=attempts_in(message.headers) + 1,
            message_id=message.properties.get("message_id"),
            correlation_id=message.properties.get("correlation_id"),
            headers=message.headers,
            is_lost=lambda: message.lost,
        )
