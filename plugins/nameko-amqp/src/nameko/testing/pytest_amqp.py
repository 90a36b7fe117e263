"""Pytest plugin of nameko-amqp: fixtures for tests against RabbitMQ or the in-process broker.

Inert until a test asks for one of its fixtures: only then are nameko, kombu and the concurrency library imported.
"""

from __future__ import annotations

import queue
import random
import string
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

import pytest

if TYPE_CHECKING:
    from nameko.testing.rabbit import Client

#: As a virtual host: one of its own for each test.
RANDOM_VHOST = ":random:"
DEFAULT_AMQP_URI = f"pyamqp://guest:guest@localhost:5672/{RANDOM_VHOST}"
DEFAULT_MANAGEMENT_URI = "http://guest:guest@localhost:15672"
DEFAULT_TLS_PORT = 5671

_POLL_INTERVAL_S = 0.01


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the broker is."""
    group = parser.getgroup("nameko")
    group.addoption(
        "--amqp-uri",
        "--rabbit-amqp-uri",
        dest="RABBIT_AMQP_URI",
        metavar="URI",
        default=DEFAULT_AMQP_URI,
        help=f"RabbitMQ for the fixtures of nameko; without a virtual host in it, or with {RANDOM_VHOST}, "
        "each test gets one of its own [default: %(default)s]",
    )
    group.addoption(
        "--rabbit-api-uri",
        "--rabbit-ctl-uri",
        dest="RABBIT_API_URI",
        metavar="URI",
        default=DEFAULT_MANAGEMENT_URI,
        help="management API of that RabbitMQ [default: %(default)s]",
    )
    group.addoption(
        "--amqp-ssl-port",
        dest="AMQP_SSL_PORT",
        metavar="PORT",
        type=int,
        default=DEFAULT_TLS_PORT,
        help="port on which that RabbitMQ speaks TLS [default: %(default)s]",
    )
    group.addoption(
        "--amqp-ssl-option",
        dest="AMQP_SSL_OPTIONS",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="TLS option (ca_certs, certfile, keyfile, ...); the value is YAML; may be given several times",
    )


@pytest.fixture(scope="session")
def rabbit_manager(request: pytest.FixtureRequest) -> Client:
    """A client of RabbitMQ's management API."""
    from nameko.testing.rabbit import Client

    client = Client(request.config.getoption("RABBIT_API_URI"))
    try:
        client.get_overview()
    except OSError as exc:
        pytest.fail(
            f"no management API of RabbitMQ on {client.host}:{client.port} ({exc}): start the broker with "
            "rabbitmq_management enabled, or say where it is with --rabbit-api-uri",
            pytrace=False,
        )
    return client


@pytest.fixture(scope="session")
def vhost_pipeline(request: pytest.FixtureRequest, rabbit_manager: Client) -> Iterator[Any]:
    """Virtual hosts, made ahead of their use: `with vhost_pipeline.get() as vhost`."""
    from nameko.testing.utils import ResourcePipeline

    username = _username(request.config.getoption("RABBIT_AMQP_URI"))

    def create() -> str:
        vhost = "nameko_test_" + "".join(random.choices(string.ascii_lowercase, k=10))
        rabbit_manager.create_vhost(vhost)
        rabbit_manager.set_vhost_permissions(vhost, username, ".*", ".*", ".*")
        return vhost

    with ResourcePipeline(create, rabbit_manager.delete_vhost).run() as pipeline:
        yield pipeline


