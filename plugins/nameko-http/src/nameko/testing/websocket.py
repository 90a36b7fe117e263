"""A websocket client for tests of services with `nameko.web.websocket`."""

from __future__ import annotations

import base64
import json
import os
import uuid
from typing import Any

from nameko.concurrency import Event, Queue, original
from nameko.exceptions import deserialize
from nameko.web._errors import ConnectionLost
from nameko.web._frames import WebSocket, accept_key
from nameko.web._transport import Pace, SocketTransport

socket = original("socket")

_CONNECT_TIMEOUT_S = 10
_IDLE_TIMEOUT_S = 3600
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024


class VirtualSocket:
    """What a test holds of a connection: calls methods, and waits for events."""

    def __init__(self) -> None:
        self._websocket: WebSocket | None = None
        self._answers: dict[str, Any] = {}  # events, by correlation id
        self._events: dict[str, Any] = {}

    def rpc(self, _method: str, **data: Any) -> Any:
        """Call a method of the service; its result.

        :raises: the exception that the service answers with, a `RemoteError` if it is of an unknown class
        :raises ConnectionLost: when the connection ends first
        """
        correlation_id = str(uuid.uuid4())
        answer = self._answers[correlation_id] = Event()
        self.send(json.dumps({"method": _method, "data": data, "correlation_id": correlation_id}))
        response = answer.wait()
        if response["success"]:
            return response["data"]
        raise deserialize(response["error"])

    def send(self, message: str | bytes) -> None:
        """Send a message as it is."""
        if self._websocket is None:
            raise ConnectionLost("the websocket is not connected")
        self._websocket.send(message)

    def get_event_queue(self, event: str) -> Any:
        """The queue of what the service sends as `event`."""
        if event not in self._events:
            self._events[event] = Queue()
        return self._events[event]

    def wait_for_event(self, event: str) -> Any:
        """The data of the next `event`."""
        return self.get_event_queue(event).get()

    def handle(self, message: Any) -> None:
        """Hand an answer or an event to whoever waits for it."""
        if message["type"] == "event":
            self.get_event_queue(message["event"]).put(message["data"])
        else:
            waiting = self._answers.pop(message["correlation_id"], None)
            if waiting is not None:
                waiting.send(message)

    def connected(self, websocket: WebSocket) -> None:
        """The connection is there."""
        self._websocket = websocket

    def disconnected(self) -> None:
        """The connection is gone: so is every answer."""
        self._websocket = None
        while self._answers:
            self._answers.popitem()[1].send_exception(ConnectionLost("the websocket was closed"))


class WebSocketApp:
    """The client's loop.

    :param url_path: path of the service's websockets
    """

    def __init__(self, host: str, port: int, url_path: str, sock: VirtualSocket) -> None:
        self._host = host
        self._port = port
        self._path = url_path
        self._socket = sock
        self._websocket: WebSocket | None = None
        self._transport: SocketTransport | None = None
        self.opened = Event()

    def run_forever(self) -> None:
        """Connect, and receive until the connection is closed by either side."""
        try:
            self._connect()
        except Exception as exc:
            self.close()
            self.opened.send_exception(exc)
            return
        assert self._websocket is not None
        self.opened.send(None)
        try:
            while (message := self._websocket.receive()) is not None:
                self._socket.handle(json.loads(message))
        finally:
            self._socket.disconnected()
            self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def _connect(self) -> None:
        connection = socket.create_connection((self._host, self._port), _CONNECT_TIMEOUT_S)
        connection.setblocking(False)
        self._transport = SocketTransport(connection, Pace(_IDLE_TIMEOUT_S, _IDLE_TIMEOUT_S, 0))
        unread = _shake_hands(self._transport, f"{self._host}:{self._port}", self._path)
        self._websocket = WebSocket(self._transport, unread, True, _MAX_MESSAGE_BYTES, _IDLE_TIMEOUT_S)
        self._socket.connected(self._websocket)


def _shake_hands(transport: SocketTransport, host: str, path: str) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    transport.send(
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    received = b""
    while b"\r\n\r\n" not in received:
        data = transport.recv()
        if not data:
            raise ConnectionLost("the server closed the connection during the handshake")
        received += data
    head, _, unread = received.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 ") or accept_key(key).encode() not in head:
        raise ConnectionLost(f"the server refused the websocket: {head.splitlines()[0].decode('latin-1')}")
    return unread


def make_virtual_socket(host: str, port: int, path: str = "/ws") -> tuple[WebSocketApp, Any]:
    """A websocket client: `app, connect`.

    Run `app.run_forever` in a greenthread of its own, then `connect()` waits for the connection and returns a
    `VirtualSocket`; `app.close()` ends it.
    """
    sock = VirtualSocket()
    app = WebSocketApp(host, port, path, sock)

    def connect() -> VirtualSocket:
        app.opened.wait()
        return sock

    return app, connect
