"""Websockets: calls, the hub, and RFC 6455 on the wire."""

from __future__ import annotations

import base64
import json
import os
import struct

import pytest

from nameko import concurrency
from nameko.concurrency import Event
from nameko.containers import ServiceContainer
from nameko.exceptions import ConnectionNotFound, IncorrectSignature, MalformedRequest, MethodNotFound, RemoteError
from nameko.extensions import DependencyProvider
from nameko.testing.websocket import make_virtual_socket
from nameko.web._errors import ConnectionLost
from nameko.web._frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, accept_key, apply_mask, encode_frame
from nameko.web.handlers import http
from nameko.web.server import WebServer
from nameko.web.websocket import WebSocketHub, WebSocketHubProvider, WebSocketRpc, WebSocketServer, rpc


class Service:
    name = "service"
    hub = WebSocketHubProvider()
    asked: Event
    go_on: Event

    @http("GET", "/")
    def ping(self, request):
        return "pong"

    @rpc
    def echo(self, socket_id, value):
        return value

    @rpc
    def whoami(self, socket_id):
        return socket_id

    @rpc
    def subscribe(self, socket_id, channel):
        self.hub.subscribe(socket_id, channel)
        return self.hub.get_subscriptions(socket_id)

    @rpc
    def unsubscribe(self, socket_id, channel):
        self.hub.unsubscribe(socket_id, channel)
        return self.hub.get_subscriptions(socket_id)

    @rpc
    def subscribe_other(self, socket_id, other):
        self.hub.subscribe(other, "channel")

    @rpc
    def broadcast(self, socket_id, channel, value):
        self.hub.broadcast(channel, "news", {"value": value})

    @rpc
    def unicast(self, socket_id, target, value):
        return self.hub.unicast(target, "note", {"value": value})

    @rpc(expected_exceptions=ValueError)
    def fail(self, socket_id):
        raise ValueError("broken", 1)

    @rpc
    def unserializable(self, socket_id, which):
        return [object(), float("nan")][which]

    @rpc
    def kill_me(self, socket_id):
        concurrency.spawn(self.hub._server.container.kill)
        concurrency.sleep(10)

    @rpc
    def exits(self, socket_id):
        raise SystemExit(1)

    @rpc
    def wait(self, socket_id):
        self.asked.send(None)
        self.go_on.wait()
        return "done"


@pytest.fixture
def service(serve, web_config):
    return serve(Service, **web_config)


# -- calls


def test_connected_event(service, websocket):
    assert websocket().wait_for_event("connected").keys() == {"socket_id"}


def test_call(service, websocket):
    client = websocket()
    assert client.rpc("echo", value={"a": [1, None, "ü"]}) == {"a": [1, None, "ü"]}
    assert client.rpc("whoami") == client.wait_for_event("connected")["socket_id"]


def test_several_clients(service, websocket):
    clients = [websocket() for _ in range(5)]
    assert len({client.rpc("whoami") for client in clients}) == 5


@pytest.mark.parametrize(
    ("method", "data", "exc_type", "text"),
    [
        ("nothing", {}, MethodNotFound, "^$"),
        ("ping", {}, MethodNotFound, "^$"),
        ("echo", {}, IncorrectSignature, "missing a required argument: 'value'"),
        ("echo", {"value": 1, "more": 2}, IncorrectSignature, "unexpected"),
    ],
)
def test_call_that_cannot_be_made(service, websocket, method, data, exc_type, text):
    with pytest.raises(exc_type, match=text):
        websocket().rpc(method, **data)


def test_errors(service, websocket):
    client = websocket()
    with pytest.raises(RemoteError) as caught:
        client.rpc("fail")
    assert caught.value.exc_type == "ValueError"
    for call in (("exits", {}), ("unserializable", {"which": 0}), ("unserializable", {"which": 1})):
        with pytest.raises(RemoteError):
            client.rpc(call[0], **call[1])
    assert client.rpc("echo", value=1) == 1


def test_unexpected_errors_can_be_hidden(serve, web_config, websocket, caplog):
    class Custom:
        name = "custom"

        @rpc(expected_exceptions=ValueError)
        def fail(self, socket_id, expected):
            raise ValueError("shown") if expected else KeyError("secret")

    serve(Custom, **web_config, WEBSOCKET_EXPOSE_ERRORS=False)
    client = websocket()
    with pytest.raises(RemoteError, match="ValueError shown"):
        client.rpc("fail", expected=True)
    with pytest.raises(IncorrectSignature):
        client.rpc("fail")
    with pytest.raises(RemoteError, match=r"InternalServerError [0-9a-f]{16}$") as caught:
        client.rpc("fail", expected=False)
    assert f"error {caught.value.value}: " in caplog.text