@pytest.fixture
def rabbit_uri(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URI of a virtual host on RabbitMQ, which is this test's own unless `--amqp-uri` names one."""
    uri: str = request.config.getoption("RABBIT_AMQP_URI")
    if _vhost(uri) not in ("", RANDOM_VHOST):
        yield uri
        return
    with request.getfixturevalue("vhost_pipeline").get() as vhost:
        yield urlsplit(uri)._replace(path="/" + quote(vhost, safe="")).geturl()
        _forget_pooled_connections()


@pytest.fixture
def rabbit_config(rabbit_uri: str) -> Iterator[dict[str, Any]]:
    """Configuration for RabbitMQ: `AMQP_URI`, and `username` and `vhost` for the management API.

    `nameko.config` has that `AMQP_URI` too while the test runs.
    """
    with _global_config(AMQP_URI=rabbit_uri):
        yield {"AMQP_URI": rabbit_uri, "username": _username(rabbit_uri), "vhost": _vhost(rabbit_uri)}


@pytest.fixture
def rabbit_ssl_options(request: pytest.FixtureRequest) -> Any:
    """What `--amqp-ssl-option` says, as a dict for `AMQP_SSL`; True when it was not given."""
    return _parse_ssl_options(request.config.getoption("AMQP_SSL_OPTIONS")) or True


@pytest.fixture
def rabbit_ssl_uri(request: pytest.FixtureRequest, rabbit_uri: str) -> str:
    """`rabbit_uri` with the port on which the broker speaks TLS."""
    parts = urlsplit(rabbit_uri)
    credentials = parts.netloc.rpartition("@")[0]
    netloc = f"{credentials}@{_host(parts.hostname)}:{request.config.getoption('AMQP_SSL_PORT')}"
    return parts._replace(netloc=netloc.lstrip("@")).geturl()


@pytest.fixture
def rabbit_ssl_config(rabbit_ssl_uri: str, rabbit_ssl_options: Any) -> Iterator[dict[str, Any]]:
    """`rabbit_config` over TLS: with `AMQP_SSL`."""
    with _global_config(AMQP_URI=rabbit_ssl_uri, AMQP_SSL=rabbit_ssl_options):
        yield {
            "AMQP_URI": rabbit_ssl_uri,
            "AMQP_SSL": rabbit_ssl_options,
            "username": _username(rabbit_ssl_uri),
            "vhost": _vhost(rabbit_ssl_uri),
        }


@pytest.fixture
def memory_config() -> Iterator[dict[str, Any]]:
    """Configuration for an in-process broker that is this test's own: nothing has to be installed or running.

    `nameko.config` has that `AMQP_URI` too while the test runs.
    """
    uri = f"memory://localhost/{uuid.uuid4().hex}"
    with _global_config(AMQP_URI=uri):
        yield {"AMQP_URI": uri}


@pytest.fixture
def amqp_uri(rabbit_config: dict[str, Any]) -> str:
    """The broker's URI."""
    uri: str = rabbit_config["AMQP_URI"]
    return uri


@pytest.fixture
def get_message_from_queue(amqp_uri: str) -> Callable[..., Any]:
    """`get_message_from_queue(queue_name, ack=True, block=True, timeout=1)` takes a message off a queue.

    It returns kombu's message (`payload`, `headers`, `properties`); with `ack=False` the message goes back to the
    queue. It raises `queue.Empty` when there is none: at once with `block=False`, after `timeout` seconds otherwise.
    """

    def get_message(queue_name: str, ack: bool = True, block: bool = True, timeout: float = 1) -> Any:
        import kombu

        from nameko.amqp import get_connection

        with get_connection(amqp_uri) as connection, connection.channel() as channel:
            message = _wait_for_message(kombu.Queue(queue_name).bind(channel), timeout if block else 0)
            if ack:
                message.ack()
            return message

    return get_message


@contextmanager
def _global_config(**values: Any) -> Iterator[None]:
    from nameko.config import config

    with config.patch(values):
        yield


def _forget_pooled_connections() -> None:
    # Pools of connections to a virtual host that is about to vanish; of no use to the next test, which has another.
    pools = sys.modules.get("kombu.pools")
    if pools is not None:
        pools.reset()


def _parse_ssl_options(options: list[str]) -> dict[str, Any]:
    import yaml

    parsed = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise pytest.UsageError(f"--amqp-ssl-option {option!r}: write KEY=VALUE")
        parsed[key] = yaml.safe_load(value)
    return parsed


def _username(uri: str) -> str:
    return unquote(urlsplit(uri).username or "guest")


def _vhost(uri: str) -> str:
    return unquote(urlsplit(uri).path[1:])


def _host(hostname: str | None) -> str:
    name = hostname or "localhost"
    return f"[{name}]" if ":" in name else name


def _wait_for_message(bound_queue: Any, timeout_s: float) -> Any:
    from nameko.concurrency import sleep  # whoever is to send the message may be a service in this process

    deadline = time.monotonic() + timeout_s
    while True:
        message = bound_queue.get()
        if message is not None:
            return message
        if time.monotonic() >= deadline:
            raise queue.Empty(f"no message in queue {bound_queue.name!r} within {timeout_s} s")
        sleep(_POLL_INTERVAL_S)
