"""What goes over the wire, seen by somebody who knows nothing of the framework: exchange, queues, messages."""

from __future__ import annotations

import json
import pickle
import re
import uuid
from collections.abc import Callable
from typing import Any

import amqp
import pytest

from nameko.containers import ServiceContainer
from nameko.exceptions import ConfigurationError, MethodNotFound, RemoteError
from nameko.rpc import RpcProxy, get_rpc_exchange, rpc
from nameko.standalone.rpc import ClusterRpcProxy, ServiceRpcClient
from nameko.testing.services import dummy, entrypoint_hook

pytestmark = pytest.mark.rabbitmq

Start = Callable[..., ServiceContainer]
UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


@pytest.fixture(params=["rabbitmq"])
def broker_uri(rabbitmq_uri: str) -> str:
    return rabbitmq_uri


class Caller:
    name = "caller"
    callee = RpcProxy("callee")

    @dummy
    def call(self, *args: Any, **kwargs: Any) -> Any:
        return self.callee.method(*args, **kwargs)

    @dummy
    def call_async(self, *args: Any) -> Any:
        return self.callee.method.call_async(*args)


class Callee:
    name = "callee"

    @rpc
    def method(self, value: Any) -> Any:
        return value

    @rpc
    def fail(self) -> None:
        raise ValueError("ü", 1, None, {"a": b"ab"})

    @rpc
    def shapeless(self) -> None:
        raise OSError


def impersonate_callee(raw: Any) -> None:
    """Take the requests to the callee in its place."""
    raw.channel.queue_bind(raw.queue, "nameko-rpc", "callee.*")


def test_request(start: Start, raw: Any) -> None:
    caller = start(Caller)
    impersonate_callee(raw)
    context = {"user_id": 7, "language": "de", "call_id_stack": ["one.two.three"]}
    with entrypoint_hook(caller, "call_async", context) as call:
        call("hellø", [1.5, None])
    message = raw.receive()
    assert json.loads(message.body) == {"args": ["hellø", [1.5, None]], "kwargs": {}}
    assert message.delivery_info["exchange"] == "nameko-rpc"
    assert message.delivery_info["routing_key"] == "callee.method"
    properties = dict(message.properties)
    headers = properties.pop("application_headers")
    assert re.fullmatch(UUID, properties.pop("correlation_id"))
    assert raw.channel.queue_declare(f"rpc.reply-caller-{properties.pop('reply_to')}", passive=True)
    assert int(properties.pop("expiration")) == 300_000
    assert properties == {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "priority": 0,
    }
    own_id = headers["nameko.call_id_stack"].pop()
    assert re.fullmatch(f"caller\\.call_async\\.{UUID}", own_id)
    assert headers == {"nameko.user_id": 7, "nameko.language": "de", "nameko.call_id_stack": ["one.two.three"]}


def test_standalone_request(broker_config: dict[str, Any], raw: Any) -> None:
    raw.channel.exchange_declare("nameko-rpc", "topic", durable=True, auto_delete=False)
    impersonate_callee(raw)
    with ClusterRpcProxy(broker_config, context_data={"user_id": 7}, timeout=2.5) as cluster:
        cluster.callee.method.call_async(key="value")
        cluster.callee.other.call_async()
    first, second = raw.receive(), raw.receive()
    assert json.loads(first.body) == {"args": [], "kwargs": {"key": "value"}}
    properties = dict(first.properties)
    headers = properties.pop("application_headers")
    assert re.fullmatch(UUID, properties.pop("correlation_id"))
    assert 2_000 < int(properties.pop("expiration")) <= 2_500
    reply_to = properties.pop("reply_to")
    # The queue outlives the proxy; the broker removes it later.
    assert raw.channel.queue_declare(f"rpc.reply-standalone_rpc_proxy-{reply_to}", passive=True)
    assert properties == {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "priority": 0,
    }
    (own_id,) = headers["nameko.call_id_stack"]
    assert re.fullmatch(rf"standalone_rpc_proxy\.call\.{UUID}", own_id)
    assert headers == {"nameko.user_id": 7, "nameko.call_id_stack": [own_id]}
    # One id for all calls of a proxy.
    assert second.properties["application_headers"]["nameko.call_id_stack"] == [own_id]