def test_messages_on_the_wire(service):
    with service.connect() as raw:
        client = Client(raw)
        hello = client.receive_json()
        assert hello == {"type": "event", "event": "connected", "data": {"socket_id": hello["data"]["socket_id"]}}
        client.send(TEXT, b'{"method": "echo", "data": {"value": 1}, "correlation_id": 7}')
        assert client.receive_json() == {"type": "result", "success": True, "data": 1, "correlation_id": 7}
        client.send(BINARY, b'{"method": "whoami"}')
        assert client.receive_json()["correlation_id"] is None
        client.send(TEXT, b'{"method": "fail", "correlation_id": "x"}')
        assert client.receive_json() == {
            "type": "result",
            "success": False,
            "error": {
                "exc_type": "ValueError",
                "exc_path": "builtins.ValueError",
                "exc_args": ["broken", "1"],
                "value": "('broken', 1)",
            },
            "correlation_id": "x",
        }


@pytest.mark.parametrize(
    "message", [b"", b"{", b"[]", b"null", b"{}", b'{"method": 1}', b'{"method": "echo", "data": [1]}', b"[" * 50_000]
)
def test_malformed_message(service, message):
    with service.connect() as raw:
        client = Client(raw)
        client.receive_json()
        client.send(TEXT, message)
        answer = client.receive_json()
        assert answer["correlation_id"] is None
        assert answer["error"]["exc_type"] == MalformedRequest.__name__
        assert answer["error"]["value"] == "Invalid JSON data"


def test_context_data(serve, web_config, websocket):
    class Server(WebServer):
        def context_data_from_headers(self, request):
            return {"host": request.host}

    class Sockets(WebSocketServer):
        wsgi_server = Server()

    class Rpc(WebSocketRpc):
        server = Sockets()

    class Host(DependencyProvider):
        def get_dependency(self, worker_ctx):
            return worker_ctx.data["host"]

    class Custom:
        name = "custom"
        host = Host()

        @Rpc.decorator
        def method(self, socket_id):
            return self.host

    serve(Custom, **web_config)
    assert websocket().rpc("method") == web_config["WEB_SERVER_ADDRESS"]


def test_server_can_be_overridden(serve):
    class Sockets(WebSocketServer):
        def get_url_rule(self):
            rule = super().get_url_rule()
            return type(rule)("/sockets", methods=["GET"])

        def deserialize_ws_frame(self, payload):
            return "method", {"value": payload}, 1

        def serialize_for_ws(self, payload):
            return f"<{payload.get('data')}>"

    class Rpc(WebSocketRpc):
        server = Sockets()

    class Custom:
        name = "custom"

        @Rpc.decorator
        def method(self, socket_id, value):
            return value.upper()

    service = serve(Custom)
    with service.connect() as raw:
        client = Client(raw, "/sockets")
        client.receive()
        client.send(TEXT, b"text")
        assert client.receive() == (TEXT, b"<TEXT>")


# -- the hub


def test_subscriptions(service, websocket):
    client = websocket()
    assert client.rpc("subscribe", channel="b") == ["b"]
    assert client.rpc("subscribe", channel="a") == ["a", "b"]
    assert client.rpc("unsubscribe", channel="b") == ["a"]
    assert client.rpc("unsubscribe", channel="never") == ["a"]


def test_broadcast(service, websocket):
    first, second, third = (websocket() for _ in range(3))
    first.rpc("subscribe", channel="channel")
    second.rpc("subscribe", channel="channel")
    third.rpc("broadcast", channel="channel", value=1)
    third.rpc("broadcast", channel="nobody", value=2)
    assert first.wait_for_event("news") == second.wait_for_event("news") == {"value": 1}
    assert third.rpc("echo", value=3) == 3
    assert third.get_event_queue("news").empty()


def test_unicast(service, websocket):
    first, second = websocket(), websocket()
    target = second.rpc("whoami")
    assert first.rpc("unicast", target=target, value=1) is True
    assert second.wait_for_event("note") == {"value": 1}
    assert first.rpc("unicast", target="nobody", value=1) is False


