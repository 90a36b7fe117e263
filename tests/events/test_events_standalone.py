"""Dispatching from outside of a service."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import kombu
import pytest
from amqp.exceptions import NotFound, PreconditionFailed

from nameko.amqp.errors import PublishTimeout, UndeliverableMessage
from nameko.amqp.publish_options import PublishOptions
from nameko.config import config as global_config
from nameko.exceptions import ConfigurationError
from nameko.standalone.events import event_dispatcher, get_event_exchange

Eventually = Callable[..., Any]


class Tap:
    """A queue on the exchange of `source`, read with nothing but kombu."""

    def __init__(self, uri: str, source: str) -> None:
        self._connection = kombu.Connection(uri)
        channel = self._connection.default_channel
        exchange = kombu.Exchange(f"{source}.events", type="topic", durable=True)
        queue = kombu.Queue(
            f"tap-{uuid.uuid4().hex}", exchange=exchange, routing_key="#", durable=False, exclusive=True
        )
        self._queue = queue(channel)
        self._queue.declare()

    def get(self) -> Any:
        message = self._queue.get()
        if message is not None:
            message.ack()
        return message

    def close(self) -> None:
        self._connection.release()


@pytest.fixture
def tap(rabbitmq_uri: str) -> Iterator[Tap]:
    tap = Tap(rabbitmq_uri, "shop")
    yield tap
    tap.close()


@pytest.fixture
def config(rabbitmq_uri: str) -> dict[str, Any]:
    return {"AMQP_URI": rabbitmq_uri}


@pytest.fixture
def dispatch(config: dict[str, Any]) -> Iterator[Any]:
    dispatch = event_dispatcher(config)
    yield dispatch
    dispatch.close()


@pytest.mark.rabbitmq
def test_message_is_the_payload_alone_without_headers(dispatch: Any, tap: Tap) -> None:
    dispatch("shop", "sold", {"article": 42})
    message = tap.get()
    assert message.body in (b'{"article": 42}', '{"article": 42}')
    assert message.delivery_info["exchange"] == "shop.events"
    assert message.delivery_info["routing_key"] == "sold"
    assert dict(message.properties) == {
        "application_headers": {},
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "priority": 0,
    }


@pytest.mark.rabbitmq
def test_missing_exchange_is_not_found_and_the_dispatcher_stays_usable(dispatch: Any, tap: Tap) -> None:
    with pytest.raises(NotFound, match=r"unknown\.events"):
        dispatch("unknown", "sold", 1)
    dispatch("shop", "sold", 2)
    assert tap.get().payload == 2


@pytest.mark.rabbitmq
def test_nobody_has_to_listen(dispatch: Any, config: dict[str, Any]) -> None:
    with kombu.Connection(config["AMQP_URI"]) as connection:
        get_event_exchange("quiet", config)(connection.default_channel).declare()
    dispatch("quiet", "sold", 1)


@pytest.mark.rabbitmq
def test_mandatory_event_that_nobody_handles_is_undeliverable(config: dict[str, Any]) -> None:
    with kombu.Connection(config["AMQP_URI"]) as connection:
        get_event_exchange("quiet", config)(connection.default_channel).declare()
    dispatch = event_dispatcher(config, mandatory=True)
    with pytest.raises(UndeliverableMessage):
        dispatch("quiet", "sold", 1)
    dispatch.close()


@pytest.mark.rabbitmq
def test_options_of_the_publisher_are_used_but_not_those_of_routing(config: dict[str, Any], tap: Tap) -> None:
    dispatch = event_dispatcher(
        config,
        exchange="elsewhere",
        routing_key="elsewhere",
        headers={"colour": "red"},
        expiration=10,
        priority=3,
        delivery_mode=1,
        retry=False,
        retry_policy={"max_retries": 1},
        use_confirms=False,
    )
    dispatch("shop", "sold", 1)
    dispatch.close()
    message = tap.get()
    assert message.headers == {"colour": "red"}
    assert 9_000 < int(message.properties["expiration"]) <= 10_000  # connecting took its part
    assert message.properties["priority"] == 3
    assert message.properties["delivery_mode"] == 1


@pytest.mark.rabbitmq
def test_options_are_those_of_a_publisher_in_a_service(config: dict[str, Any], tap: Tap) -> None:
    dispatch = event_dispatcher(
        config,
        content_type="text/x-note",
        content_encoding="latin-1",
        cluster_id="c",
        delivery_mode="transient",
        timeout=3,
        immediate=False,
    )
    dispatch("shop", "sold", "n\u00f6te".encode("latin-1"))
    dispatch.close()
    message = tap.get()
    assert (message.content_type, message.content_encoding) == ("text/x-note", "latin-1")
    assert message.body == "n\u00f6te"
    assert (message.properties["cluster_id"], message.properties["delivery_mode"]) == ("c", 1)


@pytest.mark.rabbitmq
def test_every_option_of_a_publisher_is_taken(config: dict[str, Any], tap: Tap) -> None:
    given = {
        "correlation_id": "c-1",
        "reply_to": "somewhere",
        "priority": 3,
        "delivery_mode": 1,
        "content_type": "text/x-note",
        "content_encoding": "utf-8",
        "message_id": "m-1",
        "timestamp": 1_600_000_000,
        "type": "note",
        "user_id": "guest",  # the broker looks whether that is the one who is connected
        "app_id": "app",
        "cluster_id": "cluster",
    }
    handled = {
        "serializer": "json",
        "mandatory": True,
        "headers": {"colour": "red"},
        "expiration_s": 60,
        "compression": "zlib",
        "timeout_s": 30,
    }
    assert PublishOptions.__annotations__.keys() == given.keys() | handled.keys()
    dispatch = event_dispatcher(config, **given, **handled)
    dispatch("shop", "sold", b"note")
    dispatch.close()
    message = tap.get()
    properties = {"content_type": message.content_type, "content_encoding": message.content_encoding}
    properties |= message.properties
    assert 0 < int(properties.pop("expiration")) <= 60_000
    assert properties.pop("application_headers") == {"colour": "red", "compression": "application/x-gzip"}
    assert properties == given
    assert message.payload == "note"


def test_confirm_timeout_bounds_a_dispatch(config: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"pyamqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}/"
        for option in ("timeout", "confirm_timeout", "timeout_s"):
            with pytest.raises(PublishTimeout):
                event_dispatcher(config, uri=uri, **{option: 0.2})("shop", "sold", 1)


@pytest.mark.rabbitmq
def test_what_is_to_be_declared_is_there_before_the_first_event_of_a_connection(config: dict[str, Any]) -> None:
    exchange = kombu.Exchange("bakery.events", type="topic")
    queue = kombu.Queue("to-bake", exchange=exchange, routing_key="sold", durable=False, auto_delete=False)
    dispatch = event_dispatcher(config, declare=[queue], mandatory=True)
    dispatch("bakery", "sold", 1)
    with kombu.Connection(config["AMQP_URI"]) as connection:
        bound = queue(connection.default_channel)
        assert bound.get(no_ack=True).payload == 1
        bound.delete()
        exchange(connection.default_channel).delete()
    dispatch.close()
    dispatch("bakery", "sold", 2)
    dispatch.close()


@pytest.mark.rabbitmq
def test_what_cannot_be_declared_fails_each_event(config: dict[str, Any], tap: Tap) -> None:
    dispatch = event_dispatcher(config, declare=[kombu.Exchange("shop.events", type="fanout")])
    for _ in range(2):
        with pytest.raises(PreconditionFailed):
            dispatch("shop", "sold", 1)
    assert tap.get() is None


@pytest.mark.rabbitmq
def test_serializer_of_the_configuration_or_of_the_call(config: dict[str, Any], tap: Tap) -> None:
    for serializer, dispatch in [
        ("yaml", event_dispatcher({**config, "serializer": "yaml"})),
        ("json", event_dispatcher({**config, "serializer": "yaml"}, serializer="json")),
    ]:
        dispatch("shop", "sold", {"a": 1})
        dispatch.close()
        assert tap.get().content_type == f"application/{serializer.replace('yaml', 'x-yaml')}"


@pytest.mark.rabbitmq
def test_broker_of_the_call_overrides_that_of_the_configuration(rabbitmq_uri: str, tap: Tap) -> None:
    dispatch = event_dispatcher({"AMQP_URI": "pyamqp://guest:guest@nowhere.invalid"}, uri=rabbitmq_uri)
    dispatch("shop", "sold", 1)
    dispatch.close()
    assert tap.get().payload == 1


@pytest.mark.rabbitmq
def test_configuration_may_be_the_process_wide_one(rabbitmq_uri: str, tap: Tap) -> None:
    with global_config.patch({"AMQP_URI": rabbitmq_uri}):
        dispatch = event_dispatcher()
    dispatch("shop", "sold", 1)
    dispatch.close()
    assert tap.get().payload == 1


def test_option_that_there_is_not_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match=r"no option `prioritty` \(did you mean 'priority'\?\), `retrry`"):
        event_dispatcher({}, prioritty=3, retrry=True, priority=3)


@pytest.mark.parametrize("option", ["expiration", "expiration_s", "timeout_s"])
def test_seconds_that_are_none_are_refused_at_once(option: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"event_dispatcher\(\): {option} must be a number of seconds.*'x'"):
        event_dispatcher({}, **{option: "x"})


def test_configuration_that_is_a_uri_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"event_dispatcher\(\): .* mapping, .*AMQP_URI.*, not str"):
        event_dispatcher("pyamqp://localhost")  # type: ignore[arg-type]


def test_bad_configuration_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="AMQP_URI"):
        event_dispatcher({"AMQP_URI": "http://localhost"})


@pytest.mark.rabbitmq
def test_payload_that_cannot_be_serialized_is_the_callers_error(dispatch: Any, tap: Tap) -> None:
    with pytest.raises(Exception, match="not JSON serializable"):
        dispatch("shop", "sold", object())
    dispatch("shop", "sold", 1)
    assert tap.get().payload == 1


def connections_of(name: str, vhost_uri: str, manager: Any) -> list[dict[str, Any]]:
    vhost = vhost_uri.rpartition("/")[2]
    return [
        connection
        for connection in manager.get_connections()
        if connection.get("vhost") == vhost and connection["client_properties"].get("connection_name") == name
    ]


@pytest.mark.rabbitmq
def test_connection_is_kept_and_a_lost_one_replaced(
    dispatch: Any, tap: Tap, rabbitmq_uri: str, manager: Any, eventually: Eventually
) -> None:
    dispatch("shop", "sold", 1)
    dispatch("shop", "sold", 2)
    [connection] = eventually(lambda: connections_of("nameko event dispatcher", rabbitmq_uri, manager), timeout_s=20)
    manager.delete_connection(connection["name"])
    dispatch("shop", "sold", 3)
    assert [tap.get().payload for _ in range(3)] == [1, 2, 3]


@pytest.mark.rabbitmq
def test_event_expires_in_time_however_long_it_took_to_connect(network: Any, network_uri: str, tap: Tap) -> None:
    dispatch = event_dispatcher({"AMQP_URI": network_uri}, expiration=10)
    network.delay(up_s=0.05, down_s=0.05)
    dispatch("shop", "sold", 1)
    dispatch("shop", "sold", 2)
    network.reset()
    dispatch("shop", "sold", 3)
    dispatch.close()
    connecting, connected, reconnecting = [int(tap.get().properties["expiration"]) for _ in range(3)]
    # To connect takes half a dozen ways to and fro at least.
    assert 0 < connecting <= 9_500
    assert 9_500 < connected <= 10_000
    assert 0 < reconnecting <= 9_500


@pytest.mark.rabbitmq
def test_forgotten_dispatcher_leaves_no_connection_behind(config: dict[str, Any], tap: Tap) -> None:
    dispatch = event_dispatcher(config)
    before = len(os.listdir("/proc/self/fd"))
    dispatch("shop", "sold", 1)
    assert len(os.listdir("/proc/self/fd")) > before
    del dispatch
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.rabbitmq
def test_closed_dispatcher_connects_again(dispatch: Any, tap: Tap) -> None:
    dispatch("shop", "sold", 1)
    dispatch.close()
    dispatch("shop", "sold", 2)
    assert [tap.get().payload for _ in range(2)] == [1, 2]


@pytest.mark.rabbitmq
def test_threads_may_share_a_dispatcher(dispatch: Any, tap: Tap) -> None:
    def dispatch_ten(first: int) -> None:
        for number in range(first, first + 10):
            dispatch("shop", "sold", number)

    threads = [threading.Thread(target=dispatch_ten, args=(first,)) for first in range(0, 100, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(tap.get().payload for _ in range(100)) == list(range(100))
    assert tap.get() is None


PLAIN_PROCESS = """
import os, sys, threading, warnings
from nameko.standalone.events import event_dispatcher

