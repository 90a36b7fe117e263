"""Row 17: sixty messages that are no proper ones, in every queue of a service. None stops it, or another message."""

from __future__ import annotations

import bz2
import json
import pickle
import statistics
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from nameko import concurrency

pytestmark = [pytest.mark.faults, pytest.mark.rabbitmq, pytest.mark.timeout(180)]

clock = concurrency.original("time").monotonic

GOOD = json.dumps({"args": [1], "kwargs": {}})
RESULT = '{"result": 1, "error": null}'
BOMB = zlib.compress(bytes(20_000_000))
MINE = object()  # stands for the client's own reply_to


class Request(NamedTuple):
    """A message in the request queue, and the `exc_type` of its answer; `"result"`, or `"dropped"`."""

    expected: str
    body: bytes | str = GOOD
    routing_key: str = "subject.echo"
    reply_to: Any = MINE
    properties: dict[str, Any] = {}  # noqa: RUF012  (never changed)


class Reply(NamedTuple):
    """A reply to a call that the service makes, and what that call comes to."""

    expected: str
    body: bytes | str
    properties: dict[str, Any] = {}  # noqa: RUF012


class Payload(NamedTuple):
    """A message for an event handler or a consumer: `"handled"` or `"dropped"`."""

    expected: str
    exchange: str
    routing_key: str
    body: bytes | str
    properties: dict[str, Any] = {}  # noqa: RUF012


def event(expected: str, body: bytes | str, **properties: Any) -> Payload:
    return Payload(expected, "outside.events", "happened", body, properties)


def order(expected: str, body: bytes | str, **properties: Any) -> Payload:
    return Payload(expected, "orders", "order", body, properties)


def compressed(body: bytes, name: str) -> dict[str, Any]:
    return {"body": body, "properties": {"headers": {"compression": name}}}


PICKLE = {"content_type": "application/x-python-serialize", "content_encoding": "binary"}

