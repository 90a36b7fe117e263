"""The channels of a connection: py-amqp's, but messages and their acknowledgements take the short way over `wire`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import kombu.transport.pyamqp

import amqp
import amqp.spec
from amqp.exceptions import ChannelError, RecoverableConnectionError, error_for_code
from nameko.amqp import wire
from nameko.amqp.answers import Answers

if TYPE_CHECKING:
    from nameko.amqp.green_transport import GreenTransport
    from nameko.amqp.transport import Connection

# Not a value of `Channel._outstanding`.
_UNKNOWN = object()
# So many distinct (exchange, routing key) remembered per channel.
_PUBLISH_METHODS_REMEMBERED = 1000


class JoinedAcks:
    """The acknowledgements of one channel that are sent together: all since those before were sent.

    One frame stands for all of them, and for those of earlier deliveries, when no earlier one is outstanding. So
    whatever else settles a delivery meanwhile has to reach the broker before that frame: `rejections`.

    :param channel: the channel
    """

    __slots__ = ("channel", "channel_id", "rejections", "tags")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.channel_id = channel.channel_id
        self.tags: list[int] = []
        self.rejections: list[bytes] = []  # frames

    def __len__(self) -> int:
        return wire.ACK_FRAME_BYTES

    def encode(self) -> bytes:
        """The frames, for good: one for the acknowledgements, or one for each where that is not the same."""
        self.channel.unsent_acks = None
        latest = max(self.tags)
        if len(self.tags) > 1 and self.channel.nothing_outstanding_up_to(latest):
            acks = [wire.encode_ack(self.channel_id, latest, multiple=True)]
        else:
            acks = [wire.encode_ack(self.channel_id, tag, multiple=False) for tag in self.tags]
        return b"".join(self.rejections + acks)


class Channel(Answers, kombu.transport.pyamqp.Channel):  # type: ignore[misc]
    """A channel whose messages take the short way, and which stays closed once the broker has closed it."""

    is_closing: bool
    #: Called with the error when the broker closes the channel.
    on_closed: Callable[[Exception], None] | None = None

    def __init__(self, connection: Connection, channel_id: int | None = None, **options: Any) -> None:
        super().__init__(connection, channel_id, **options)
        self._transport: GreenTransport = connection.transport
        self._publish_methods: dict[tuple[str, str, bool], bytes] = {}
        self._outstanding: dict[int, None] = {}  # delivery tags that were not settled yet, in order
        self._joins_acks = True
        #: What takes further acknowledgements, until it is sent.
        self.unsent_acks: JoinedAcks | None = None

    def prepare_message(  # as kombu calls it
        self,
        body: Any,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
        _Message: Any = None,
    ) -> wire.OutboundMessage:
        """A message that `basic_publish` takes."""
        if isinstance(body, str):
            content_encoding = content_encoding or "utf-8"
            body = body.encode(content_encoding)
        named = {
            "priority": priority,
            "content_type": content_type,
            "content_encoding": content_encoding,
            "application_headers": headers,
        }
        return wire.OutboundMessage(body, {**(properties or {}), **named})

    def basic_publish(
        self,
        msg: wire.OutboundMessage,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        immediate: bool = False,
        **options: Any,
    ) -> None:
        """Send `msg`. Returns at once; the confirm, if selected, comes as the event `basic_ack`."""
        channel_id = self._open_id()
        key = (exchange, routing_key, mandatory)
        method = self._publish_methods.get(key)
        if method is None:
            method = wire.encode_publish_method(channel_id, exchange, routing_key, mandatory)
            if len(self._publish_methods) >= _PUBLISH_METHODS_REMEMBERED:
                self._publish_methods.clear()
            self._publish_methods[key] = method
        self._transport.write(method + wire.encode_content(channel_id, msg, self.connection.frame_max))

    def basic_ack(self, delivery_tag: int, multiple: bool = False, argsig: str = "") -> None:
        """Acknowledge a delivery of this channel."""
        channel_id = self._open_id()
        if not multiple and self._outstanding.pop(delivery_tag, _UNKNOWN) is None:
            self._acks_to_send().tags.append(delivery_tag)
            return
        tags = [each for each in self._outstanding if each <= delivery_tag or delivery_tag == 0] if multiple else []
        for tag in tags:
            del self._outstanding[tag]
        if tags and self._joins_acks:
            self._acks_to_send().tags += tags
        else:
            self._transport.write(wire.encode_ack(channel_id, delivery_tag, multiple))

    def _acks_to_send(self) -> JoinedAcks:
        if self.unsent_acks is None:
            acks = JoinedAcks(self)
            self._transport.write(acks)
            self.unsent_acks = acks
        return self.unsent_acks

    def nothing_outstanding_up_to(self, delivery_tag: int) -> bool:
        """Whether all deliveries up to that one are settled, as far as is known here."""
        return self._joins_acks and next(iter(self._outstanding), delivery_tag + 1) > delivery_tag

    def basic_reject(self, delivery_tag: int, requeue: bool, argsig: str = "") -> None:
        """Reject a delivery of this channel."""
        frame = wire.encode_reject(self._open_id(), delivery_tag, requeue)
        self._outstanding.pop(delivery_tag, None)
        if self.unsent_acks is None:
            self._transport.write(frame)
        else:
            self.unsent_acks.rejections.append(frame)

    def _open_id(self) -> int:
        if self.connection is None or self.is_closing:
            raise self.closed_by or RecoverableConnectionError("the channel is closed")
        return self.channel_id  # type: ignore[no-any-return]

    def take_message(self, method: bytes, header: bytes, body: bytes, oversize: bool) -> None:
        """Hand a delivery to its consumer; a message that cannot be decoded is marked, not fatal."""
        delivery_info = wire.decode_delivery(method)
        properties: dict[str, Any] = {}
        error = f"bigger than {self.connection.max_message_bytes} bytes" if oversize else None
        if error is None:
            try:
                properties = wire.decode_properties(header)
            except Exception as exc:  # whatever a malformed table provokes
                error = f"malformed properties: {type(exc).__name__}: {exc}"
        message = wire.InboundMessage(body, properties, delivery_info, error)
        message.channel = self
        consumer_tag = delivery_info["consumer_tag"]
        if consumer_tag not in self.no_ack_consumers:
            self._outstanding[message.delivery_tag] = None
        callback = self.callbacks.get(consumer_tag)
        if callback is not None:
            callback(message)
        else:  # cancelled, with deliveries on their way: back to the queue
            self.basic_reject(message.delivery_tag, requeue=True)

    def take_other_message(self, method: bytes, message: amqp.Message) -> None:
        """Hand on a message that was returned, or fetched."""
        if wire.is_fetched(method):
            self._joins_acks = False  # whether it is to be acknowledged is not known here
        self.auto_decode = False
        self.dispatch_method((60, method[3]), method, message)

    def basic_consume(self, queue: str = "", consumer_tag: str = "", **options: Any) -> str:
        """Consume; deliveries may come before the broker's answer does, so the callback stands from the start."""
        callback = options.get("callback")
        if consumer_tag:
            self.callbacks[consumer_tag] = callback
            self.cancel_callbacks[consumer_tag] = options.get("on_cancel")
            if options.get("no_ack"):
                self.no_ack_consumers.add(consumer_tag)
        return super().basic_consume(queue, consumer_tag, **options)  # type: ignore[no-any-return]

    def _on_close(self, reply_code: int, reply_text: str, class_id: int, method_id: int) -> None:
        # py-amqp would open the channel again, without what was set up on it.
        self.send_method(amqp.spec.Channel.CloseOk)
        self.closed_by = error_for_code(reply_code, reply_text, (class_id, method_id), ChannelError)
        self.collect()
        if self.on_closed is not None:
            self.on_closed(self.closed_by)

    def close_soon(self) -> None:
        """Close without waiting for the broker's answer."""
        if self.connection is None or self.is_closing:
            return
        self.is_closing = True
        self.send_method(amqp.spec.Channel.Close, "BsBB", (0, "", 0, 0))
