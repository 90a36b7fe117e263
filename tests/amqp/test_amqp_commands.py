"""`nameko amqp`, over RabbitMQ: parked messages are listed, shown, given back and dropped; policies work as printed."""

from __future__ import annotations

import io
import json
import shlex
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from amqp import Message
from kombu import Connection, Exchange, Queue

from harness.management import MANAGEMENT_URL, Management
from harness.process import NAMEKO
from nameko import concurrency
from nameko.amqp import Retry
from nameko.containers import ServiceContainer
from nameko.messaging import consume

Eventually = Callable[..., Any]
Run = Callable[..., Any]

API_WITHOUT_USER = f"http://{MANAGEMENT_URL.rpartition('@')[2]}"
QUEUE = Queue("to-pack", exchange=Exchange("orders", type="topic"), routing_key="paid")


class Outcome:
    """What a command came to."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def nameko(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`nameko(*arguments)` runs the command line in this process."""
    from nameko import config
    from nameko.cli.main import main

    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments: str) -> Outcome:
        with config.patch({}, clear=True), pytest.raises(SystemExit) as ended:
            main(list(arguments))
        captured = capsys.readouterr()
        return Outcome(int(str(ended.value.code)), captured.out, captured.err)

    return run


@pytest.fixture
def channel(rabbitmq_uri: str) -> Iterator[Any]:
    with Connection(rabbitmq_uri) as connection:
        yield connection.channel()


@pytest.fixture
def packing(rabbitmq_uri: str) -> Iterator[tuple[list[Any], list[bool]]]:
    """What a service got to pack, and whether it can; it parks at once what it cannot."""
    calls: list[Any] = []
    can: list[bool] = []

    class Packer:
        name = "packer"

        @consume(QUEUE, retry=Retry(attempts=1))
        def pack(self, order: Any) -> None:
            calls.append(order)
            if not can:
                raise ValueError(f"no {order}")

    container = ServiceContainer(Packer, {"AMQP_URI": rabbitmq_uri})
    container.start()
    yield calls, can
    container.kill()


def depth(channel: Any, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).message_count)


@pytest.fixture
def park(channel: Any, packing: Any, eventually: Eventually) -> Callable[..., None]:
    """`park(*orders)`: they fail, and are parked."""

    def send(*orders: Any) -> None:
        for order in orders:
            _publish(channel, order)
        eventually(lambda: depth(channel, "to-pack.dead") == len(orders))

    return send


def _publish(channel: Any, order: Any) -> None:
    encoding = {"content_type": "application/json", "content_encoding": "utf-8"}
    message = Message(json.dumps(order), **encoding, delivery_mode=2, application_headers={"colour": "red"})
    channel.basic_publish(message, exchange="orders", routing_key="paid")


pytestmark = pytest.mark.rabbitmq