def dispatch_some(first):
    for number in range(first, first + 5):
        dispatch("shop", "sold", number)

dispatch = event_dispatcher({"AMQP_URI": sys.argv[1]})
dispatch_some(0)

threads = [threading.Thread(target=dispatch_some, args=(first,)) for first in (100, 200, 300)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()

assert threading.active_count() == 1
# Python 3.12 asks the system for threads that are left, and may see one that has been joined but is not quite gone.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
child = os.fork()
dispatch_some(1000 if child else 2000)   # parent and child at the same time, from one dispatcher
if child:
    assert os.waitpid(child, 0)[1] == 0
    dispatch_some(3000)

assert "eventlet" not in sys.modules   # the process has the threads and sockets that it always had
"""


@pytest.mark.rabbitmq
def test_plain_process_with_threads_and_a_fork(tap: Tap, rabbitmq_uri: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_PROCESS, rabbitmq_uri], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    numbers = [tap.get().payload for _ in range(35)]
    expected = [first + n for first in (0, 100, 200, 300, 1000, 2000, 3000) for n in range(5)]
    assert sorted(numbers) == expected
    assert tap.get() is None


@pytest.mark.parametrize(
    ("keys", "declare", "auto_delete"),
    [
        ({}, True, False),
        ({"DECLARE_EVENT_EXCHANGES": None}, True, False),
        ({"DECLARE_EVENT_EXCHANGES": True}, True, False),
        ({"DECLARE_EVENT_EXCHANGES": False}, False, False),
        ({"AUTO_DELETE_EVENT_EXCHANGES": True}, True, True),
    ],
)
def test_event_exchange(keys: dict[str, Any], declare: bool, auto_delete: bool) -> None:
    exchange = get_event_exchange("shop", keys)
    assert (exchange.name, exchange.type, exchange.durable, exchange.delivery_mode) == ("shop.events", "topic", True, 2)
    assert exchange.auto_delete is auto_delete
    assert exchange.no_declare is not declare


def test_event_exchange_of_the_process_wide_configuration() -> None:
    with global_config.patch({"AUTO_DELETE_EVENT_EXCHANGES": True}):
        assert get_event_exchange("shop").auto_delete is True
