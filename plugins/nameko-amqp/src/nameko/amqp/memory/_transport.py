"""The in-process broker as a kombu transport."""

from __future__ import annotations

from typing import Any

from kombu.transport import base

from nameko.amqp.memory._channel import Channel
from nameko.amqp.memory._connection import Connection

# Options of kombu's connections that make a difference here.
_OPTIONS = ("confirm_publish", "client_properties")


class Transport(base.Transport):  # type: ignore[misc]
    """Use it with `kombu.Connection("memory://localhost/vhost", transport=Transport)`.

    :param client: the kombu connection
    """

    default_port = 0
    driver_type = "amqp"
    driver_name = "nameko-memory"

    connection_errors = Connection.connection_errors
    channel_errors = Connection.channel_errors
    recoverable_connection_errors = Connection.recoverable_connection_errors
    recoverable_channel_errors = Connection.recoverable_channel_errors

    def __init__(self, client: Any, **_: Any) -> None:
        self.client = client

    def driver_version(self) -> str:
        """Nothing to tell apart: it comes with nameko."""
        return "N/A"

    def establish_connection(self) -> Connection:
        """Connect to the broker of the client's virtual host."""
        options = self.client.transport_options or {}
        connection = Connection(
            virtual_host=self.client.virtual_host or "/",
            **{name: options[name] for name in _OPTIONS if name in options},
        )
        connection.client = self.client
        connection.connect()
        return connection

    def verify_connection(self, connection: Connection) -> bool:
        """Whether it can be used."""
        return connection.connected

    def close_connection(self, connection: Connection) -> None:
        """Leave the broker."""
        connection.client = None
        connection.close()

    def _collect(self, connection: Connection | None) -> None:
        if connection is not None:
            connection.collect()

    def create_channel(self, connection: Connection) -> Channel:
        """A new channel."""
        return connection.channel()

    def close_channel(self, channel: Channel) -> None:
        """Close a channel."""
        channel.close()

    def drain_events(self, connection: Connection, **kwargs: Any) -> None:
        """Wait for one happening; see `Connection.drain_events`."""
        connection.drain_events(**kwargs)

    @property
    def default_connection_params(self) -> dict[str, Any]:
        """What a URI may leave out."""
        return {"hostname": "localhost", "port": self.default_port, "virtual_host": "/"}
