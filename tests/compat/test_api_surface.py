"""The public names of nameko 2.14 and of 3.0, as `surface.yaml` lists them: there, and taking what they took."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from nameko.containers import ServiceContainer, WorkerContext
from nameko.extensions import ProviderCollector
from nameko.runners import ServiceRunner
from nameko.testing.utils import DummyProvider
from nameko.testing.waiting import WaitResult
from nameko.web.websocket import WebSocketServer

HERE = Path(__file__).parent
SURFACE: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load((HERE / "surface.yaml").read_text())
GUIDE = HERE.parents[1] / "docs" / "migration.md"

NAMES = [f"{module}.{name}" for module, names in SURFACE.items() for name in names]
ANY = object()


def deviations() -> set[str]:
    """The names in the first column of the guide's table of names that differ."""
    section = GUIDE.read_text().split("\n## Names that differ\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([\w.]+)`(?: \(of 3\.0\))? \|", section, re.MULTILINE))


def entry(path: str) -> dict[str, Any]:
    module, _, name = path.rpartition(".")
    return SURFACE[module][name]


def load(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def signature_of(text: str) -> inspect.Signature:
    namespace: dict[str, Any] = {}
    exec(f"def function{text}: ...", namespace)
    return inspect.signature(namespace["function"])


def own_signature(obj: Any) -> inspect.Signature:
    """What a callable takes; for a class, its `__init__`, as `Extension.__new__` takes anything."""
    if not inspect.isclass(obj):
        return inspect.signature(obj)
    return without_self(inspect.signature(obj.__init__))


def without_self(signature: inspect.Signature) -> inspect.Signature:
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def differences(ours: inspect.Signature, theirs: inspect.Signature) -> Iterator[str]:
    """In what respect `ours` refuses, or understands otherwise, what `theirs` accepts."""
    parameters = theirs.parameters.values()
    named = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    required = [each.name for each in parameters if each.name in named and each.default is each.empty]
    calls: list[tuple[list[str], dict[str, str]]] = [
        (named, {}),
        ([], {name: name for name in named}),
        (required, {}),
        ([], {name: name for name in required}),
    ]
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        calls.append((required, {"another_name": "another_name"}))
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        calls.append(([*named, "one more"], {}))
    for args, kwargs in calls:
        yield from refusal(ours, args, kwargs)
    yield from other_defaults(ours, theirs)


def refusal(ours: inspect.Signature, args: list[str], kwargs: dict[str, str]) -> Iterator[str]:
    try:
        bound = ours.bind(*args, **kwargs)
    except TypeError as exc:
        yield f"{ours} does not take {args} {kwargs}: {exc}"
        return
    for name, value in bound.arguments.items():
        if ours.parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and value not in (name, ANY):
            yield f"{ours} takes {value} for {name}"


def other_defaults(ours: inspect.Signature, theirs: inspect.Signature) -> Iterator[str]:
    for name, parameter in theirs.parameters.items():
        if parameter.default in (parameter.empty, ...) or name not in ours.parameters:
            continue
        if ours.parameters[name].default != parameter.default:
            yield f"{name} is {ours.parameters[name].default!r} by default, not {parameter.default!r}"


def problems(path: str) -> Iterator[str]:
    expected = entry(path)
    try:
        obj = load(path)
    except (ImportError, AttributeError) as exc:
        yield f"cannot be imported: {exc}"
        return
    yield from KINDS[expected["kind"]](path, obj, expected)


def constant_problems(path: str, obj: Any, expected: dict[str, Any]) -> Iterator[str]:
    if "value" in expected and obj != expected["value"]:
        yield f"is {obj!r}"


def function_problems(path: str, obj: Any, expected: dict[str, Any]) -> Iterator[str]:
    yield from place_problems(path, obj, expected)
    if "signature" in expected:
        yield from differences(own_signature(obj), signature_of(expected["signature"]))


def class_problems(path: str, obj: Any, expected: dict[str, Any]) -> Iterator[str]:
    yield from function_problems(path, obj, expected)
    for base in expected.get("bases", ()):
        if not issubclass(obj, load(base)):
            yield f"is not a {base}"
    for name in expected.get("attributes", ()):
        if not hasattr(obj, name):
            yield f"has no {name}"
    for name, value in expected.get("class_values", {}).items():
        if plain(getattr(obj, name, ANY)) != value:
            yield f"has {name} = {getattr(obj, name, ANY)!r}"
    for name, signature in expected.get("methods", {}).items():
        if not hasattr(obj, name):
            yield f"has no method {name}"
            continue
        method = without_self(inspect.signature(getattr(obj, name)))
        yield from (f"{name}: {text}" for text in differences(method, signature_of(signature)))


def plain(value: Any) -> Any:
    """Read-only tables and lists are as good as others."""
    if hasattr(value, "items"):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def exception_problems(path: str, obj: Any, expected: dict[str, Any]) -> Iterator[str]:
    yield from class_problems(path, obj, expected)
    if not issubclass(obj, Exception):
        yield "is no Exception"


def decorator_problems(path: str, obj: Any, expected: dict[str, Any]) -> Iterator[str]:
    extension = obj.__self__
    owner = expected.get("of")
    if owner is not None and extension is not load(f"{path.rpartition('.')[0]}.{owner}"):
        yield f"is not the decorator of {owner}"
    if "signature" in expected:
        yield from differences(own_signature(extension), signature_of(expected["signature"]))


def place_problems(path: str, obj: Any, expected: dict[str, Any]) -> Iterator[str]:
    module, _, name = path.rpartition(".")
    alias = expected.get("alias", name)
    place = alias if "." in alias else f"{module}.{alias}"
    if f"{obj.__module__}.{obj.__qualname__}" != place:
        yield f"says that it is {obj.__module__}.{obj.__qualname__}, not {place}"


def callable_problems(path: str, obj: Any, expected: dict[str, Any]) -> Iterator[str]:
    yield from differences(own_signature(obj), signature_of(expected["signature"]))
    yield from (f"has no {name}" for name in expected.get("attributes", ()) if not hasattr(obj, name))


KINDS: dict[str, Callable[[str, Any, dict[str, Any]], Iterator[str]]] = {
    "callable": callable_problems,
    "class": class_problems,
    "constant": constant_problems,
    "decorator": decorator_problems,
    "exception": exception_problems,
    "function": function_problems,
}


@pytest.mark.parametrize("path", [name for name in NAMES if name not in deviations()])
def test_is_there_and_takes_what_it_took(path: str) -> None:
    assert list(problems(path)) == []


@pytest.mark.parametrize("path", sorted(deviations()))
def test_the_guide_lists_no_difference_that_is_none(path: str) -> None:
    assert path in NAMES
    assert list(problems(path)) != []


#: Called without the configuration, as 3.0 does; the process-wide one is taken.
WITHOUT_CONFIG = {
    "nameko.containers.ServiceContainer": "(service_cls)",
    "nameko.containers.get_container_cls": "()",
    "nameko.events.get_event_exchange": "(service_name)",
    "nameko.rpc.get_rpc_exchange": "()",
    "nameko.runners.ServiceRunner": "()",
    "nameko.serialization.setup": "()",
    "nameko.standalone.events.event_dispatcher": "(**options)",
    "nameko.standalone.events.get_event_exchange": "(service_name)",
    "nameko.standalone.rpc.ClusterRpcProxy": "()",
    "nameko.standalone.rpc.ServiceRpcProxy": "(service_name)",
}


@pytest.mark.parametrize(("path", "signature"), WITHOUT_CONFIG.items())
def test_the_configuration_is_optional(path: str, signature: str) -> None:
    assert list(differences(own_signature(load(path)), signature_of(signature))) == []


def test_the_guide_lists_few_differences() -> None:
    assert len(deviations()) <= 12


class Service:
    name = "service"


def test_instances_have_the_fields_of_2_14() -> None:
    container = ServiceContainer(Service, {})
    entrypoint = DummyProvider("method")
    instances = [
        container,
        WorkerContext(container, Service(), entrypoint),  # type: ignore[arg-type]
        ServiceRunner({}),
        ProviderCollector(),
        WebSocketServer(),
        WaitResult(),
    ]

    for instance in instances:
        cls = type(instance)
        fields = entry(f"{cls.__module__}.{cls.__qualname__}")["fields"]
        assert [name for name in fields if not hasattr(instance, name)] == []
