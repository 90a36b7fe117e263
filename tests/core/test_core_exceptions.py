"""Exceptions, and how they travel."""

from __future__ import annotations

import itertools
import json
import pickle
import re
from typing import Any

import pytest

from nameko import exceptions
from nameko.exceptions import (
    BadRequest,
    ConnectionNotFound,
    IncorrectSignature,
    MalformedRequest,
    MethodNotFound,
    RemoteError,
    ReplyLost,
    ReplyQueueExpiredWithPendingReplies,
    UnknownService,
    UnserializableValueError,
    deserialize,
    deserialize_to_instance,
    get_module_path,
    registry,
    safe_for_serialization,
    serialize,
)


class Custom(Exception):
    pass


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("no")

    __repr__ = __str__


@pytest.fixture
def registered():
    @deserialize_to_instance
    class Registered(Exception):
        def __init__(self, first: str, second: str) -> None:
            super().__init__(first, second)

    yield Registered
    del registry[get_module_path(Registered)]


# -- the wire form


def test_the_wire_form():
    assert serialize(Custom("what", 1, None, True)) == {
        "exc_type": "Custom",
        "exc_path": f"{__name__}.Custom",
        "exc_args": ["what", "1", "None", "True"],
        "value": "('what', 1, None, True)",
    }


def test_the_wire_form_of_what_cannot_be_printed():
    data = serialize(Custom(Unprintable()))
    assert data["exc_args"] == ["[__unicode__ failed]"]
    assert data["value"] == "[__unicode__ failed]"


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        ("text", "text"),
        (1, "1"),
        (1.5, "1.5"),
        (None, "None"),
        (True, "True"),
        (b"ab", ["97", "98"]),
        ([1, [2, "x"]], ["1", ["2", "x"]]),
        ((1, 2), ["1", "2"]),
        ({1: {"a": None}}, {"1": {"a": "None"}}),
        ((number for number in (1, 2)), ["1", "2"]),
        ({(1, 2): 3}, {"(1, 2)": "3"}),
        (Unprintable(), "[__unicode__ failed]"),
    ],
)
def test_what_goes_over_the_wire_is_made_of_strings(value, safe):
    assert safe_for_serialization(value) == safe


def test_what_contains_itself_can_be_sent():
    circular: list[Any] = ["x"]
    circular += [circular, circular]
    mapping: dict[str, Any] = {}
    mapping["self"] = mapping
    assert safe_for_serialization(circular) == ["x", str(circular), str(circular)]
    assert safe_for_serialization(mapping) == {"self": "{'self': {...}}"}


def test_what_never_ends_is_cut_off():
    endless = safe_for_serialization(itertools.count())
    assert endless[:3] == ["0", "1", "2"]
    assert endless[-1] == "..."
    assert len(json.dumps(endless)) < 1_000_000


def test_what_would_grow_beyond_all_bounds_is_cut_off():
    doubling: Any = "x"
    for _ in range(40):
        doubling = [doubling, doubling]
    assert len(json.dumps(safe_for_serialization(doubling))) < 1_000_000
    mapping: Any = "x"
    for _ in range(40):
        mapping = {1: mapping, 2: mapping}
    assert len(json.dumps(safe_for_serialization(mapping))) < 1_000_000


def test_what_is_nested_deeply_can_be_sent():
    deep: Any = "x"
    for _ in range(200):
        deep = [deep, deep]
    assert len(json.dumps(safe_for_serialization(deep))) < 1_000_000
    shallow: Any = "x"
    for _ in range(40):
        shallow = [shallow]
    assert '"x"' in json.dumps(safe_for_serialization(shallow))


def test_an_iterator_that_fails_is_printed():
    def fail() -> Any:
        yield 1
        raise ValueError("no")

    assert safe_for_serialization(fail()).startswith("<generator object")


# -- and back


def test_a_registered_exception_comes_back_as_itself(registered):
    exc = deserialize(serialize(registered("a", 2)))
    assert type(exc) is registered
    assert exc.args == ("a", "2")