class TestList:
    def test_named_queues(self, nameko: Run, park: Run, rabbitmq_uri: str) -> None:
        park(1, 2, 3)
        for name in ("to-pack", "to-pack.dead"):
            listed = nameko("amqp", "dead", "list", name, "--broker", rabbitmq_uri)
            assert (listed.status, listed.out.split()) == (0, ["to-pack.dead", "3"])

    def test_all_of_them_as_the_broker_counts_them_now(self, nameko: Run, park: Run, rabbitmq_uri: str) -> None:
        Management().require()
        park(1, 2)
        arguments = ("amqp", "dead", "list", "--broker", rabbitmq_uri, "--management", MANAGEMENT_URL)
        # What the management API counts is some seconds old.
        assert nameko(*arguments).out.split() == ["to-pack.dead", "2"]
        assert nameko("amqp", "dead", "purge", "to-pack", "--yes", "--broker", rabbitmq_uri).status == 0
        assert nameko(*arguments).out.split() == ["to-pack.dead", "0"]

    def test_an_api_that_is_not_there_is_one_line(self, nameko: Run, rabbitmq_uri: str) -> None:
        listed = nameko("amqp", "dead", "list", "--broker", rabbitmq_uri, "--management", "http://127.0.0.1:1")
        assert listed.status == 1
        assert listed.err.count("\n") == 1
        assert "name the queues" in listed.err
        assert nameko("amqp", "dead", "list", "--broker", rabbitmq_uri, "--management", "ftp:x").status == 1

    @pytest.mark.parametrize(
        ("password", "vhost", "status"), [("s3cret", "", 401), ("", "/no-such-vhost", 404)], ids=["401", "404"]
    )
    def test_an_api_that_refuses_is_a_matter_of_the_uri(
        self, nameko: Run, rabbitmq_uri: str, password: str, vhost: str, status: int
    ) -> None:
        Management().require()
        uri = urlsplit(rabbitmq_uri)
        credentials = f"{uri.username}:{password or uri.password}"
        broker = f"pyamqp://{credentials}@{uri.hostname}:{uri.port or 5672}{vhost or uri.path}"
        listed = nameko("amqp", "dead", "list", "--broker", broker, "--management", API_WITHOUT_USER)
        assert listed.status == 1
        assert f"HTTP Error {status}" in listed.err
        assert listed.err.endswith("): check user, password and virtual host in AMQP_URI.\n")

    def test_an_api_that_refuses_whom_its_url_names(self, nameko: Run, rabbitmq_uri: str) -> None:
        Management().require()
        url = API_WITHOUT_USER.replace("://", "://guest:s3cret@")
        listed = nameko("amqp", "dead", "list", "--broker", rabbitmq_uri, "--management", url)
        remedy = "check user and password in --management, and the virtual host in AMQP_URI."
        assert (listed.status, listed.err.count("s3cret")) == (1, 0)
        assert listed.err.endswith(f"): {remedy}\n")

    def test_a_broker_that_refuses_is_named_once(self, nameko: Run, rabbitmq_uri: str) -> None:
        broker = rabbitmq_uri.rpartition("/")[0] + "/no-such-vhost"
        listed = nameko("amqp", "dead", "list", "to-pack", "--broker", broker)
        assert (listed.status, listed.err.count("/no-such-vhost")) == (1, 1)
        assert listed.err.startswith("Error: the broker pyamqp://")
        assert listed.err.endswith("check user, password and virtual host in AMQP_URI\n")

    def test_a_broker_that_is_not_there_is_named_once(self, nameko: Run) -> None:
        listed = nameko("amqp", "dead", "list", "to-pack", "--broker", "pyamqp://127.0.0.1:1/")
        assert listed.status == 1
        assert listed.err.startswith("Error: the broker pyamqp://127.0.0.1:1/ cannot be reached: ")

    def test_a_broker_whose_tls_fails_is_named(self, nameko: Run, rabbitmq_uri: str) -> None:
        uri = urlsplit(rabbitmq_uri)
        broker = f"amqps://{uri.hostname}:{uri.port or 5672}"
        listed = nameko("amqp", "dead", "list", "to-pack", "--broker", broker)
        assert listed.status == 1
        assert listed.err.startswith(f"Error: no use of {broker}: [SSL")

    def test_no_port_that_is_a_password_is_shown(self, nameko: Run, rabbitmq_uri: str) -> None:
        listed = nameko("amqp", "dead", "list", "--broker", rabbitmq_uri, "--management", "http://guest:s3cret")
        assert (listed.status, "s3cret" in listed.err) == (1, False)
        assert "--management takes a URL" in listed.err

    def test_where_the_broker_is_asked_over_tls_so_is_its_api(self, nameko: Run) -> None:
        listed = nameko("amqp", "dead", "list", "--broker", "amqps://guest:s3cret@localhost:1/")
        assert listed.status == 1
        assert "the management API at https://localhost:15671 does not say which queues there are" in listed.err

    @pytest.mark.parametrize(
        ("certificate", "authority", "asked"), [("good", "ca", 1), ("wrong-host", "ca", 0), ("good", "other-ca", 0)]
    )
    def test_the_api_is_verified_as_the_broker_is(
        self, certificates: Path, api: Any, certificate: str, authority: str, asked: int
    ) -> None:
        url, requests = api(certificates / f"{certificate}.pem")
        # In a process of its own, as eventlet's TLS leaves the socket to the garbage collector when it does not verify.
        listed = concurrency.run_in_native_thread(
            subprocess.run,
            [
                *(*NAMEKO, "amqp", "dead", "list", "--broker", "amqps://guest:s3cret@localhost:1/"),
                *("--management", url, "-d", f"AMQP_SSL={{ca_certs: {certificates / authority}.pem}}"),
            ],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert len(requests) == asked
        if asked:
            assert listed.stdout == "There is no parking queue.\n"
        else:
            assert "certificate verify failed" in listed.stderr
            assert (listed.returncode, listed.stderr.count("\n")) == (1, 1)

    def test_the_password_does_not_follow_a_redirect(self, nameko: Run, api: Any, rabbitmq_uri: str) -> None:
        elsewhere, asked = api()
        url, _ = api(redirect=f"{elsewhere}/api/queues")
        listed = nameko("amqp", "dead", "list", "--broker", rabbitmq_uri, "--management", url)
        assert (listed.status, asked) == (1, [])
        assert "302" in listed.err


class Api(BaseHTTPRequestHandler):
    """A management API that knows no queues, or sends its clients elsewhere."""

    def do_GET(self) -> None:
        server: Any = self.server
        server.requests.append(self.path)
        self.send_response(302 if server.redirect else 200)
        if server.redirect:
            self.send_header("Location", server.redirect)
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, *_: object) -> None:
        pass


