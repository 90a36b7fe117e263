"""The serving side: takes requests from the service's queue, finds the entrypoint, and sends replies."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable
from functools import partial
from logging import getLogger
from time import monotonic
from typing import TYPE_CHECKING, Any

from amqp.exceptions import AMQPError

from nameko import concurrency
from nameko.amqp import Broker, MessageTooLarge, PublishTimeout, UndeliverableMessage
from nameko.amqp.retrier import Address, Retrier
from nameko.exceptions import (
    BadRequest,
    ContainerBeingKilled,
    MalformedRequest,
    MethodNotFound,
    UnserializableValueError,
)
from nameko.extensions import SharedExtension
from nameko.messaging import QueueConsumer
from nameko.rpc._options import DEFAULT_RPC_TIMEOUT_S, RPC_TIMEOUT_CONFIG_KEY, checked_timeout
from nameko.rpc._topology import get_rpc_exchange, request_queue
from nameko.rpc._wire import Refused, check_answerable, check_is_no_reply, error_body, result_body

if TYPE_CHECKING:
    from nameko.amqp import Message, Retry
    from nameko.extensions import ExcInfo
    from nameko.rpc._entrypoint import Rpc

_log = getLogger(__name__)

EXPOSE_ERRORS_CONFIG_KEY = "EXPOSE_ERRORS"

# A reply can find no queue although its caller is alive: on RabbitMQ 4 a binding that was just made becomes visible on
# other nodes with a delay. So it is tried once more, this many seconds later.
_UNDELIVERABLE_RETRY_S = 0.2
# No longer than this for a reply to be sent, whatever its request says.
_MAX_REPLY_TIMEOUT_S = 86400.0
# So many callers that are gone are remembered.
_MAX_GONE = 1000
# A service that cannot keep up says so in the log no more often than this.
_TELL_OVERDUE_INTERVAL_S = 10.0
# Characters of an error's text when the whole of it does not fit into a message.
_SHORT_TEXT_LENGTH = 1000

_DELIVERY_FAILURES = (UndeliverableMessage, PublishTimeout, AMQPError, OSError)


class RpcConsumer(SharedExtension):
    """Consumes a service's request queue on behalf of all its RPC entrypoints.

    No content of a message and no state of the broker gets out of here as an exception. The broker's `counters` have
    the number of `messages_rejected` and `messages_expired`, and of replies that were `replies_undeliverable` or
    `replies_unconfirmed`.
    """

    broker = Broker()
    queue_consumer = QueueConsumer()  # of nameko 2.14, for subclasses that settle requests through it

    def __init__(self) -> None:
        self._providers: dict[str, Rpc] = {}
        self._subscription: Any = None
        self.stopped = False  # nothing more is to begin
        self._overdue = 0  # dropped since the log has last said so
        self._tell_overdue_at = 0.0  # or later

    def setup(self) -> None:
        """Prepare; nothing is consumed yet."""
        config = self.container.config
        exchange = get_rpc_exchange(config)
        self._queue = request_queue(self.container.service_name, exchange)
        self._expose_errors = bool(config.get(EXPOSE_ERRORS_CONFIG_KEY, True))
        timeout_s = checked_timeout(RPC_TIMEOUT_CONFIG_KEY, config.get(RPC_TIMEOUT_CONFIG_KEY, DEFAULT_RPC_TIMEOUT_S))
        self._responder = Responder(self.broker, exchange.name, self._presentable, timeout_s)

    def start(self) -> None:
        """Begin to consume, if there is an entrypoint that wants requests."""
        if self.stopped or not self._providers:
            return
        self._subscription = self.broker.subscribe(self._queue, self._receive)
        if self.stopped:  # meanwhile
            self._subscription.stop()

    def stop(self) -> None:
        """Take no more requests; those that wait go back to the queue. Workers that run can still reply."""
        self.stopped = True
        if self._subscription is not None:
            self._subscription.stop()

    def register_provider(self, provider: Rpc) -> None:
        """From now on `provider` gets the requests for its method."""
        self._providers[f"{self.container.service_name}.{provider.method_name}"] = provider

    def unregister_provider(self, provider: Rpc) -> None:
        """`provider` is stopping, and with it the container: nothing more is taken for any of its entrypoints."""
        self.stop()

    def make_retrier(self, provider: Rpc, retry: Retry) -> Retrier:
        """What tries the requests for `provider` again, as `retry` says.

        :raises ConfigurationError: when the configuration of retries, or the parking queue, cannot work
        """
        config = self.container.config
        exchange = get_rpc_exchange(config)
        queue = request_queue(self.container.service_name, exchange).name
        routing_key = f"{self.container.service_name}.{provider.method_name}"
        # Over the exchange: the queue's consumers, those of nameko 2.14 too, find the method by the routing key.
        address = Address(exchange.name, routing_key)
        retrier = Retrier(
            self.broker,
            retry.completed(config),
            queue,
            address=address,
            waits_as=f"rpc-{routing_key}",
            expected=provider.expected_exceptions,
            who=routing_key,
        )
        retrier.prepare()
        return retrier

    def get_provider_for_method(self, routing_key: str) -> Rpc:
        """The entrypoint for a request's routing key, `<service>.<method>`.

        :raises MethodNotFound: when there is none
        """
        try:
            return self._providers[routing_key]
        except KeyError:
            raise MethodNotFound(routing_key.rpartition(".")[2]) from None

    def handle_message(self, body: Any, message: Message) -> None:
        """Have a request served by the entrypoint for its method. Blocks while all workers are busy.

        :param body: the decoded body
        :raises: whatever the caller is to be told instead of a result, such as `MethodNotFound`
        """
        self.get_provider_for_method(message.delivery_info["routing_key"]).handle_message(body, message)

    def _receive(self, message: Message) -> None:
        if self.stopped:
            message.requeue()
            return
        try:
            check_answerable(message)
            body = _decoded(message)
            check_is_no_reply(body)
            self.handle_message(body, message)
        except Refused as reason:
            self._reject(message, reason)
        except ContainerBeingKilled:
            message.requeue()
        except concurrency.GreenletExit:
            raise
        except BaseException:  # a Timeout or SystemExit included, which somebody else's code may raise
            self.handle_result(message, None, sys.exc_info())  # type: ignore[arg-type]

    def _reject(self, message: Message, reason: Refused) -> None:
        self.broker.counters["messages_rejected"] += 1
        _log.warning(
            "rejected a message in %s (routing key %s): %s",
            self._queue.name,
            message.delivery_info.get("routing_key"),
            reason,
        )
        message.reject()

    def handle_result(self, message: Message, result: Any, exc_info: ExcInfo | None) -> tuple[Any, ExcInfo | None]:
        """Send the reply, without waiting, and acknowledge the request once the reply is safe.

        :returns: result and exc_info; where the result could not be serialized, the exception that says so
        """
        error = None if exc_info is None else exc_info[1]
        result, unserializable = self._responder.send_response(message, result, error, partial(_acknowledge, message))
        return result, unserializable or exc_info

    def drop_overdue(self, message: Message, waited_s: float) -> None:
        """Be done with a request whose caller has given up before there was a worker for it.

        :param waited_s: seconds since it arrived
        """
        self.broker.counters["messages_expired"] += 1
        _acknowledge(message)
        self._overdue += 1
        now = monotonic()
        if now < self._tell_overdue_at:
            return
        _log.warning(
            "dropped a request for %s, which had waited %.1f s for one of %d workers: its caller has given up by now "
            "(since the last such line: %d)",
            message.delivery_info.get("routing_key"),
            waited_s,
            self.container.max_workers,
            self._overdue,
        )
        self._overdue = 0
        self._tell_overdue_at = now + _TELL_OVERDUE_INTERVAL_S

    def requeue_message(self, message: Message) -> None:
        """Give a request back to the queue."""
        message.requeue()

    def _presentable(self, message: Message, exc: BaseException) -> BaseException:
        if self._expose_errors or isinstance(exc, BadRequest):
            return exc
        provider = self._providers.get(message.delivery_info["routing_key"])
        if provider is not None and isinstance(exc, provider.expected_exceptions):
            return exc
        error_id = uuid.uuid4()
        _log.error("internal error %s in %r: %r", error_id, provider, exc)
        return InternalError(f"internal error {error_id}")


class InternalError(Exception):
    """What a caller gets to see of an unexpected exception when `EXPOSE_ERRORS` is false."""


def _acknowledge(message: Message) -> None:
    if not message.acknowledged:
        message.ack()


def _decoded(message: Message) -> Any:
    try:
        return message.decode()
    except Exception as exc:  # refused content type, broken encoding, syntax, depth: the caller's fault, all of them
        raise MalformedRequest(f"the body cannot be read: {exc}") from exc


class Responder:
    """Sends replies.

    :param broker: publishes them
    :param exchange: to this exchange
    :param presentable: what to show the caller of an exception, given the request and the exception
    :param timeout_s: how long a caller waits whose request does not say it
    """

    def __init__(
        self,
        broker: Broker,
        exchange: str,
        presentable: Callable[[Message, BaseException], BaseException],
        timeout_s: float = DEFAULT_RPC_TIMEOUT_S,
    ) -> None:
        self._broker = broker
        self._exchange = exchange
        self._presentable = presentable
        self._timeout_s = timeout_s
        self._gone: dict[str, None] = {}  # the latest of those who were not there the second time either

    def send_response(
        self, message: Message, result: Any, error: BaseException | None, on_settled: Callable[[], None]
    ) -> tuple[Any, ExcInfo | None]:
        """Reply to `message`, without waiting for the broker.

        :param on_settled: called once, when the broker has the reply, or will not get it; must not block
        :returns: the result, and None; or None, and the exception that the serializer raised over the result
        """
        if error is not None:
            self._send_error(message, error, on_settled)
            return result, None
        try:
            self._send(message, result_body(result), on_settled)
        except Exception as exc:
            _log.warning("the result of %s cannot be sent: %s", message.delivery_info.get("routing_key"), exc)
            presented = exc if isinstance(exc, MessageTooLarge) else UnserializableValueError(result)
            self._send_error(message, presented, on_settled)
            return None, sys.exc_info()  # type: ignore[return-value]
        return result, None

    def _send_error(self, message: Message, error: BaseException, on_settled: Callable[[], None]) -> None:
        body = error_body(self._presentable(message, error))
        try:
            self._send(message, body, on_settled)
        except Exception as exc:
            _log.warning("the text of an error reply is shortened, since it cannot be sent: %s", exc)
            text = ascii(body["error"]["value"])[:_SHORT_TEXT_LENGTH]
            body["error"].update(exc_args=[text], value=text)
            self._send_last_resort(message, body, on_settled)

    def _send_last_resort(self, message: Message, body: dict[str, Any], on_settled: Callable[[], None]) -> None:
        try:
            self._send(message, body, on_settled)
        except Exception as exc:
            self._count_failure(self._addressed(message), exc)
            on_settled()

    def _send(self, message: Message, body: dict[str, Any], on_settled: Callable[[], None]) -> None:
        """Publish a reply. Lets out what the serializer raises, and nothing else."""
        reply = self._addressed(message)
        timeout_s = self._timeout_for(message)
        on_done = partial(self._settle, body, reply, monotonic() + timeout_s, on_settled)
        try:
            self._broker.publish_nowait(body, on_done=on_done, timeout_s=timeout_s, **reply)
        except _DELIVERY_FAILURES as exc:
            self._count_failure(reply, exc)
            on_settled()

    def _timeout_for(self, message: Message) -> float:
        # As long as the caller waits: a broker that is short of memory may take the reply again by then. And never less
        # than other messages have, for a request may expire earlier than its caller gives up.
        remaining_s = message.remaining_s()
        timeout_s = self._timeout_s if remaining_s is None else min(remaining_s, _MAX_REPLY_TIMEOUT_S)
        return max(timeout_s, self._broker.settings.publish_timeout_s)

    def _settle(
        self,
        body: dict[str, Any],
        reply: dict[str, Any],
        deadline: float,
        on_settled: Callable[[], None],
        error: BaseException | None,
    ) -> None:
        if isinstance(error, UndeliverableMessage) and reply["routing_key"] not in self._gone:
            self._broker.spawn_finishing(self._send_again, body, reply, deadline, on_settled)
            return
        if error is not None:
            self._count_failure(reply, error)
        on_settled()

    def _addressed(self, message: Message) -> dict[str, Any]:
        return {
            "exchange": self._exchange,
            "routing_key": message.properties["reply_to"],
            "serializer": self._serializer_for(message.content_type),
            "correlation_id": message.properties.get("correlation_id"),
            "mandatory": True,
        }

    def _serializer_for(self, content_type: str | None) -> str | None:
        # The caller's own. One that is not known, or not accepted, makes way for the container's.
        codecs = self._broker.codecs
        return codecs.serializer_for(content_type) if content_type in codecs.accept else None

    def _send_again(
        self, body: dict[str, Any], reply: dict[str, Any], deadline: float, on_settled: Callable[[], None]
    ) -> None:
        concurrency.sleep(_UNDELIVERABLE_RETRY_S)
        timeout_s = max(deadline - monotonic(), self._broker.settings.publish_timeout_s)
        try:
            self._broker.publish(body, timeout_s=timeout_s, **reply)
        except Exception as exc:
            self._count_failure(reply, exc)
            if isinstance(exc, UndeliverableMessage):
                self._note_gone(reply["routing_key"])
        on_settled()

    def _note_gone(self, reply_to: str) -> None:
        # Each request that is kept for a second attempt takes the place of another one among those prefetched. So a
        # caller that died with many calls under way has one such attempt made, and not one after the other.
        self._gone[reply_to] = None
        if len(self._gone) > _MAX_GONE:
            del self._gone[next(iter(self._gone))]

    def _count_failure(self, reply: dict[str, Any], exc: BaseException) -> None:
        undeliverable = isinstance(exc, UndeliverableMessage)
        self._broker.counters["replies_undeliverable" if undeliverable else "replies_unconfirmed"] += 1
        _log.warning(
            "a reply to %s, correlation id %s, %s: %s",
            reply["routing_key"],
            reply["correlation_id"],
            "has nobody to go to" if undeliverable else "may be lost",
            exc,
        )


RpcConsumer.__module__ = Responder.__module__ = InternalError.__module__ = "nameko.rpc"