def test_subscribing_a_stranger(service, websocket):
    with pytest.raises(RemoteError, match=f"{ConnectionNotFound.__name__} nobody"):
        websocket().rpc("subscribe_other", other="nobody")


def test_who_leaves_is_forgotten(service, eventually):
    (provider,) = service.container.dependencies
    hub = provider.hub
    assert isinstance(hub, WebSocketHub)
    with service.connect() as raw:
        client = Client(raw)
        socket_id = client.receive_json()["data"]["socket_id"]
        client.call("subscribe", channel="channel")
        assert hub.subscriptions == {"channel": {socket_id}}
        assert list(hub.connections) == [socket_id]
    eventually(lambda: not hub.connections)
    assert hub.subscriptions == {}
    assert hub.get_subscriptions(socket_id) == []
    assert provider.server.sockets == {}


def test_client_that_takes_nothing_hurts_nobody(serve, websocket, web_config, eventually):
    service = serve(Service, **web_config)
    (provider,) = service.container.dependencies
    with service.connect() as raw:
        lazy = Client(raw)
        lazy.receive()
        lazy.call("subscribe", channel="channel")
        for _ in range(200):
            provider.hub.broadcast("channel", "news", "x" * 100_000)
        eventually(lambda: not provider.hub.connections)
    assert websocket().rpc("echo", value=1) == 1


# -- stopping


@pytest.fixture
def waiting(monkeypatch):
    monkeypatch.setattr(Service, "asked", Event(), raising=False)
    monkeypatch.setattr(Service, "go_on", Event(), raising=False)


def test_stop_closes_websockets_and_finishes_calls(service, waiting, eventually):
    with service.connect() as idle_raw, service.connect() as busy_raw:
        idle, busy = Client(idle_raw), Client(busy_raw)
        idle.receive()
        busy.receive()
        busy.send(TEXT, b'{"method": "wait"}')
        Service.asked.wait()
        stopping = concurrency.spawn(service.container.stop)
        assert idle.receive() == (CLOSE, struct.pack("!H", 1001))
        idle.send(CLOSE, struct.pack("!H", 1001))
        Service.go_on.send(None)
        assert busy.receive_json()["data"] == "done"
        assert busy.receive() == (CLOSE, struct.pack("!H", 1001))
        busy.send(CLOSE, struct.pack("!H", 1001))
        assert idle_raw.closed()
        assert busy_raw.closed()
        stopping.wait()


def test_stop_does_not_wait_for_ever_for_a_client(service):
    with service.connect() as raw:
        client = Client(raw)
        client.receive()
        service.container.stop()
        assert client.receive() == (CLOSE, struct.pack("!H", 1001))
        assert raw.closed()


def test_kill(service):
    with service.connect() as raw:
        client = Client(raw)
        client.receive()
        service.container.kill()
        assert raw.closed()


def test_service_with_nothing_but_a_hub(serve):
    class Custom:
        name = "custom"
        hub = WebSocketHubProvider()

        @http("GET", "/")
        def count(self, request):
            return str(len(self.hub.connections))

    service = serve(Custom)
    with service.connect() as raw:
        Client(raw).receive()
        assert service.get("/").text == "1"
        service.container.stop()


# -- the protocol


class Client:
    """A websocket client that can misbehave."""

    def __init__(self, raw, path="/ws", *fields):
        self.raw = raw
        key = base64.b64encode(os.urandom(16)).decode()
        raw.send(handshake(path, f"Sec-WebSocket-Key: {key}", *fields))
        self.response = raw.response()
        assert self.response.status == 101, self.response
        assert self.response.headers["sec-websocket-accept"] == accept_key(key)

    def send(self, opcode, payload, final=True):
        frame = bytearray(encode_frame(opcode, payload, masked=True))
        if not final:
            frame[0] &= 0x7F
        self.raw.send(bytes(frame))

    def receive(self):
        first, second = self.raw._exactly(2)
        assert first & 0xF0 == 0x80
        assert second & 0x80 == 0
        size = second
        if second == 126:
            size = int.from_bytes(self.raw._exactly(2), "big")
        elif second == 127:
            size = int.from_bytes(self.raw._exactly(8), "big")
        return first & 0x0F, self.raw._exactly(size)

    def receive_json(self):
        opcode, payload = self.receive()
        assert opcode == TEXT
        return json.loads(payload)

    def call(self, method, **data):
        self.send(TEXT, json.dumps({"method": method, "data": data}).encode())
        return self.receive_json()["data"]