class QuietServer(HTTPServer):
    """One that says nothing of clients that do not agree to its certificate."""

    def handle_error(self, *_: object) -> None:
        pass


@pytest.fixture
def api() -> Iterator[Callable[..., tuple[str, list[str]]]]:
    """`api()` starts one, over TLS when it gets a certificate; its URL, and the requests that it got."""
    with ExitStack() as servers:

        def start(certificate: Path | None = None, redirect: str = "") -> tuple[str, list[str]]:
            server: Any = QuietServer(("127.0.0.1", 0), Api)
            server.requests, server.redirect = [], redirect
            if certificate is not None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(certificate, certificate.with_suffix(".key"))
                server.socket = context.wrap_socket(server.socket, server_side=True)
            thread = concurrency.spawn(server.serve_forever, 0.05)
            servers.callback(thread.wait)
            servers.callback(server.server_close)
            servers.callback(server.shutdown)
            return f"http{'s' if certificate else ''}://localhost:{server.server_address[1]}", server.requests

        yield start


class TestShow:
    def test_messages_are_shown_and_stay(
        self, nameko: Run, park: Run, rabbitmq_uri: str, channel: Any, eventually: Eventually
    ) -> None:
        park({"tëa": 1}, {"tëa": 2})
        shown = nameko("amqp", "dead", "show", "to-pack", "--broker", rabbitmq_uri)
        assert shown.status == 0
        for expected in ("ValueError: no {'tëa': 1}", "Traceback", "exchange `orders`, routing key `paid`", '"red"'):
            assert expected in shown.out
        eventually(lambda: depth(channel, "to-pack.dead") == 2)

    def test_as_json(self, nameko: Run, park: Run, rabbitmq_uri: str) -> None:
        park({"tëa": 1}, {"tëa": 2})
        shown = nameko("amqp", "dead", "show", "to-pack", "--json", "--limit", "1", "--broker", rabbitmq_uri)
        (line,) = shown.out.splitlines()
        described = json.loads(line)
        assert json.loads(described["body"]) == {"tëa": 1}
        assert described["attempts"] == 1
        assert described["headers"] == {"colour": "red"}
        assert described["reason"] == "attempts"

    def test_one_that_is_empty(self, nameko: Run, packing: Any, rabbitmq_uri: str) -> None:
        shown = nameko("amqp", "dead", "show", "to-pack", "--broker", rabbitmq_uri)
        assert (shown.status, shown.out) == (0, "to-pack.dead is empty.\n")


