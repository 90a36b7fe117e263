"""The entrypoint: a method that runs for each message of a queue."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from kombu import Queue
from kombu.exceptions import ContentDisallowed, DecodeError

from nameko.amqp._retry_wire import restore_origin
from nameko.amqp.broker import Broker, Message, Subscription
from nameko.amqp.publish_options import exchange_name
from nameko.amqp.retrier import Outcome, Retrier
from nameko.amqp.retry import Retry, check_declaration
from nameko.concurrency import GreenletExit
from nameko.exceptions import ConfigurationError, ContainerBeingKilled
from nameko.extensions import Entrypoint
from nameko.messaging._headers import HeaderDecoder
from nameko.messaging._queue_consumer import QueueConsumer, overridden_prefetch

if TYPE_CHECKING:
    from nameko.containers import WorkerContext
    from nameko.extensions import ExcInfo

_log = logging.getLogger(__name__)


class Consumer(HeaderDecoder, Entrypoint):
    """Runs the method with the decoded body of each message of a queue.

    A message is acknowledged when the worker is done, whatever the outcome, so the broker delivers it again when this
    process dies before. A message that cannot be decoded is rejected and logged.

    :param queue: declared at start, with its exchange and bindings. A subclass may set it in `setup()`
    :param requeue_on_error: try the message again when the method raises, whatever it raises, as `Retry` does by
        default: after a delay that grows with each failure, and parked after the last attempt. Otherwise, and without
        `retry`, it is done with
    :param retry: a `Retry`, which says how often and after what to try the message again
    :param prefetch_count: how many messages to take from the broker ahead of their acknowledgements; by default the
        configuration's `PREFETCH_COUNT`, or `max_workers`
    :param kwargs: `expected_exceptions`, `sensitive_arguments`
    """

    broker = Broker()
    queue_consumer = QueueConsumer()  # of nameko 2.14, for subclasses that use it

    _stopped = False

    def __init__(
        self,
        queue: Queue | None = None,
        requeue_on_error: bool = False,
        prefetch_count: int | None = None,
        retry: Retry | None = None,
        **kwargs: Any,
    ) -> None:
        check_declaration(retry, requeue_on_error, type(self).__name__)
        self.queue = queue
        self.requeue_on_error = requeue_on_error
        self.prefetch_count = prefetch_count
        self.retry = retry
        self._subscription: Subscription | None = None
        self._retrier: Retrier | None = None
        super().__init__(**kwargs)

    def describe(self) -> Mapping[str, str]:
        """Where its messages come from, when that is part of the declaration."""
        if not isinstance(self.queue, Queue):
            return {}
        return {
            "queue": self.queue.name,
            "exchange": exchange_name(self.queue.exchange),
            "routing_key": self.queue.routing_key or "",
        }

    # -- life cycle

    def setup(self) -> None:
        """Check the declaration, and declare the parking queue of one with `retry`.

        :raises ConfigurationError: when there is no queue, or the configuration of retries cannot work
        """
        if not isinstance(self.queue, Queue):
            raise ConfigurationError(f"{self!r}: `queue` must be a kombu.Queue, not {self.queue!r}.")
        retry = Retry(on=BaseException) if self.requeue_on_error else self.retry
        if retry is None:
            return
        self._retrier = Retrier(
            self.broker,
            retry.completed(self.container.config),
            self.queue.name,
            parked_as=self._parked_as(),
            expected=self.expected_exceptions,
            who=f"{self.container.service_name}.{self.method_name}",
        )
        if self.retry is not None:  # nameko 2.14 has the other one: it must not need permission to make a queue
            self._retrier.prepare()

    def _parked_as(self) -> str | None:
        """The base of the parking queue's name; None for the name of the queue."""
        return None

    def start(self) -> None:
        """Consume.

        :raises ConfigurationError: when the queue exists with other properties
        """
        if self.queue_consumer.serves(self):  # a subclass with a setup() of the old kind
            return
        queue = self.queue
        assert queue is not None  # see setup()
        name = f"queue {queue.name}, for {self.method_name}()"
        prefetch = overridden_prefetch(self.queue_consumer) if self.prefetch_count is None else self.prefetch_count
        self._subscription = self.broker.subscribe(queue, self._receive, prefetch=prefetch, name=name)

    def stop(self) -> None:
        """Take no more messages. Those that are not with a worker yet go back to the queue."""
        self._stopped = True
        if self._subscription is not None:
            self._subscription.stop()
        self.queue_consumer.unregister_provider(self)

    def kill(self) -> None:
        """Take no more messages, at once."""
        if self._subscription is not None:
            self._subscription.kill()

    # -- a message

    def _receive(self, message: Message) -> None:
        restore_origin(message)
        if self._retrier is not None:
            self._retrier.note_deadline(message)
            if self._retrier.drop_if_overdue(message):
                return
        try:
            body = message.decode()
        except (ContentDisallowed, DecodeError) as exc:
            self.broker.counters["messages_rejected"] += 1
            _log.error("%r: a message is rejected, as it cannot be decoded: %s", self, exc)
            message.reject()
            return
        self.handle_message(body, message)

    def handle_message(self, body: Any, message: Message) -> None:
        """Run a worker for a message. Blocks while all workers are busy.

        :param body: the decoded body
        """
        try:
            self.container.spawn_worker(
                self,
                (body,),
                {},
                context_data=self.unpack_message_headers(message),
                handle_result=partial(self.handle_result, message),
                fired_at=message.received_at,
                headers=message.headers,
                message=message,
                still_wanted=self._requeue_if_stopped,
            )
        except ContainerBeingKilled:
            message.requeue()
        except GreenletExit:
            raise
        except BaseException as exc:  # of a container class that is not ours: as if the method had raised
            _log.exception("%r: no worker could be made for a message: %s", self, exc)
            self.handle_message_processed(message, None, sys.exc_info())  # type: ignore[arg-type]

    def _requeue_if_stopped(self, worker_ctx: WorkerContext) -> bool:
        """Give the message back when there was no worker for it before the stop; whether it is still wanted."""
        if self._stopped:
            worker_ctx.message.requeue()
        return not self._stopped

    def handle_result(
        self, message: Message, worker_ctx: WorkerContext, result: Any = None, exc_info: ExcInfo | None = None
    ) -> tuple[Any, ExcInfo | None]:
        """Called with the outcome of the method.

        :returns: the outcome that dependencies are to see
        """
        self.handle_message_processed(message, result, exc_info)
        return result, exc_info

    def handle_message_processed(self, message: Message, result: Any = None, exc_info: ExcInfo | None = None) -> None:
        """Settle the message: acknowledge it, or see to it that it is tried again or parked."""
        outcome = None
        if exc_info is not None and self._retrier is not None:
            outcome = self._retrier.retry_or_park_or_give_back(message, exc_info[1])
        if outcome is not Outcome.AGAIN:
            message.ack()
