"""Messages that are no proper requests: answered where an answer has somewhere to go, else dropped, never fatal."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable
from typing import Any

import pytest

from nameko import concurrency
from nameko.containers import ServiceContainer
from nameko.extensions import DependencyProvider
from nameko.rpc import _server, rpc

Start = Callable[..., ServiceContainer]
Eventually = Callable[..., Any]

REQUEST = json.dumps({"args": [1], "kwargs": {}})


class Echo:
    name = "echo"

    @rpc
    def echo(self, *args: Any, **kwargs: Any) -> Any:
        return list(args)


@pytest.fixture
def echo(start: Start, raw: Any) -> ServiceContainer:
    container = start(Echo)
    raw.bind()
    return container


def counters(container: ServiceContainer) -> Any:
    (consumer,) = [each for each in container.extensions if type(each).__name__ == "RpcConsumer"]
    return consumer.broker.counters


def assert_serves(raw: Any, container: ServiceContainer) -> None:
    """The service answers the next request, and it and its container are as before."""
    raw.send(REQUEST, "echo.echo", reply_to=raw.reply_to, correlation_id="after")
    reply = raw.receive()
    assert reply.properties["correlation_id"] == "after"
    assert json.loads(reply.body) == {"result": [1], "error": None}
    assert not container._died.ready()
    info = raw.channel.queue_declare("rpc-echo", passive=True)
    assert (info.message_count, info.consumer_count) == (0, 1)


DROPPED: dict[str, dict[str, Any]] = {
    "no reply_to": {},
    "empty reply_to": {"reply_to": ""},
    "reply_to a service": {"reply_to": "echo.echo"},
    "reply_to another service": {"reply_to": "other.method"},
    "reply_to with a wildcard": {"reply_to": "echo.*"},
    "a reply": {"body": '{"result": 1, "error": null}'},
    "a reply with reply_to": {"body": '{"result": 1, "error": null}', "reply_to": "<mine>"},
    "a reply that is also a request": {
        "body": '{"result": 1, "error": null, "args": [], "kwargs": {}}',
        "reply_to": "<mine>",
    },
    "nothing at all": {"body": b"", "content_type": None, "content_encoding": None},
}


@pytest.mark.parametrize("case", DROPPED.values(), ids=DROPPED)
def test_message_that_cannot_be_answered_is_dropped_and_counted(
    echo: ServiceContainer, raw: Any, case: dict[str, Any], eventually: Eventually
) -> None:
    message = {"body": REQUEST, "correlation_id": "1", **case}
    if message.get("reply_to") == "<mine>":
        message["reply_to"] = raw.reply_to
    raw.send(routing_key="echo.echo", **message)
    eventually(lambda: counters(echo)["messages_rejected"] == 1)
    assert_serves(raw, echo)


@pytest.mark.rabbitmq
@pytest.mark.parametrize("broker_uri", ["rabbitmq"], indirect=True)
@pytest.mark.parametrize("name", ["correlation_id", "message_id", "reply_to"])
def test_properties_that_are_no_text(echo: ServiceContainer, raw: Any, name: str, eventually: Eventually) -> None:
    raw.send(REQUEST, "echo.echo", **{"reply_to": raw.reply_to, name: b"\xff\xfe"})
    eventually(lambda: counters(echo)["messages_rejected"] == 1)
    assert_serves(raw, echo)


ANSWERED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no content type": ({"content_type": None}, "MalformedRequest", "Message missing `args` or `kwargs`"),
    "no body": ({"body": ""}, "MalformedRequest", "Message missing `args` or `kwargs`"),
    "empty object": ({"body": "{}"}, "MalformedRequest", "Message missing `args` or `kwargs`"),
    "no kwargs": ({"body": '{"args": []}'}, "MalformedRequest", "Message missing `args` or `kwargs`"),
    "no args": ({"body": '{"kwargs": {}}'}, "MalformedRequest", "Message missing `args` or `kwargs`"),
    "a list": ({"body": "[1, 2]"}, "MalformedRequest", "Message missing `args` or `kwargs`"),
    "a number": ({"body": "1"}, "MalformedRequest", "Message missing `args` or `kwargs`"),
    "null": ({"body": "null"}, "MalformedRequest", "Message missing `args` or `kwargs`"),
    "args a string": ({"body": '{"args": "ab", "kwargs": {}}'}, "MalformedRequest", "`args` must be a list, not str"),
    "args null": ({"body": '{"args": null, "kwargs": {}}'}, "MalformedRequest", "`args` must be a list"),
    "kwargs a list": ({"body": '{"args": [], "kwargs": []}'}, "MalformedRequest", "`kwargs` must be an object"),
    "bad JSON": ({"body": '{"args": [1'}, "MalformedRequest", "the body cannot be read"),
    "deep JSON": ({"body": "[" * 100_000}, "MalformedRequest", "the body cannot be read"),
    "bad UTF-8": ({"body": b'{"args": ["\xff"], "kwargs": {}}'}, "MalformedRequest", "the body cannot be read"),
    "pickle": (
        {"body": pickle.dumps({"args": [], "kwargs": {}}), "content_type": "application/x-python-serialize"},
        "MalformedRequest",
        "the body cannot be read: content type `application/x-python-serialize` is not accepted",
    ),
    "unknown content type": ({"content_type": "text/martian"}, "MalformedRequest", "`text/martian` is not accepted"),
    "compressed": ({"headers": {"compression": "gzip"}}, "MalformedRequest", "compression"),
    "unknown method": ({"routing_key": "echo.nothing"}, "MethodNotFound", "nothing"),
    "no method": ({"routing_key": "echo."}, "MethodNotFound", ""),
    "private name": ({"routing_key": "echo.__init__"}, "MethodNotFound", "__init__"),
}


@pytest.mark.parametrize("case", ANSWERED.values(), ids=ANSWERED)
def test_bad_request_is_answered(echo: ServiceContainer, raw: Any, case: tuple[dict[str, Any], str, str]) -> None:
    changes, exc_type, text = case
    message = {"body": REQUEST, "routing_key": "echo.echo", "correlation_id": "1", **changes}
    raw.send(reply_to=raw.reply_to, **message)
    reply = raw.receive()
    assert reply.properties["content_type"] == "application/json"
    assert reply.properties["correlation_id"] == "1"
    body = json.loads(reply.body)
    assert set(body) == {"result", "error"}
    assert body["result"] is None
    assert body["error"]["exc_type"] == exc_type
    assert body["error"]["exc_path"] == f"nameko.exceptions.{exc_type}"
    assert text in body["error"]["value"]
    assert_serves(raw, echo)


HARMLESS: dict[str, dict[str, Any]] = {
    "call id stack of numbers": {"headers": {"nameko.call_id_stack": [1, 2]}},
    "call id stack a number": {"headers": {"nameko.call_id_stack": 1}},
    "call id stack a string": {"headers": {"call_id_stack": "x"}},
    "call id stack a table": {"headers": {"nameko.call_id_stack": {"a": 1}}},
    "headers of every type": {"headers": {"a": 1, "b": 1.5, "c": True, "d": [1, "x", {"e": 2}], "f": {"g": []}}},
    "header with an empty name": {"headers": {"": "x", "nameko.": "y"}},
    "no correlation id": {"correlation_id": None},
    "extra keys": {"body": '{"args": [1], "kwargs": {}, "version": 7}'},
    "odd correlation id": {"correlation_id": "x" * 255},
    "expiration and the like": {"priority": 9, "message_id": "m", "timestamp": 1, "app_id": "a", "type": "t"},
}


@pytest.mark.parametrize("case", HARMLESS.values(), ids=HARMLESS)
def test_odd_request_is_served(echo: ServiceContainer, raw: Any, case: dict[str, Any]) -> None:
    message = {"body": REQUEST, "correlation_id": "1", **case}
    raw.send(routing_key="echo.echo", reply_to=raw.reply_to, **message)
    reply = raw.receive()
    assert json.loads(reply.body) == {"result": [1], "error": None}
    assert reply.properties.get("correlation_id") == message["correlation_id"]
    assert_serves(raw, echo)


def test_typed_looking_dict_arrives_as_it_is(echo: ServiceContainer, raw: Any) -> None:
    value = {"__type__": "nonsense", "__value__": "x"}
    raw.send(json.dumps({"args": [value], "kwargs": {}}), "echo.echo", reply_to=raw.reply_to, correlation_id="1")
    assert json.loads(raw.receive().body) == {"result": [value], "error": None}


def test_caller_that_is_gone_is_counted_and_the_request_not_repeated(
    start: Start, raw: Any, eventually: Eventually
) -> None:
    class Service:
        name = "echo"
        calls: list[int] = []  # noqa: RUF012

        @rpc
        def echo(self, number: int) -> list[int]:
            self.calls.append(number)
            return [number]

    container = start(Service)
    raw.bind()
    raw.send('{"args": [7], "kwargs": {}}', "echo.echo", reply_to="gone", correlation_id="1")
    eventually(lambda: counters(container)["replies_undeliverable"] == 1)
    assert Service.calls == [7]
    assert_serves(raw, container)


def test_caller_whose_queue_comes_a_little_late_is_answered(start: Start, raw: Any, eventually: Eventually) -> None:
    # As on RabbitMQ 4, where a new binding takes a moment to be seen by other nodes.
    class Service:
        name = "echo"
        outcomes: list[Any] = []  # noqa: RUF012

        class Done(DependencyProvider):
            def worker_result(self, worker_ctx: Any, result: Any = None, exc_info: Any = None) -> None:
                Service.outcomes.append(result)

        done = Done()

        @rpc
        def echo(self, number: int) -> list[int]:
            return [number]

    container = start(Service)
    raw.send(REQUEST, "echo.echo", reply_to=raw.reply_to, correlation_id="1")
    eventually(lambda: Service.outcomes)  # the first attempt to reply is over
    raw.bind()
    assert json.loads(raw.receive().body) == {"result": [1], "error": None}
    assert counters(container)["replies_undeliverable"] == 0
    assert_serves(raw, container)


def request_without_a_way_back(start: Start, raw: Any, eventually: Eventually) -> ServiceContainer:
    """A service that has found no queue for its reply, and is about to try again."""
    container = start(Echo)
    raw.send(REQUEST, "echo.echo", reply_to="a stranger", correlation_id="0")
    channel = raw.channel
    channel.queue_bind(raw.queue, "nameko-rpc", "someone else")
    raw.send(REQUEST, "echo.echo", reply_to="someone else", correlation_id="1")
    assert raw.receive().properties["correlation_id"] == "1"  # so the other reply has been sent, too, and come back
    eventually(lambda: not container.running_workers)
    return container


def test_stop_waits_for_a_reply_that_is_to_be_sent_once_more(start: Start, raw: Any, eventually: Eventually) -> None:
    container = request_without_a_way_back(start, raw, eventually)
    raw.channel.queue_bind(raw.queue, "nameko-rpc", "a stranger")
    container.stop()
    assert raw.receive().properties["correlation_id"] == "0"
    assert raw.channel.queue_declare("rpc-echo", passive=True).message_count == 0


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_request_is_kept_until_its_reply_is_given_up(
    start: Start, raw: Any, eventually: Eventually, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(_server, "_UNDELIVERABLE_RETRY_S", 60)
    container = request_without_a_way_back(start, raw, eventually)
    started = time.monotonic()
    getattr(container, end)()
    assert time.monotonic() - started < 3
    eventually(lambda: raw.channel.queue_declare("rpc-echo", passive=True).message_count == 1)


def test_caller_that_is_gone_does_not_hold_up_the_requests_of_others(
    start: Start, raw: Any, eventually: Eventually
) -> None:
    container = start(Echo, PREFETCH_COUNT=1)
    raw.bind()
    for number in range(50):
        raw.send(REQUEST, "echo.echo", reply_to="gone", correlation_id=str(number))
    started = time.monotonic()
    assert_serves(raw, container)
    assert time.monotonic() - started < 3  # rather than 10, as each would wait for its second attempt
    eventually(lambda: counters(container)["replies_undeliverable"] == 50)


def test_failing_override_is_answered_and_not_fatal(start: Start, raw: Any) -> None:
    from nameko.rpc import Rpc

    class Failing(Rpc):
        def handle_message(self, body: Any, message: Any) -> None:
            if body["args"] == ["poison"]:
                super().handle_message(body, message)
                raise concurrency.Timeout(None)
            super().handle_message(body, message)

    class Service:
        name = "echo"

        @Failing.decorator
        def echo(self, *args: Any) -> Any:
            return list(args)

    container = start(Service)
    raw.bind()
    raw.send('{"args": ["poison"], "kwargs": {}}', "echo.echo", reply_to=raw.reply_to, correlation_id="1")
    # The worker's answer and that for the exception: both come, and the request is acknowledged once.
    assert {json.loads(raw.receive().body)["result"] is None for _ in range(2)} == {True, False}
    assert_serves(raw, container)
