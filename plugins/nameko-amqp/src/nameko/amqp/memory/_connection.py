"""A connection to an in-process broker, with the surface of py-amqp's as far as kombu and nameko use it."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from amqp import Connection as AmqpConnection
from amqp.exceptions import RecoverableConnectionError, ResourceError
from nameko.amqp.memory._channel import Channel
from nameko.amqp.memory._errors import Refused
from nameko.amqp.memory._inbox import Inbox
from nameko.amqp.memory._registry import get_broker, use

if TYPE_CHECKING:
    from nameko.amqp.memory._broker import MemoryBroker

_CHANNEL_MAX = 2047  # RabbitMQ's default


class Connection:
    """A connection to the broker of a virtual host.

    Any thread may use it, but only one at a time may drain its events.

    :param virtual_host: the broker
    :param confirm_publish: make each `basic_publish` wait for its confirm, as py-amqp's option does
    :param client_properties: `connection_name` and the like
    """

    connection_errors = AmqpConnection.connection_errors
    channel_errors = AmqpConnection.channel_errors
    recoverable_connection_errors = AmqpConnection.recoverable_connection_errors
    recoverable_channel_errors = AmqpConnection.recoverable_channel_errors

    def __init__(
        self,
        virtual_host: str = "/",
        confirm_publish: bool = False,
        client_properties: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        self.virtual_host = virtual_host
        self.confirm_publish = confirm_publish
        self.client_properties = dict(client_properties or {})
        self.server_properties = {
            "product": "nameko memory broker",
            "capabilities": {
                "publisher_confirms": True,
                "exchange_exchange_bindings": True,
                "basic.nack": True,
                "consumer_cancel_notify": True,
                "per_consumer_qos": True,
            },
        }
        self.client: Any = None
        self.heartbeat = 0
        self.channel_max = _CHANNEL_MAX
        self.channels: dict[int, Channel] | None = None
        self._broker: MemoryBroker | None = None
        self._inbox = Inbox()

    # -- life

    def connect(self) -> None:
        """Connect; harmless when it is connected."""
        if self.connected:
            return
        broker = get_broker(self.virtual_host)
        with broker.lock:
            broker.connections.add(self)
            use(broker)
        self._broker = broker
        self._inbox = Inbox()
        self.channels = {}

    @property
    def connected(self) -> bool:
        """Whether it can be used."""
        return self._broker is not None

    @property
    def server_capabilities(self) -> dict[str, Any]:
        """What the broker can do beyond the protocol."""
        capabilities: dict[str, Any] = self.server_properties["capabilities"]  # type: ignore[assignment]
        return capabilities

    @property
    def broker(self) -> MemoryBroker:
        """The broker.

        :raises RecoverableConnectionError: when it is not connected
        """
        if self._broker is None:
            raise RecoverableConnectionError("connection already closed")
        return self._broker

    def close(self, reply_code: int = 0, reply_text: str = "", method_sig: tuple[int, int] = (0, 0)) -> None:
        """Leave the broker: consumers end, what is not acknowledged is requeued, exclusive queues go."""
        broker = self._broker
        if broker is None:
            return
        with broker.lock:
            self._leave(broker)
            self._collect()

    def collect(self) -> None:
        """The same: nothing is waited for in either."""
        self.close()

    def fail(self, refused: Refused, method: tuple[int, int] | None = None) -> None:
        """The broker ends the connection, which hears of it in `drain_events`. Called with the broker's lock held."""
        if self._broker is not None:
            self._leave(self._broker, refused.as_amqp_error(method))

    def _leave(self, broker: MemoryBroker, error: Exception | None = None) -> None:
        if self not in broker.connections:
            return
        for channel in list((self.channels or {}).values()):
            channel.end_session(error)
        broker.delete_exclusive_queues(self)
        broker.connections.discard(self)
        if error is not None:
            self._inbox.put(self._raise_closed, error)
        self._inbox.close()
        broker.forget_if_empty()

    def _raise_closed(self, error: Exception) -> None:
        self._collect()
        raise error

    def _collect(self) -> None:
        channels, self.channels = self.channels, None
        self._broker = None
        for channel in list((channels or {}).values()):
            channel.collect()

    def __enter__(self) -> Connection:
        self.connect()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- use

    def channel(self, channel_id: int | None = None, callback: Callable[[Channel], object] | None = None) -> Channel:
        """An open channel: a new one, or the one that has `channel_id`.

        :raises RecoverableConnectionError: when it is not connected
        :raises ResourceError: when there are 2047 channels already
        """
        broker = self.broker
        channels = self.channels
        assert channels is not None
        if channel_id is not None and channel_id in channels:
            return channels[channel_id]
        with broker.lock:
            channel = Channel(self, channel_id or self._free_channel_id(channels))
            channels[channel.channel_id] = channel
        if callback is not None:
            callback(channel)
        return channel

    def _free_channel_id(self, channels: dict[int, Channel]) -> int:
        candidate = len(channels) + 1
        if candidate <= self.channel_max and candidate not in channels:
            return candidate
        for candidate in range(1, self.channel_max + 1):
            if candidate not in channels:
                return candidate
        raise ResourceError(f"No free channel ids, current={len(channels)}, channel_max={self.channel_max}", (20, 10))

    def drain_events(self, timeout: float | None = None) -> None:
        """Wait for one happening and call whoever it is for: a consumer, a confirm or return handler.

        :param timeout: seconds, by the wall clock; None waits for ever
        :raises socket.timeout: when nothing happens in that time
        :raises AMQPError: when what happens is that the broker closes a channel or the connection
        """
        fn, args = self._inbox.take(timeout)
        fn(*args)

    @property
    def inbox(self) -> Inbox:
        """Where the broker puts what it has for this connection."""
        return self._inbox

    def is_alive(self) -> bool:
        """Whether it can be used."""
        return self.connected

    def send_heartbeat(self) -> None:
        """Nothing to prove: both ends are in one process."""

    def heartbeat_tick(self, rate: int = 2) -> None:
        """Nothing to check."""

    def __repr__(self) -> str:
        return f"<memory Connection to {self.virtual_host!r} at 0x{id(self):x}>"
