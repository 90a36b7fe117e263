"""A channel of an in-process broker: the methods of py-amqp's channel, with its signatures and errors."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kombu.transport.base import StdChannel, to_rabbitmq_queue_arguments
from kombu.transport.pyamqp import Message as KombuMessage

from amqp import spec
from amqp.basic_message import Message as AmqpMessage
from amqp.exceptions import ChannelError, ConsumerCancelled, MessageNacked, RecoverableConnectionError
from amqp.protocol import queue_declare_ok_t
from nameko.amqp.memory._errors import Refused
from nameko.amqp.memory._messages import Message as PublishedMessage
from nameko.amqp.memory._sessions import Delivery, Session

if TYPE_CHECKING:
    from nameko.amqp.memory._connection import Connection

Callback = Callable[[AmqpMessage], object]


class Channel(StdChannel):  # type: ignore[misc]
    """A channel.

    Errors behave as on RabbitMQ with py-amqp. The broker ends the session: unacknowledged messages are requeued,
    consumers and confirms are gone. The channel object is opened anew at once and the error is raised: by the method
    that has an answer to wait for, by `Connection.drain_events` for `basic_publish`, `basic_ack` and the like.
    With `on_closed` set, as on nameko's channels to RabbitMQ, it stays closed, and `drain_events` calls that instead.

    :param connection: an open connection
    :param channel_id: unique in it
    :param auto_decode: give text bodies as `str`
    """

    Message = KombuMessage

    #: Called with the error when the broker closes the channel, which then stays closed.
    on_closed: Callable[[Exception], object] | None = None
    #: Why the broker has closed it for good.
    closed_by: Exception | None = None

    def __init__(self, connection: Connection, channel_id: int, auto_decode: bool = True) -> None:
        self.connection: Connection | None = connection
        self.channel_id = channel_id
        self.auto_decode = auto_decode
        self.is_open = True
        self.callbacks: dict[str, Callback | None] = {}
        self.cancel_callbacks: dict[str, Callable[[str], object]] = {}
        #: `basic_ack`, `basic_nack` (delivery tag, multiple) and `basic_return` (exception, exchange, routing key,
        #: message) handlers.
        self.events: defaultdict[str, set[Callable[..., object]]] = defaultdict(set)
        self.no_ack_consumers: set[str] = set()
        self._broker = connection.broker
        self._lock = self._broker.lock
        self._session = self._new_session(connection)
        self._awaited_confirms: dict[int, bool | None] = {}
        if connection.confirm_publish:
            self.basic_publish = self.basic_publish_confirm  # type: ignore[method-assign]

    # -- life

    def _new_session(self, connection: Connection) -> Session:
        return Session(self._broker, connection, self, connection.inbox)

    def open(self) -> None:
        """Nothing to do: a channel is open from the start and again after an error."""

    def close(self, reply_code: int = 0, reply_text: str = "", method_sig: tuple[int, int] = (0, 0)) -> None:
        """End it: consumers leave, what is not acknowledged is requeued. Harmless when it is closed."""
        if self.connection is None:
            return
        with self._lock:
            self._session.close()
        self.collect()

    def collect(self) -> None:
        """Forget everything, after the session has ended."""
        connection, self.connection = self.connection, None
        self.is_open = False
        if connection is not None and connection.channels is not None:
            connection.channels.pop(self.channel_id, None)
        self.callbacks.clear()
        self.cancel_callbacks.clear()
        self.events.clear()
        self.no_ack_consumers.clear()

    def end_session(self, error: Exception | None) -> None:
        """The connection ends, and the broker's side of the channel with it. Called with the broker's lock held."""
        self._session.close(error)

    @contextmanager
    def _request(self, method: tuple[int, int]) -> Iterator[Session]:
        # For methods that the broker answers: an error is raised here and now.
        with self._lock:
            connection = self._require_connection()
            self._raise_pending_error(connection)
            try:
                yield self._session
            except Refused as refused:
                raise self._refuse(connection, refused, method) from None

    def _command(self, method: tuple[int, int], do: Callable[..., None], *args: Any) -> None:
        # For methods without an answer: an error comes in `drain_events`, and until then all is ignored.
        with self._lock:
            connection = self._require_connection()
            session = self._session
            if session.closed:
                return
            try:
                do(session, *args)
            except Refused as refused:
                self._refuse_later(connection, session, refused, method)

    def _require_connection(self) -> Connection:
        if self.connection is None:
            raise self.closed_by or RecoverableConnectionError("connection already closed")
        return self.connection

    def _raise_pending_error(self, connection: Connection) -> None:
        session = self._session
        if not session.closed:
            return
        if not connection.connected or session.error is None or connection not in self._broker.connections:
            raise session.error or RecoverableConnectionError("connection already closed")
        self._end(connection, session.error)
        raise session.error

    def _refuse(self, connection: Connection, refused: Refused, method: tuple[int, int]) -> Exception:
        error: Exception = refused.as_amqp_error(method)
        if refused.closes_connection:
            connection.close()
        else:
            self._session.close(error)
            self._end(connection, error)
        return error

    def _end(self, connection: Connection, error: Exception) -> None:
        # Of the session, that is; of the channel too, when its user wants to know.
        on_closed = self.on_closed
        if on_closed is None:
            self._session = self._new_session(connection)
            return
        self.closed_by = error
        self.collect()
        on_closed(error)

    def _refuse_later(
        self, connection: Connection, session: Session, refused: Refused, method: tuple[int, int]
    ) -> None:
        if refused.closes_connection:
            connection.fail(refused, method)
            return
        error = refused.as_amqp_error(method)
        session.close(error)
        session.inbox.put(self._on_closed_by_broker, session, error)

    def _on_closed_by_broker(self, session: Session, error: Exception) -> None:
        connection = self.connection
        if session is not self._session or connection is None:
            return
        stays_closed = self.on_closed is not None
        with self._lock:
            self._end(connection, error)
        if not stays_closed:
            raise error

    # -- exchanges

    def exchange_declare(
        self,
        exchange: str,
        type: str,
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = True,
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Make an exchange, or check that there is one like it; `passive`: that there is one at all."""
        with self._request(spec.Exchange.Declare) as session:
            session.broker.declare_exchange(
                exchange, type, passive=passive, durable=durable, auto_delete=auto_delete, arguments=arguments or {}
            )

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False) -> None:
        """Remove an exchange."""
        with self._request(spec.Exchange.Delete) as session:
            session.broker.delete_exchange(exchange, if_unused)

    def exchange_bind(
        self,
        destination: str,
        source: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Let messages go from one exchange on to another."""
        with self._request(spec.Exchange.Bind) as session:
            broker = session.broker
            broker.bind(source, broker.exchange(destination), routing_key, arguments or {})

    def exchange_unbind(
        self,
        destination: str,
        source: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Undo `exchange_bind`."""
        with self._request(spec.Exchange.Unbind) as session:
            broker = session.broker
            broker.unbind(source, broker.exchange(destination), routing_key, arguments or {})

    # -- queues

    def queue_declare(
        self,
        queue: str = "",
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = True,
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> queue_declare_ok_t | None:
        """Make a queue, or check that there is one like it; `passive`: that there is one at all.

        :returns: name, number of messages that wait, number of consumers; None with `nowait`
        """
        with self._request(spec.Queue.Declare) as session:
            if passive:
                found = session.queue(queue)
                found.touch()
            else:
                found = session.broker.declare_queue(
                    queue,
                    self.connection,
                    durable=durable,
                    exclusive=exclusive,
                    auto_delete=auto_delete,
                    arguments=arguments or {},
                )
            session.declared(found)
            return None if nowait else queue_declare_ok_t(found.name, len(found), len(found.consumers))

    def queue_bind(
        self,
        queue: str,
        exchange: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Let messages go from an exchange to a queue."""
        with self._request(spec.Queue.Bind) as session:
            session.broker.bind(exchange, session.queue(queue), routing_key, arguments or {})

    def queue_unbind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Undo `queue_bind`; a queue or an exchange that does not exist is none to be unbound."""
        with self._request(spec.Queue.Unbind) as session:
            exists = not queue or session.broker.find_queue(queue) is not None
            session.broker.unbind(exchange, session.queue(queue) if exists else None, routing_key, arguments or {})

    def queue_delete(
        self, queue: str = "", if_unused: bool = False, if_empty: bool = False, nowait: bool = False
    ) -> int | None:
        """Remove a queue; the number of messages that waited in it. One that does not exist counts as removed."""
        with self._request(spec.Queue.Delete) as session:
            count = session.delete_queue(queue, if_unused, if_empty)
            return None if nowait else count

    def queue_purge(self, queue: str = "", nowait: bool = False) -> int | None:
        """Drop the messages that wait in a queue; their number."""
        with self._request(spec.Queue.Purge) as session:
            count = session.queue(queue).purge()
            return None if nowait else count

    # -- publishing

    def confirm_select(self, nowait: bool = False) -> None:
        """Confirm each message that is published from now on; they are numbered from 1."""
        with self._request(spec.Confirm.Select) as session:
            session.confirms = True

    def basic_publish(
        self,
        msg: AmqpMessage,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        immediate: bool = False,
        timeout: float | None = None,
        confirm_timeout: float | None = None,
    ) -> None:
        """Publish a message. Confirm and return, if any, come in `drain_events`, the return first.

        :raises TypeError, ValueError, FrameSyntaxError: when the message could not be written to the wire
        :raises RecoverableConnectionError: when the connection is closed
        """
        connection = self.connection
        if connection is None:
            raise self.closed_by or RecoverableConnectionError("basic_publish: connection closed")
        message = PublishedMessage.published(msg, exchange, routing_key)
        with self._lock:
            session = self._session
            if session.closed:  # what is sent before the client knows is ignored
                return
            try:
                if immediate:
                    raise Refused(540, "immediate=true")
                session.publish(message, mandatory)
            except Refused as refused:
                self._refuse_later(connection, session, refused, spec.Basic.Publish)

    def basic_publish_confirm(self, *args: Any, **kwargs: Any) -> None:
        """`basic_publish` that waits for its confirm, and handles what else happens on the connection meanwhile.

        :raises MessageNacked: when the broker did not take the message
        :raises socket.timeout: when there is no confirm within `confirm_timeout` or `timeout` seconds
        """
        if not self._session.confirms:
            self.confirm_select()
        session = self._session
        Channel.basic_publish(self, *args, **kwargs)
        tag = session.published
        self._awaited_confirms[tag] = None
        timeout_s = kwargs.get("confirm_timeout") or kwargs.get("timeout")
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            while self._awaited_confirms[tag] is None:
                remaining_s = None if deadline is None else max(0, deadline - time.monotonic())
                self._require_connection().drain_events(timeout=remaining_s)
            if not self._awaited_confirms[tag]:
                raise MessageNacked()
        finally:
            del self._awaited_confirms[tag]

    def on_confirm(self, session: Session, tag: int, accepted: bool) -> None:
        """A confirm has come."""
        if session is not self._session:
            return
        if tag in self._awaited_confirms:
            self._awaited_confirms[tag] = accepted
        for handler in tuple(self.events["basic_ack" if accepted else "basic_nack"]):
            handler(tag, False)

    def on_return(self, session: Session, message: PublishedMessage) -> None:
        """A mandatory message without a route has come back."""
        if session is not self._session:
            return
        error = ChannelError("NO_ROUTE", spec.Basic.Return, reply_code=312)
        handlers = tuple(self.events.get("basic_return", ()))
        if not handlers:
            raise error
        returned = message.as_amqp(self.auto_decode)
        for handler in handlers:
            handler(error, message.exchange, message.routing_key, returned)

    # -- consuming

    def basic_qos(self, prefetch_size: int, prefetch_count: int, a_global: bool) -> None:
        """Limit unacknowledged messages: of each consumer to come or, with `a_global`, of the channel as a whole."""
        with self._request(spec.Basic.Qos) as session:
            if prefetch_size:
                raise Refused(540, f"prefetch_size!=0 ({prefetch_size})")
            if a_global:
                session.prefetch_of_channel = prefetch_count
            else:
                session.prefetch_of_next_consumer = prefetch_count

    def basic_consume(
        self,
        queue: str = "",
        consumer_tag: str = "",
        no_local: bool = False,
        no_ack: bool = False,
        exclusive: bool = False,
        nowait: bool = False,
        callback: Callback | None = None,
        arguments: Mapping[str, Any] | None = None,
        on_cancel: Callable[[str], object] | None = None,
    ) -> str:
        """Call `callback` with each message of `queue`, from `drain_events`.

        :param on_cancel: called with the tag when the broker ends the consumer, as its queue has gone
        :returns: the consumer's tag
        """
        if nowait and not consumer_tag:
            raise ValueError("Consumer tag must be specified when nowait is True")
        with self._request(spec.Basic.Consume) as session:
            consumer = session.consume(session.queue(queue), consumer_tag, no_ack, exclusive)
            self.callbacks[consumer.tag] = callback
            if on_cancel:
                self.cancel_callbacks[consumer.tag] = on_cancel
            if no_ack:
                self.no_ack_consumers.add(consumer.tag)
            consumer.queue.add_consumer(consumer)
            return consumer.tag

    def basic_cancel(self, consumer_tag: str, nowait: bool = False) -> str | None:
        """End a consumer. What it was sent and has not seen yet is requeued; with `no_ack`, it is seen first."""
        if self.connection is None:
            return None
        with self._request(spec.Basic.Cancel) as session:
            unseen = session.cancel(consumer_tag)
        for delivery in unseen:
            self._hand_over(delivery, consumer_tag)
        self._remove_tag(consumer_tag)
        return consumer_tag

    def _remove_tag(self, consumer_tag: str) -> Callable[[str], object] | None:
        self.no_ack_consumers.discard(consumer_tag)
        self.callbacks.pop(consumer_tag, None)
        return self.cancel_callbacks.pop(consumer_tag, None)

    def on_deliver(self, session: Session, delivery: Delivery) -> None:
        """A message for one of the consumers has come."""
        if session is self._session and session.hand_over(delivery):
            self._hand_over(delivery, delivery.consumer.tag)  # type: ignore[union-attr]

    def _hand_over(self, delivery: Delivery, consumer_tag: str) -> None:
        callback = self.callbacks.get(consumer_tag)
        if callback is not None:
            callback(self._message(delivery, consumer_tag=consumer_tag))

    def _message(self, delivery: Delivery, **delivery_info: Any) -> AmqpMessage:
        entry = delivery.entry
        message = entry.message.as_amqp(self.auto_decode)
        message.channel = self
        delivery_info["delivery_tag"] = delivery.tag
        delivery_info["redelivered"] = entry.redelivered
        delivery_info["exchange"] = entry.message.exchange
        delivery_info["routing_key"] = entry.message.routing_key
        message.delivery_info = delivery_info
        return message

    def on_consumer_lost(self, session: Session, consumer_tag: str) -> None:
        """The queue of a consumer has gone."""
        if session is not self._session:
            return
        on_cancel = self._remove_tag(consumer_tag)
        if on_cancel is None:
            raise ConsumerCancelled(consumer_tag, spec.Basic.Cancel)
        on_cancel(consumer_tag)

    def basic_get(self, queue: str = "", no_ack: bool = False) -> AmqpMessage | None:
        """The first message of `queue`, or None."""
        with self._request(spec.Basic.Get) as session:
            source = session.queue(queue)
            delivery = session.get(source, no_ack)
            return None if delivery is None else self._message(delivery, message_count=len(source))

    # -- acknowledging

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """Done with a message, or with all up to it."""
        self._command(spec.Basic.Ack, Session.ack, delivery_tag, multiple)

    def basic_nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True) -> None:
        """Refuse a message, or all up to it."""
        self._command(spec.Basic.Nack, Session.reject, delivery_tag, multiple, requeue)

    def basic_reject(self, delivery_tag: int, requeue: bool) -> None:
        """Refuse a message."""
        self._command(spec.Basic.Reject, Session.reject, delivery_tag, False, requeue)

    def basic_recover(self, requeue: bool = False) -> None:
        """Requeue everything that is not acknowledged; RabbitMQ knows nothing else, so `requeue` must be true."""
        self._command(spec.Basic.Recover, Session.recover, requeue)

    # -- what kombu asks of a channel

    def prepare_message(
        self,
        body: bytes | str,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> AmqpMessage:
        """A message to publish."""
        return AmqpMessage(
            body,
            priority=priority,
            content_type=content_type,
            content_encoding=content_encoding,
            application_headers=headers,
            **(properties or {}),
        )

    def message_to_python(self, raw_message: AmqpMessage) -> Any:
        """kombu's view of a message that was delivered."""
        return self.Message(raw_message, channel=self)

    def prepare_queue_arguments(self, arguments: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        """kombu's queue options as arguments of a declaration."""
        return to_rabbitmq_queue_arguments(arguments or {}, **kwargs)

    def __repr__(self) -> str:
        return f"<memory Channel {self.channel_id} of {self.connection!r}>"
