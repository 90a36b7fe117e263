"""nameko-slack, with a stub of Slack, which stands behind a proxy since its address cannot be configured."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import wsproto
from wsproto.events import AcceptConnection, Event, Request, TextMessage

from harness.missing import missing
from nameko import concurrency

pytestmark = pytest.mark.rabbitmq

TOKEN = "xoxb-1"


class Slack:
    """A proxy for HTTPS that is slack.com itself, and the websocket that slack.com sends bots to.

    :param certificate: with its key, for slack.com
    """

    def __init__(self, certificate: Path) -> None:
        self._tls = concurrency.ssl.SSLContext(concurrency.ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate)
        self._listeners: list[Any] = []
        self._threads: list[Any] = []
        self.proxy = f"http://127.0.0.1:{self._listen(self._serve_api)}"
        # Over TLS, as Slack has it: slackclient knows no other sign than an SSLError of data that is not there yet.
        self.websocket = f"wss://127.0.0.1:{self._listen(self._serve_websocket)}/"
        self.posted: list[dict[str, list[str]]] = []
        self.events: list[dict[str, Any]] = []
        self.said: list[dict[str, Any]] = []

    def _listen(self, serve: Any) -> int:
        listener = concurrency.socket.create_server(("127.0.0.1", 0))
        self._listeners.append(listener)

        def accept() -> None:
            while True:
                sock, _ = listener.accept()
                self._threads.append(concurrency.spawn(serve, sock))

        self._threads.append(concurrency.spawn(accept))
        return int(listener.getsockname()[1])

    def close(self) -> None:
        for thread in self._threads:
            thread.kill()
        for listener in self._listeners:
            listener.close()

    def _serve_api(self, sock: Any) -> None:
        with sock, sock.makefile("rb") as tunnel:
            assert tunnel.readline().startswith(b"CONNECT slack.com:443 ")
            headers_of(tunnel)
            sock.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            with self._tls.wrap_socket(sock, server_side=True) as tls, tls.makefile("rb") as requests:
                method = requests.readline().split()[1].decode().removeprefix("/api/")
                headers = headers_of(requests)
                form = parse_qs(requests.read(int(headers.get("content-length", 0))).decode())
                assert headers["authorization"] == f"Bearer {TOKEN}"
                body = json.dumps(self._answer(method, form)).encode()
                tls.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def _answer(self, method: str, form: dict[str, list[str]]) -> dict[str, Any]:
        if method == "chat.postMessage":
            self.posted.append(form)
            return {"ok": True, "ts": "1.5"}
        assert method == "rtm.start"
        nothing: dict[str, list[Any]] = {"channels": [], "groups": [], "users": [], "ims": []}
        return {"ok": True, "url": self.websocket, "team": {"domain": "tests"}, "self": {"name": "bot"}, **nothing}

    def _serve_websocket(self, sock: Any) -> None:
        connection = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        with sock, self._tls.wrap_socket(sock, server_side=True) as tls:
            while data := tls.recv(65536):
                connection.receive_data(data)
                for event in connection.events():
                    for answer in self._answers(event):
                        tls.sendall(connection.send(answer))

    def _answers(self, event: Event) -> Iterator[Event]:
        if isinstance(event, Request):
            yield AcceptConnection()
            yield from (TextMessage(json.dumps(each)) for each in self.events)
        elif isinstance(event, TextMessage):
            self.said.append(json.loads(event.data))


def headers_of(lines: Any) -> dict[str, str]:
    pairs = (line.decode().rstrip().partition(": ") for line in iter(lines.readline, b"\r\n"))
    return {name.lower(): value for name, _, value in pairs}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for slack.com, with its key."""
    if shutil.which("openssl") is None:
        missing("no openssl to make a certificate with")
    path = tmp_path_factory.mktemp("certificate") / "slack.pem"
    subject = ["-subj", "/CN=slack.com", "-addext", "subjectAltName=DNS:slack.com,IP:127.0.0.1"]
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    command = [*request, "-keyout", path.with_suffix(".key"), "-out", path.with_suffix(".crt")]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    path.write_text(path.with_suffix(".key").read_text() + path.with_suffix(".crt").read_text())
    return path


@pytest.fixture
def slack(certificate: Path) -> Iterator[Slack]:
    """A stub of Slack."""
    stub = Slack(certificate)
    yield stub
    stub.close()


def test_slack(host: Any, slack: Slack, certificate: Path) -> None:
    slack.events = [
        {"type": "hello"},
        {"type": "user_typing", "user": "ada"},
        {"type": "message", "channel": "C1", "text": "add 2 and 3"},
        {"type": "message", "channel": "C1", "text": "thank you"},
    ]
    host.serve(
        "with_slack",
        {"SLACK": {"TOKEN": TOKEN}},
        https_proxy=slack.proxy,
        no_proxy="127.0.0.1",
        REQUESTS_CA_BUNDLE=str(certificate),
        WEBSOCKET_CLIENT_CA_BUNDLE=str(certificate),
    )

    host.wait_until(lambda: host.seen("typing") == [{"user": "ada"}])
    host.wait_until(lambda: slack.said)
    assert [(each["channel"], each["text"]) for each in slack.said] == [("C1", "That makes 5.")]

    assert host.ask("bot", "say", "C2", "hello") == "1.5"
    assert slack.posted == [{"channel": ["C2"], "text": ["hello"]}]