class TestRequeue:
    def test_messages_run_again_and_are_counted_anew(
        self, nameko: Run, park: Run, packing: Any, rabbitmq_uri: str, channel: Any, eventually: Eventually
    ) -> None:
        calls, can = packing
        park(1, 2)
        can.append(True)
        given_back = nameko("amqp", "dead", "requeue", "to-pack", "--broker", rabbitmq_uri)
        assert (given_back.status, given_back.out) == (0, "2 messages given back from to-pack.dead.\n")
        eventually(lambda: sorted(calls) == [1, 1, 2, 2])
        assert depth(channel, "to-pack.dead") == 0

    def test_one_message_is_one(self, nameko: Run, park: Run, packing: Any, rabbitmq_uri: str) -> None:
        park(1)
        packing[1].append(True)
        given_back = nameko("amqp", "dead", "requeue", "to-pack", "--broker", rabbitmq_uri)
        assert (given_back.status, given_back.out) == (0, "1 message given back from to-pack.dead.\n")

    def test_what_fails_again_is_parked_again_and_not_moved_for_ever(
        self, nameko: Run, park: Run, packing: Any, rabbitmq_uri: str, channel: Any, eventually: Eventually
    ) -> None:
        calls, _ = packing
        park(1, 2)
        assert nameko("amqp", "dead", "requeue", "to-pack", "--limit", "1", "--broker", rabbitmq_uri).status == 0
        eventually(lambda: sorted(calls) in ([1, 1, 2], [1, 2, 2]))
        eventually(lambda: depth(channel, "to-pack.dead") == 2)
        assert nameko("amqp", "dead", "requeue", "to-pack", "--broker", rabbitmq_uri).out.startswith("2 messages")
        eventually(lambda: len(calls) == 5)
        eventually(lambda: depth(channel, "to-pack.dead") == 2)

    def test_a_queue_that_is_gone_is_named_and_nothing_lost(
        self, nameko: Run, park: Run, rabbitmq_uri: str, channel: Any, eventually: Eventually
    ) -> None:
        park(1)
        message = channel.basic_get("to-pack.dead")
        headers = {**message.properties["application_headers"], "nameko-dead-return-routing-key": "gone"}
        channel.basic_ack(message.delivery_tag)
        again = Message(message.body, application_headers=headers)
        channel.basic_publish(again, exchange="", routing_key="to-pack.dead")
        eventually(lambda: depth(channel, "to-pack.dead") == 1)
        refused = nameko("amqp", "dead", "requeue", "to-pack", "--broker", rabbitmq_uri)
        assert refused.status == 1
        assert "routing key `gone`" in refused.err
        eventually(lambda: depth(channel, "to-pack.dead") == 1)

    def test_a_message_from_elsewhere_is_left(
        self, nameko: Run, packing: Any, rabbitmq_uri: str, channel: Any, eventually: Eventually
    ) -> None:
        channel.basic_publish(Message("?"), exchange="", routing_key="to-pack.dead")
        eventually(lambda: depth(channel, "to-pack.dead") == 1)
        refused = nameko("amqp", "dead", "requeue", "to-pack", "--broker", rabbitmq_uri)
        assert refused.status == 1
        assert "1 message of to-pack.dead does not say where it came from, and is left there" in refused.err
        eventually(lambda: depth(channel, "to-pack.dead") == 1)
        assert "why is unknown" in nameko("amqp", "dead", "show", "to-pack", "--broker", rabbitmq_uri).out


class TestPurge:
    def test_after_asking(
        self, nameko: Run, park: Run, rabbitmq_uri: str, channel: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        park(1, 2)
        monkeypatch.setattr("click.termui.visible_prompt_func", lambda text: "n")
        declined = nameko("amqp", "dead", "purge", "to-pack", "--broker", rabbitmq_uri)
        assert (declined.status, declined.err) == (1, "Error: nothing was dropped from to-pack.dead\n")
        assert depth(channel, "to-pack.dead") == 2
        purged = nameko("amqp", "dead", "purge", "to-pack", "--yes", "--broker", rabbitmq_uri)
        assert (purged.status, purged.out) == (0, "2 messages dropped from to-pack.dead.\n")
        assert depth(channel, "to-pack.dead") == 0

    def test_where_nobody_can_be_asked(
        self, nameko: Run, park: Run, rabbitmq_uri: str, channel: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        park(1)
        monkeypatch.setattr("sys.stdin", io.StringIO())
        refused = nameko("amqp", "dead", "purge", "to-pack", "--broker", rabbitmq_uri)
        assert refused.status == 1
        assert "Drop 1 message of to-pack.dead?" in refused.out
        assert (
            refused.err.strip() == "Error: nobody answers whether to drop 1 message of to-pack.dead: pass --yes to drop"
        )
        assert depth(channel, "to-pack.dead") == 1
        purged = nameko("amqp", "dead", "purge", "to-pack", "--yes", "--broker", rabbitmq_uri)
        assert (purged.status, purged.out) == (0, "1 message dropped from to-pack.dead.\n")


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["show", "nowhere"], "no queue 'nowhere.dead'"),
            (["purge", "nowhere", "--yes"], "no queue 'nowhere.dead'"),
            (["requeue", "nowhere"], "no queue 'nowhere.dead'"),
            (["list", "nowhere"], "no queue 'nowhere.dead'"),
        ],
    )
    def test_a_queue_that_is_not_there(self, nameko: Run, rabbitmq_uri: str, arguments: list[str], words: str) -> None:
        failed = nameko("amqp", "dead", *arguments, "--broker", rabbitmq_uri)
        assert failed.status == 1
        assert words in failed.err
        assert "`nameko amqp dead list` shows" in failed.err
        assert failed.err.count("\n") == 1

    @pytest.mark.parametrize(
        ("uri", "words"),
        [
            ("pyamqp://guest:guest@127.0.0.1:1/", "REFUSED"),
            ("pyamqp://guest:secret-canary@127.0.0.1:5672/", "guest"),
            ("memory://localhost", "cannot be looked at"),
            ("ftp://x", "scheme"),
        ],
    )
    def test_a_broker_that_cannot_be_asked(self, nameko: Run, uri: str, words: str) -> None:
        failed = nameko("amqp", "dead", "show", "x", "--broker", uri)
        assert failed.status == 1
        assert words in failed.err
        assert failed.err.count("\n") == 1
        assert "secret-canary" not in failed.err

    def test_no_broker_is_named(self, nameko: Run) -> None:
        failed = nameko("amqp", "dead", "show", "x")
        assert failed.status == 1
        assert "which broker?" in failed.err


