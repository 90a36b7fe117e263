"""The client of RabbitMQ's management API that tests use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import kombu
import pytest

from harness.management import MANAGEMENT_URL, Management
from nameko import concurrency
from nameko.testing import utils
from nameko.testing.rabbit import Client, HTTPError, get_rabbit_connections, reset_rabbit_connections

pytestmark = pytest.mark.rabbitmq

Eventually = Callable[..., Any]


@pytest.fixture
def client(rabbitmq_uri: str) -> Client:
    Management().require()
    return Client(MANAGEMENT_URL)


@pytest.fixture
def vhost(rabbitmq_uri: str) -> str:
    return unquote(urlsplit(rabbitmq_uri).path[1:])


@pytest.fixture
def queue(client: Client, vhost: str) -> str:
    client.create_exchange(vhost, "spam", durable=True)
    client.create_queue(vhost, "eggs", durable=True)
    client.create_queue_binding(vhost, "spam", "eggs", "ham.*")
    return "eggs"


def test_vhost_is_made_and_removed(client: Client) -> None:
    name = "nameko_test/with a slash"
    client.create_vhost(name)
    try:
        client.set_vhost_permissions(name, "guest", ".*", ".*", ".*")
        assert name in [vhost["name"] for vhost in client.get_all_vhosts()]
    finally:
        client.delete_vhost(name)
    assert name not in [vhost["name"] for vhost in client.get_all_vhosts()]


def test_exchanges_queues_and_bindings(client: Client, vhost: str, queue: str) -> None:
    assert client.get_exchange(vhost, "spam")["type"] == "topic"
    assert "spam" in [exchange["name"] for exchange in client.get_exchanges(vhost)]
    assert client.get_queue(vhost, "eggs")["durable"] is True
    assert [each["name"] for each in client.get_queues(vhost)] == ["eggs"]
    assert ("spam", "ham.*") in [
        (binding["source"], binding["routing_key"]) for binding in client.get_queue_bindings(vhost, "eggs")
    ]
    client.delete_queue(vhost, "eggs")
    client.delete_exchange(vhost, "spam")
    assert client.get_queues(vhost) == []
    assert "spam" not in [exchange["name"] for exchange in client.get_exchanges(vhost)]


def test_publish_says_whether_a_queue_got_the_message(client: Client, vhost: str, queue: str) -> None:
    assert client.publish(vhost, "spam", "ham.1", "hello") is True
    assert client.publish(vhost, "spam", "bacon", "hello") is False
    assert client.publish(vhost, "", "eggs", "through the default exchange") is True


def test_get_messages_takes_them_off_the_queue(client: Client, vhost: str, queue: str) -> None:
    client.publish(
        vhost,
        "spam",
        "ham.1",
        json.dumps({"a": 1}),
        properties={"content_type": "application/json", "headers": {"nameko.language": "de"}},
    )
    [message] = client.get_messages(vhost, "eggs", count=5)
    assert json.loads(message["payload"]) == {"a": 1}
    assert message["routing_key"] == "ham.1"
    assert message["properties"]["headers"] == {"nameko.language": "de"}
    assert client.get_messages(vhost, "eggs") == []


def test_get_messages_with_requeue_leaves_them_there(client: Client, vhost: str, queue: str) -> None:
    client.publish(vhost, "spam", "ham.1", "some text")
    [seen] = client.get_messages(vhost, "eggs", requeue=True, truncate=4)
    assert (seen["payload"], seen["redelivered"]) == ("some", False)
    [taken] = client.get_messages(vhost, "eggs")
    assert (taken["payload"], taken["redelivered"]) == ("some text", True)


def test_purge_drops_what_waits(client: Client, vhost: str, queue: str) -> None:
    client.publish(vhost, "spam", "ham.1", "hello")
    client.purge_queue(vhost, "eggs")
    assert client.get_messages(vhost, "eggs") == []


def test_refused_request_names_path_status_and_reason(client: Client, vhost: str) -> None:
    with pytest.raises(HTTPError) as caught:
        client.get_queue(vhost, "nowhere")
    error = caught.value
    assert error.status == error.response.status_code == 404
    assert error.response.json()["error"] == "Object Not Found"
    assert str(error).startswith(f"GET /api/queues/{vhost}/nowhere: 404 ")


def test_wrong_password_is_refused(client: Client) -> None:
    with pytest.raises(HTTPError) as caught:
        Client(f"http://guest:wrong@{client.host}:{client.port}").get_overview()
    assert caught.value.status == 401


def test_nothing_listening_is_an_os_error() -> None:
    with concurrency.socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(OSError, match=r"(?i)refused"):
        Client(f"http://guest:guest@127.0.0.1:{port}").get_overview()


@pytest.mark.parametrize(
    "uri", ["guest:s3cret@localhost:15672", "amqp://guest:s3cret@localhost", "http://guest:s3cret", "http://"]
)
def test_what_is_no_uri_of_an_api_is_refused_without_showing_the_password(uri: str) -> None:
    with pytest.raises(ValueError, match="is not the URI of a management API") as caught:
        Client(uri)
    assert "s3cret" not in str(caught.value)


@pytest.fixture
def connection(rabbitmq_uri: str) -> Iterator[Any]:
    connection = kombu.Connection(rabbitmq_uri)
    connection.connect()
    yield connection
    connection.transport.close_connection = lambda connection: None  # the broker has closed it
    connection.collect()


def test_connections_of_a_vhost_can_be_seen_and_closed(
    client: Client, vhost: str, connection: Any, eventually: Eventually
) -> None:
    # The API's statistics are some seconds behind.
    [seen] = eventually(lambda: get_rabbit_connections(vhost, client), timeout_s=20)
    assert seen["user"] == "guest"
    assert get_rabbit_connections("another", client) == []

    reset_rabbit_connections(vhost, client)

    with pytest.raises((OSError, *connection.connection_errors)):
        connection.drain_events(timeout=10)


def test_connection_that_is_gone_meanwhile_needs_no_closing(client: Client) -> None:
    class Stale(Client):
        def get_connections(self) -> list[dict[str, Any]]:
            return [{"name": "127.0.0.1:1 -> 127.0.0.1:2", "vhost": "/"}]

    uri = f"http://guest:guest@{client.host}:{client.port}"
    reset_rabbit_connections("/", Stale(uri))


def test_utils_have_the_functions_too() -> None:
    assert utils.get_rabbit_connections is get_rabbit_connections
    assert utils.reset_rabbit_connections is reset_rabbit_connections
