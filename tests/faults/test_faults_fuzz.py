"""Row 37: messages and frames that are mutated at random. None stops the service, and it goes on answering.

`NAMEKO_FUZZ_SEED` repeats a run; the seed of each is printed.
"""

from __future__ import annotations

import copy
import json
import os
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.timeout(1800)]

Eventually = Callable[..., Any]

# So many messages between two requests that must be answered.
BATCH = 100

STACK = ["standalone_rpc_proxy.call.4ba6b5d6-7a0a-4ed2-a9f3-0a5a4b9a0a0f", "caller.method.0aa4e3e1"]
#: What nameko 2.14 sends: exchange, routing key, body, headers. Replies go where the service listens for them.
RECORDED: list[tuple[str, str, Any, dict[str, Any]]] = [
    ("nameko-rpc", "target.echo", {"args": [1, "two", None], "kwargs": {"x": {"y": [2.5]}}}, {}),
    ("nameko-rpc", "target.add", {"args": [1], "kwargs": {"two": 3}}, {}),
    ("nameko-rpc", "target.fail", {"args": ["why"], "kwargs": {}}, {}),
    ("nameko-rpc", "<replies>", {"result": [1, {"a": "b"}], "error": None}, {}),
    (
        "nameko-rpc",
        "<replies>",
        {
            "result": None,
            "error": {
                "exc_type": "MethodNotFound",
                "exc_path": "nameko.exceptions.MethodNotFound",
                "exc_args": ["x"],
                "value": "x",
            },
        },
        {},
    ),
    ("outside.events", "odd", {"a": 1}, {}),
    ("outside.events", "odd_again", {"a": 1}, {"nameko-retry-attempts": 1, "nameko-retry-exchange": "outside.events"}),
    ("oddities", "odd", {"a": 1}, {"nameko.auth_token": "t", "nameko.user_id": 7, "nameko.language": "en"}),
]

# What RabbitMQ itself refuses, such as an infinite number in a header, is not among them.
ODD_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 2**31, 2**63 - 1, 1.5, "", "x", "x" * 300, "\x00", "\u20ac\U0001f600"),
    *(
        b"",
        b"\xff\xfe",
        [],
        {},
        [[[]]],
        {"": {"": []}},
        [1, "a", None],
        {"args": []},
        "target.echo",
        "../../etc/passwd",
    ),
]
HEADER_NAMES = [
    *("nameko.call_id_stack", "call_id_stack", "nameko.auth_token", "nameko.user_id", "nameko.", "", "compression"),
    *("nameko-retry-attempts", "nameko-retry-exchange", "nameko-retry-routing-key", "nameko-retry-deadline"),
    *("nameko-dead-queue", "x-death", "x-match", "traceparent", "content_type"),
]
PROPERTIES = {
    "content_type": [
        "application/json",
        "application/x-python-serialize",
        "text/plain",
        "application/data",
        "",
        b"\xff",
    ],
    "content_encoding": ["utf-8", "binary", "martian", "utf-7", "", b"\xff"],
    "reply_to": ["target.echo", "", "#", "nobody", "x" * 255, b"\xff"],
    "correlation_id": ["", "x" * 255, b"\xff", "0"],
    "message_id": ["", "m", b"\xff"],
    "priority": [0, 9, 255],
    "delivery_mode": [1, 2],
    "timestamp": [0, 2**40],
    "type": ["", "t", b"\xff"],
    "app_id": ["", b"\xff"],
}


@pytest.fixture
def dice() -> Iterator[random.Random]:
    seed = int(os.environ.get("NAMEKO_FUZZ_SEED") or random.randrange(2**32))
    print(f"NAMEKO_FUZZ_SEED={seed}")
    return random.Random(seed)


# -- mutations


def mutated_value(dice: random.Random, value: Any) -> Any:
    """`value` with one part of it replaced by something odd."""
    if dice.random() < 0.3 or not isinstance(value, (dict, list)) or not value:
        return copy.deepcopy(dice.choice(ODD_VALUES))
    changed = copy.copy(value)
    key = dice.choice(list(changed)) if isinstance(changed, dict) else dice.randrange(len(changed))
    if isinstance(changed, dict) and dice.random() < 0.2:
        changed[str(dice.choice(ODD_VALUES))] = changed.pop(key)
    else:
        changed[key] = mutated_value(dice, changed[key])
    return changed