class TestPolicies:
    def lines(self, printed: str) -> list[list[str]]:
        return [shlex.split(line) for line in printed.splitlines() if not line.startswith("#")]

    @pytest.mark.parametrize("quorum", [False, True])
    def test_rabbitmq_takes_them_for_the_queues_of_services_alone(
        self, nameko: Run, rabbitmq_uri: str, channel: Any, eventually: Eventually, quorum: bool
    ) -> None:
        Management().require()
        names = ["rpc-a", "rpc-a.dead", "rpc-a.b.retry.500", "rpc.reply-a-1", "evt-a-b--c.d", "evt-a-b--c.d.dead", "x"]
        for name in names:
            kind = {"x-queue-type": "quorum"} if quorum else {}
            channel.queue_declare(name, durable=True, auto_delete=False, arguments=kind)
        options = ["--max-length", "5", "--dead-ttl", "60", *["--quorum"] * quorum]
        printed = nameko("amqp", "policies", *options, "--broker", rabbitmq_uri)
        assert printed.status == 0
        vhost = rabbitmq_uri.rpartition("/")[2]
        for _, command, _, in_vhost, name, pattern, definition, flag, kind in self.lines(printed.out):
            assert (command, in_vhost, flag, kind) == ("set_policy", vhost, "--apply-to", "queues")
            policy = {"pattern": pattern, "definition": json.loads(definition), "apply-to": kind}
            Management().request("PUT", f"policies/{quote(vhost, safe='')}/{name}", policy)
        applied = {"rpc-a": "nameko-rpc", "evt-a-b--c.d": "nameko-events"}
        applied.update({name: "nameko-dead" for name in names if name.endswith(".dead")})

        def policies() -> dict[str, str]:
            queues = Management().request("GET", f"queues/{quote(vhost, safe='')}")
            return {each["name"]: each["policy"] for each in queues if each.get("policy")}

        eventually(lambda: policies() == applied, timeout_s=20, interval_s=0.3)

    def test_the_configuration_says_how_long_requests_are_good_for(
        self, nameko: Run, tmp_path: Any, rabbitmq_uri: str
    ) -> None:
        path = tmp_path / "config.yaml"
        path.write_text("RPC_TIMEOUT: 7\n")
        (rpc, events) = self.lines(nameko("amqp", "policies", "-c", str(path)).out)
        assert json.loads(rpc[6]) == {"message-ttl": 7000}
        assert rpc[3] == "/"
        assert json.loads(events[6]) == {"dead-letter-exchange": "", "dead-letter-routing-key": "nameko.dead"}
        (rpc, _) = self.lines(nameko("amqp", "policies", "--rpc-ttl", "2.5", "-c", str(path)).out)
        assert json.loads(rpc[6]) == {"message-ttl": 2500}


def test_help_needs_no_amqp_library() -> None:
    import subprocess

    code = (
        "import sys; from nameko.amqp._commands import amqp; amqp(['dead', '--help'], standalone_mode=False); "
        "sys.exit(bool({'kombu', 'amqp'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "requeue" in done.stdout
