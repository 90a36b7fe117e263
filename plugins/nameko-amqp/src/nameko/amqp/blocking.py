"""A synchronous AMQP client, for code outside of services: one connection, one user at a time, deadlines on wall clock.

It uses sockets as the process has them, so it works in threads, and in greenthreads when the process is monkey
patched. There is no background thread: heartbeats are sent and checked whenever the client is used, and a connection
that was lost meanwhile is found out then.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from logging import getLogger
from typing import Any, TypeVar

import kombu

import amqp
from nameko.amqp import wire
from nameko.amqp._establish import CANNOT_CONNECT, Addresses, establish, failure
from nameko.amqp.bounded_transport import Deadline
from nameko.amqp.errors import PublishTimeout, UndeliverableMessage, nacked
from nameko.amqp.messages import Message
from nameko.amqp.serializers import Codecs
from nameko.amqp.settings import AmqpSettings, mask_uri
from nameko.constants import PERSISTENT

__all__ = ["BlockingClient", "BlockingPublisher", "ConnectionLost", "Deadline", "Publication"]

_log = getLogger(__name__)

_Result = TypeVar("_Result")

#: Seconds that closing a connection in an orderly way may take, before its socket is simply dropped.
CLOSE_TIMEOUT_S = 1.0

_SEND_ATTEMPTS = 3

_CONNECTION_ERRORS = (*amqp.Connection.connection_errors, OSError)


class ConnectionLost(ConnectionError):
    """The connection was lost while something was under way; whether that was carried out is not known."""


class Publication:
    """A message that was sent: whether it is confirmed yet, or has failed.

    :param exchange: where it was sent
    :param routing_key: with which key
    :param correlation_id: its property of that name, if any
    """

    __slots__ = ("correlation_id", "done", "error", "exchange", "routing_key")

    def __init__(self, exchange: str, routing_key: str, correlation_id: str | None) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.correlation_id = correlation_id
        self.done = False
        self.error: BaseException | None = None

    def finish(self, error: BaseException | None) -> None:
        """It is confirmed (None) or has failed; only the first time counts."""
        if not self.done:
            self.done = True
            self.error = error

    def result(self) -> None:
        """Nothing, when it is confirmed.

        :raises: what made it fail
        """
        if self.error is not None:
            raise self.error


class BlockingClient:
    """One connection and one channel, opened when first needed and again after a loss. Not for concurrent use.

    Every method takes the `deadline` by which it has to be done, and raises `TimeoutError` when it passes; whatever
    goes wrong, no half-used connection stays behind. A client that was made before a fork opens a connection of its
    own in the child.

    :param settings: the broker
    :param name: what the broker's management shows as the connection's name
    :param codecs: what is sent and accepted; JSON when not given
    :param addresses: those of `settings`, when several clients are to know which one worked last
    """

    def __init__(
        self,
        settings: AmqpSettings,
        name: str = "nameko standalone",
        codecs: Codecs | None = None,
        addresses: Addresses | None = None,
    ) -> None:
        self.settings = settings
        self._name = name
        self._codecs = codecs or _json_codecs(settings)
        self._addresses = addresses or Addresses(settings.uris)
        self._connection: Any = None
        self._channel: Any = None
        self._process_id = 0
        self._used_at = 0.0
        self._tags = count(1)
        self._unconfirmed: dict[int, Publication] = {}

    def open(self, deadline: Deadline) -> bool:
        """Make sure that there is a connection, as far as that can be told.

        Of several addresses each is tried once, for `CONNECT_TIMEOUT` at most, and the one that worked last first.

        :returns: whether it is a new one, on which nothing is consumed yet
        :raises TimeoutError: when the deadline passes before
        :raises OSError: when the broker cannot be reached, `BrokerUnreachable` when it is silent
        :raises amqp.exceptions.AMQPError: when it refuses
        """
        self._drop_if_stale()
        if self._connection is not None:
            return False
        self._connect(deadline)
        return True

    @property
    def connected(self) -> bool:
        """Whether there is a connection of this process, which may turn out to be lost."""
        return self._connection is not None and self._process_id == os.getpid()

    def _drop_if_stale(self) -> None:
        if self._connection is None:
            return
        if self._process_id != os.getpid():
            self._leave_to_parent()
        elif self._heartbeat_s and time.monotonic() - self._used_at > 2 * self._heartbeat_s:
            self.drop()  # the broker has given it up, or is about to
        else:
            self._read_what_is_there()

    def _read_what_is_there(self) -> None:
        # Time enough to answer, should the broker have said good-bye: it waits for that and confirms nothing more.
        deadline = Deadline(CLOSE_TIMEOUT_S)
        try:
            with self._using(deadline):
                while not deadline.passed:
                    self._connection.drain_events(timeout=0)
        except TimeoutError:
            pass
        except Exception as exc:
            _log.info("connection to %s was lost while idle: %s", self.settings.masked_uri, exc)

    @property
    def _heartbeat_s(self) -> float:
        return getattr(self._connection, "heartbeat", 0) or 0

    def _connect(self, deadline: Deadline) -> None:
        uris = self._addresses.in_order()
        for left, uri in zip(range(len(uris), 0, -1), uris, strict=True):
            # None may use up the time of those after it.
            attempt = deadline.share(left).or_after(self.settings.connect_timeout_s)
            try:
                self._connect_to(uri, attempt)
            except CANNOT_CONNECT as exc:
                if left == 1 or deadline.passed:
                    raise failure(self.settings, uri, exc, deadline.passed or attempt is deadline) from exc
                _log.warning("cannot connect to %s: %s", mask_uri(uri), str(exc) or "no answer in time")
            else:
                self._addresses.worked(uri)
                return

    def _connect_to(self, uri: str, deadline: Deadline) -> None:
        self._process_id = os.getpid()
        self._connection = establish(self.settings, uri, self._name, deadline)
        try:
            with self._using(deadline):
                self._open_channel()
        except BaseException:  # also when time is up, which a connection survives otherwise
            self.drop()
            raise

    def _open_channel(self) -> None:
        self._channel = self._connection.channel()
        self._channel.confirm_select()
        self._tags = count(1)
        self._channel.events["basic_ack"].add(self._on_ack)
        self._channel.events["basic_nack"].add(self._on_nack)
        self._channel.events["basic_return"].add(self._on_return)

    def _leave_to_parent(self) -> None:
        # The parent goes on using the socket: it is closed here, but neither shut down nor said good-bye on.
        transport = getattr(self._connection, "_transport", None)
        if transport is not None:
            transport.sock.close()
            transport.connected = False
            transport.sock = None
        self._forget(ConnectionLost("the connection belongs to the parent process"))

    @contextmanager
    def _using(self, deadline: Deadline) -> Iterator[None]:
        """Bound everything inside by `deadline`, and drop the connection when its state is not known afterwards."""
        connection = self._connection
        connection.deadline = deadline
        try:
            yield
        except TimeoutError:
            if not connection.connected:
                self.drop()
            raise
        except _CONNECTION_ERRORS as exc:
            self.drop()
            if deadline.passed:
                raise TimeoutError from exc
            raise ConnectionLost(f"the connection to {self.settings.masked_uri} was lost: {exc}") from exc
        except BaseException:
            self.drop()
            raise
        else:
            self._used_at = time.monotonic()

    def consume(
        self,
        queue: kombu.Queue,
        on_message: Callable[[Message], None],
        deadline: Deadline,
        on_cancel: Callable[[str], None] | None = None,
    ) -> None:
        """Declare `queue`, and give what arrives in it to `on_message`, while anything here waits.

        :param on_message: takes a message, and has to acknowledge it
        :param on_cancel: called with the consumer's tag when the queue is deleted; that is a lost connection otherwise
        """
        with self._using(deadline):
            channel = self._channel
            queue.bind(channel).declare()
            channel.basic_consume(
                queue.name, callback=lambda raw: on_message(Message(raw, self._codecs)), on_cancel=on_cancel
            )

    def send(
        self,
        payload: Any,
        *,
        exchange: str,
        routing_key: str,
        deadline: Deadline,
        mandatory: bool = False,
        correlation_id: str | None = None,
        **options: Any,
    ) -> Publication:
        """Send a message without waiting for the broker to confirm it; `wait` until the publication is `done`.

        :param options: `serializer`, `compression`, `headers`, `delivery_mode`, `priority`, `expiration_s`, `reply_to`
            and any other property of the message
        :raises kombu.exceptions.EncodeError: when the payload cannot be serialized; nothing was sent
        :raises amqp.exceptions.FrameSyntaxError: when a name or a property is nothing that AMQP can send; likewise
        """
        body, properties = _encode(self._codecs, payload, **options)
        properties["correlation_id"] = correlation_id
        return self.send_raw(
            body, properties, exchange=exchange, routing_key=routing_key, deadline=deadline, mandatory=mandatory
        )

    def send_raw(
        self,
        body: bytes,
        properties: Mapping[str, Any],
        *,
        exchange: str,
        routing_key: str,
        deadline: Deadline,
        mandatory: bool = False,
    ) -> Publication:
        """Send what another message consists of, as `send` does.

        :param body: encoded, and compressed if the headers say so
        :param properties: by their names in AMQP; headers are `application_headers`
        """
        # py-amqp encodes while it sends, where a failure costs the connection, and whoever waits for it.
        wire.encode_publish_method(0, exchange, routing_key, mandatory)
        frame_max = getattr(self._connection, "frame_max", wire.FRAME_MAX)
        wire.check_header_fits(wire.encode_properties(properties), frame_max)
        publication = Publication(exchange, routing_key, properties.get("correlation_id"))
        with self._using(deadline):
            channel = self._channel
            self._unconfirmed[next(self._tags)] = publication
            message = amqp.Message(body, **properties)
            channel.basic_publish(message, exchange=exchange, routing_key=routing_key, mandatory=mandatory)
        return publication

    def call(self, fn: Callable[[Any], _Result], deadline: Deadline) -> _Result:
        """What `fn` returns, given the channel. Whatever it raises ends the connection, too.

        :raises TimeoutError: when the deadline passes first
        :raises ConnectionLost: when the connection is lost first
        """
        with self._using(deadline):
            return fn(self._channel)

    def wait(self, done: Callable[[], bool], deadline: Deadline) -> None:
        """Serve the connection until `done()`.

        :raises TimeoutError: when the deadline passes first
        :raises ConnectionLost: when the connection is lost first
        """
        with self._using(deadline):
            while not done():
                if deadline.passed:
                    raise TimeoutError
                self._serve(deadline)

    def _serve(self, deadline: Deadline) -> None:
        # Twice in each half of the heartbeat's interval, as the broker expects it at least every half.
        until = deadline.or_after(self._heartbeat_s / 4) if self._heartbeat_s else deadline
        try:
            self._connection.drain_events(timeout=until.remaining_s())
        except TimeoutError:
            if deadline.passed or not self._connection.connected:
                raise
        if self._heartbeat_s:
            self._connection.heartbeat_tick()

    def _on_ack(self, delivery_tag: int, multiple: bool) -> None:
        for publication in self._settled(delivery_tag, multiple):
            publication.finish(None)

    def _on_nack(self, delivery_tag: int, multiple: bool) -> None:
        for publication in self._settled(delivery_tag, multiple):
            publication.finish(nacked(publication.exchange, publication.routing_key))

    def _settled(self, delivery_tag: int, multiple: bool) -> list[Publication]:
        tags = [tag for tag in self._unconfirmed if tag <= delivery_tag] if multiple else [delivery_tag]
        found = [self._unconfirmed.pop(tag, None) for tag in tags]
        return [publication for publication in found if publication is not None]

    def _on_return(self, exc: Exception, exchange: str, routing_key: str, message: Any) -> None:
        # A return does not say which message it is; it comes before that message's ack, and in order.
        correlation_id = message.properties.get("correlation_id")
        for publication in self._unconfirmed.values():
            if (
                not publication.done
                and publication.exchange == exchange
                and publication.routing_key == routing_key
                and publication.correlation_id == correlation_id
            ):
                publication.finish(UndeliverableMessage(exchange, routing_key))
                return

    def drop(self) -> None:
        """Let go of the connection at once, without telling the broker. What was not confirmed has failed."""
        connection = self._connection
        self._forget(ConnectionLost("the connection was lost before the broker confirmed the message"))
        if connection is not None:
            connection.collect()

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Close the connection, in an orderly way if the broker answers within `timeout_s` seconds."""
        if self._connection is None:
            return
        if self._process_id != os.getpid():
            self._leave_to_parent()
            return
        connection = self._connection
        self._forget(ConnectionLost("the connection was closed before the broker confirmed the message"))
        try:
            connection.deadline = Deadline(timeout_s)
            connection.close()
        except Exception as exc:
            _log.debug("closing the connection to %s: %s", self.settings.masked_uri, exc)
        finally:
            connection.collect()

    def _forget(self, error: BaseException) -> None:
        self._connection = self._channel = None
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        for publication in unconfirmed.values():
            publication.finish(error)