def handshake(path, *fields, without=""):
    lines = {
        "Host": "Host: h",
        "Upgrade": "Upgrade: websocket",
        "Connection": "Connection: keep-alive, Upgrade",
        "Version": "Sec-WebSocket-Version: 13",
    }
    lines.pop(without, None)
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines.values(), *fields, "", ""]).encode()


KEY = f"Sec-WebSocket-Key: {base64.b64encode(b'x' * 16).decode()}"


def test_example_of_the_rfc():
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert apply_mask(b"\x7f\x9f\x4d\x51\x58", b"\x37\xfa\x21\x3d") == b"Hello"
    assert encode_frame(TEXT, b"Hello", masked=False) == b"\x81\x05Hello"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /ws HTTP/1.1\r\nHost: h\r\n\r\n", 426),
        (handshake("/ws", KEY, without="Upgrade"), 426),
        (handshake("/ws", KEY, without="Connection"), 426),
        (handshake("/ws", KEY, without="Version"), 426),
        (handshake("/ws", KEY, "Sec-WebSocket-Version: 8", without="Version"), 426),
        (handshake("/ws"), 400),
        (handshake("/ws", "Sec-WebSocket-Key: short"), 400),
        (handshake("/ws", "Sec-WebSocket-Key: !!!"), 400),
        (handshake("/", KEY).replace(b"GET", b"POST"), 405),
    ],
)
def test_handshake_that_is_refused(service, data, status):
    with service.connect() as raw:
        raw.send(data)
        assert raw.response().status == status


def test_allowed_origins(serve):
    service = serve(Service, WEBSOCKET_ALLOWED_ORIGINS=["https://app.example"])
    with service.connect() as raw:
        assert Client(raw, "/ws", "Origin: https://app.example").receive()
    for fields in (["Origin: https://evil.example"], []):
        with service.connect() as raw:
            raw.send(handshake("/ws", KEY, *fields))
            assert raw.response().status == 403


def test_any_origin_by_default(service):
    with service.connect() as raw:
        assert Client(raw, "/ws", "Origin: https://any.example").receive()


@pytest.mark.parametrize("size", [0, 125, 126, 65000])
def test_sizes(service, size):
    with service.connect() as raw:
        client = Client(raw)
        client.receive()
        assert client.call("echo", value="x" * size) == "x" * size


def test_large_answer(serve):
    class Custom:
        name = "custom"

        @rpc
        def large(self, socket_id):
            return "x" * 200_000

    with serve(Custom).connect() as raw:
        client = Client(raw)
        client.receive()
        assert len(client.call("large")) == 200_000


def test_fragments_and_pings_between_them(service):
    with service.connect() as raw:
        client = Client(raw)
        client.receive()
        client.send(TEXT, b'{"method": "ec', final=False)
        client.send(PING, b"are you there")
        assert client.receive() == (PONG, b"are you there")
        client.send(CONTINUATION, b'ho", "data": ', final=False)
        client.send(PONG, b"unasked")
        client.send(CONTINUATION, b'{"value": 1}}')
        assert client.receive_json()["data"] == 1


def test_single_bytes(service):
    with service.connect() as raw:
        client = Client(raw)
        client.receive()
        for byte in encode_frame(TEXT, b'{"method": "echo", "data": {"value": "abc"}}', masked=True):
            raw.send(bytes([byte]))
            concurrency.sleep(0)
        assert client.receive_json()["data"] == "abc"