CORPUS: dict[str, Request | Reply | Payload] = {
    # -- requests that have nobody to answer, or must not be answered
    "no reply_to": Request("dropped", reply_to=None),
    "empty reply_to": Request("dropped", reply_to=""),
    "reply_to is the service's own key": Request("dropped", reply_to="subject.echo"),
    "reply_to is another service's key": Request("dropped", reply_to="other.descend"),
    "reply_to is a pattern": Request("dropped", reply_to="subject.#"),
    "reply_to is bytes": Request("dropped", reply_to=b"\xff\xfe"),
    "correlation_id is bytes": Request("dropped", properties={"correlation_id": b"\xff\xfe"}),
    "message_id is bytes": Request("dropped", properties={"message_id": b"\xff"}),
    "content_type is bytes": Request("dropped", properties={"content_type": b"\xff"}),
    "a reply in the request queue": Request("dropped", RESULT),
    "a reply in the request queue, without reply_to": Request("dropped", RESULT, reply_to=None),
    "a request that is a reply too": Request("dropped", '{"result": 1, "error": null, "args": [], "kwargs": {}}'),
    "nothing at all": Request(
        "dropped", b"", reply_to=None, properties={"content_type": None, "content_encoding": None}
    ),
    "17 MiB": Request("dropped", b"x" * (17 * 1024 * 1024)),
    # -- requests whose callers are told what is wrong
    "no content_type": Request("MalformedRequest", properties={"content_type": None}),
    "no content_type and no encoding": Request(
        "MalformedRequest", properties={"content_type": None, "content_encoding": None}
    ),
    "unknown content_type": Request("MalformedRequest", properties={"content_type": "text/martian"}),
    "pickle": Request("MalformedRequest", pickle.dumps({"args": [], "kwargs": {}}), properties=PICKLE),
    "yaml": Request("MalformedRequest", "args: []", properties={"content_type": "application/x-yaml"}),
    "a bomb": Request("MalformedRequest", **compressed(BOMB, "gzip")),
    "a bomb of another kind": Request("MalformedRequest", **compressed(bz2.compress(bytes(9_000_000)), "bzip2")),
    "compressed, it says": Request("MalformedRequest", properties={"headers": {"compression": "zlib"}}),
    "compression of an unknown kind": Request("MalformedRequest", properties={"headers": {"compression": [1]}}),
    "no body": Request("MalformedRequest", ""),
    "half a body": Request("MalformedRequest", GOOD[:-4]),
    "no JSON": Request("MalformedRequest", "\x00\x01\x02"),
    "deep JSON": Request("MalformedRequest", "[" * 100_000),
    "deep and closed JSON": Request(
        "MalformedRequest", '{"args": [' + "[" * 50_000 + "]" * 50_000 + '], "kwargs": {}}'
    ),
    "a number of 10,000 digits": Request("MalformedRequest", '{"args": [' + "9" * 10_000 + '], "kwargs": {}}'),
    "bad UTF-8": Request("MalformedRequest", b'{"args": ["\xff\xfe"], "kwargs": {}}'),
    "a list": Request("MalformedRequest", "[1, 2]"),
    "null": Request("MalformedRequest", "null"),
    "args are text": Request("MalformedRequest", '{"args": "ab", "kwargs": {}}'),
    "kwargs are a list": Request("MalformedRequest", '{"args": [], "kwargs": []}'),
    "unknown method": Request("MethodNotFound", routing_key="subject.nothing"),
    "no method": Request("MethodNotFound", routing_key="subject."),
    "a dunder method": Request("MethodNotFound", routing_key="subject.__init__"),
    "a dependency for a method": Request("MethodNotFound", routing_key="subject.inside"),
    "wrong arguments": Request("IncorrectSignature", '{"args": [1, 2, 3, 4], "kwargs": {}}', "subject.work"),
    "self among the arguments": Request("IncorrectSignature", '{"args": [], "kwargs": {"self": 1}}', "subject.work"),
    # -- requests that are odd, and served
    "unknown encoding": Request("result", properties={"content_encoding": "martian"}),
    "call id stack of numbers": Request("result", properties={"headers": {"nameko.call_id_stack": [1, 2]}}),
    "call id stack a number": Request("result", properties={"headers": {"nameko.call_id_stack": 1}}),
    "a call id stack of 10,000": Request("result", properties={"headers": {"nameko.call_id_stack": ["x"] * 10_000}}),
    "100 KiB of headers": Request("result", properties={"headers": {"big": "x" * 100_000}}),
    "headers of every type": Request(
        "result", properties={"headers": {"a": [{"b": [1.5, True]}], "": "x", "nameko.": 1}}
    ),
    "marks of retries that are none": Request(
        "result", properties={"headers": {"nameko-retry-attempts": "many", "nameko-retry-deadline": [1]}}
    ),
    "a typed value of an unknown type": Request(
        "result", '{"args": [{"__type__": "x", "__value__": 1}], "kwargs": {}}'
    ),
    "no correlation_id": Request("result", properties={"correlation_id": None}),
    # -- replies that are none
    "reply: no JSON": Reply("MalformedReply", "{"),
    "reply: a list": Reply("MalformedReply", "[]"),
    "reply: pickle": Reply("MalformedReply", pickle.dumps({"result": 1, "error": None}), PICKLE),
    "reply: an error that is text": Reply("Unknown", '{"result": null, "error": "no"}'),
    "reply: a class to import": Reply(
        "system", '{"result": null, "error": {"exc_path": "os.system", "exc_type": "system", "exc_args": ["false"]}}'
    ),
    "reply: arguments that the class refuses": Reply(
        "MethodNotFound",
        '{"result": null, "error": {"exc_path": "nameko.exceptions.MethodNotFound", "exc_type": "MethodNotFound", '
        '"exc_args": 7}}',
    ),
    "reply: for nobody": Reply("RpcTimeout", RESULT, {"correlation_id": "nobody"}),
    # -- events and messages
    "event: no JSON": event("dropped", "{"),
    "event: headers and more": event("handled", '"odd"', headers={"nameko.call_id_stack": 1}, reply_to="subject.echo"),
    "order: unknown content_type": order("dropped", "1", content_type="text/martian"),
    "event: its method raises": event("handled", '"KeyboardInterrupt"'),
}


