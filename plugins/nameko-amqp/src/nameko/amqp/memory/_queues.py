"""A queue: what waits in it, for how long, and which consumer gets the next message."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nameko.amqp.memory._alarm import Alarm, Schedule
from nameko.amqp.memory._arguments import QueueArguments
from nameko.amqp.memory._messages import Message

if TYPE_CHECKING:
    from nameko.amqp.memory._sessions import Consumer

#: Called with the queue, what leaves it unconsumed, and why: "expired", "maxlen" or "rejected".
DeadLetterHandler = Callable[["MessageQueue", "Entry", str], None]


class Entry:
    """A message in one queue.

    :param expires_at: when it has to leave the queue, on the monotonic clock; None for never
    """

    __slots__ = ("expires_at", "message", "position", "redelivered")

    def __init__(self, message: Message, position: int, expires_at: float | None) -> None:
        self.message = message
        self.position = position
        self.expires_at = expires_at
        self.redelivered = False


class MessageQueue:
    """A queue of a broker. All of its methods are called with the broker's lock held.

    :param owner: the connection that it is exclusive to
    :param on_dead_letter: told of what leaves the queue unconsumed
    :param on_unused: called when the queue has to go: `x-expires` has passed, or the last consumer of an auto-delete
        queue has left
    :param schedule: makes timers
    :param lock: taken by the queue's timers
    """

    def __init__(
        self,
        name: str,
        vhost: str,
        *,
        durable: bool,
        auto_delete: bool,
        owner: object | None,
        arguments: Mapping[str, Any],
        on_dead_letter: DeadLetterHandler,
        on_unused: Callable[[MessageQueue], None],
        schedule: Schedule,
        lock: Any,
    ) -> None:
        self.name = name
        self.durable = durable
        self.auto_delete = auto_delete
        self.owner = owner
        self.arguments = dict(arguments)
        self.limits = QueueArguments.parse(self.arguments, name, vhost)
        self.consumers: list[Consumer] = []
        self.unacknowledged = 0
        self.deleted = False
        self._entries: deque[Entry] = deque()
        self._ready: deque[Consumer] = deque()
        self._bytes = 0
        self._last_position = 0
        self._on_dead_letter = on_dead_letter
        self._on_unused = on_unused
        self._expiry = Alarm(lock, self._expire, schedule)
        self._idle = Alarm(lock, self._expire_queue, schedule)
        self.touch()

    def __len__(self) -> int:
        return len(self._entries)

    # -- messages

    def accepts(self, message: Message) -> bool:
        """Whether `put` would take the message: a full queue with `x-overflow: reject-publish` does not."""
        if self.limits.overflow == "drop-head" or not self._is_full(1, len(message.body)):
            return True
        if self.limits.overflow == "reject-publish-dlx":
            self._on_dead_letter(self, self._entry(message), "maxlen")
        return False

    def put(self, message: Message) -> None:
        """Append a message: to a consumer at once, if one is ready, else to the queue as far as its limits allow."""
        entry = self._entry(message)
        if not self._entries and self._hand_over(entry):
            return
        self._entries.append(entry)
        self._bytes += len(message.body)
        self._enforce_limits()

    def _entry(self, message: Message) -> Entry:
        self._last_position += 1
        ttl_ms = self.limits.message_ttl_ms
        if message.expiration_ms is not None and (ttl_ms is None or message.expiration_ms < ttl_ms):
            ttl_ms = message.expiration_ms
        expires_at = None if ttl_ms is None else time.monotonic() + ttl_ms / 1000
        return Entry(message, self._last_position, expires_at)

    def take(self) -> Entry | None:
        """The first message, for `basic.get`; None when there is none."""
        self._drop_expired()
        if not self._entries:
            return None
        entry = self._entries.popleft()
        self._bytes -= len(entry.message.body)
        return entry

    def put_back(self, entries: list[Entry]) -> None:
        """Requeue messages, each to its old place, without delivering them yet: `dispatch` comes next."""
        if self.deleted:
            return
        for entry in sorted(entries, key=lambda entry: entry.position, reverse=True):
            entry.redelivered = True
            self._bytes += len(entry.message.body)
            place = 0
            while place < len(self._entries) and self._entries[place].position < entry.position:
                place += 1
            self._entries.insert(place, entry)

    def dead_letter(self, entry: Entry, reason: str) -> None:
        """Let go of a message that nobody consumed."""
        if not self.deleted:
            self._on_dead_letter(self, entry, reason)

    def purge(self) -> int:
        """Drop all messages that wait; their number."""
        count = len(self._entries)
        self._entries.clear()
        self._bytes = 0
        return count

    def delete(self) -> list[Consumer]:
        """Drop everything; the consumers that it had."""
        self.deleted = True
        self.purge()
        self._expiry.cancel()
        self._idle.cancel()
        consumers, self.consumers = self.consumers, []
        self._ready.clear()
        return consumers

    # -- consumers

    def add_consumer(self, consumer: Consumer) -> None:
        """Deliver to `consumer`, in turn with the others."""
        self._idle.cancel()
        self.consumers.append(consumer)
        self.resume(consumer)

    def pause(self, consumer: Consumer) -> None:
        """Give `consumer` no more messages."""
        if consumer.waiting:
            consumer.waiting = False
            self._ready.remove(consumer)

    def remove_consumer(self, consumer: Consumer) -> None:
        """Forget `consumer`. The last one to leave may take the queue with it."""
        if consumer not in self.consumers:
            return
        self.pause(consumer)
        self.consumers.remove(consumer)
        if not self.consumers:
            self.touch()
            if self.auto_delete:
                self._on_unused(self)

    def resume(self, consumer: Consumer) -> None:
        """Let `consumer` have messages, as it can take one more."""
        if not consumer.waiting and consumer.active and consumer.has_capacity():
            consumer.waiting = True
            self._ready.append(consumer)
            if self._entries:
                self.dispatch()

    def dispatch(self) -> None:
        """Deliver as long as there is a message and a consumer that takes it, each consumer in its turn.

        What is left is held to the limits of the queue.
        """
        self._drop_expired()
        while self._entries and self._ready:
            entry = self._entries.popleft()
            if not self._hand_over(entry):
                self._entries.appendleft(entry)
                break
            self._bytes -= len(entry.message.body)
            self._drop_expired()
        if self._entries:
            self._enforce_limits()

    def _hand_over(self, entry: Entry) -> bool:
        ready = self._ready
        while ready:
            consumer = ready.popleft()
            if not consumer.has_capacity():  # its channel as a whole has enough
                consumer.waiting = False
                continue
            consumer.deliver(entry)
            if consumer.has_capacity():
                ready.append(consumer)
            else:
                consumer.waiting = False
            return True
        return False

    # -- limits

    def touch(self) -> None:
        """The queue is in use: begin `x-expires` anew."""
        if self.limits.expires_ms is not None and not self.consumers:
            self._idle.set(time.monotonic() + self.limits.expires_ms / 1000)

    def expire(self) -> None:
        """Do what is due by the clock. Timers do it too, where the thread that set them still runs."""
        self._idle.ring_if_due()
        self._drop_expired()

    def _expire_queue(self) -> None:
        if not self.consumers and not self.deleted:
            self._on_unused(self)

    def _enforce_limits(self) -> None:
        while self._entries and self._is_full(0, 0):
            self._drop_head("maxlen")
        self._expire()

    def _is_full(self, more: int, more_bytes: int) -> bool:
        limits = self.limits
        if limits.max_length is not None and len(self._entries) + more > limits.max_length:
            return True
        return limits.max_length_bytes is not None and self._bytes + more_bytes > limits.max_length_bytes

    def _expire(self) -> None:
        self._drop_expired()
        if self._entries:
            expires_at = self._entries[0].expires_at
            if expires_at is not None:
                self._expiry.set(expires_at)

    def _drop_expired(self) -> None:
        # Only from the front, as RabbitMQ does: a message behind one that stays is not looked at.
        while self._entries:
            expires_at = self._entries[0].expires_at
            if expires_at is None or expires_at > time.monotonic():
                return
            self._drop_head("expired")

    def _drop_head(self, reason: str) -> None:
        entry = self._entries.popleft()
        self._bytes -= len(entry.message.body)
        self._on_dead_letter(self, entry, reason)


def generated_name() -> str:
    """A queue name as RabbitMQ gives one."""
    return f"amq.gen-{secrets.token_urlsafe(16)}"
