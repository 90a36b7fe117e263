"""Row 39: secrets in the URI, the environment, headers and arguments. Whatever fails, and is logged, none is shown."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from nameko import concurrency

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(300)]

Eventually = Callable[..., Any]

#: Every secret has it in it, and says after it which one it is.
CANARY = "c4nary"
PASSWORD = f"{CANARY}-uri@1/2"
EVERYTHING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"level": "DEBUG", "handlers": ["console"]},
}
PATHS = ("fail", "nothing", "%zz", "health", "health/ready", "metrics")
SERVICES = Path(__file__).parent / "services"


def hits(text: str) -> list[str]:
    return [line for line in text.splitlines() if CANARY in line]


class Commands:
    """Runs `nameko`, and Python, with the secrets in environment and configuration.

    :param uri: the broker, with a password
    """

    def __init__(self, directory: Path, uri: str) -> None:
        self._directory = directory
        self.environ = {
            **os.environ,
            "PYTHONPATH": str(SERVICES),
            "THE_URI": uri,
            "THE_SECRET": f"{CANARY}-env",
            "NAMEKO_DEBUG": "1",
        }
        self.config = {
            "AMQP_URI": "${THE_URI}",
            "DATABASE_PASSWORD": "${THE_SECRET}",
            "services": {"payments": {"api_key": "${THE_SECRET}", "url": f"https://me:{CANARY}-url@payments"}},
            "AMQP_SSL": None,
            "LOGGING": EVERYTHING,
            "START_TIMEOUT": 1.5,
            "HEARTBEAT": 4,
            "RETRY_ATTEMPTS": 2,
            "RETRY_DELAY": 0.1,
        }

    def write(self, **changes: Any) -> str:
        """A configuration file; its name."""
        path = self._directory / "config.yaml"
        path.write_text(yaml.safe_dump({**self.config, **changes}))
        return path.name

    def nameko(self, *arguments: str, stdin: str = "", **changes: Any) -> str:
        """What a command prints, with its configuration changed."""
        return self.python("-m", "nameko", *arguments, "--config", self.write(**changes), stdin=stdin)

    def python(self, *arguments: str, stdin: str = "") -> str:
        done = concurrency.run_in_native_thread(
            subprocess.run,
            [sys.executable, *arguments],
            cwd=self._directory,
            env=self.environ,
            input=stdin.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
        )
        return str(done.stdout, errors="replace")


@pytest.fixture
def secret_uri(node: Any, vhost: str, proxy: Any) -> Iterator[str]:
    """The broker through `proxy`, for a user with a password."""
    node.ctl("add_user", "keeper", PASSWORD)
    node.management.allow(vhost, "keeper")
    yield node.uri(vhost, port=proxy.port, user="keeper", password=quote(PASSWORD, safe=""))
    node.ctl("delete_user", "keeper")


@pytest.fixture
def commands(tmp_path: Path, secret_uri: str) -> Commands:
    return Commands(tmp_path, secret_uri)


# -- commands


def test_row_39_what_shows_the_configuration(commands: Commands) -> None:
    for arguments in (["show-config"], ["show-config", "--defaults"]):
        output = commands.nameko(*arguments)
        assert "keeper:********@" in output
        assert hits(output) == []
    revealed = commands.nameko("show-config", "--reveal")
    assert len(hits(revealed)) == 4  # the URI, twice the variable, the other URI: the canary is there to be seen


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"AMQP_URI": f"pyamqp:/keeper:{CANARY}-typo@localhost"}, "AMQP_URI"),
        ({"AMQP_URI": f"{CANARY}-no-uri"}, "AMQP_URI"),
        ({"AMQP_URI": f"pyamqp://keeper:{CANARY}-port@localhost:many"}, "AMQP_URI"),
        ({"AMQP_URI": f"pyamqp://keeper:{CANARY}-hostless"}, "AMQP_URI"),
        *(({"AMQP_URI": f"pyamqp://keeper:a{each}{CANARY}-raw@localhost"}, "AMQP_URI") for each in ";/?#"),
        *(({"AMQP_URI": f"pyamqp://keeper{each}{CANARY}-mistyped@localhost"}, "AMQP_URI") for each in ";/?#"),
        ({"AMQP_URI": f"pyamqp://keeper@localhost:{CANARY}-behind"}, "AMQP_URI"),
        ({"AMQP_URI": f"pyamqp://keeper@localhost;{CANARY}-second"}, "AMQP_URI"),
        ({"AMQP_URI": f"pyamqp://keeper:a@b/{CANARY}-raw@localhost"}, "AMQP_URI"),
        ({"AMQP_URI": f"pyamqp://keeper:a@localhost:1;pyamqp://keeper:{CANARY}-second"}, "AMQP_URI"),
        ({"AMQP_URI": f"pyamqp://keeper:{CANARY}-closed@127.0.0.1:1"}, "Connection refused"),
        ({"HEARTBEAT": "${THE_SECRET}"}, "HEARTBEAT"),
        ({"AMQP_SSL": "${THE_SECRET}"}, "AMQP_SSL"),
        ({"DATABASE_PASSWORD": "${THE_SECRET"}, "brace"),
        ({"AMQP_SSL": {"certfile": "/nowhere", "keyfile_password": "${THE_SECRET}"}}, "/nowhere"),
    ],
)
def test_row_39_a_service_that_cannot_start(commands: Commands, changes: dict[str, Any], said: str) -> None:
    output = commands.nameko("run", "keeper", **changes)
    assert said in output
    assert hits(output) == []
    if isinstance(changes.get("AMQP_URI"), str) and "no-uri" not in changes["AMQP_URI"]:
        for others in (["show-config"], ["amqp", "dead", "list"]):
            assert hits(commands.nameko(*others, **changes)) == []


def test_row_39_a_broker_that_refuses(commands: Commands, secret_uri: str) -> None:
    wrong_password = commands.nameko("run", "keeper", AMQP_URI=secret_uri.replace("%40", f"{CANARY}"))
    assert "ACCESS_REFUSED" in wrong_password or "refused" in wrong_password
    unknown_vhost = commands.nameko("run", "keeper", AMQP_URI=f"{secret_uri}-unknown")
    assert "vhost" in unknown_vhost
    assert hits(wrong_password) + hits(unknown_vhost) == []


def test_row_39_the_shell(commands: Commands) -> None:
    script = """