def reply_of(raw: Any, routing_key: str, body: Any) -> Any:
    raw.bind()
    headers = {"nameko.call_id_stack": ["old.call.id"], "nameko.user_id": 1}
    raw.send(json.dumps(body), routing_key, reply_to=raw.reply_to, correlation_id="my-id", headers=headers)
    message = raw.receive()
    assert message.delivery_info["exchange"] == "nameko-rpc"
    assert message.delivery_info["routing_key"] == raw.reply_to
    assert message.properties == {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "application_headers": {},
        "delivery_mode": 2,
        "priority": 0,
        "correlation_id": "my-id",
    }
    return json.loads(message.body)


def test_reply_with_a_result(start: Start, raw: Any) -> None:
    start(Callee)
    assert reply_of(raw, "callee.method", {"args": [["ü", None]], "kwargs": {}}) == {
        "result": ["ü", None],
        "error": None,
    }


def test_reply_with_an_error(start: Start, raw: Any) -> None:
    start(Callee)
    # Whatever is no string becomes one, and bytes are an iterable of numbers: that is how it is.
    assert reply_of(raw, "callee.fail", {"args": [], "kwargs": {}}) == {
        "result": None,
        "error": {
            "exc_type": "ValueError",
            "exc_path": "builtins.ValueError",
            "exc_args": ["ü", "1", "None", {"a": ["97", "98"]}],
            "value": "('ü', 1, None, {'a': b'ab'})",
        },
    }
    assert reply_of(raw, "callee.shapeless", {"args": [], "kwargs": {}})["error"] == {
        "exc_type": "OSError",
        "exc_path": "builtins.OSError",
        "exc_args": [],
        "value": "",
    }


def test_errors_of_dispatch(start: Start, raw: Any) -> None:
    start(Callee)
    errors = {
        key: reply_of(raw, key, body)["error"]
        for key, body in {
            "callee.nothing": {"args": [], "kwargs": {}},
            "callee.method": {"args": []},
            "callee.fail": {"args": [1], "kwargs": {}},
        }.items()
    }
    assert errors["callee.nothing"] == {
        "exc_type": "MethodNotFound",
        "exc_path": "nameko.exceptions.MethodNotFound",
        "exc_args": ["nothing"],
        "value": "nothing",
    }
    text = "Message missing `args` or `kwargs`"
    assert (errors["callee.method"]["exc_args"], errors["callee.method"]["value"]) == ([text], text)
    assert errors["callee.fail"]["exc_path"] == "nameko.exceptions.IncorrectSignature"
    assert errors["callee.fail"]["value"] == "too many positional arguments"


def test_reply_has_the_content_type_of_its_request(start: Start, raw: Any) -> None:
    start(Callee, serializer="json", ACCEPT=["json", "pickle"], ALLOW_PICKLE=True)
    raw.bind()
    raw.send(
        pickle.dumps({"args": [(1, b"2")], "kwargs": {}}),
        "callee.method",
        content_type="application/x-python-serialize",
        content_encoding="binary",
        reply_to=raw.reply_to,
        correlation_id="1",
    )
    message = raw.receive()
    assert message.properties["content_type"] == "application/x-python-serialize"
    assert message.properties["content_encoding"] == "binary"
    assert pickle.loads(message.body) == {"result": (1, b"2"), "error": None}


REPLIES: dict[str, tuple[Any, Any]] = {
    "of 2.14": ({"result": [1], "error": None}, [1]),
    "error known": (
        {
            "result": None,
            "error": {
                "exc_type": "MethodNotFound",
                "exc_path": "nameko.exceptions.MethodNotFound",
                "exc_args": ["x"],
                "value": "x",
            },
        },
        MethodNotFound("x"),
    ),
    "error unknown": (
        {"result": None, "error": {"exc_type": "Odd", "exc_path": "os.system", "exc_args": ["ls"], "value": "ls"}},
        RemoteError("Odd", "ls"),
    ),
    "error of 1.4": (
        {"result": None, "error": {"exc_type": "ValueError", "value": "x"}},
        RemoteError("ValueError", "x"),
    ),
    "error of 1.1": (
        {"result": None, "error": {"exc_type": "ValueError", "value": "x", "traceback": "..."}},
        RemoteError("ValueError", "x"),
    ),
    "no error key": ({"result": 3}, 3),
    "error malformed": ({"result": None, "error": "oops"}, RemoteError("Unknown", "oops")),
    "nothing in it": ({}, RemoteError("MalformedReply", "the reply has neither a result nor an error")),
    "a list": ([1], RemoteError("MalformedReply", "the reply has neither a result nor an error")),
}


