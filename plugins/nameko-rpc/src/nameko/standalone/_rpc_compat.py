"""What pools of standalone proxies for nameko 2.14 reach into to keep idle ones connected. Nothing of our own does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nameko.amqp.blocking import BlockingClient, Deadline
from nameko.rpc._client import Caller, Client, Context

if TYPE_CHECKING:
    from nameko.standalone.rpc import SingleThreadedReplyListener

# Seconds that sending a heartbeat may take.
_HEARTBEAT_TIMEOUT_S = 5.0


class ClusterProxy(Client):
    """What a proxy of all services gives: `proxy.service.method()`.

    :param caller: makes the calls
    :param context: who calls
    :param service_name: the service, for a proxy of one
    :param reply_listener: the connection
    """

    __slots__ = ("_reply_listener",)

    def __init__(
        self,
        caller: Caller,
        context: Context,
        service_name: str | None,
        reply_listener: SingleThreadedReplyListener,
    ) -> None:
        super().__init__(caller, context, service_name)
        self._reply_listener = reply_listener

    @property
    def _worker_ctx(self) -> Context:
        return self._context


class QueueConsumerView:
    """`reply_listener.queue_consumer`: its `connection`, and the `replies` that nobody has asked for.

    :param client: the connection, as it is
    """

    def __init__(self, client: BlockingClient) -> None:
        self.connection = ConnectionView(client)

    @property
    def replies(self) -> dict[str, Any]:
        """Always empty: a reply is kept by the call that waits for it, and dropped with it."""
        return {}


class ConnectionView:
    """The connection of a standalone proxy while nobody calls through it.

    :param client: the connection, as it is
    """

    def __init__(self, client: BlockingClient) -> None:
        self._client = client

    def drain_events(self, timeout: float | None = None) -> None:
        """Take in what arrives within `timeout` seconds.

        :raises TimeoutError: at the end of them
        :raises ConnectionLost: when the connection is lost
        """
        self._client.wait(lambda: False, Deadline(timeout))

    def heartbeat_check(self) -> None:
        """Send a heartbeat if one is due.

        :raises amqp.exceptions.ConnectionError: when the broker has sent none for too long
        :raises ConnectionLost: when the connection is lost
        """
        self._client.call(lambda channel: channel.connection.heartbeat_tick(), Deadline(_HEARTBEAT_TIMEOUT_S))


ClusterProxy.__module__ = "nameko.standalone.rpc"
