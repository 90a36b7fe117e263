"""Consuming: a queue, a channel of its own, and somebody to hand the messages to.

A `Subscription` keeps consuming whatever happens to the connection or the queue: after a reconnect, or when the broker
cancels it because the queue is gone, it declares the queue again and goes on.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import kombu

from amqp.exceptions import AccessRefused, AMQPError, ChannelError, NotFound, ResourceLocked
from nameko import concurrency
from nameko.amqp.connections import ManagedConnection, backoff_s
from nameko.amqp.declaring import check_open, close_channel, refused
from nameko.amqp.failures import describe
from nameko.amqp.messages import Message
from nameko.amqp.serializers import Codecs
from nameko.concurrency import Event, GreenletExit, Signal
from nameko.exceptions import ContainerBeingKilled

_log = logging.getLogger(__name__)

# Seconds to wait for the broker's answer to basic.cancel.
_CANCEL_TIMEOUT_S = 1.0
# Seconds between attempts of a start.
_RETRY_S = 0.1

Handler = Callable[[Message], None]
Count = Callable[[str], None]


class Subscription:
    """One queue being consumed.

    :param connection: over which
    :param queue: declared, with its exchange and bindings, and consumed
    :param on_message: called with each message, one after the other
    :param codecs: what messages are decoded with
    :param prefetch: how many messages the broker sends ahead of their acknowledgements
    :param inline: call `on_message` in the greenthread that reads from the connection; it must not block
    :param name: what to call it in the log
    :param on_lost: called with the error when the queue had to be declared again, or cannot be consumed again
    :param count: called with the name of what there is one more of
    """

    def __init__(
        self,
        connection: ManagedConnection,
        queue: kombu.Queue,
        on_message: Handler,
        codecs: Codecs,
        *,
        prefetch: int,
        inline: bool = False,
        name: str | None = None,
        on_lost: Callable[[Exception], None] | None = None,
        count: Count = lambda _: None,
    ) -> None:
        self.queue = queue
        self.name = name or f"queue {queue.name}"
        self.consuming = False
        self._connection = connection
        self._on_message = on_message
        self._codecs = codecs
        self._prefetch = prefetch
        self._inline = inline
        self._no_ack = bool(queue.no_ack)
        arguments = queue.consumer_arguments
        self._consumer_arguments = {"arguments": arguments} if arguments else {}
        self._on_lost = on_lost
        self._count = count
        self._channel: Any = None
        name_of_tag = queue.name.encode()[:200].decode(errors="ignore")  # with the rest, 255 bytes at most
        self._tag = f"{name_of_tag}-{id(self):x}"
        self._stopped = False
        self.closed = False
        self._inbox: deque[Message] = deque()
        self._wake = Signal()
        self._ended: Any = None  # an event, while `run` is running
        self._restoring: Any = None

    # -- for the owner

    @property
    def waiting(self) -> int:
        """How many messages have been delivered and not been handed to `on_message` yet."""
        return len(self._inbox)

    def start(self, timeout_s: float) -> None:
        """Consume; returns when the broker has agreed.

        :raises ConfigurationError: when the queue exists with other properties, or is not to be consumed by this user
        :raises amqp.exceptions.ChannelError: when the broker refuses otherwise
        :raises BrokerUnreachable: when there is no connection for so long
        """
        deadline = monotonic() + timeout_s
        while True:
            self._connection.wait_connected(deadline - monotonic())
            raw = self._connection.raw
            try:
                self._consume(raw)
            except ChannelError as exc:
                if not isinstance(exc, ResourceLocked) or monotonic() > deadline:
                    raise refused(self.queue, exc) from None
                concurrency.sleep(_RETRY_S)  # its last owner may have gone without the broker having noticed
            except (AMQPError, OSError):  # lost meanwhile
                concurrency.sleep(_RETRY_S)
            else:
                if self._connection.raw is raw:
                    break
        self._connection.add(self)

    def run(self) -> None:
        """Hand messages to `on_message` until stopped; for a greenthread of its own. Not for an `inline` one."""
        self._ended = Event()
        try:
            while True:
                while self._inbox:
                    self._handle(self._inbox.popleft())
                if self._stopped:
                    return
                self._wake = Signal()
                self._wake.wait()
        finally:
            self._ended.send(None)

    def join(self, timeout_s: float) -> None:
        """Wait until `run` has returned, at most so long."""
        if self._ended is not None:
            self._ended.wait(timeout_s)

    def stop(self) -> None:
        """Take no more messages. Those not handed on yet go back to the queue.

        The channel stays open, so that what was handed on can be acknowledged.
        """
        if self._stopped:
            return
        self._stopped = True
        self.consuming = False
        waiting = self._drain()  # first: the broker may take its time to answer
        self._cancel()
        for message in waiting:  # now that they do not come back here
            message.requeue()
        self._ring()

    def close(self) -> None:
        """Give the channel back; what is not acknowledged returns to the queue."""
        self.stop()
        self.closed = True
        self._connection.remove(self)
        if self._restoring is not None:
            self._restoring.kill()
        channel, self._channel = self._channel, None
        if channel is not None:
            close_channel(channel)

    def kill(self) -> None:
        """Like `close`, for when there is no time to wait for the broker."""
        self._stopped = True
        self.consuming = False
        self._inbox.clear()
        self.close()

    # -- messages

    def _on_delivery(self, channel: Any, raw_message: Any) -> None:
        # In the connection's reader: must neither block nor raise.
        error = getattr(raw_message, "error", None)
        message = Message(raw_message, self._codecs, channel=channel, no_ack=self._no_ack)
        if error is not None or len(message.body or b"") > self._codecs.max_message_bytes:
            self._count("messages_rejected")
            _log.error("%s: a message is rejected: %s", self.name, error or "too big")
            message.reject()
        elif self._stopped:
            message.requeue()
        elif self._inline:
            self._handle(message)
        else:
            self._inbox.append(message)
            self._ring()

    def _handle(self, message: Message) -> None:
        if message.channel is not self._channel:  # delivered before the connection was lost: it will come again
            return
        try:
            self._on_message(message)
        except GreenletExit:
            raise
        except ContainerBeingKilled:
            if not message.acknowledged:
                message.requeue()
        except BaseException as exc:
            # Whatever a message provokes ends here: it must not take the subscription with it.
            self._count("messages_rejected")
            _log.exception("%s: a message is rejected, since handling it failed: %s", self.name, describe(exc))
            if not message.acknowledged:
                message.reject()

    def _drain(self) -> list[Message]:
        messages = list(self._inbox)
        self._inbox.clear()
        return [message for message in messages if message.channel is self._channel]

    def _ring(self) -> None:
        if not self._wake.is_set():
            self._wake.set()

    # -- the channel

    def _consume(self, raw: Any) -> None:
        channel = raw.channel()
        channel.auto_decode = False
        try:
            self.queue(channel).declare()
            channel.basic_qos(0, self._prefetch, False)
            self._channel = channel  # before the answer: deliveries may come with it
            channel.basic_consume(
                queue=self.queue.name,
                consumer_tag=self._tag,
                no_ack=self._no_ack,
                callback=partial(self._on_delivery, channel),
                on_cancel=partial(self._on_cancelled, channel),
                **self._consumer_arguments,
            )
            check_open(channel)
        except BaseException:
            self._channel = None
            close_channel(channel)
            raise
        channel.on_closed = partial(self._interrupted, channel)
        if self._stopped:  # meanwhile
            self._cancel()
        self.consuming = self._channel is channel and not self._stopped

    def _cancel(self) -> None:
        channel = self._channel
        if channel is None:
            return
        timeout = concurrency.Timeout(_CANCEL_TIMEOUT_S)
        try:
            channel.basic_cancel(self._tag)
        except concurrency.Timeout as exc:
            if exc is not timeout:
                raise
            _log.warning("%s: the broker did not confirm the end of the subscription", self.name)
        except (AMQPError, OSError):  # gone with its connection
            pass
        finally:
            timeout.cancel()

    def connection_up(self, raw: Any) -> None:
        """Consume again, on the new connection."""
        if not self._stopped and self._channel is None:
            self._restoring = concurrency.spawn(self._restore, raw)

    def connection_lost(self, error: Exception) -> None:
        """The broker has put everything that was not acknowledged back into the queue."""
        self.consuming = False
        self._channel = None
        self._inbox.clear()

    def connection_relieved(self) -> None:
        """Of no concern: a consumer is not held back."""

    def _on_cancelled(self, channel: Any, consumer_tag: str) -> None:
        self._interrupted(channel, ConnectionError("the broker has ended the subscription: the queue is gone"))

    def _interrupted(self, channel: Any, error: Exception) -> None:
        if self._channel is not channel:
            return
        self._channel = None
        self.consuming = False
        self._inbox.clear()
        if self._stopped:
            return
        _log.warning("%s: %s; declaring it again", self.name, describe(error))
        close_channel(channel)
        self._tell_lost(error)
        if self._connection.raw is not None:
            self._restoring = concurrency.spawn(self._restore, self._connection.raw)

    def _restore(self, raw: Any) -> None:
        failures = 0
        while self._connection.raw is raw and not self._stopped:
            try:
                if self._on_lost is not None:
                    self._tell_if_gone(raw)
                self._consume(raw)
                return
            except (AMQPError, OSError) as exc:
                if self._connection.raw is not raw:
                    return
                _log.warning("%s cannot be consumed (%s); trying again", self.name, describe(exc))
                self._tell_lost(exc)
                concurrency.sleep(backoff_s(failures, refused=isinstance(exc, AccessRefused)))
                failures += 1

    def _tell_if_gone(self, raw: Any) -> None:
        # The queue may have expired while there was no connection. Declaring it would not show that.
        channel = raw.channel()
        try:
            channel.queue_declare(self.queue.name, passive=True)
        except NotFound as exc:
            self._tell_lost(exc)
        finally:
            close_channel(channel)

    def _tell_lost(self, error: Exception) -> None:
        if self._on_lost is None:
            return
        try:
            self._on_lost(error)
        except Exception:
            _log.exception("%s: the callback on its loss failed", self.name)

    def __repr__(self) -> str:
        return f"<Subscription {self.name}{'' if self.consuming else ', not consuming'}>"
