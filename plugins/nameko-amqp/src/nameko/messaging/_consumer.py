"""The entrypoint: a method that runs for each message of a queue."""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from kombu import Queue
from kombu.exceptions import ContentDisallowed, DecodeError

from nameko.amqp.broker import Broker, Message, Subscription
from nameko.concurrency import schedule
from nameko.exceptions import ConfigurationError, ContainerBeingKilled
from nameko.extensions import Entrypoint
from nameko.messaging._backoff import Backoff
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
    :param requeue_on_error: give the message back to the queue when the method raises, after a delay that grows with
        each failure; otherwise it is done with
    :param prefetch_count: how many messages to take from the broker ahead of their acknowledgements; by default the
        configuration's `PREFETCH_COUNT`, or `max_workers`
    :param kwargs: `expected_exceptions`, `sensitive_arguments`
    """

    broker = Broker()
    queue_consumer = QueueConsumer()  # of nameko 2.14, for subclasses that use it

    def __init__(
        self,
        queue: Queue | None = None,
        requeue_on_error: bool = False,
        prefetch_count: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.queue = queue
        self.requeue_on_error = requeue_on_error
        self.prefetch_count = prefetch_count
        self._subscription: Subscription | None = None
        self._backoff = Backoff()
        self._held_back: dict[Message, Any] = {}  # with their timers
        self._stopped = False
        super().__init__(**kwargs)

    # -- life cycle

    def setup(self) -> None:
        """Check the declaration.

        :raises ConfigurationError: when there is no queue
        """
        if not isinstance(self.queue, Queue):
            raise ConfigurationError(f"{self!r}: `queue` must be a kombu.Queue, not {self.queue!r}.")

    def start(self) -> None:
        """Consume.

        :raises ConfigurationError: when the queue exists with other properties
        """
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
        for message in list(self._held_back):
            self._return(message)

    def kill(self) -> None:
        """Take no more messages, at once."""
        self._stopped = True
        for timer in self._held_back.values():
            timer.cancel()
        self._held_back.clear()
        if self._subscription is not None:
            self._subscription.kill()

    # -- a message

    def _receive(self, message: Message) -> None:
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
            )
        except ContainerBeingKilled:
            message.requeue()
        except Exception as exc:  # the service class cannot be instantiated: as if the method had raised
            _log.exception("%r: no worker could be made for a message: %s", self, exc)
            self.handle_message_processed(message, None, sys.exc_info())  # type: ignore[arg-type]

    def handle_result(
        self, message: Message, worker_ctx: WorkerContext, result: Any = None, exc_info: ExcInfo | None = None
    ) -> tuple[Any, ExcInfo | None]:
        """Called with the outcome of the method.

        :returns: the outcome that dependencies are to see
        """
        self.handle_message_processed(message, result, exc_info)
        return result, exc_info

    def handle_message_processed(self, message: Message, result: Any = None, exc_info: ExcInfo | None = None) -> None:
        """Settle the message: acknowledge it, or give it back."""
        if exc_info is not None and self.requeue_on_error:
            self._requeue_later(message)
            return
        self._backoff.forget(message)
        message.ack()

    def _requeue_later(self, message: Message) -> None:
        if self._stopped:
            message.requeue()
            return
        # Held here, unacknowledged: should this process die meanwhile, the broker gives it to somebody else.
        delay_s = self._backoff.delay_s(message)
        self._held_back[message] = schedule(delay_s, self._return, message)

    def _return(self, message: Message) -> None:
        timer = self._held_back.pop(message, None)
        if timer is not None:
            timer.cancel()
            message.requeue()
