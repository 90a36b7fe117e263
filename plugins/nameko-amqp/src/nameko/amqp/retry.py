"""Retries: a message whose method raised is tried again later, and parked when that has not helped.

`Retry` is the declaration, for `@rpc`, `@event_handler` and `@consume`::

    @event_handler("shop", "sold", retry=Retry(attempts=5, backoff=Backoff(first_s=1, max_s=60)))
    def charge(self, order):
        ...

A message that is to be tried again is published to a queue of ours, `<queue>.retry.<milliseconds>`, where it waits
until the broker puts it back; only when the broker has confirmed it there, the one that failed is acknowledged. So
nothing is lost whenever this process dies, waiting takes no worker and no place among the prefetched messages, and no
message waits for another. After the last attempt it goes to `<queue>.dead` in the same way. The queue itself, which
nameko 2.14 may share, is declared as ever.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from nameko import concurrency
from nameko.amqp._retry_wire import (
    DEAD_ERROR,
    MAX_ATTEMPTS,
    MAX_DELAY_S,
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
from nameko.amqp.settings import DEFAULT_ATTEMPTS, DEFAULT_DELAY_S, DEFAULT_MAX_DELAY_S
from nameko.exceptions import ConfigurationError

if TYPE_CHECKING:
    from kombu import Queue

    from nameko.amqp.broker import Broker
    from nameko.amqp.messages import Message

__all__ = ["Address", "Backoff", "Retrier", "Retry"]

_log = logging.getLogger(__name__)

ATTEMPTS_CONFIG_KEY = "RETRY_ATTEMPTS"
DELAY_CONFIG_KEY = "RETRY_DELAY"
MAX_DELAY_CONFIG_KEY = "RETRY_MAX_DELAY"

_MAX_FACTOR = 100
# With the greatest factor, far beyond the longest delay and far within the range of a float.
_MAX_EXPONENT = 64

# For so long a declared queue is taken to be there; a fraction of the time after which it expires.
_DECLARED_FOR_S = 3600.0
# When a message can be neither published again nor parked, it goes back to its queue after so many seconds.
_GIVE_BACK_AFTER_S = 5.0

ExceptionClasses = type[BaseException] | tuple[type[BaseException], ...]


@dataclass(frozen=True)
class Backoff:
    """Delays that grow: `first_s`, `first_s * factor`, `first_s * factor**2`, ..., at most `max_s`; all in seconds.

    Every different delay has a queue of its own on the broker while it is in use, so keep them few.

    :raises ConfigurationError: when a number is out of range
    """

    first_s: float = DEFAULT_DELAY_S
    factor: float = 2.0
    max_s: float = DEFAULT_MAX_DELAY_S

    def __post_init__(self) -> None:
        """Check the numbers."""
        _check_delay("Backoff: first_s", self.first_s)
        _check_delay("Backoff: max_s", self.max_s)
        _check_number("Backoff: factor", self.factor, 1, _MAX_FACTOR)

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after so many failures, counted from 1."""
        return min(self.first_s * self.factor ** min(failures - 1, _MAX_EXPONENT), self.max_s)


