"""WebSockets: methods that are called over them, and a hub that sends to them.

On connecting, a client is sent its socket id: `{"type": "event", "event": "connected", "data": {"socket_id": id}}`. It
calls a method with `{"method": name, "data": {...}, "correlation_id": x}` and gets `{"type": "result", "success": true,
"data": result, "correlation_id": x}`, or `success` false and an `error`. One call at a time: the next frame is read
after the answer.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from collections.abc import Mapping
from functools import partial
from logging import getLogger
from typing import Any, NamedTuple

from werkzeug.routing import Rule
from werkzeug.wrappers import Request, Response

from nameko.containers import WorkerContext
from nameko.exceptions import BadRequest, ConnectionNotFound, MalformedRequest, MethodNotFound, serialize
from nameko.extensions import DependencyProvider, Entrypoint, ExcInfo, ProviderCollector, SharedExtension
from nameko.web._connection import SWITCH_PROTOCOL
from nameko.web._errors import ConnectionLost
from nameko.web._failures import log_error
from nameko.web._frames import GOING_AWAY, WebSocket, accept_key
from nameko.web._outcome import Outcome
from nameko.web._settings import HttpSettings
from nameko.web._transport import Transport
from nameko.web.server import WebServer

__all__ = [
    "Connection",
    "SocketInfo",
    "WebSocketHub",
    "WebSocketHubProvider",
    "WebSocketRpc",
    "WebSocketServer",
    "rpc",
]

_log = getLogger(__name__)

_VERSION = "13"


class SocketInfo(NamedTuple):
    """A connected client: its WebSocket, and the context data for its calls."""

    socket: WebSocket
    data: Mapping[str, Any]


class Connection:
    """What the hub knows of a connected client.

    :ivar subscriptions: the channels that it listens to
    """

    def __init__(self, socket_id: str) -> None:
        self.socket_id = socket_id
        self.subscriptions: set[str] = set()


class WebSocketServer(ProviderCollector, SharedExtension):
    """Takes WebSocket connections on the container's web server, and calls the methods that they ask for.

    :ivar sockets: the connected clients by their socket ids
    """

    wsgi_server = WebServer()

    def __init__(self) -> None:
        super().__init__()
        self.sockets: dict[str, SocketInfo] = {}
        self._hubs: list[WebSocketHub] = []

    # -- to be overridden

    def get_url_rule(self) -> Rule:
        """Where clients connect: `/ws`."""
        return Rule("/ws", methods=["GET"])

    def deserialize_ws_frame(self, payload: str | bytes) -> tuple[str, dict[str, Any], Any]:
        """Method, arguments and correlation id of a call.

        :raises MalformedRequest: when it is none
        """
        try:
            request = json.loads(payload)
            method, data = request["method"], request.get("data") or {}
            if not isinstance(method, str) or not isinstance(data, dict):
                raise TypeError
            return method, data, request.get("correlation_id")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise MalformedRequest("Invalid JSON data") from None

    def serialize_for_ws(self, payload: Any) -> str | bytes:
        """The message for `payload`; JSON.

        :raises ValueError, TypeError: when it cannot be serialized
        """
        return json.dumps(payload, allow_nan=False)

    def serialize_event(self, event: str, data: Any) -> str | bytes:
        """The message for an event."""
        return self.serialize_for_ws({"type": "event", "event": event, "data": data})

    # -- life

    def setup(self) -> None:
        """Register with the web server."""
        self.wsgi_server.register_provider(self)

    def drain(self) -> None:
        """Close the connections, each after the call that is under way, and wait for that."""
        self.wsgi_server.unregister_provider(self)
        self.wsgi_server.drain()

    def stop(self) -> None:
        """Wait for the entrypoints, then close the connections."""
        super().stop()
        self.drain()

    def add_hub(self, hub: WebSocketHub) -> None:
        """Keep `hub` informed of who connects and leaves."""
        self._hubs.append(hub)

    # -- connections

    def handle_request(self, request: Request) -> Response:
        """Answer the opening handshake."""
        settings = self.wsgi_server.settings
        refusal = _refusal(request, settings)
        if refusal is not None:
            return refusal
        fields = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", accept_key(request.headers["Sec-WebSocket-Key"])),
        ]
        context_data = self.wsgi_server.context_data_from_headers(request)
        request.environ[SWITCH_PROTOCOL](fields, _Session(self, context_data, settings))
        return Response(status=101)

    def connected(self, socket_id: str, info: SocketInfo) -> None:
        """A client has connected."""
        self.sockets[socket_id] = info
        for hub in self._hubs:
            hub.add_connection(socket_id)

    def disconnected(self, socket_id: str) -> None:
        """A client has left."""
        del self.sockets[socket_id]
        for hub in self._hubs:
            hub.remove_connection(socket_id)

    def handle_websocket_request(
        self, socket_id: str, context_data: Mapping[str, Any], payload: str | bytes
    ) -> str | bytes:
        """Carry out a call; the message that answers it."""
        correlation_id = provider = None
        try:
            method, data, correlation_id = self.deserialize_ws_frame(payload)
            provider = self._provider(method)
            result = provider.handle_message(socket_id, data, context_data)
            answer = {"type": "result", "success": True, "data": result, "correlation_id": correlation_id}
            return self.serialize_for_ws(answer)
        except Exception as exc:
            error = serialize(self._presentable(exc, provider))
        return self.serialize_for_ws(
            {"type": "result", "success": False, "error": error, "correlation_id": correlation_id}
        )

    def _presentable(self, exc: Exception, provider: WebSocketRpc | None) -> Exception:
        if self.wsgi_server.settings.websocket_expose_errors or isinstance(exc, BadRequest):
            return exc
        if provider is not None and isinstance(exc, provider.expected_exceptions):
            return exc
        return InternalServerError(log_error(exc, repr(provider), traceback=False))

    def _provider(self, method: str) -> WebSocketRpc:
        for provider in self._providers:
            if provider.method_name == method:
                return provider  # type: ignore[no-any-return]
        raise MethodNotFound()


class InternalServerError(Exception):
    """What a client gets to see of an unexpected exception when `WEBSOCKET_EXPOSE_ERRORS` is false: an id."""


class _Session:
    """The conversation with one client, after the handshake."""

    def __init__(self, server: WebSocketServer, context_data: Mapping[str, Any], settings: HttpSettings) -> None:
        self._server = server
        self._context_data = context_data
        self._settings = settings
        self._websocket: WebSocket | None = None
        self._busy = False
        self._draining = False

    def run(self, transport: Transport, unread: bytes) -> None:
        """Answer call after call until the connection is over."""
        socket_id = str(uuid.uuid4())
        websocket = self._websocket = WebSocket(
            transport,
            unread,
            is_client=False,
            max_message_bytes=self._settings.websocket_max_message_bytes,
            idle_timeout_s=self._settings.websocket_idle_timeout_s,
        )
        self._server.connected(socket_id, SocketInfo(websocket, self._context_data))
        try:
            websocket.send(self._server.serialize_event("connected", {"socket_id": socket_id}))
            if self._draining:
                websocket.close(GOING_AWAY)
            while (message := websocket.receive()) is not None:
                self._answer(socket_id, message)
        except ConnectionLost as exc:
            _log.debug("websocket %s lost: %s", socket_id, exc)
        finally:
            self._server.disconnected(socket_id)

    def _answer(self, socket_id: str, message: str | bytes) -> None:
        assert self._websocket is not None
        self._busy = True
        try:
            answer = self._server.handle_websocket_request(socket_id, self._context_data, message)
        finally:
            self._busy = False
        self._websocket.send(answer)
        if self._draining:
            self._websocket.close(GOING_AWAY)

    def drain(self) -> None:
        """Close the connection after the call that is under way."""
        self._draining = True
        if self._websocket is not None and not self._busy:
            self._websocket.close(GOING_AWAY)


def _refusal(request: Request, settings: HttpSettings) -> Response | None:
    """The answer to a handshake that cannot be accepted."""
    headers = request.headers
    if headers.get("Upgrade", "").lower() != "websocket" or "upgrade" not in headers.get("Connection", "").lower():
        return Response("A websocket is expected here.\n", status=426, headers={"Upgrade": "websocket"})
    if headers.get("Sec-WebSocket-Version") != _VERSION:
        return Response("Unknown websocket version.\n", status=426, headers={"Sec-WebSocket-Version": _VERSION})
    if not _is_key(headers.get("Sec-WebSocket-Key", "")):
        return Response("Bad websocket key.\n", status=400)
    allowed = settings.websocket_allowed_origins
    if allowed and "*" not in allowed and headers.get("Origin") not in allowed:
        return Response("This origin is not allowed.\n", status=403)
    return None


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (ValueError, binascii.Error):
        return False


class WebSocketRpc(Entrypoint):
    """Runs a service method for each call of a WebSocket client.

    The method gets the client's socket id, then the call's data as keywords; what it returns must be JSON.
    """

    server = WebSocketServer()

    def describe(self) -> Mapping[str, str]:
        """Where its clients connect."""
        return {"url": self.server.get_url_rule().rule, "method": "websocket"}

    def setup(self) -> None:
        """Register with the server."""
        self.server.register_provider(self)

    def stop(self) -> None:
        """Leave the server, and wait for the calls under way."""
        self.server.unregister_provider(self)
        self.server.drain()

    def handle_message(self, socket_id: str, data: dict[str, Any], context_data: Mapping[str, Any]) -> Any:
        """Run the method in a worker; its result.

        :raises IncorrectSignature: when it does not take `data`
        :raises: what the method raises
        """
        self.check_signature((socket_id,), data)
        outcome = Outcome()
        self.container.spawn_worker(
            self, (socket_id,), data, context_data=context_data, handle_result=partial(self.handle_result, outcome)
        )
        result, exc = outcome.wait()
        if isinstance(exc, Exception):
            raise exc
        if exc is not None:  # a Timeout, say: not to strike the connection
            raise RuntimeError(f"{type(exc).__name__}: {exc}")
        return result

    def handle_result(
        self, event: Any, worker_ctx: WorkerContext, result: Any, exc_info: ExcInfo | None
    ) -> tuple[Any, ExcInfo | None]:
        """Called in the worker's greenthread with the outcome; `event.send` passes it on to the waiting client."""
        event.send(result, exc_info)
        return result, exc_info