def mutated_bytes(dice: random.Random, data: bytes) -> bytes:
    """`data` with a few bytes changed, left out, repeated, or put in."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(changed) + 1)
        kind = dice.randrange(4)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            del changed[at : at + dice.randint(1, 20)]
        elif kind == 2:
            changed[at:at] = changed[at : at + dice.randint(1, 50)]
        else:
            changed[at:at] = dice.choice([b"\x00", b"\xff", b'"', b"[" * 50, b"{", b"NaN", b"1e999", b"\\ud800", b"\n"])
    return bytes(changed)


def mutated_body(dice: random.Random, body: Any) -> bytes:
    kind = dice.random()
    if kind < 0.5:
        body = mutated_value(dice, body)
    encoded = json.dumps(body, default=repr).encode()
    return mutated_bytes(dice, encoded) if kind > 0.3 else encoded


def mutated_headers(dice: random.Random, headers: dict[str, Any]) -> dict[str, Any]:
    changed = {"nameko.call_id_stack": list(STACK), **headers}
    for _ in range(dice.choice([0, 0, 1, 1, 2, 5])):
        changed[dice.choice(HEADER_NAMES)] = copy.deepcopy(dice.choice(ODD_VALUES))
    return changed


def mutated_properties(dice: random.Random, properties: dict[str, Any]) -> dict[str, Any]:
    changed = dict(properties)
    for _ in range(dice.choice([0, 0, 1, 1, 2, 5])):
        name = dice.choice(list(PROPERTIES))
        changed[name] = dice.choice([None, *PROPERTIES[name]])
    return changed


# -- messages


class Fuzzer:
    """Sends mutated messages to a service, and sees to it that it goes on answering."""

    def __init__(self, dice: random.Random, raw: Any, hosted: Any, eventually: Eventually) -> None:
        self._dice, self._raw, self._hosted, self._eventually = dice, raw, hosted, eventually
        raw.channel.queue_declare("rpc-fake", durable=True, auto_delete=False)
        raw.channel.queue_bind("rpc-fake", "nameko-rpc", "fake.*")

    def fuzz(self, count: int) -> None:
        for number in range(0, count, BATCH):
            request = self._have_it_call()
            for _ in range(BATCH):
                self._send(request.properties["reply_to"], str(number))
            # The last reply is for the call that is under way: it is not answered twice.
            self._send(request.properties["reply_to"], request.properties["correlation_id"], RECORDED[3:5])
            assert self._raw.call("target.add", 20, 22) == {"result": 42, "error": None}
            self._raw.forget_replies()
            assert self._hosted.alive, self._hosted.output[-5000:]

    def _have_it_call(self) -> Any:
        ask = json.dumps({"args": ["fake", "method"], "kwargs": {}})
        self._raw.send(ask, "target.call", reply_to=self._raw.reply_to, correlation_id="call")
        return self._eventually(lambda: self._raw.channel.basic_get("rpc-fake", no_ack=True))

    def _send(self, reply_queue: str, correlation_id: str, templates: Any = RECORDED) -> None:
        dice = self._dice
        exchange, routing_key, body, headers = dice.choice(templates)
        properties = {
            "reply_to": self._raw.reply_to,
            "correlation_id": correlation_id,
            "delivery_mode": 2,
            "priority": 0,
        }
        self._raw.send(
            mutated_body(dice, body),
            reply_queue if routing_key == "<replies>" else routing_key,
            exchange,
            headers=mutated_headers(dice, headers),
            **mutated_properties(dice, properties),
        )


@pytest.fixture
def fuzz_messages(
    node_site: Any, node: Any, vhost: str, dice: random.Random, eventually: Eventually
) -> Callable[[int], None]:
    """`fuzz_messages(count)` sends them; the service takes them, and leaves none but those it has parked."""

    def left() -> dict[str, Any]:
        counts = node.queues(vhost)
        return {name: each for name, each in counts.items() if each.ready + each.unacked and ".dead" not in name}

    def fuzz(count: int) -> None:
        hosted = node_site.run("subject:Target")
        Fuzzer(dice, node_site.raw(), hosted, eventually).fuzz(count)
        eventually(lambda: not left(), timeout_s=60, interval_s=1)
        assert hosted.stop() == 0

    return fuzz


@pytest.mark.faults
def test_row_37_mutated_messages(fuzz_messages: Callable[[int], None]) -> None:
    fuzz_messages(3_000)


@pytest.mark.matrix
def test_row_37_100000_mutated_messages(fuzz_messages: Callable[[int], None]) -> None:
    fuzz_messages(100_000)


# -- frames


def frame(kind: int, channel: int, payload: bytes, end: bytes = b"\xce") -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + end


def odd_frames(dice: random.Random) -> bytes:
    """Something that a broker does not say, or not at that time: whole frames, so that it is noticed at once."""
    channel = dice.choice([0, 1, 2, 3, 700, 65535])
    method = struct.pack(">HH", dice.choice([20, 40, 50, 60, 85, 90, 999]), dice.randrange(0, 130))
    return dice.choice(
        [
            frame(dice.choice([1, 2, 3, 8]), channel, dice.randbytes(dice.randint(0, 60))),
            frame(1, channel, method + dice.randbytes(dice.randint(0, 60))),
            frame(dice.randrange(256), channel, b"x"),
            frame(1, channel, method, end=b"\x00"),
            struct.pack(">BHI", 1, channel, 2**32 - 1),
            frame(2, channel, struct.pack(">HHQH", 60, 0, 2**63, 0xFFFF)),
            frame(8, 0, b""),
            b"AMQP\x00\x00\x09\x01",
        ]
    )


def odd_bytes(dice: random.Random) -> bytes:
    """The same, or what is no frame, or not the whole of one."""
    kind = dice.random()
    if kind < 0.8:
        return odd_frames(dice)
    return dice.randbytes(dice.randint(1, 300)) if kind < 0.9 else odd_frames(dice)[: dice.randint(1, 7)]


def assert_answers(raw: Any) -> None:
    """The service answers, and is answered. The first call can be hit by what was injected just before."""
    # An odd frame can claim to be longer than it is, and swallow what follows. That is noticed after a minute.
    call = ("subject", "echo", [1], 100)
    outcome = raw.call("subject.call", *call, patience_s=150)["result"]
    if outcome["kind"] == "ReplyLost":
        outcome = raw.call("subject.call", *call, patience_s=150)["result"]
    assert outcome["kind"] == "result"


def fuzz_frames(
    node_site: Any, proxy: Any, proxy_uri: str, odd: list[bytes], names: Iterator[Any], eventually: Eventually
) -> None:
    raw = node_site.raw()
    hosted = node_site.run("subject:Subject", AMQP_URI=proxy_uri, HEARTBEAT=2)
    for data in odd:
        print(data[:40])
        proxy.inject(data, name=next(names))
        assert_answers(raw)
        assert hosted.alive, hosted.output[-5000:]
    assert 0 < len(odd) <= proxy.count("injected")
    eventually(lambda: raw.consumers("rpc-subject") == 1)
    assert hosted.stop() == 0
    assert raw.ready("rpc-subject") == 0


@pytest.fixture
def names(dice: random.Random) -> Iterator[str | None]:
    """The connections to inject into, without end; None for both."""
    return iter(lambda: dice.choice(["consume", "publish", None]), "")


@pytest.mark.faults
def test_row_37_odd_frames(
    node_site: Any, proxy: Any, proxy_uri: str, dice: random.Random, names: Any, eventually: Eventually
) -> None:
    fuzz_frames(node_site, proxy, proxy_uri, [odd_frames(dice) for _ in range(20)], names, eventually)


@pytest.mark.matrix
def test_row_37_odd_bytes(
    node_site: Any, proxy: Any, proxy_uri: str, dice: random.Random, names: Any, eventually: Eventually
) -> None:
    fuzz_frames(node_site, proxy, proxy_uri, [odd_bytes(dice) for _ in range(100)], names, eventually)


@pytest.mark.matrix
@pytest.mark.parametrize("name", ["consume", "publish"])
def test_row_37_a_frame_that_never_ends_although_there_are_heartbeats(
    node_site: Any, proxy: Any, proxy_uri: str, name: str
) -> None:
    raw = node_site.raw()
    hosted = node_site.run("subject:Subject", AMQP_URI=proxy_uri, HEARTBEAT=2)
    proxy.inject(struct.pack(">BHI", 3, 1, 100_000), name=name)
    assert_answers(raw)
    assert hosted.stop() == 0
