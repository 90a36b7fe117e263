"""The broker: exchanges, queues and bindings of one virtual host, and the way of a message through them.

It does what RabbitMQ does, as far as clients can tell. Everything happens in the caller: nothing polls and no thread
runs. One lock guards a broker, so that connections may live in different operating system threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nameko import concurrency
from nameko.amqp.memory import _errors as errors
from nameko.amqp.memory._arguments import check_same_arguments, check_same_flag
from nameko.amqp.memory._dead_letters import dead_letter
from nameko.amqp.memory._errors import Refused
from nameko.amqp.memory._exchanges import Exchange
from nameko.amqp.memory._inspection import BindingInfo, QueueInfo
from nameko.amqp.memory._messages import Message
from nameko.amqp.memory._queues import Entry, MessageQueue, generated_name

if TYPE_CHECKING:
    from nameko.amqp.memory._connection import Connection

_SYSTEM_EXCHANGES = {
    "amq.direct": "direct",
    "amq.topic": "topic",
    "amq.fanout": "fanout",
    "amq.headers": "headers",
    "amq.match": "headers",
}


class MemoryBroker:
    """A virtual host of the in-process broker. `get_broker` gives the one that `memory://` connections use.

    :param vhost: its name
    :param on_empty: called with the broker when there is nothing left in it and nobody connected to it
    """

    def __init__(self, vhost: str, on_empty: Callable[[MemoryBroker], None]) -> None:
        self.vhost = vhost
        self._on_empty = on_empty
        #: Held for each change. Not a green lock: nothing yields while it is held.
        self.lock = concurrency.original("threading").RLock()
        self.connections: set[Connection] = set()
        self._exchanges = {
            name: Exchange(name, exchange_type, durable=True, auto_delete=False, arguments={})
            for name, exchange_type in _SYSTEM_EXCHANGES.items()
        }
        self._queues: dict[str, MessageQueue] = {}
        self._dead: deque[tuple[MessageQueue, Entry, str]] = deque()
        self._burying = False

    def _schedule(self, delay_s: float, fn: Callable[..., object], *args: Any) -> None:
        # In the hub of this thread or, when it has none, of one that drains a connection.
        if not concurrency.has_hub():
            for connection in self.connections:
                if connection.inbox.call_in_hub(concurrency.schedule, delay_s, fn, *args):
                    return
        concurrency.schedule(delay_s, fn, *args)

    # -- what there is, for tests and diagnosis

    @property
    def queue_names(self) -> list[str]:
        """The names of all queues, sorted."""
        with self.lock:
            return sorted(self._queues)

    @property
    def exchange_names(self) -> list[str]:
        """The names of all exchanges but the built-in ones, sorted."""
        with self.lock:
            return sorted(self._exchanges.keys() - _SYSTEM_EXCHANGES.keys())

    def queue_info(self, name: str) -> QueueInfo:
        """The present state of a queue.

        :raises KeyError: when there is none of that name
        """
        with self.lock:
            queue = self._queues[name]
            queue.expire()
            return QueueInfo.of(queue)

    def bindings(self) -> list[BindingInfo]:
        """All bindings between exchanges and queues; not the ones of the default exchange."""
        with self.lock:
            return [BindingInfo.of(binding) for exchange in self._exchanges.values() for binding in exchange.bindings]

    def close_all_connections(self, reason: str = "closed by the operator") -> None:
        """Break every connection, as an operator or a restart of the broker would; what is durable stays.

        :param reason: what the clients are told
        """
        with self.lock:
            for connection in list(self.connections):
                connection.fail(Refused(320, reason))

    def forget_if_empty(self) -> None:
        """Tell the registry when nothing would be lost with this broker."""
        if not self.connections and not self._queues and self._exchanges.keys() == _SYSTEM_EXCHANGES.keys():
            self._on_empty(self)

    # -- exchanges

    def exchange(self, name: str) -> Exchange:
        """The exchange of that name.

        :raises Refused: when there is none, or it is the default exchange, to which nothing can be done
        """
        if not name:
            raise errors.default_exchange()
        try:
            return self._exchanges[name]
        except KeyError:
            raise errors.not_found("exchange", name, self.vhost) from None

    def declare_exchange(
        self,
        name: str,
        exchange_type: str,
        *,
        passive: bool,
        durable: bool,
        auto_delete: bool,
        arguments: Mapping[str, Any],
    ) -> None:
        """Make an exchange, or check that there is one like it.

        :raises Refused: when there is none (passive), a different one, or the name is reserved
        """
        existing = self._exchanges.get(name)
        if passive or not name:
            self.exchange(name)
        elif existing is not None:
            self._check_same_exchange(existing, exchange_type, durable, auto_delete, arguments)
        elif name.startswith("amq."):
            raise errors.reserved_name("exchange", name)
        else:
            self._exchanges[name] = Exchange(name, exchange_type, durable, auto_delete, arguments)

    def _check_same_exchange(
        self, existing: Exchange, exchange_type: str, durable: bool, auto_delete: bool, arguments: Mapping[str, Any]
    ) -> None:
        place = ("exchange", existing.name, self.vhost)
        check_same_flag("type", exchange_type, existing.type, *place)
        check_same_flag("durable", durable, existing.durable, *place)
        check_same_flag("auto_delete", auto_delete, existing.auto_delete, *place)
        check_same_arguments(arguments, existing.arguments, *place)

    def delete_exchange(self, name: str, if_unused: bool) -> None:
        """Remove an exchange and its bindings; one that is not there is ignored.

        :raises Refused: when it is built in, or has bindings and `if_unused`
        """
        if not name:
            raise errors.default_exchange()
        if name in _SYSTEM_EXCHANGES:
            raise Refused(403, f"deletion of system exchange '{name}' in vhost '{self.vhost}' not allowed")
        exchange = self._exchanges.get(name)
        if exchange is None:
            return
        if if_unused and exchange.bindings:
            raise errors.in_use("exchange", name, self.vhost)
        del self._exchanges[name]
        self._unbind_everywhere(exchange)
        self.forget_if_empty()

    def bind(self, source: str, destination: Any, routing_key: str, arguments: Mapping[str, Any]) -> None:
        """Let messages go from the exchange `source` to a queue or another exchange.

        :raises Refused: when there is no such source
        """
        self.exchange(source).bind(destination, routing_key, arguments)

    def unbind(self, source: str, destination: Any | None, routing_key: str, arguments: Mapping[str, Any]) -> None:
        """Undo `bind`. What is not there is ignored.

        :raises Refused: for the default exchange
        """
        if not source:
            raise errors.default_exchange()
        exchange = self._exchanges.get(source)
        if exchange is None or destination is None:
            return
        had_bindings = bool(exchange.bindings)
        exchange.unbind(destination, routing_key, arguments)
        self._delete_if_left(exchange, had_bindings)

    def _unbind_everywhere(self, destination: Any) -> None:
        for exchange in list(self._exchanges.values()):
            self._delete_if_left(exchange, exchange.unbind_all(destination))

    def _delete_if_left(self, exchange: Exchange, had_bindings: bool) -> None:
        if exchange.auto_delete and had_bindings and not exchange.bindings:
            self.delete_exchange(exchange.name, if_unused=False)

    # -- queues

    def find_queue(self, name: str) -> MessageQueue | None:
        """The queue of that name, if there is one, whoever may use it."""
        queue = self._queues.get(name)
        if queue is not None:
            queue.expire()
        return None if queue is None or queue.deleted else queue

    def queue(self, name: str, connection: object) -> MessageQueue:
        """The queue of that name, for use by `connection`.

        :raises Refused: when there is none or it is exclusive to another connection
        """
        queue = self.find_queue(name)
        if queue is None:
            raise errors.not_found("queue", name, self.vhost)
        if queue.owner is not None and queue.owner is not connection:
            raise errors.locked(name, self.vhost)
        return queue

    def declare_queue(
        self,
        name: str,
        connection: object,
        *,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        arguments: Mapping[str, Any],
    ) -> MessageQueue:
        """Make a queue, or check that there is one like it.

        :param name: a new one is made up when it is empty
        :raises Refused: when there is a different one, it is another connection's, or the name is reserved
        """
        name = name or generated_name()
        if self.find_queue(name) is not None:
            queue = self.queue(name, connection)
            self._check_same_queue(queue, durable, exclusive, auto_delete, arguments)
            queue.touch()
            return queue
        if name.startswith("amq.") and not name.startswith("amq.gen-"):
            raise errors.reserved_name("queue", name)
        queue = self._queues[name] = MessageQueue(
            name,
            self.vhost,
            durable=durable,
            auto_delete=auto_delete,
            owner=connection if exclusive else None,
            arguments=arguments,
            on_dead_letter=self._dead_letter,
            on_unused=self.delete_queue,
            schedule=self._schedule,
            lock=self.lock,
        )
        return queue

    def _check_same_queue(
        self, queue: MessageQueue, durable: bool, exclusive: bool, auto_delete: bool, arguments: Mapping[str, Any]
    ) -> None:
        if exclusive != (queue.owner is not None):
            raise errors.locked(queue.name, self.vhost)
        place = ("queue", queue.name, self.vhost)
        check_same_flag("durable", durable, queue.durable, *place)
        check_same_flag("auto_delete", auto_delete, queue.auto_delete, *place)
        check_same_arguments(arguments, queue.arguments, *place)

    def delete_queue(self, queue: MessageQueue) -> None:
        """Remove a queue with its bindings and messages; its consumers are told."""
        if self._queues.get(queue.name) is not queue:
            return
        del self._queues[queue.name]
        for consumer in queue.delete():
            consumer.session.lose_consumer(consumer)
        self._unbind_everywhere(queue)
        self.forget_if_empty()

    def delete_exclusive_queues(self, connection: object) -> None:
        """Remove what belongs to a connection that is closed."""
        for queue in list(self._queues.values()):
            if queue.owner is connection:
                self.delete_queue(queue)

    # -- messages

    def publish(self, message: Message) -> tuple[bool, bool]:
        """Route a message.

        :returns: whether it had a route; whether all the queues on it have taken it
        :raises Refused: when there is no such exchange
        """
        queues = self.route(message)
        if len(queues) == 1:
            return True, self._put(queues[0], message)
        # What it displaces in one of its queues comes after it in all of them.
        held, self._burying = self._burying, True
        try:
            accepted = [self._put(queue, message) for queue in queues]
        finally:
            self._burying = held
        self._bury_all()
        return bool(queues), all(accepted)

    def _put(self, queue: MessageQueue, message: Message) -> bool:
        accepted = queue.accepts(message)
        if accepted:
            queue.put(message)
        return accepted

    def route(self, message: Message) -> tuple[MessageQueue, ...]:
        """The distinct queues that `message` goes to.

        :raises Refused: when there is no such exchange
        """
        name = message.exchange
        if not name:
            queue = self._queues.get(message.routing_key)
            return () if queue is None else (queue,)
        exchange = self._exchanges.get(name)
        if exchange is None:
            raise errors.not_found("exchange", name, self.vhost)
        if exchange.leads_on:
            return self._route_through_exchanges(exchange, message)
        return exchange.follow(message)

    def _route_through_exchanges(self, exchange: Exchange, message: Message) -> tuple[MessageQueue, ...]:
        queues: dict[MessageQueue, None] = {}
        seen = {exchange}
        pending = [exchange]
        while pending:
            exchange = pending.pop()
            destinations = exchange.follow(message)
            alternate = self._exchanges.get(exchange.alternate) if exchange.alternate else None
            if not destinations and alternate is not None:
                destinations = (alternate,)
            for destination in destinations:
                if isinstance(destination, MessageQueue):
                    queues[destination] = None
                elif destination not in seen:
                    seen.add(destination)
                    pending.append(destination)
        return tuple(queues)

    def _dead_letter(self, queue: MessageQueue, entry: Entry, reason: str) -> None:
        if queue.limits.dead_letter_exchange is None:
            return
        self._dead.append((queue, entry, reason))
        self._bury_all()

    def _bury_all(self) -> None:
        if self._burying:  # what a dead letter displaces is sent on in the same loop, not in a deeper call
            return
        self._burying = True
        try:
            while self._dead:
                self._bury(*self._dead.popleft())
        finally:
            self._burying = False

    def _bury(self, queue: MessageQueue, entry: Entry, reason: str) -> None:
        message, visited = dead_letter(queue, entry, reason)
        if message.exchange and message.exchange not in self._exchanges:
            return
        for target in self.route(message):
            if target.name not in visited:
                self._put(target, message)