@dataclass(frozen=True)
class Retry:
    """How to go about a message whose method raised.

    :param attempts: how many times the method runs for a message, the first time included; then the message is parked.
        By default the configuration's `RETRY_ATTEMPTS`
    :param backoff: seconds to wait before each further attempt: a number; a sequence of them, of which the last is
        repeated; or a `Backoff`. By default one from the configuration's `RETRY_DELAY` to its `RETRY_MAX_DELAY`
    :param on: the exceptions, a class or several of them, after which to try again. By default every `Exception` that
        is not among the entrypoint's `expected_exceptions`
    :raises ConfigurationError: when one of them cannot be
    """

    attempts: int | None = None
    backoff: Backoff | float | Sequence[float] | None = None
    on: type[BaseException] | Sequence[type[BaseException]] | None = None

    def __post_init__(self) -> None:
        """Check the declaration."""
        if self.attempts is not None:
            _check_attempts("Retry: attempts", self.attempts)
        for delay_s in _as_sequence(self.backoff):
            _check_delay("Retry: backoff", delay_s)
        if self.on is not None and not (
            _exceptions(self.on) and all(_is_exception_class(each) for each in _exceptions(self.on))
        ):
            raise ConfigurationError(f"Retry: on takes exception classes, not {self.on!r}.")

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after so many failures, counted from 1."""
        if isinstance(self.backoff, Backoff):
            return self.backoff.delay_s(failures)
        delays_s = _as_sequence(self.backoff)
        return delays_s[min(failures, len(delays_s)) - 1] if delays_s else Backoff().delay_s(failures)

    def covers(self, exc: BaseException, expected: ExceptionClasses) -> bool:
        """Whether to try again after `exc`.

        :param expected: the entrypoint's `expected_exceptions`
        """
        if self.on is None:
            return isinstance(exc, Exception) and not isinstance(exc, expected)
        return isinstance(exc, _exceptions(self.on))

    def completed(self, config: Mapping[str, Any]) -> Retry:
        """This declaration, with what it leaves open taken from the configuration.

        :raises ConfigurationError: when a key has an impossible value
        """
        attempts, backoff = self.attempts, self.backoff
        if attempts is None:
            attempts = config.get(ATTEMPTS_CONFIG_KEY, DEFAULT_ATTEMPTS)
            _check_attempts(ATTEMPTS_CONFIG_KEY, attempts)
        if backoff is None:
            first_s = config.get(DELAY_CONFIG_KEY, DEFAULT_DELAY_S)
            max_s = config.get(MAX_DELAY_CONFIG_KEY, DEFAULT_MAX_DELAY_S)
            _check_delay(DELAY_CONFIG_KEY, first_s)
            _check_delay(MAX_DELAY_CONFIG_KEY, max_s)
            backoff = Backoff(first_s, max_s=max_s)
        return Retry(attempts, backoff, self.on)


def check_declaration(retry: object, requeue_on_error: bool, declared_on: str) -> None:
    """Check the arguments of an entrypoint.

    :param declared_on: what to call the entrypoint
    :raises ConfigurationError: when `retry` is no `Retry`, or contradicts `requeue_on_error`
    """
    if retry is None:
        return
    if not isinstance(retry, Retry):
        raise ConfigurationError(f"{declared_on}: retry takes a nameko.amqp.Retry, not {retry!r}.")
    if requeue_on_error:
        raise ConfigurationError(
            f"{declared_on}: retry and requeue_on_error exclude each other; "
            "retry=Retry(on=BaseException) covers what requeue_on_error does."
        )


def _check_attempts(what: str, value: object) -> None:
    _check_number(what, value, 1, MAX_ATTEMPTS)
    if not isinstance(value, int):
        raise ConfigurationError(f"{what} must be a whole number, not {value!r}.")


def _check_delay(what: str, value: object) -> None:
    _check_number(what, value, 0, MAX_DELAY_S, " seconds")


def _check_number(what: str, value: object, least: float, most: float, unit: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ConfigurationError(f"{what} must be a number from {least} to {most}{unit}, not {value!r}.")


def _as_sequence(backoff: Backoff | float | Sequence[float] | None) -> Sequence[float]:
    if backoff is None or isinstance(backoff, Backoff):
        return ()
    if isinstance(backoff, Sequence) and not isinstance(backoff, str) and backoff:
        return backoff
    return (backoff,)  # type: ignore[return-value]  # anything else is refused where delays are checked


def _exceptions(classes: type[BaseException] | Sequence[type[BaseException]]) -> tuple[type[BaseException], ...]:
    return tuple(classes) if isinstance(classes, Sequence) else (classes,)


def _is_exception_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


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

    def is_overdue(self, message: Message) -> bool:
        """Whether the message has expired while it waited to be tried again.

        Of one that has not, note until when it is to be tried; so ask before its method runs.
        """
        deadline_ms = deadline_ms_in(message.headers)
        if deadline_ms is None:
            message.deadline_ms = _deadline_ms_of(message)
            return False
        message.deadline_ms = deadline_ms
        return deadline_ms <= time.time() * 1000

    def drop_overdue(self, message: Message) -> bool:
        """Acknowledge the message if it `is_overdue`; whether it was."""
        overdue = self.is_overdue(message)
        if overdue:
            self._broker.counters["messages_expired"] += 1
            _log.info("%s: a message has expired while it waited to be tried again", self._who)
            message.ack()
        return overdue

    def will_come_again(self, message: Message, exc: BaseException) -> bool:
        """Try the message again later, or park it, now that its method has raised `exc`.

        :returns: True when the message is settled, as it will come again; otherwise it is the caller's to settle. It is
            parked then, or it is none to be tried again
        :raises Exception: when the broker takes it neither for a further attempt nor to be parked
        """
        if not self._retry.covers(exc, self._expected):
            return False
        attempts = attempts_in(message.headers) + 1
        delay_ms = round(self._retry.delay_s(attempts) * 1000)
        if attempts >= (self._retry.attempts or DEFAULT_ATTEMPTS):
            self._park(message, exc, "attempts", attempts)
        elif _is_too_late(message, delay_ms):
            self._park(message, exc, "deadline", attempts)
        else:
            self._publish_again(message, attempts, delay_ms)
            return True
        return False

    def will_come_again_for_certain(self, message: Message, exc: BaseException) -> bool:
        """Like `will_come_again`, for a message that has nobody to answer to.

        When the broker does not take it, it goes back to its queue, after a pause, to be handled once more.
        """
        try:
            return self.will_come_again(message, exc)
        except Exception as error:
            self.log_failure(error)
        # Kept unacknowledged meanwhile: whatever happens to this process, it returns to the queue.
        concurrency.schedule(_GIVE_BACK_AFTER_S, _give_back, message)
        return True

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


def _is_too_late(message: Message, delay_ms: int) -> bool:
    return message.deadline_ms is not None and time.time() * 1000 + delay_ms >= message.deadline_ms


def _give_back(message: Message) -> None:
    if not message.acknowledged:
        message.requeue()