class WebSocketHubProvider(DependencyProvider):
    """Injects a `WebSocketHub`, which sends events to the clients that are connected to this process."""

    server = WebSocketServer()

    def __init__(self) -> None:
        self.hub: WebSocketHub | None = None

    def setup(self) -> None:
        """Make the hub."""
        self.hub = WebSocketHub(self.server)

    def get_dependency(self, worker_ctx: WorkerContext) -> WebSocketHub | None:
        """The hub."""
        return self.hub


class WebSocketHub:
    """Channels that clients subscribe to.

    :ivar connections: the connected clients by their socket ids
    :ivar subscriptions: the socket ids of each channel's subscribers
    """

    def __init__(self, server: WebSocketServer) -> None:
        self._server = server
        self.connections: dict[str, Connection] = {}
        self.subscriptions: dict[str, set[str]] = {}
        server.add_hub(self)

    def add_connection(self, socket_id: str) -> None:
        """A client has connected."""
        self.connections[socket_id] = Connection(socket_id)

    def remove_connection(self, socket_id: str) -> None:
        """A client has left: its subscriptions end."""
        for channel in list(self.connections[socket_id].subscriptions):
            self.unsubscribe(socket_id, channel)
        del self.connections[socket_id]

    def get_subscriptions(self, socket_id: str) -> list[str]:
        """The channels that a client is subscribed to, sorted; none for one that is not connected."""
        connection = self.connections.get(socket_id)
        return sorted(connection.subscriptions) if connection is not None else []

    def subscribe(self, socket_id: str, channel: str) -> None:
        """Let a client have the events of a channel.

        :raises ConnectionNotFound: when it is not connected
        """
        connection = self.connections.get(socket_id)
        if connection is None:
            raise ConnectionNotFound(socket_id)
        connection.subscriptions.add(channel)
        self.subscriptions.setdefault(channel, set()).add(socket_id)

    def unsubscribe(self, socket_id: str, channel: str) -> None:
        """End a subscription. One that there is not is ignored."""
        connection = self.connections.get(socket_id)
        if connection is not None:
            connection.subscriptions.discard(channel)
        subscribers = self.subscriptions.get(channel)
        if subscribers is not None:
            subscribers.discard(socket_id)
            if not subscribers:
                del self.subscriptions[channel]

    def broadcast(self, channel: str, event: str, data: Any) -> None:
        """Send an event to the subscribers of a channel. Clients that are too slow, or gone, are passed over."""
        message = self._server.serialize_event(event, data)
        for socket_id in list(self.subscriptions.get(channel, ())):
            self._send(socket_id, message)

    def unicast(self, socket_id: str, event: str, data: Any) -> bool:
        """Send an event to one client; False when it is not connected to this process."""
        return self._send(socket_id, self._server.serialize_event(event, data))

    def _send(self, socket_id: str, message: str | bytes) -> bool:
        info = self._server.sockets.get(socket_id)
        if info is None:
            return False
        try:
            info.socket.send(message)
        except ConnectionLost as exc:
            _log.debug("websocket %s lost: %s", socket_id, exc)
            return False
        return True


rpc = WebSocketRpc.decorator
