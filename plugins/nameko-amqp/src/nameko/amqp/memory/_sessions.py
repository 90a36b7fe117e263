"""The broker's side of a channel: its consumers, what it has to acknowledge, and its confirms."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING

from nameko.amqp.memory._errors import Refused, in_use, unknown_delivery_tag
from nameko.amqp.memory._inbox import Inbox
from nameko.amqp.memory._messages import Message
from nameko.amqp.memory._queues import Entry, MessageQueue

if TYPE_CHECKING:
    from nameko.amqp.memory._broker import MemoryBroker
    from nameko.amqp.memory._channel import Channel


class Consumer:
    """A subscription of a channel to a queue.

    :param prefetch: how many unacknowledged messages it may have; 0 for any number
    """

    __slots__ = (
        "active",
        "exclusive",
        "no_ack",
        "prefetch",
        "queue",
        "session",
        "tag",
        "unacknowledged",
        "unseen",
        "waiting",
    )

    def __init__(
        self, session: Session, queue: MessageQueue, tag: str, no_ack: bool, exclusive: bool, prefetch: int
    ) -> None:
        self.session = session
        self.queue = queue
        self.tag = tag
        self.no_ack = no_ack
        self.exclusive = exclusive
        self.prefetch = prefetch
        self.unacknowledged = 0
        self.active = True
        #: Whether it stands in the queue's line for the next message.
        self.waiting = False
        #: What is on its way to it and will never be acknowledged.
        self.unseen: dict[Delivery, None] = {}

    def has_capacity(self) -> bool:
        """Whether it may be given one more message."""
        if self.no_ack:
            return True
        if self.prefetch and self.unacknowledged >= self.prefetch:
            return False
        limit = self.session.prefetch_of_channel
        return not limit or len(self.session.deliveries) < limit

    def deliver(self, entry: Entry) -> None:
        """Send it a message."""
        session = self.session
        delivery = session.register(self, self.queue, entry, self.no_ack)
        if self.no_ack:
            self.unseen[delivery] = None
        session.inbox.put(session.channel.on_deliver, session, delivery)


class Delivery:
    """A message on its way to a client, or with it, until it is acknowledged.

    :param consumer: whose it is; None for one that was fetched with `basic.get`
    """

    __slots__ = ("consumer", "entry", "handed_over", "queue", "tag")

    def __init__(self, tag: int, consumer: Consumer | None, queue: MessageQueue, entry: Entry) -> None:
        self.tag = tag
        self.consumer = consumer
        self.queue = queue
        self.entry = entry
        self.handed_over = False


class Session:
    """What the broker knows of an open channel. All of its methods are called with the broker's lock held.

    :param channel: the client's side, which is told of deliveries, confirms and returns through `inbox`
    """

    def __init__(self, broker: MemoryBroker, connection: object, channel: Channel, inbox: Inbox) -> None:
        self.broker = broker
        self.connection = connection
        self.channel = channel
        self.inbox = inbox
        self.consumers: dict[str, Consumer] = {}
        self.deliveries: dict[int, Delivery] = {}
        self.prefetch_of_next_consumer = 0
        self.prefetch_of_channel = 0
        self.confirms = False
        self.published = 0
        self.closed = False
        #: Why the broker has closed it, until the client knows.
        self.error: Exception | None = None
        self._last_tag = 0
        self._last_queue: str | None = None

    # -- queues

    def queue(self, name: str) -> MessageQueue:
        """The queue of that name; an empty name means the one that this channel declared last.

        :raises Refused: when there is none or it is another connection's
        """
        if not name:
            if self._last_queue is None:
                raise Refused(404, "no previously declared queue")
            name = self._last_queue
        return self.broker.queue(name, self.connection)

    def declared(self, queue: MessageQueue) -> None:
        """Remember what the channel declared last."""
        self._last_queue = queue.name

    def delete_queue(self, name: str, if_unused: bool, if_empty: bool) -> int:
        """Remove a queue; the number of messages that waited in it.

        :raises Refused: when it is another connection's, or not what the conditions say
        """
        if name and self.broker.find_queue(name) is None:
            return 0
        queue = self.queue(name)
        if if_unused and queue.consumers:
            raise in_use("queue", queue.name, self.broker.vhost)
        if if_empty and len(queue):
            raise Refused(406, f"queue '{queue.name}' in vhost '{self.broker.vhost}' not empty")
        count = len(queue)
        self.broker.delete_queue(queue)
        return count

    # -- publishing

    def publish(self, message: Message, mandatory: bool) -> None:
        """Take a message, return it when it has to be, confirm it when this channel has asked for that.

        :raises Refused: when the broker does not take it at all
        """
        message.check()
        routed, accepted = self.broker.publish(message)
        put, channel = self.inbox.put, self.channel
        if mandatory and not routed:
            put(channel.on_return, self, message)
        if self.confirms:
            self.published += 1
            put(channel.on_confirm, self, self.published, accepted)

    # -- consuming

    def consume(self, queue: MessageQueue, tag: str, no_ack: bool, exclusive: bool) -> Consumer:
        """Add a consumer; its deliveries begin with `Consumer.queue.add_consumer`.

        :raises Refused: when the tag is taken or the queue is in exclusive use
        """
        tag = tag or f"amq.ctag-{secrets.token_urlsafe(16)}"
        if tag in self.consumers:
            raise Refused(530, f"attempt to reuse consumer tag '{tag}'")
        others = queue.consumers
        if others and (exclusive or others[0].exclusive):
            raise Refused(403, f"queue '{queue.name}' in vhost '{self.broker.vhost}' in exclusive use")
        consumer = Consumer(self, queue, tag, no_ack, exclusive, self.prefetch_of_next_consumer)
        self.consumers[tag] = consumer
        return consumer

    def cancel(self, tag: str) -> list[Delivery]:
        """End a consumer. What it was sent and has not seen yet goes back to the queue.

        :returns: what cannot go back, as it needs no acknowledgement: the consumer still has to see it
        """
        consumer = self.consumers.pop(tag, None)
        if consumer is None:
            return []
        consumer.active = False
        consumer.queue.pause(consumer)
        unseen = [
            delivery
            for delivery in self.deliveries.values()
            if delivery.consumer is consumer and not delivery.handed_over
        ]
        for delivery in unseen:
            del self.deliveries[delivery.tag]
        self._put_back(unseen)
        consumer.queue.remove_consumer(consumer)
        return list(consumer.unseen)

    def hand_over(self, delivery: Delivery) -> bool:
        """The client is about to see a delivery; whether it still may."""
        with self.broker.lock:
            consumer = delivery.consumer
            if self.closed or consumer is None:
                return False
            if consumer.no_ack:
                consumer.unseen.pop(delivery, None)
                return consumer.active
            delivery.handed_over = True
            return delivery.tag in self.deliveries

    def lose_consumer(self, consumer: Consumer) -> None:
        """The queue has gone: tell the client that this consumer has ended."""
        consumer.active = False
        if self.consumers.pop(consumer.tag, None) is not None:
            self.inbox.put(self.channel.on_consumer_lost, self, consumer.tag)

    def get(self, queue: MessageQueue, no_ack: bool) -> Delivery | None:
        """The first message of `queue`, without a consumer."""
        queue.touch()
        entry = queue.take()
        if entry is None:
            return None
        delivery = self.register(None, queue, entry, no_ack)
        delivery.handed_over = True
        return delivery

    def register(self, consumer: Consumer | None, queue: MessageQueue, entry: Entry, no_ack: bool) -> Delivery:
        """Number a delivery and, unless it needs none, wait for its acknowledgement."""
        self._last_tag += 1
        delivery = Delivery(self._last_tag, consumer, queue, entry)
        if not no_ack:
            self.deliveries[delivery.tag] = delivery
            queue.unacknowledged += 1
            if consumer is not None:
                consumer.unacknowledged += 1
        return delivery

    # -- acknowledging

    def ack(self, tag: int, multiple: bool) -> None:
        """These messages are done with.

        :raises Refused: when `tag` is not awaited
        """
        self._release(self._settle(tag, multiple))

    def reject(self, tag: int, multiple: bool, requeue: bool) -> None:
        """These messages are refused: they go back to their queues, or leave them as rejected.

        :raises Refused: when `tag` is not awaited
        """
        deliveries = self._settle(tag, multiple)
        if requeue:
            self._put_back(deliveries)
            return
        self._release(deliveries)
        for delivery in deliveries:
            delivery.queue.dead_letter(delivery.entry, "rejected")

    def recover(self, requeue: bool = True) -> None:
        """Requeue everything that awaits acknowledgement.

        :raises Refused: when it is to be delivered again without being requeued
        """
        if not requeue:
            raise Refused(540, "requeue=false")
        deliveries = list(self.deliveries.values())
        self.deliveries.clear()
        self._put_back(deliveries)

    def _settle(self, tag: int, multiple: bool) -> list[Delivery]:
        deliveries = self.deliveries
        if not multiple or (tag and tag not in deliveries):
            delivery = deliveries.pop(tag, None)
            if delivery is None:
                raise unknown_delivery_tag(tag)
            return [delivery]
        settled = [delivery for known, delivery in deliveries.items() if not tag or known <= tag]
        for delivery in settled:
            del deliveries[delivery.tag]
        return settled

    def _put_back(self, deliveries: list[Delivery]) -> None:
        by_queue: dict[MessageQueue, list[Entry]] = {}
        for delivery in deliveries:
            by_queue.setdefault(delivery.queue, []).append(delivery.entry)
        # Back in their places before a consumer that they were with is free for what comes next.
        for queue, entries in by_queue.items():
            queue.put_back(entries)
        self._release(deliveries)
        for queue in by_queue:
            queue.dispatch()

    def _release(self, deliveries: Iterable[Delivery]) -> None:
        consumers = []
        for delivery in deliveries:
            delivery.queue.unacknowledged -= 1
            consumer = delivery.consumer
            if consumer is not None:
                consumer.unacknowledged -= 1
                consumers.append(consumer)
        for consumer in self.consumers.values() if self.prefetch_of_channel else dict.fromkeys(consumers):
            if not consumer.waiting and consumer.active:
                consumer.queue.resume(consumer)

    # -- the end

    def close(self, error: Exception | None = None) -> None:
        """End the session: consumers leave, and what they have not acknowledged is requeued.

        :param error: why, when it is the broker's doing
        """
        if self.closed:
            return
        self.closed = True
        self.error = error
        consumers = list(self.consumers.values())
        self.consumers.clear()
        for consumer in consumers:
            consumer.active = False
        # Out of the line first: otherwise the messages that come back would be sent here again.
        for consumer in consumers:
            consumer.queue.pause(consumer)
        self.recover()
        for consumer in consumers:
            consumer.queue.remove_consumer(consumer)
