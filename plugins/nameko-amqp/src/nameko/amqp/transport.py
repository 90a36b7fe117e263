"""The AMQP connection under everything: py-amqp's, on a transport that is made for many greenthreads at once.

One greenthread reads at a time, normally the connection's own, and cuts the frames out of what there is. Others that
wait for an answer of the broker wait for the reader's progress, against the wall clock.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import kombu.transport.pyamqp

import amqp
import amqp.spec
from amqp.exceptions import AMQPNotImplementedError, RecoverableConnectionError, error_for_code
from nameko import concurrency
from nameko.amqp import wire
from nameko.amqp.answers import Answers
from nameko.amqp.channels import Channel
from nameko.amqp.green_transport import GreenTransport
from nameko.amqp.settings import is_in_process


class Connection(Answers, amqp.Connection):  # type: ignore[misc]
    """A connection for many greenthreads. See the module.

    Takes py-amqp's arguments, and `max_message_bytes`: the bodies of bigger messages are not kept.
    """

    Channel = Channel
    # py-amqp does not read the reason.
    _METHODS = {  # noqa: RUF012  (as in the base class)
        **amqp.Connection._METHODS,
        amqp.spec.Connection.Blocked: amqp.spec.method(amqp.spec.Connection.Blocked, "s"),
    }

    def __init__(self, *args: Any, max_message_bytes: int = 2**63, **options: Any) -> None:
        self.max_message_bytes = max_message_bytes
        self._reader: Any = None
        self._progress = concurrency.Event()
        super().__init__(*args, frame_writer=_frame_writer, **options)
        self._frames = wire.FrameReader(
            on_method=self._take_method,
            on_message=self._take_message,
            on_ack=self._take_ack,
            frame_max=self.frame_max,
            max_message_bytes=max_message_bytes,
        )

    def Transport(self, host: str, connect_timeout: float | None, ssl: Any = False, *_: Any, **__: Any) -> Any:
        """The transport; py-amqp calls this."""
        return GreenTransport(
            host,
            connect_timeout_s=connect_timeout,
            tls=(dict(ssl) if isinstance(ssl, dict) else {}) if ssl or isinstance(ssl, dict) else None,
            user_timeout_s=2 * self.client_heartbeat if self.client_heartbeat else None,
        )

    def connect(self, callback: Callable[[], Any] | None = None) -> Any:
        """Connect and open the virtual host.

        :raises OSError, amqp.exceptions.AMQPError: when that fails; the socket is given back
        """
        try:
            return super().connect(callback)
        except BaseException:
            self.collect()
            raise

    # -- reading

    @property
    def frame_incomplete_since(self) -> float | None:
        """When the beginning of a frame was read whose end has not come yet, by `time.monotonic()`; None for none."""
        return self._frames.incomplete_since

    def drain_events(self, timeout: float | None = None) -> None:
        """Make some progress: read and dispatch, or wait until the greenthread that reads has done so.

        :raises TimeoutError: when nothing comes within `timeout` seconds
        :raises OSError, amqp.exceptions.AMQPError: when the connection is gone
        """
        if self._reader is None:
            self._read(timeout)
        elif self._reader is concurrency.current():
            raise RuntimeError("a callback of the connection's reader must not wait for the broker")
        else:
            self._await_reader(timeout)

    def _read(self, timeout_s: float | None) -> None:
        transport = self._transport
        if transport is None:
            raise self.closed_by or RecoverableConnectionError("connection already closed")
        self._reader = concurrency.current()
        try:
            self._frames.feed(transport.read(self._frames.wanted, timeout_s))
        finally:
            self._reader = None
            progress, self._progress = self._progress, concurrency.Event()
            progress.send(None)

    def _await_reader(self, timeout_s: float | None) -> None:
        progress = self._progress
        progress.wait(timeout_s)
        if not progress.ready():
            raise TimeoutError(errno.ETIMEDOUT, "the broker did not answer in time")

    def _take_method(self, channel_id: int, method: tuple[int, int], payload: bytes) -> None:
        channel = self.channels.get(channel_id) if self.channels else None
        if channel is None or (channel.is_closing and method not in channel._ALLOWED_METHODS_WHEN_CLOSING):
            return  # we have closed it, and this was on its way
        channel.dispatch_method(method, payload, None)

    def _take_message(self, channel_id: int, method: bytes, header: bytes, body: bytes, oversize: bool) -> None:
        channel = self.channels.get(channel_id) if self.channels else None
        if channel is None or channel.is_closing:
            return
        if wire.is_delivery(method):
            channel.take_message(method, header, body, oversize)
            return
        message = amqp.Message(body)
        message.properties = wire.decode_properties(header)
        channel.take_other_message(method, message)

    def _take_ack(self, channel_id: int, delivery_tag: int, multiple: bool) -> None:
        channel = self.channels.get(channel_id) if self.channels else None
        if channel is not None and not channel.is_closing:
            channel._on_basic_ack(delivery_tag, multiple)

    def _on_tune(self, channel_max: int, frame_max: int, server_heartbeat: int, argsig: str = "BlB") -> None:
        super()._on_tune(channel_max, frame_max, server_heartbeat, argsig)
        self._frames.frame_max = self.frame_max

    def _on_blocked(self, reason: str = "") -> None:
        if self.on_blocked:
            self.on_blocked(reason)

    def _on_close(self, reply_code: int, reply_text: str, class_id: int, method_id: int) -> None:
        self.closed_by = error_for_code(reply_code, reply_text, (class_id, method_id), amqp.exceptions.ConnectionError)
        self._x_close_ok()
        raise self.closed_by

    def _x_close_ok(self) -> None:
        # py-amqp gives the socket back at once, with our answer still unsent.
        self.send_method(amqp.spec.Connection.CloseOk)
        if self._transport is not None:
            self._transport.flush_now()

    def send_heartbeat(self) -> None:
        """Send a heartbeat frame."""
        if self._transport is not None:
            self._transport.write(wire.HEARTBEAT_FRAME)


def _frame_writer(connection: Connection, transport: GreenTransport) -> Callable[..., None]:
    # In place of py-amqp's, which shares one buffer between all writers.
    def write_frame(kind: int, channel_id: int, method: Any, arguments: Any, content: Any) -> None:
        if kind == wire.HEARTBEAT:
            transport.write(wire.HEARTBEAT_FRAME)
        elif content is not None:
            raise AMQPNotImplementedError("messages are sent by Channel.basic_publish")
        else:
            transport.write(wire.encode_method(channel_id, method, arguments or b""))

    return write_frame


class Transport(kombu.transport.pyamqp.Transport):  # type: ignore[misc]
    """kombu's transport for RabbitMQ, with our connection."""

    Connection = Connection


def make_connection(uri: str, options: dict[str, Any]) -> Any:
    """Connect to the broker at `uri`, whichever kind it is.

    :param options: for `kombu.Connection`: ssl, login_method, heartbeat, connect_timeout, transport_options
    :returns: the open connection, py-amqp's interface
    :raises OSError, amqp.exceptions.AMQPError: when that fails
    """
    client = kombu.Connection(uri, transport=transport_class(uri), **options)
    return client.transport.establish_connection()


def transport_class(uri: str) -> Any:
    """The kombu transport class for `uri`."""
    if is_in_process(uri):
        from nameko.amqp.memory import Transport as InProcessTransport

        return InProcessTransport
    return Transport