class BlockingPublisher:
    """Publishes with confirms, from any number of threads: each call has a connection to itself, kept for the next.

    :param settings: the broker
    :param name: what the broker's management shows as the name of the connections
    :param codecs: what is sent; JSON when not given
    :param declare: exchanges and queues to declare on each connection before anything is published over it
    """

    def __init__(
        self,
        settings: AmqpSettings,
        name: str = "nameko standalone",
        codecs: Codecs | None = None,
        declare: Iterable[Any] = (),
    ) -> None:
        self.settings = settings
        self._declared = tuple(declare)
        self._name = name
        self._codecs = codecs or _json_codecs(settings)
        self._addresses = Addresses(settings.uris)
        self._idle: list[BlockingClient] = []

    def publish(
        self,
        payload: Any,
        *,
        exchange: str,
        routing_key: str,
        timeout_s: float | None = None,
        expiration_s: float | None = None,
        **options: Any,
    ) -> None:
        """Returns when the broker has confirmed the message. One that a lost connection leaves in doubt is sent again.

        :param timeout_s: for all of it; the configuration's `PUBLISH_TIMEOUT` when not given
        :param expiration_s: how long it may wait in a queue, the time that connecting takes included
        :param options: as for `BlockingClient.send`
        :raises UndeliverableMessage: when it is `mandatory` and has no queue to go to
        :raises MessageRefused: when a queue that it goes to is at its limit and refuses it
        :raises PublishTimeout: when there is no confirm within `timeout_s`; it may still arrive
        :raises amqp.exceptions.NotFound: when there is no such exchange
        :raises amqp.exceptions.PreconditionFailed: when what is to be declared exists with other properties
        :raises OSError: when the broker cannot be reached
        """
        deadline = Deadline(self.settings.publish_timeout_s if timeout_s is None else timeout_s)
        expiration = Deadline(expiration_s)
        client = self._take()
        try:
            self._publish(client, deadline, expiration, payload, exchange=exchange, routing_key=routing_key, **options)
        except TimeoutError as exc:
            in_doubt = f"no confirm from {self.settings.masked_uri} in time; it may still arrive"
            raise PublishTimeout(str(exc) or in_doubt) from exc
        finally:
            self._idle.append(client)

    def _take(self) -> BlockingClient:
        try:
            return self._idle.pop()
        except IndexError:
            return BlockingClient(self.settings, self._name, self._codecs, self._addresses)

    def _publish(
        self, client: BlockingClient, deadline: Deadline, expiration: Deadline, payload: Any, **options: Any
    ) -> None:
        for attempt in range(_SEND_ATTEMPTS):
            is_new = client.open(deadline)
            try:
                if is_new:
                    self._declare(client, deadline)
                publication = client.send(payload, deadline=deadline, expiration_s=expiration.remaining_s(), **options)
                client.wait(lambda sent=publication: sent.done, deadline)  # type: ignore[misc]
                return publication.result()
            except ConnectionLost:
                if attempt + 1 == _SEND_ATTEMPTS:
                    raise
        return None

    def _declare(self, client: BlockingClient, deadline: Deadline) -> None:
        try:
            for entity in self._declared:
                client.call(lambda channel, entity=entity: entity(channel).declare(), deadline)  # type: ignore[misc]
        except BaseException:  # also when time is up: the next to use it would take all for declared
            client.drop()
            raise

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop().close()


