"""Published dependencies and entrypoints that bring their own resource: a database, a log, a clock, metrics."""

from __future__ import annotations

import json
import os
import re
import socket
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.missing import missing
from nameko.exceptions import RemoteError
from nameko.testing.utils import find_free_port

pytestmark = pytest.mark.rabbitmq

REDIS = (os.environ.get("NAMEKO_TEST_REDIS_HOST", "127.0.0.1"), int(os.environ.get("NAMEKO_TEST_REDIS_PORT", "6379")))


def get(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as response:
        return bytes(response.read())


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_cron(host: Any) -> None:
    host.serve("with_cron")
    host.wait_until(lambda: len(host.seen("tick")) >= 2 and len(host.seen("tock")) >= 2)


def test_statsd(host: Any) -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as daemon:
        daemon.bind(("127.0.0.1", 0))
        daemon.settimeout(20)
        where = {"host": "127.0.0.1", "port": daemon.getsockname()[1]}
        config = {
            "local": {"prefix": "tests", "enabled": True, **where},
            "off": {"prefix": "off", "enabled": False, **where},
        }
        host.serve("with_statsd", {"STATSD": config})

        assert host.ask("counter", "add", 2, 3) == 5
        metrics = [daemon.recv(1024).decode() for _ in range(3)]

    assert metrics[:2] == ["tests.added:1|c", "tests.last:5|g"]
    assert re.fullmatch(r"tests\.adding:[\d.]+\|ms", metrics[2])


@pytest.fixture
def redis_config() -> dict[str, Any]:
    """The configuration for a Redis server."""
    try:
        socket.create_connection(REDIS, timeout=2).close()
    except OSError as exc:
        missing(f"no Redis on {REDIS[0]}:{REDIS[1]} ({exc})")
    return {"REDIS": {"TESTS": {"url": f"redis://{REDIS[0]}:{REDIS[1]}/0"}}}


def test_redis(host: Any, redis_config: dict[str, Any]) -> None:
    host.serve("with_redis", redis_config)
    key = f"nameko-test-{uuid.uuid4()}"

    host.ask("store", "put", key, "x")
    assert host.ask("store", "get", key) == "x"
    assert host.ask("store", "get", f"{key}-missing") is None


def test_redis_publish_and_subscribe(host: Any, redis_config: dict[str, Any]) -> None:
    host.serve("with_redis", redis_config)
    key = f"nameko-test-{uuid.uuid4()}"

    waiting = host.method("store", "wait_for").call_async(key, 20)
    assert host.ask("store", "answer", key, "here it is") is True
    assert waiting.result() == "here it is"
    with pytest.raises(RemoteError, match=r"WaitTimeout Timeout error"):
        host.ask("store", "wait_for", f"{key}-missing", 0.1)


def test_structlog(host: Any) -> None:
    printed = host.serve("with_structlog", {"STRUCTLOG": {"EXTRA_PARAMETERS": {"colour": "blue"}}})

    host.ask("writer", "write", "once upon a time")
    [line] = host.wait_until(lambda: json_lines(printed()))
    assert line["event"] == "once upon a time"
    assert (line["length"], line["colour"], line["logger"], line["level"]) == (16, "blue", "writer", "info")
    assert line["entrypoint"].startswith("writer.write.")


def test_injector(host: Any) -> None:
    port = find_free_port()
    host.serve("with_injector", {"INJECTED": {"colour": "blue"}, "WEB_SERVER_ADDRESS": f"127.0.0.1:{port}"})

    assert json.loads(get(port, "/settings")) == {"settings": {"colour": "blue"}, "same": True}
    values = [host.ask("injected", "connect", number) for number in range(3)]
    assert [value for value, _ in values] == [0, 1, 2]
    host.wait_until(lambda: len(host.seen("closed")) == 3)
    assert host.seen("closed") == [{"call_id": call_id} for _, call_id in values]
    assert len({call_id for _, call_id in values}) == 3


@pytest.fixture
def library(host: Any, tmp_path: Path) -> Iterator[Any]:
    """A service with an empty database."""
    host.serve("with_sqlalchemy", {"DB_URIS": {"library:library": f"sqlite:///{tmp_path}/books.sqlite"}})
    host.ask("library", "open")
    return host


def test_sqlalchemy(library: Any) -> None:
    library.ask("library", "add", "Emma", "Persuasion")
    with pytest.raises(RemoteError, match="IntegrityError"):
        library.ask("library", "add", "Lady Susan", "Emma")  # both or none
    assert library.ask("library", "titles") == ["Emma", "Persuasion"]


def test_sqlalchemy_tries_a_transaction_again(library: Any) -> None:
    library.ask("library", "add_stubbornly", "Sanditon")
    assert library.seen("added") == [{"attempts": 3}]
    assert library.ask("library", "titles") == ["Sanditon"]


TRACER_LOG = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {"()": "nameko_tracer.formatters.JSONFormatter"},
        "plain": {"format": "%(name)s: %(message)s"},
    },
    "handlers": {
        "tracer": {"class": "logging.StreamHandler", "formatter": "json"},
        "console": {"class": "logging.StreamHandler", "formatter": "plain"},
    },
    "loggers": {"nameko_tracer": {"level": "INFO", "handlers": ["tracer"], "propagate": False}},
    "root": {"level": "INFO", "handlers": ["console"]},
}


def test_tracer(host: Any) -> None:
    port = find_free_port()
    printed = host.serve("with_tracer", {"LOGGING": TRACER_LOG, "WEB_SERVER_ADDRESS": f"127.0.0.1:{port}"})

    assert host.ask("traced", "pay", 10, {"number": "4111", "name": "Ada"}) == {"paid": 10}
    with pytest.raises(RemoteError, match="Refused"):
        host.ask("traced", "pay", 1000, {"number": "4111", "name": "Ada"})
    assert get(port, "/receipts/7") == b"receipt 7"

    host.wait_until(lambda: len(json_lines(printed())) == 6)
    traces = json_lines(printed())
    assert [trace["stage"] for trace in traces] == ["request", "response"] * 3
    paid, refused, receipt = traces[1::2]
    assert paid["response"] == {"paid": 10}
    assert (paid["entrypoint_type"], paid["entrypoint_name"], paid["response_status"]) == ("Rpc", "pay", "success")
    assert paid["call_args"] == {"amount": 10, "card": {"number": "********", "name": "Ada"}}
    assert paid["call_id"].startswith("traced.pay.")
    assert paid["origin_call_id"].startswith("standalone_rpc_proxy.call.")
    assert (refused["exception_type"], refused["exception_expected"]) == ("Refused", True)
    assert (receipt["entrypoint_type"], receipt["response"]["status_code"]) == ("HttpRequestHandler", 200)
    assert receipt["call_args"]["request"]["url"] == f"http://127.0.0.1:{port}/receipts/7"
