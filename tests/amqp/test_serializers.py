"""Serializers: what is sent, what is accepted, and what is refused."""

from __future__ import annotations

import bz2
import datetime
import decimal
import json
import lzma
import uuid
import zlib

import kombu.serialization
import pytest
from kombu.exceptions import ContentDisallowed, DecodeError, EncodeError

from nameko.amqp import MessageTooLarge
from nameko.amqp.serializers import Codecs, decode_json
from nameko.amqp.settings import AmqpSettings
from nameko.containers import ServiceContainer
from nameko.exceptions import ConfigurationError
from nameko.extensions import DependencyProvider


def codecs(**config):
    config = {"AMQP_URI": "memory://localhost", **config}
    return Codecs.from_config(config, AmqpSettings.from_config(config))


def test_json_by_default():
    made = codecs()
    assert made.serializer == "json"
    assert made.accept == {"application/json"}
    assert made.encode({"ü": [1, None]}) == ("application/json", "utf-8", b'{"\\u00fc": [1, null]}')
    assert made.decode(b'{"a": 1}', "application/json", "utf-8") == {"a": 1}
    assert made.decode('{"a": 1}', "application/json", None) == {"a": 1}


@pytest.mark.parametrize(
    "value",
    [
        datetime.datetime(2026, 1, 2, 3, 4, 5),
        datetime.date(2026, 1, 2),
        decimal.Decimal("1.50"),
        uuid.UUID(int=7),
        b"bytes",
        b"\xff",
    ],
)
def test_values_that_kombu_knows_survive_json(value):
    made = codecs()
    body = made.encode({"x": [value]})[2]
    assert body.decode() == kombu.serialization.dumps({"x": [value]}, "json")[2]
    assert made.decode(body, "application/json", "utf-8") == {"x": [value]}


@pytest.mark.parametrize(
    "value",
    [
        {"__type__": "no-such-type", "__value__": 1},
        {"__type__": "datetime", "__value__": "not a date"},
        {"__type__": ["unhashable"], "__value__": 1},
        {"__type__": "datetime", "__value__": "2026-01-02", "more": 1},
        {"__type__": 1},
        {"deep": [{"__type__": "x", "__value__": {"__type__": "y", "__value__": None}}]},
    ],
)
def test_data_that_only_looks_like_kombus_stays_as_it_is(value):
    assert decode_json(json.dumps(value)) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [{"x": -float("inf")}]])
def test_nan_is_not_json(value):
    with pytest.raises(EncodeError, match="not JSON compliant"):
        codecs().encode(value)


def test_sizes_are_limited():
    made = codecs(MAX_MESSAGE_BYTES=20)
    made.encode("x" * 18)
    with pytest.raises(MessageTooLarge, match="the message has 21 bytes; MAX_MESSAGE_BYTES allows 20"):
        made.encode("x" * 19)


def test_other_serializers_by_name():
    made = codecs(serializer="yaml", ACCEPT=["yaml", "json", "text/csv"])
    content_type, content_encoding, body = made.encode({"a": 1})
    assert (content_type, content_encoding, body) == ("application/x-yaml", "utf-8", b"a: 1\n")
    assert made.accept == {"application/x-yaml", "application/json", "text/csv"}
    assert made.decode(body, content_type, content_encoding) == {"a": 1}
    assert made.encode({"a": 1}, "json")[2] == b'{"a": 1}'
    assert made.decode(b"a,b", "text/csv", "utf-8") == "a,b"
    assert made.serializer_for("application/json") == "json"
    assert made.serializer_for("text/csv") is None


def test_raw():
    made = codecs(serializer="raw")
    assert made.encode(b"\xff") == ("application/data", "binary", b"\xff")
    assert made.encode("x")[2] == b"x"
    with pytest.raises(EncodeError, match="raw messages are bytes or strings, not dict"):
        made.encode({})


def test_what_is_not_accepted():
    made = codecs()
    with pytest.raises(ContentDisallowed, match="`application/x-yaml` is not accepted"):
        made.decode(b"a: 1", "application/x-yaml", "utf-8")
    assert made.decode(b"", "application/json", "utf-8") == b""
    assert made.decode(b"x", None, None) == "x"  # no content type: taken as it is
    assert made.decode(b"\xff", "application/data", "binary") == b"\xff"


def test_bodies_that_are_not_what_they_claim():
    made = codecs(ACCEPT=["json", "text/plain"])
    for body in (b"{", b"\xff", b"[" * 100_000):
        with pytest.raises(DecodeError, match="cannot decode as `application/json`"):
            made.decode(body, "application/json", "utf-8")
    with pytest.raises(DecodeError, match="unknown encoding"):
        made.decode(b"x", "text/plain", "no-such-charset")


