"""The AMQP connection under everything: py-amqp's, on a transport that is made for many greenthreads at once.

- It works whether the process is monkey patched or not.
- It reads what there is, in large pieces, and cuts the frames out of that.
- What is written is gathered and handed to the kernel once per turn of the hub, whole frames after whole frames: any
  number of greenthreads may write, none of them waits, and their frames never mix.
- One greenthread reads at a time, normally the connection's own. Others that wait for an answer of the broker wait for
  the reader's progress, against the wall clock.
"""

from __future__ import annotations

import errno
import os
import socket as stdlib_socket  # constants and exceptions only
import ssl as stdlib_ssl
from collections.abc import Callable
from time import monotonic
from typing import Any

import kombu.transport.pyamqp

import amqp
import amqp.spec
from amqp.exceptions import AMQPNotImplementedError, ChannelError, RecoverableConnectionError, error_for_code
from amqp.transport import AMQP_PROTOCOL_HEADER, to_host_port
from nameko import concurrency
from nameko.amqp import wire
from nameko.amqp.tls import TlsSession, make_context

#: Seconds that a synchronous method may wait for the broker's answer.
ANSWER_TIMEOUT_S = 30.0
#: More than this unsent, and publishers hold back.
CONGESTED_BYTES = 1024 * 1024

_READ_BYTES = 65536
_READ_BYTES_MAX = 1024 * 1024
# Not a value of `Channel._outstanding`.
_UNKNOWN = object()
# So many distinct (exchange, routing key) remembered per channel.
_PUBLISH_METHODS_REMEMBERED = 1000
# Keep-alive of idle connections by the kernel, in seconds, for connections without heartbeats.
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 9}