@pytest.mark.parametrize(("reply", "outcome"), REPLIES.values(), ids=REPLIES)
def test_replies_of_others_are_understood(start: Start, raw: Any, reply: Any, outcome: Any) -> None:
    caller = start(Caller)
    impersonate_callee(raw)
    with entrypoint_hook(caller, "call_async") as call:
        pending = call(1)
    request = raw.receive().properties
    raw.send(
        json.dumps(reply),
        request["reply_to"],
        correlation_id=request["correlation_id"],
        headers={},
        delivery_mode=2,
        priority=0,
    )
    if isinstance(outcome, Exception):
        with pytest.raises(type(outcome)) as raised:
            pending.result()
        assert str(raised.value) == str(outcome)
    else:
        assert pending.result() == outcome


@pytest.mark.parametrize(
    "reply",
    [
        {"body": b"\xff{", "content_type": "application/json"},
        {"body": pickle.dumps({"result": 1}), "content_type": "application/x-python-serialize"},
        {"body": b"", "content_type": "application/json"},
    ],
)
def test_reply_that_cannot_be_read_ends_the_call(start: Start, raw: Any, reply: dict[str, Any]) -> None:
    caller = start(Caller)
    impersonate_callee(raw)
    with entrypoint_hook(caller, "call_async") as call:
        pending = call(1)
    request = raw.receive().properties
    raw.send(routing_key=request["reply_to"], correlation_id=request["correlation_id"], **reply)
    with pytest.raises(RemoteError, match=r"^MalformedReply "):
        pending.result()


def test_entities_are_those_of_the_specification(start: Start, broker_config: dict[str, Any], raw: Any) -> None:
    start(Callee)
    start(Caller)
    with ClusterRpcProxy(broker_config):
        channel = raw.channel
        # A declaration that differs in anything is refused, so these succeed for exactly these properties.
        channel.exchange_declare("nameko-rpc", "topic", durable=True, auto_delete=False)
        channel.queue_declare("rpc-callee", durable=True, exclusive=False, auto_delete=False, arguments={})
        with pytest.raises(amqp.NotFound):
            channel.queue_declare("rpc-caller", passive=True)  # it has no entrypoint for RPC


def test_reply_queue(start: Start, raw: Any) -> None:
    caller = start(Caller)
    impersonate_callee(raw)
    with entrypoint_hook(caller, "call_async") as call:
        call(1)
    reply_to = raw.receive().properties["reply_to"]
    assert str(uuid.UUID(reply_to)) == reply_to
    raw.channel.queue_declare(
        f"rpc.reply-caller-{reply_to}",
        durable=True,
        exclusive=False,
        auto_delete=False,
        arguments={"x-expires": 300000},
    )


def test_entities_that_nameko_2_has_declared_are_taken_as_they_are(start: Start, raw: Any, cluster: Any) -> None:
    raw.channel.exchange_declare("nameko-rpc", "topic", durable=True, auto_delete=False)
    raw.channel.queue_declare("rpc-callee", durable=True, exclusive=False, auto_delete=False)
    raw.channel.queue_bind("rpc-callee", "nameko-rpc", "callee.*")
    start(Callee)
    assert cluster.callee.method(1) == 1