@pytest.mark.parametrize("cls", [MalformedRequest, MethodNotFound, IncorrectSignature])
def test_the_exceptions_of_a_bad_request_come_back_as_themselves(cls):
    exc = deserialize(serialize(cls("why")))
    assert type(exc) is cls
    assert str(exc) == "why"
    assert get_module_path(cls) == f"nameko.exceptions.{cls.__name__}"


def test_nothing_else_is_registered():
    assert {path.rpartition(".")[2] for path in registry} >= {
        "MalformedRequest",
        "MethodNotFound",
        "IncorrectSignature",
    }
    assert not {"nameko.exceptions.UnknownService", "nameko.exceptions.ConnectionNotFound"} & set(registry)


@pytest.mark.parametrize("exc", [Custom("why"), UnknownService("x"), ConnectionNotFound("y"), OSError(1, "z")])
def test_every_other_exception_comes_back_as_a_remote_error(exc):
    back = deserialize(serialize(exc))
    assert type(back) is RemoteError
    assert (back.exc_type, back.value) == (type(exc).__name__, str(exc))
    assert str(back) == f"{type(exc).__name__} {exc}"


def test_an_exception_that_cannot_be_rebuilt_comes_back_as_a_remote_error(registered):
    data = serialize(registered("a", "b"))
    back = deserialize({**data, "exc_args": ["only one"]})
    assert type(back) is RemoteError
    assert back.exc_type == "Registered"


def test_the_forms_of_old_versions_are_understood():
    back = deserialize({"exc_type": "Old", "value": "why", "traceback": "..."})
    assert (type(back), back.exc_type, back.value) == (RemoteError, "Old", "why")


@pytest.mark.parametrize(
    "data",
    [
        None,
        5,
        "text",
        [],
        {},
        {"exc_path": 5},
        {"exc_path": ["nameko.exceptions.MethodNotFound"]},
        {"exc_path": "nameko.exceptions.MethodNotFound", "exc_args": 5},
        {"exc_path": "nameko.exceptions.MethodNotFound", "exc_args": {"a": 1}},
        {"exc_path": "os.system", "exc_args": ["exit 1"]},
    ],
)
def test_malformed_errors_are_errors_too(data):
    assert type(deserialize(data)) is RemoteError


# -- the classes


def test_remote_error():
    assert (RemoteError().exc_type, RemoteError().value) == (None, "")
    copied = pickle.loads(pickle.dumps(RemoteError("Type", "value")))
    assert (copied.exc_type, copied.value, str(copied)) == ("Type", "value", "Type value")


def test_unknown_service():
    assert str(UnknownService("x")) == "Unknown service `x`"
    assert str(pickle.loads(pickle.dumps(UnknownService("x")))) == "Unknown service `x`"


def test_unserializable_value_error():
    exc = UnserializableValueError(object)
    assert exc.repr_value == repr(object)
    assert str(exc) == f"Unserializable value: `{object!r}`"
    assert exc.args == ()
    assert UnserializableValueError(Unprintable()).repr_value == "[__repr__ failed]"


def test_the_tree():
    assert issubclass(exceptions.ExtensionNotFound, AttributeError)
    for cls in (MalformedRequest, MethodNotFound, IncorrectSignature, ConnectionNotFound):
        assert issubclass(cls, BadRequest)
    assert issubclass(ReplyLost, ReplyQueueExpiredWithPendingReplies)


def test_the_drawing_of_the_tree_names_every_exception_and_no_other():
    drawing = exceptions.__doc__.partition("::")[2]
    drawn = set(re.findall(r"^\W*(\w+)", drawing, re.MULTILINE)) - {"Exception", "AttributeError"}
    assert drawn - {"these", "three"} == {
        name
        for name, cls in vars(exceptions).items()
        if isinstance(cls, type) and issubclass(cls, BaseException) and cls.__module__ == "nameko.exceptions"
    }