def _json_codecs(settings: AmqpSettings) -> Codecs:
    return Codecs("json", ["json"], max_message_bytes=settings.max_message_bytes)


def _encode(
    codecs: Codecs,
    payload: Any,
    serializer: str | None = None,
    compression: str | None = None,
    headers: Mapping[str, Any] | None = None,
    delivery_mode: int = PERSISTENT,
    priority: int = 0,
    expiration_s: float | None = None,
    content_type: str | None = None,
    content_encoding: str | None = None,
    **properties: Any,
) -> tuple[bytes, dict[str, Any]]:
    """The body of a message, and its properties by their names in AMQP."""
    if content_type is not None:  # encoded by the caller
        if isinstance(payload, str):
            content_encoding = content_encoding or "utf-8"
        body = codecs.encoded_body(payload, content_type, content_encoding)
    else:
        content_type, content_encoding, body = codecs.encode(payload, serializer)
    headers = dict(headers or {})
    if compression:
        body, headers["compression"] = codecs.compress(body, compression)
    if expiration_s is not None:
        properties["expiration"] = str(int(expiration_s * 1000))
    properties.update(
        content_type=content_type,
        content_encoding=content_encoding,
        application_headers=headers,
        delivery_mode=delivery_mode,
        priority=priority,
    )
    return body, properties