def test_exchange_from_the_configuration(
    start: Start, broker_config: dict[str, Any], raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nameko import config

    start(Callee, rpc_exchange="other-rpc")
    raw.channel.exchange_declare("other-rpc", "topic", passive=True)
    assert get_rpc_exchange({"rpc_exchange": "other-rpc"}).name == "other-rpc"
    with config.patch({**broker_config, "rpc_exchange": "other-rpc"}), ServiceRpcClient("callee", timeout=5) as callee:
        assert callee.method(2) == 2


@pytest.mark.parametrize("name", ["amq.fanout", "amq.direct", "amq.mine"])
def test_an_exchange_of_the_broker_that_cannot_carry_rpc_is_refused(
    start: Start, broker_config: dict[str, Any], name: str
) -> None:
    message = (
        f"rpc_exchange `{name}` cannot carry RPC: "
        "of the names that begin with `amq.`, which belong to the broker, only `amq.topic` can."
    )
    with pytest.raises(ConfigurationError) as of_service:
        start(Callee, rpc_exchange=name)
    with pytest.raises(ConfigurationError) as of_client, ClusterRpcProxy({**broker_config, "rpc_exchange": name}):
        pass
    assert str(of_service.value) == str(of_client.value) == message


def test_the_topic_exchange_of_the_broker_carries_rpc(start: Start, broker_config: dict[str, Any]) -> None:
    start(Callee, rpc_exchange="amq.topic")
    with ClusterRpcProxy({**broker_config, "rpc_exchange": "amq.topic"}, timeout=5) as cluster:
        assert cluster.callee.method(1) == 1


def test_options_of_a_proxy_are_those_of_its_messages(start: Start, raw: Any) -> None:
    class Special:
        name = "special"
        callee = RpcProxy(
            "callee",
            timeout=60,
            expiration=1.5,
            priority=7,
            delivery_mode=1,
            headers={"nameko.language": "fr", "x": "y"},
            app_id="me",
            correlation_id="ignored",
            mandatory=False,
        )

        @dummy
        def call(self) -> Any:
            plain = self.callee.method
            return plain.call_async(), plain.with_options(timeout=1, priority=8, headers={"z": "1"}).call_async()

    container = start(Special)
    impersonate_callee(raw)
    with entrypoint_hook(container, "call", {"language": "de"}) as call:
        call()
    first, second = raw.receive().properties, raw.receive().properties
    assert (first["expiration"], first["priority"], first["delivery_mode"], first["app_id"]) == ("1500", 7, 1, "me")
    assert first["correlation_id"] != "ignored"
    assert first["application_headers"]["nameko.language"] == "fr"
    assert first["application_headers"]["x"] == "y"
    # It never outlives its caller's patience.
    assert (second["expiration"], second["priority"], second["delivery_mode"]) == ("1000", 8, 1)
    assert second["application_headers"]["x"] == "y"
    assert second["application_headers"]["z"] == "1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_out": 3}, r"no such option: time_out \(did you mean 'timeout'\?\)"),
        ({"timeout_s": 3}, r"no such option: timeout_s \(did you mean 'timeout'\?\)"),
        ({"uri": "pyamqp://elsewhere"}, "no such option: uri"),
        ({"expiration": "soon"}, "expiration must be a number of seconds, not 'soon'"),
        ({"expiration": -1}, "expiration must be a number of seconds, not -1"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    start: Start, broker_config: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    def declare() -> type:
        class Mistaken:
            name = "mistaken"
            callee = RpcProxy("callee", **options)

            @dummy
            def call(self) -> None:
                pass

        return Mistaken

    with pytest.raises(ConfigurationError, match=message):
        start(declare())
    with pytest.raises(ConfigurationError, match=message):
        ServiceRpcClient("callee", broker_config, **options)


@pytest.mark.parametrize(("given", "sent"), [("transient", 1), ("persistent", 2)])
def test_delivery_modes_have_the_names_that_they_have_in_kombu(start: Start, raw: Any, given: str, sent: int) -> None:
    class Special:
        name = "special"
        callee = RpcProxy("callee", delivery_mode=given)

        @dummy
        def call(self) -> Any:
            return self.callee.method.call_async()

    container = start(Special)
    impersonate_callee(raw)
    with entrypoint_hook(container, "call") as call:
        call()
    assert raw.receive().properties["delivery_mode"] == sent