def test_first_frame_right_behind_the_handshake(service):
    with service.connect() as raw:
        raw.send(handshake("/ws", KEY) + encode_frame(TEXT, b'{"method": "whoami"}', masked=True))
        assert raw.response().status == 101
        client = object.__new__(Client)
        client.raw = raw
        assert client.receive_json()["data"]["socket_id"] == client.receive_json()["data"]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x05Hello", 1002),  # not masked
        (b"\xc1\x80aaaa", 1002),  # a reserved bit
        (b"\x83\x80aaaa", 1002),  # a reserved opcode
        (b"\x8b\x80aaaa", 1002),  # a reserved control opcode
        (b"\x80\x80aaaa", 1002),  # a continuation of nothing
        (b"\x09\x80aaaa", 1002),  # a ping in fragments
        (b"\x89\xfe\x00\x80aaaa", 1002),  # a ping that is too large
        (b"\x81\xfe\x00\x05aaaa", 1002),  # a length that would fit in less
        (b"\x81\xff" + struct.pack("!Q", 200) + b"aaaa", 1002),
        (b"\x81\xff" + struct.pack("!Q", 1 << 63) + b"aaaa", 1009),
        (b"\x81\xff" + struct.pack("!Q", 65537) + b"aaaa", 1009),
        (encode_frame(TEXT, b"\xff", masked=True), 1007),
        (encode_frame(CLOSE, b"\x03", masked=True), 1002),
        (encode_frame(CLOSE, struct.pack("!H", 999), masked=True), 1002),
        (encode_frame(CLOSE, struct.pack("!H", 1005), masked=True), 1002),
        (encode_frame(CLOSE, struct.pack("!H", 1000) + b"\xff", masked=True), 1007),
        (b"\x01\x80aaaa" + encode_frame(TEXT, b"x", masked=True), 1002),  # a message within another
    ],
)
def test_violations(service, frame, code):
    with service.connect() as raw:
        client = Client(raw)
        client.receive()
        raw.send(frame)
        opcode, payload = client.receive()
        assert (opcode, struct.unpack("!H", payload[:2])[0]) == (CLOSE, code)
        raw.sock.shutdown(1)
        assert raw.closed()


def test_message_too_large_in_fragments(serve):
    service = serve(Service, WEBSOCKET_MAX_MESSAGE_BYTES=1000)
    with service.connect() as raw:
        client = Client(raw)
        client.receive()
        client.send(TEXT, b"x" * 600, final=False)
        client.send(CONTINUATION, b"x" * 600)
        assert client.receive()[1][:2] == struct.pack("!H", 1009)


@pytest.mark.parametrize(
    ("payload", "answer"), [(b"", 1000), (struct.pack("!H", 1000) + b"bye", 1000), (struct.pack("!H", 4000), 4000)]
)
def test_closing_handshake(service, payload, answer):
    with service.connect() as raw:
        client = Client(raw)
        client.receive()
        client.send(CLOSE, payload)
        assert client.receive() == (CLOSE, struct.pack("!H", answer))
        assert raw.closed()


def test_silent_client_is_pinged_and_given_up(serve):
    service = serve(Service, WEBSOCKET_IDLE_TIMEOUT=0.6, WEB_SERVER_HEADER_TIMEOUT=0.4)
    with service.connect() as raw:
        client = Client(raw)
        client.receive()
        for _ in range(3):
            assert client.receive() == (PING, b"")
            client.send(PONG, b"")
        assert client.receive() == (PING, b"")
        assert raw.closed()


def test_https_websocket_through_middleware(serve):
    service = serve(Service, WEB_SERVER_CORS={"origins": ["https://app.example"]})
    with service.connect() as raw:
        client = Client(raw, "/ws", "Origin: https://app.example")
        client.receive()
        assert client.call("echo", value=1) == 1


# -- the test client


def test_client_when_the_service_is_gone(service, websocket):
    client = websocket()
    client.wait_for_event("connected")
    with pytest.raises(ConnectionLost):
        client.rpc("kill_me")
    with pytest.raises(ConnectionLost):
        client.rpc("echo", value=1)


def test_client_without_a_service(web_config_port):
    app, connect = make_virtual_socket("127.0.0.1", web_config_port)
    concurrency.spawn(app.run_forever)
    with pytest.raises(ConnectionRefusedError):
        connect()


def test_client_at_the_wrong_path(service):
    app, connect = make_virtual_socket(*service.address, path="/")
    concurrency.spawn(app.run_forever)
    with pytest.raises(ConnectionLost, match=r"refused the websocket: HTTP/1\.1 200 OK"):
        connect()


def test_web_session(serve, web_config, web_session):
    serve(Service, **web_config)
    assert web_session.get("/").text == "pong"


def test_one_server_for_http_and_websockets():
    container = ServiceContainer(Service, {})
    assert len([each for each in container.extensions if isinstance(each, WebServer)]) == 1
    assert len([each for each in container.extensions if isinstance(each, WebSocketServer)]) == 1