print(n, n.rpc, n.config, n.rpc.keeper)
import nameko.amqp
print(nameko.amqp.AmqpSettings.from_config(n.config))
n.rpc.nobody.method()
"""
    output = commands.nameko("shell", stdin=script)
    assert "UnknownService" in output
    assert hits(output) == []


@pytest.mark.parametrize(
    "script",
    [
        "from nameko.standalone.rpc import ClusterRpcProxy as C\nwith C({{'AMQP_URI': {uri}}}) as c: c.no.no()",
        "from nameko.standalone.events import event_dispatcher as d\nd({{'AMQP_URI': {uri}}})('a', 'b', 1)",
        "from nameko.amqp import get_connection as g\nwith g({uri}) as c: c.default_channel",
    ],
)
def test_row_39_what_is_no_service(commands: Commands, secret_uri: str, script: str) -> None:
    uri = secret_uri.replace("%40", CANARY)  # a wrong password
    output = commands.python("-c", script.format(uri=repr(uri)))
    assert "Traceback" in output
    assert hits(output) == []


# -- a service at work


def test_row_39_a_service_at_work(
    commands: Commands,
    node_site: Any,
    node: Any,
    vhost: str,
    proxy: Any,
    tmp_path: Path,
    eventually: Eventually,
) -> None:
    port = free_port()
    config = commands.write(WEB_SERVER_ADDRESS=f"127.0.0.1:{port}", START_TIMEOUT=30)
    output_path = tmp_path / "keeper.txt"
    with output_path.open("wb") as output_file:
        process = subprocess.Popen(
            [sys.executable, "-m", "nameko", "run", "--config", config, "--backdoor", "keeper"],
            cwd=tmp_path,
            env=commands.environ,
            stdout=output_file,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: "services ready" in output_path.read_text())
        answers = provoke(node_site.raw(), port)
        eventually(lambda: node.queues(vhost).get("evt-keeper-told--keeper.hear.dead") is not None)
        assert proxy.reset() == 2
        eventually(lambda: output_path.read_text().count("is back after") == 2)
        process.terminate()
        assert concurrency.run_in_native_thread(process.wait, 40) == 0
    finally:
        process.kill()
        concurrency.run_in_native_thread(process.wait)
    output = output_path.read_text()
    for said in ("PermissionError", "LookupError", "RuntimeError", "ignored headers", "rejected a message", "is lost"):
        assert said in output, said
    assert hits(output) == []
    assert hits("\n".join(answers)) == []


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def provoke(raw: Any, port: int) -> list[str]:
    """Make the service fail in every way, with secrets at hand; what it answers."""
    token = f"{CANARY}-header"
    body = json.dumps({"args": [f"{CANARY}-argument"], "kwargs": {}})
    requests = [
        ("keeper.log_in", body, {"nameko.auth_token": token}),
        ("keeper.log_in", body, {"nameko.auth_token": [token], "password": token}),
        ("keeper.log_in", body, {"nameko.auth_token": token * 2000}),
        ("keeper.log_in", body[:-3], {"nameko.auth_token": token}),
        ("keeper.log_in", json.dumps({"args": [1, 2, 3], "kwargs": {}}), {"nameko.auth_token": token}),
        ("keeper.nothing", body, {"nameko.auth_token": token}),
        ("keeper.call_on", '{"args": [], "kwargs": {}}', {"nameko.auth_token": token}),
        ("keeper.tell", '{"args": [], "kwargs": {}}', {"nameko.auth_token": token}),
    ]
    answers = []
    for routing_key, request, headers in requests:
        raw.send(request, routing_key, reply_to=raw.reply_to, correlation_id="c", headers=headers)
        answers.append(str(raw.receive().body))
    raw.send(body, "keeper.log_in", headers={"nameko.auth_token": token})  # nobody to answer
    return answers + [fetch(f"http://127.0.0.1:{port}/{path}") for path in PATHS]


def fetch(url: str) -> str:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {CANARY}-http"})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return str(response.headers) + str(response.read())
    except urllib.error.HTTPError as exc:
        return str(exc.headers) + str(exc.read())
