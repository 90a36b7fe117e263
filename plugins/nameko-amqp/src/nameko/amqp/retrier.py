"""Carries out retries: publishes a message whose method raised to a queue where it waits, or to that of parked ones.

A message that is to be tried again is published to a queue of ours, `<queue>.retry.<milliseconds>`, where it waits
until the broker puts it back; only when the broker has confirmed it there, the one that failed is acknowledged. So
nothing is lost whenever this process dies, waiting takes no worker and no place among the prefetched messages, and no
message waits for another. After the last attempt it goes to `<queue>.dead` in the same way. The queue itself, which
nameko 2.14 may share, is declared as ever.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from enum import Enum, auto
from time import monotonic
from typing import TYPE_CHECKING, Any

from nameko import concurrency
from nameko.amqp._retry_wire import (
    DEAD_ERROR,
    Address,
    attempts_in,
    dead_headers,
    dead_queue,
    deadline_ms_in,
    republished_properties,
    retry_headers,
    wait_queue,
)
from nameko.amqp.errors import UndeliverableMessage
from nameko.amqp.messages import milliseconds_in
from nameko.amqp.retry import ExceptionClasses, Retry
from nameko.amqp.settings import DEFAULT_ATTEMPTS

if TYPE_CHECKING:
    from kombu import Queue

    from nameko.amqp.broker import Broker
    from nameko.amqp.messages import Message

__all__ = ["Address", "Outcome", "Retrier"]

_log = logging.getLogger(__name__)

# For so long a declared queue is taken to be there; a fraction of the time after which it expires.
_DECLARED_FOR_S = 3600.0
# When a message can be neither published again nor parked, it goes back to its queue after so many seconds.
_GIVE_BACK_AFTER_S = 5.0


class Outcome(Enum):
    """What has become of a message whose method raised."""

    #: It will be handled again. That settles it: leave it alone.
    AGAIN = auto()
    #: A copy of it is in the parking queue, and the message is the caller's to settle.
    PARKED = auto()
    #: It is none to be tried again after such an exception, and the caller's to settle.
    NOT_COVERED = auto()


class Retrier:
    """Carries out the `Retry` of one entrypoint.

    The broker's `counters` have the number of `messages_retried`, `messages_parked` and `messages_expired`, and of
    `retries_failed`: neither could be done, as the broker refused.

    :param broker: the container's
    :param retry: the declaration, completed
    :param queue: the name of the queue that messages come from
    :param address: where the broker puts messages so that they get back there; by default straight into the queue
    :param waits_as: the base of the names of the queues where they wait; one for each address. By default the queue
    :param parked_as: the base of the parking queue's name; by default the queue
    :param expected: the entrypoint's `expected_exceptions`
    :param who: what to call the entrypoint in the log
    """

    def __init__(
        self,
        broker: Broker,
        retry: Retry,
        queue: str,
        *,
        address: Address | None = None,
        waits_as: str | None = None,
        parked_as: str | None = None,
        expected: ExceptionClasses = (),
        who: str,
    ) -> None:
        self._broker = broker
        self._retry = retry
        self._queue = queue
        self._address = address or Address("", queue)
        self._waits_as = waits_as or queue
        self._dead_queue = dead_queue(parked_as or queue)
        self._expected = expected
        self._who = who
        self._declared_until: dict[str, float] = {}

    def prepare(self) -> None:
        """Declare the parking queue, so that what forbids it is known before there is a message to park.

        :raises ConfigurationError: when it exists with other properties
        """
        self._declare(self._dead_queue)

    def note_deadline(self, message: Message) -> None:
        """Note with the message until when it may be tried. Do so before its method runs."""
        deadline_ms = deadline_ms_in(message.headers)
        message.deadline_ms = _deadline_ms_of(message) if deadline_ms is None else deadline_ms

    def drop_if_overdue(self, message: Message) -> bool:
        """Acknowledge the message if it has expired while it waited to be tried again; whether it has."""
        overdue = _is_overdue(message)
        if overdue:
            self._broker.counters["messages_expired"] += 1
            _log.info("%s: a message has expired while it waited to be tried again", self._who)
            message.ack()
        return overdue

    def retry_or_park(self, message: Message, exc: BaseException) -> Outcome:
        """Have the message tried again later, or park it, now that its method has raised `exc`.

        :raises Exception: when the broker takes it neither for a further attempt nor to be parked
        """
        if not self._retry.covers(exc, self._expected):
            return Outcome.NOT_COVERED
        attempts = attempts_in(message.headers) + 1
        delay_ms = round(self._retry.delay_s(attempts) * 1000)
        if attempts >= (self._retry.attempts or DEFAULT_ATTEMPTS):
            self._park(message, exc, "attempts", attempts)
        elif _is_too_late(message, delay_ms):
            self._park(message, exc, "deadline", attempts)
        else:
            self._publish_again(message, attempts, delay_ms)
            return Outcome.AGAIN
        return Outcome.PARKED

    def retry_or_park_or_give_back(self, message: Message, exc: BaseException) -> Outcome:
        """Like `retry_or_park`, for a message that has nobody to answer to.

        When the broker does not take it, it goes back to its queue, after a pause, to be handled once more.
        """
        try:
            return self.retry_or_park(message, exc)
        except Exception as error:
            self.log_failure(error)
        # Kept unacknowledged meanwhile: whatever happens to this process, it returns to the queue.
        concurrency.schedule(_GIVE_BACK_AFTER_S, _give_back, message)
        return Outcome.AGAIN

    def log_failure(self, error: Exception) -> None:
        """Say and count that the broker has not taken a message."""
        self._broker.counters["retries_failed"] += 1
        _log.error("%s: a message can neither be tried again later nor be parked: %s", self._who, error)

    def _publish_again(self, message: Message, attempts: int, delay_ms: int) -> None:
        headers = retry_headers(message, attempts, message.deadline_ms)
        self._publish(message, wait_queue(self._waits_as, delay_ms, self._address), headers)
        self._broker.counters["messages_retried"] += 1
        _log.info(
            "%s: attempt %d of %s has failed, the next one is in %g s",
            self._who,
            attempts,
            self._retry.attempts,
            delay_ms / 1000,
        )
        message.ack()

    def _park(self, message: Message, exc: BaseException, reason: str, attempts: int) -> None:
        headers = dead_headers(message, exc, reason=reason, attempts=attempts, queue=self._queue, back_to=self._address)
        self._publish(message, self._dead_queue, headers)
        self._broker.counters["messages_parked"] += 1
        _log.error(
            "%s: a message is parked in queue %s after %d attempts: %s",
            self._who,
            self._dead_queue.name,
            attempts,
            headers[DEAD_ERROR],
        )

    def _publish(self, message: Message, queue: Queue, headers: Mapping[Any, Any]) -> None:
        properties = republished_properties(message, headers)
        try:
            self._declare(queue)
            self._broker.publish_raw(message.body, properties, exchange="", routing_key=queue.name, mandatory=True)
        except UndeliverableMessage:  # somebody has deleted the queue
            self._declared_until.clear()
            self._declare(queue)
            self._broker.publish_raw(message.body, properties, exchange="", routing_key=queue.name, mandatory=True)

    def _declare(self, queue: Queue) -> None:
        if self._declared_until.get(queue.name, 0) > monotonic():
            return
        self._broker.declare(queue)
        self._declared_until[queue.name] = monotonic() + _DECLARED_FOR_S


def _deadline_ms_of(message: Message) -> int | None:
    # How long it was in the queue before it arrived is not known, so this is the latest that it can be.
    expiration_ms = milliseconds_in(message.properties.get("expiration"))
    if expiration_ms is None:
        return None
    waited_s = time.perf_counter() - message.received_at
    return int((time.time() - waited_s) * 1000) + expiration_ms


def _is_overdue(message: Message) -> bool:
    deadline_ms = deadline_ms_in(message.headers)
    return deadline_ms is not None and deadline_ms <= time.time() * 1000


def _is_too_late(message: Message, delay_ms: int) -> bool:
    return message.deadline_ms is not None and time.time() * 1000 + delay_ms >= message.deadline_ms


def _give_back(message: Message) -> None:
    if not message.acknowledged:
        message.requeue()