class Observer:
    """Sends each message of the corpus, and finds out what becomes of it."""

    def __init__(self, site: Any, raw: Any, eventually: Callable[..., Any]) -> None:
        self._effects = site.effects
        self._raw = raw
        self._eventually = eventually
        raw.channel.queue_declare("rpc-fake", durable=True, auto_delete=False)
        raw.channel.queue_bind("rpc-fake", "nameko-rpc", "fake.*")

    def outcome(self, message: Request | Reply | Payload) -> str:
        if isinstance(message, Reply):
            return self._outcome_of_call(message)
        rejected = self._rejected()
        if isinstance(message, Payload):
            return self._outcome_of_payload(message, rejected)
        return self._outcome_of_request(message, rejected)

    def _rejected(self) -> int:
        return int(self._raw.call("subject.figures")["result"]["counters"].get("messages_rejected", 0))

    def _was_dropped(self, before: int) -> bool:
        return self._rejected() == before + 1

    def _outcome_of_request(self, message: Request, rejected: int) -> str:
        properties = {"correlation_id": "poison", **message.properties}
        if message.reply_to is not None:
            properties["reply_to"] = self._raw.reply_to if message.reply_to is MINE else message.reply_to
        self._raw.send(message.body, message.routing_key, **properties)
        if message.expected == "dropped":
            self._eventually(lambda: self._was_dropped(rejected), timeout_s=20)
            return "dropped"
        reply = self._raw.receive()
        assert reply.properties.get("correlation_id") == properties["correlation_id"]
        error = json.loads(reply.body)["error"]
        return "result" if error is None else str(error["exc_type"])

    def _outcome_of_call(self, message: Reply) -> str:
        ask = json.dumps({"args": ["fake", "method", [], 0.5], "kwargs": {}})
        self._raw.send(ask, "subject.call", reply_to=self._raw.reply_to, correlation_id="call")
        request = self._eventually(lambda: self._raw.channel.basic_get("rpc-fake", no_ack=True), timeout_s=20)
        properties = {"correlation_id": request.properties["correlation_id"], **message.properties}
        self._raw.send(message.body, request.properties["reply_to"], **properties)
        return str(json.loads(self._raw.receive().body)["result"]["kind"])

    def _outcome_of_payload(self, message: Payload, rejected: int) -> str:
        self._raw.send(message.body, message.routing_key, message.exchange, **message.properties)
        if message.expected == "dropped":
            self._eventually(lambda: self._was_dropped(rejected), timeout_s=20)
            return "dropped"
        self._eventually(lambda: self._effects("event", json.loads(message.body)), timeout_s=20)
        return "handled"

    def echo_s(self) -> float:
        """Seconds that the next request takes."""
        started_at = clock()
        assert self._raw.call("subject.echo", 1) == {"result": [1], "error": None}
        return clock() - started_at


QUEUES = ("rpc-subject", "evt-outside-happened--subject.note", "orders")


def test_row_17_no_message_stops_a_service_or_another_message(
    site: Any, subject: Any, raw: Any, eventually: Callable[..., Any]
) -> None:
    assert len(CORPUS) == 60
    observer = Observer(site, raw, eventually)
    outcomes, echoes_s = {}, {}
    for name, message in CORPUS.items():
        outcomes[name] = observer.outcome(message)
        echoes_s[name] = observer.echo_s()
        assert subject.alive, f"{name}: {subject.output}"
    assert outcomes == {name: message.expected for name, message in CORPUS.items()}
    print(f"echo after each: median {statistics.median(echoes_s.values()) * 1000:.1f} ms")
    # On a machine that is busy with something else, single ones take longer; a message that holds up the next, each.
    assert statistics.median(echoes_s.values()) <= 0.1, echoes_s
    assert subject.stop() == 0
    assert {queue: raw.ready(queue) for queue in QUEUES} == dict.fromkeys(QUEUES, 0)