class GreenTransport:
    """A socket, with or without TLS, for one connection.

    :param host: `host:port`
    :param connect_timeout_s: for one address
    :param tls: options for `make_context`; None for no TLS
    :param user_timeout_s: drop the connection when sent data is not acknowledged for so long; None leaves it to the
        kernel
    """

    def __init__(
        self,
        host: str,
        *,
        connect_timeout_s: float | None = None,
        tls: dict[str, Any] | None = None,
        user_timeout_s: float | None = None,
    ) -> None:
        self.host, self.port = to_host_port(host)
        self.connected = False
        self.sock: Any = None
        self.last_read_at = 0.0  # monotonic
        self.last_written_at = 0.0
        self.unsent_bytes = 0
        self.on_relieved: Callable[[], None] | None = None  # no longer congested
        self._connect_timeout_s = connect_timeout_s
        self._user_timeout_s = user_timeout_s
        self._tls_options = tls
        self._tls: TlsSession | None = None
        self._unsent: list[bytes | JoinedAcks] = []
        self._watch: concurrency.ReadWatch | None = None
        self._reader: Any = None  # the greenthread that waits for something to read
        self._closed = False
        self._flushing = False  # a flush is due, or a flusher is at work
        self._flusher: Any = None
        self._error: OSError | None = None
        # Held while something is sent, and while the socket is closed: another native thread may send a heartbeat.
        self._send_lock = concurrency.original("threading").Lock()
        self._cut_off = b""  # the rest of a heartbeat, of which the kernel took only a part

    @property
    def congested(self) -> bool:
        """Whether the broker takes less than it is sent."""
        return self.unsent_bytes > CONGESTED_BYTES

    # -- connecting

    def connect(self) -> None:
        """Connect, shake hands for TLS, and send the protocol header.

        :raises OSError: when that fails
        :raises ConfigurationError: when the TLS options cannot work
        """
        self.sock = self._connect()
        try:
            self._set_options(self.sock)
            if self._tls_options is not None:
                self._tls = self._shake_hands(dict(self._tls_options))
            self.connected = True
            self.last_read_at = monotonic()
            self.write(AMQP_PROTOCOL_HEADER)
        except BaseException:
            self.close()
            raise

    def _connect(self) -> Any:
        error: OSError | None = None
        for family, kind, protocol, _, address in concurrency.socket.getaddrinfo(
            self.host, self.port, stdlib_socket.AF_UNSPEC, stdlib_socket.SOCK_STREAM, stdlib_socket.IPPROTO_TCP
        ):
            sock = concurrency.non_blocking_socket(family, kind, protocol)
            try:
                self._connect_to(sock, address)
            except OSError as exc:
                sock.close()
                error = exc
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise error or OSError(f"no address for {self.host}")

    def _connect_to(self, sock: Any, address: Any) -> None:
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            _wait(concurrency.wait_writable, sock, self._connect_timeout_s)
            code = sock.getsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_ERROR)
        if code not in (0, errno.EISCONN):
            raise OSError(code, os.strerror(code))

    def _set_options(self, sock: Any) -> None:
        sock.setsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NODELAY, 1)
        sock.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_KEEPALIVE, 1)
        options = dict(_KEEPALIVE)
        if self._user_timeout_s is not None:
            options["TCP_USER_TIMEOUT"] = int(self._user_timeout_s * 1000)
        for name, value in options.items():
            option = getattr(stdlib_socket, name, None)  # not every system has them all
            if option is not None:
                sock.setsockopt(stdlib_socket.IPPROTO_TCP, option, value)

    def _shake_hands(self, options: dict[str, Any]) -> TlsSession:
        server_hostname = options.get("server_hostname") or self.host
        session = TlsSession(make_context(options), server_hostname)
        complete = False
        while not complete:
            complete = session.handshake()
            self._send_all(session.encrypt(b""))
            if not complete:
                session.receive(self._receive(_READ_BYTES, self._connect_timeout_s))
        return session

    def _send_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                _wait(concurrency.wait_writable, self.sock, self._connect_timeout_s)

    # -- reading

    def read(self, wanted: int, timeout_s: float | None) -> bytes:
        """What the broker sent, as soon as there is anything; empty when only a part of a TLS record has come.

        :param wanted: how many bytes would be of use; at least a large piece is read in any case
        :raises TimeoutError: when there is nothing within `timeout_s`
        :raises OSError: when the connection is gone
        """
        data = self._receive(min(max(wanted, _READ_BYTES), _READ_BYTES_MAX), timeout_s)
        self.last_read_at = monotonic()
        if self._tls is None:
            return data
        plain = self._tls.decrypt(data)
        if self._tls.has_outgoing:  # an answer to a key update
            self._put(b"")
        return plain

    def _receive(self, size: int, timeout_s: float | None) -> bytes:
        sock = self.sock
        if sock is None:
            raise self._error or ConnectionResetError(errno.ENOTCONN, "not connected")
        # Waiting first gives way to every other greenthread, however fast the broker sends.
        if timeout_s is None:
            self._await_readable(sock)
        else:
            _wait(self._await_readable, sock, timeout_s)
        if self._closed:
            raise self._error or ConnectionResetError(errno.ENOTCONN, "closed")
        try:
            data: bytes = sock.recv(size)
        except BlockingIOError:
            raise TimeoutError("woken without data") from None
        if not data:
            raise self._error or ConnectionResetError(errno.ECONNRESET, "the broker closed the connection")
        return data

    def _await_readable(self, sock: Any, _: float | None = None) -> None:
        # The socket stays registered from one wait to the next.
        if self._watch is None:
            self._watch = concurrency.ReadWatch(sock.fileno(), self._wake_reader)
        self._watch.resume()
        self._reader = concurrency.current()
        try:
            concurrency.park()
        finally:
            self._reader = None

    def _wake_reader(self, _: int) -> None:
        reader = self._reader
        if reader is None:  # nobody waits just now
            assert self._watch is not None
            self._watch.pause()
        else:
            reader.switch()

    # -- writing

    def write(self, data: bytes | JoinedAcks) -> None:
        """Send `data`, whole frames, soon. Never blocks.

        :raises OSError: when the connection is known to be gone
        """
        if not self.connected:
            raise self._error or ConnectionResetError(errno.ENOTCONN, "not connected")
        self._put(data)

    def _put(self, data: bytes | JoinedAcks) -> None:
        self._unsent.append(data)
        self.unsent_bytes += len(data)
        if not self._flushing:
            self._flushing = True
            concurrency.soon(self._flush)

    def _flush(self) -> None:
        # Called by the hub: everything that was written in one turn goes out in one piece.
        if not self.connected or self._flusher is not None:
            return
        data = self._take()
        with self._send_lock:
            if self._cut_off:
                data, self._cut_off = self._cut_off + data, b""
            try:
                sent = self.sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as exc:
                self._fail(exc)
                return
            if sent < len(data):
                self._flusher = concurrency.spawn(self._flush_slowly, memoryview(data)[sent:])
        self.last_written_at = monotonic()
        if self._flusher is None:
            was_congested = self.congested
            self.unsent_bytes = 0
            self._flushing = False
            if was_congested:
                self._tell_relieved()
        else:
            self.unsent_bytes = len(data) - sent

    def _take(self) -> bytes:
        unsent, self._unsent = self._unsent, []
        parts = [each if isinstance(each, bytes) else each.encode() for each in unsent]
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        return data if self._tls is None else self._tls.encrypt(data)

    def _flush_slowly(self, view: memoryview) -> None:
        # The kernel's buffer is full: go on as the broker reads.
        try:
            while True:
                concurrency.wait_writable(self.sock)
                try:
                    view = view[self.sock.send(view) :]
                except BlockingIOError:
                    continue
                self.last_written_at = monotonic()
                if not view:
                    if not self._unsent:
                        break
                    view = memoryview(self._take())
                self.unsent_bytes = len(view) + sum(map(len, self._unsent))
                self._tell_relieved()
        except OSError as exc:
            self._flusher = None
            self._fail(exc)
            return
        self._flusher = None
        self._flushing = False
        self.unsent_bytes = 0
        self._tell_relieved()

    def _tell_relieved(self) -> None:
        if self.on_relieved is not None and not self.congested:
            self.on_relieved()

    def send_heartbeat_aside(self) -> None:
        """Send a heartbeat from another native thread, for a hub that has no turn.

        Nothing is sent where that could do harm: between two parts of a frame, or across TLS, whose state is the
        hub's. Never blocks.
        """
        with self._send_lock:
            if not self.connected or self._tls is not None or self._flusher is not None or self._cut_off:
                return
            try:
                sent = self.sock.send(wire.HEARTBEAT_FRAME)
            except OSError:  # the kernel's buffer is full, or the connection gone, which the hub will find out
                return
            self._cut_off = wire.HEARTBEAT_FRAME[sent:]
            self.last_written_at = monotonic()

    def flush_now(self) -> None:
        """Hand what is written to the kernel, as far as it takes it, before this returns."""
        self._flush()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything written is with the kernel, at most `timeout_s`; whether it is."""
        deadline = monotonic() + timeout_s
        while self._flushing and self.connected and monotonic() < deadline:
            concurrency.sleep(0 if self._flusher is None else 0.01)
        return not self._flushing

    def _fail(self, error: OSError) -> None:
        self._error = error
        self.connected = False
        if self.sock is not None:
            _shut_down(self.sock)  # wakes the reader, which tells everybody else

    # -- closing

    def close(self) -> None:
        """Give the socket back at once; what is not sent yet is dropped."""
        with self._send_lock:  # its number must not become another socket's while a heartbeat goes to it
            self.connected = False
            self._closed = True
            sock, self.sock = self.sock, None
        self._unsent = []
        flusher, self._flusher = self._flusher, None
        if flusher is not None:
            flusher.kill()
        if sock is not None:
            _shut_down(sock)
            self._stop_reading()
            sock.close()

    def _stop_reading(self) -> None:
        if self._watch is not None:
            self._watch.pause()  # before the descriptor is closed
        reader = self._reader
        if reader is not None and reader is not concurrency.current():
            concurrency.soon(self._tell_closed, reader)

    def _tell_closed(self, reader: Any) -> None:
        if self._reader is reader:
            reader.switch()


def _shut_down(sock: Any) -> None:
    try:
        sock.shutdown(stdlib_socket.SHUT_RDWR)
    except OSError:  # gone already
        pass


def _wait(wait: Callable[[Any, float | None], None], sock: Any, timeout_s: float | None) -> None:
    timeout = concurrency.Timeout(timeout_s) if timeout_s is not None else None
    try:
        wait(sock, None)
    except concurrency.Timeout as exc:
        if exc is not timeout:
            raise
        raise TimeoutError(errno.ETIMEDOUT, "the broker did not answer in time") from None
    finally:
        if timeout is not None:
            timeout.cancel()


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


class _Answers:
    """What `Connection` and `Channel` share: waiting for the broker's answer to a method, against the wall clock."""

    _pending: dict[Any, Any]
    connection: Any
    #: Why the broker has closed this, once it has.
    closed_by: Exception | None = None

    def wait(
        self,
        method: Any,
        callback: Callable[..., Any] | None = None,
        timeout: float | None = None,
        returns_tuple: bool = False,
    ) -> Any:
        """Wait for `method`, or any of a list of them, and return its arguments.

        :raises ChannelError, ConnectionError: when the broker closes the channel or the connection instead
        :raises TimeoutError: when no answer comes within `timeout` seconds
        """
        methods = method if isinstance(method, list) else [method]
        answers: list[tuple[Any, ...]] = []
        for each in methods:
            self._pending[each] = lambda _, *arguments: answers.append(arguments)
        deadline = monotonic() + (timeout or ANSWER_TIMEOUT_S)
        try:
            while not answers:
                self._await_progress(deadline - monotonic())
        finally:
            for each in methods:
                self._pending.pop(each, None)
        arguments = answers[0]
        if callback is not None:
            callback(method, *arguments)
        return arguments if returns_tuple else (arguments and arguments[0])

    def send_method(self, *args: Any, **options: Any) -> Any:
        """As py-amqp's, but a channel that the broker has closed says why."""
        if self.connection is None and self.closed_by is not None:
            raise self.closed_by
        return super().send_method(*args, **options)  # type: ignore[misc]

    def _await_progress(self, remaining_s: float) -> None:
        if self.closed_by is not None:
            raise self.closed_by
        if self.connection is None:
            raise RecoverableConnectionError("connection already closed")
        if remaining_s <= 0:
            raise TimeoutError(errno.ETIMEDOUT, "the broker did not answer in time")
        self.connection.drain_events(timeout=remaining_s)


class Channel(_Answers, kombu.transport.pyamqp.Channel):  # type: ignore[misc]
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


class Connection(_Answers, amqp.Connection):  # type: ignore[misc]
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
    if uri.startswith("memory:"):
        from nameko.amqp.memory import Transport as InProcessTransport

        return InProcessTransport
    return Transport


#: What the loss of a connection looks like.
CONNECTION_ERRORS: tuple[type[Exception], ...] = (
    amqp.exceptions.ConnectionError,
    amqp.exceptions.IrrecoverableChannelError,  # AccessRefused while connecting
    OSError,
    stdlib_ssl.SSLError,
)