def test_serializers_from_the_configuration():
    made = codecs(
        SERIALIZERS={
            "custom": {
                "encoder": "base64.b64encode",
                "decoder": "base64.b64decode",
                "content_type": "application/x-b64",
                "content_encoding": "binary",
            }
        },
        serializer="custom",
    )
    body = made.encode(b"hello")[2]
    assert body == b"aGVsbG8="
    assert made.decode(body, "application/x-b64", "binary") == b"hello"


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("path", "`x` must be a mapping"),
        ({"encoder": "json.dumps"}, "`x` has no decoder"),
        ({"encoder": "json.dump_s", "decoder": "json.loads"}, "encoder of `x`: `json.dump_s`: module `json` has no"),
        ({"encoder": "no_such_module.x", "decoder": "json.loads"}, "encoder of `x`: No module named"),
    ],
)
def test_serializers_that_cannot_work(entry, text):
    with pytest.raises(ConfigurationError, match=text):
        codecs(SERIALIZERS={"x": entry})


@pytest.mark.parametrize("config", [{"serializer": "nope"}, {"ACCEPT": ["json", "nope"]}])
def test_unknown_serializers(config):
    with pytest.raises(ConfigurationError) as raised:
        codecs(**config)
    (key,) = config
    assert str(raised.value) == f'Please register a serializer for "nope" format in SERIALIZERS; {key} names it'


def test_a_container_checks_them_when_it_is_made():
    from nameko.amqp import Broker

    class Holder(DependencyProvider):
        broker = Broker()

    class Service:
        name = "service"
        holder = Holder()

    with pytest.raises(ConfigurationError, match='"nope"'):
        ServiceContainer(Service, {"AMQP_URI": "memory://localhost", "serializer": "nope"})


@pytest.mark.parametrize(
    "config", [{"serializer": "pickle"}, {"ACCEPT": ["json", "pickle"]}, {"ACCEPT": ["application/x-python-serialize"]}]
)
def test_pickle_needs_to_be_allowed_as_well(config, caplog):
    with pytest.raises(ConfigurationError, match="ALLOW_PICKLE: true"):
        codecs(**config)
    with pytest.raises(ConfigurationError, match="ALLOW_PICKLE: true"):
        codecs(ALLOW_PICKLE="true", **config)
    assert caplog.records == []
    made = codecs(ALLOW_PICKLE=True, **config)
    (warning,) = caplog.messages
    assert "pickle is accepted: whoever can send a message to this service can run any code in it" in warning
    body = made.encode({1, 2}, "pickle")[2]
    assert made.decode(body, "application/x-python-serialize", "binary") == {1, 2}


def test_names_must_be_names():
    with pytest.raises(ConfigurationError, match="ACCEPT must name serializers, not 5"):
        codecs(ACCEPT=[5])


@pytest.mark.parametrize(
    ("name", "content_type", "compress"),
    [
        ("gzip", "application/x-gzip", zlib.compress),
        ("bzip2", "application/x-bz2", bz2.compress),
        ("lzma", "application/x-lzma", lzma.compress),
    ],
)
def test_compression_is_accepted_when_enabled_and_bounded(name, content_type, compress):
    made = codecs(ACCEPT_COMPRESSION=[name], MAX_MESSAGE_BYTES=100_000)
    body = compress(b'"' + b"x" * 1000 + b'"')
    for spelled in (name, content_type):
        assert made.decode(body, "application/json", "utf-8", spelled) == "x" * 1000
    bomb = compress(b"x" * 50_000_000)
    with pytest.raises(DecodeError, match="does not decompress into 100000 bytes or less"):
        made.decode(bomb, "application/json", "utf-8", name)
    with pytest.raises(DecodeError, match=r"cannot decompress|does not decompress"):
        made.decode(body[:-9], "application/json", "utf-8", name)
    with pytest.raises(DecodeError, match="cannot decompress"):
        made.decode(b"garbage", "application/json", "utf-8", name)
    for refused in ("zstd", 5, ["x"]):
        with pytest.raises(ContentDisallowed, match="is not accepted"):
            made.decode(body, "application/json", "utf-8", refused)


def test_unknown_compressions():
    with pytest.raises(ConfigurationError, match="ACCEPT_COMPRESSION: `zip` is not one of bzip2, gzip, lzma, zlib"):
        codecs(ACCEPT_COMPRESSION="zip")
    with pytest.raises(ConfigurationError, match="compression `zip` is not known"):
        codecs().compress(b"x", "zip")
