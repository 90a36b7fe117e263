"""Declaring extensions and binding them."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from nameko.concurrency import sleep
from nameko.exceptions import ConfigurationError, IncorrectSignature
from nameko.extensions import (
    ENTRYPOINT_EXTENSIONS_ATTR,
    DependencyProvider,
    Entrypoint,
    Extension,
    ProviderCollector,
    SharedExtension,
    is_dependency,
    is_entrypoint,
    is_extension,
    iter_extensions,
    register_entrypoint,
)


class Plain(Extension):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.arguments = (args, kwargs)


class Shared(SharedExtension):
    pass


class Keyed(SharedExtension):
    def __init__(self, key: str) -> None:
        self.key = key

    @property
    def sharing_key(self) -> Any:
        return (type(self), self.key)


class Outer(Extension):
    inner = Plain(1)
    shared = Shared()


class Dependency(DependencyProvider):
    outer = Outer()
    shared = Shared()


class Trigger(Entrypoint):
    shared = Shared()


trigger = Trigger.decorator


class Service:
    name = "service"

    dependency = Dependency()

    @trigger
    def bare(self, a: int, b: int = 2) -> None:
        pass

    @trigger(expected_exceptions=ValueError)
    @trigger(sensitive_arguments="a")
    def twice(self, a: int, *, key: int) -> None:
        pass


def test_binding_clones_the_declaration(mock_container):
    declared = Plain(1, two=2)
    bound = declared.bind(mock_container)
    assert bound is not declared
    assert bound.arguments == declared.arguments == ((1,), {"two": 2})
    assert bound.is_bound()
    assert not declared.is_bound()
    with pytest.raises(RuntimeError, match="Cannot `bind` a bound extension"):
        bound.bind(mock_container)


def test_an_extension_need_not_call_super_init_and_gets_its_sub_extensions_bound(mock_container):
    bound = Outer().bind(mock_container)
    assert bound.inner is not Outer.inner
    assert bound.inner.is_bound()
    assert bound.inner.arguments == ((1,), {})
    assert list(iter_extensions(Dependency().bind(mock_container, "x")))[-1].is_bound()


def test_sub_extensions_come_before_the_one_that_holds_them(mock_container):
    bound = Dependency().bind(mock_container, "dependency")
    found = list(iter_extensions(bound))
    assert found == [bound.outer.inner, bound.outer.shared, bound.outer, bound.shared]


def test_an_extension_can_be_bound_to_the_proxy_that_another_one_holds(mock_container):
    first = Plain().bind(mock_container)
    second = Plain().bind(first.container)
    assert second.container.service_name == "mock_service"


def test_a_container_has_one_instance_of_a_shared_extension(container_factory):
    container = container_factory(Service, {})
    holders = [*container.entrypoints, *container.dependencies]
    assert {each.shared for each in holders} == {container.shared_extensions[Shared]}
    assert len(holders) == 4
    other = container_factory(Service, {})
    assert other.shared_extensions[Shared] is not container.shared_extensions[Shared]


def test_the_sharing_key_tells_shared_extensions_apart(mock_container):
    a, b, also_a = (Keyed(key).bind(mock_container) for key in ("a", "b", "a"))
    assert a is also_a
    assert a is not b
    assert b.key == "b"


def test_an_extension_does_not_keep_its_container_alive(container_factory):
    from nameko.containers import ServiceContainer

    container = ServiceContainer(Service, {})
    dependency = next(iter(container.dependencies))
    gone = weakref.ref(container)
    del container
    gc.collect()
    assert gone() is None
    assert "[dependency]" in repr(dependency)  # and can still be named in the log


def test_the_declaration_learns_its_attribute_name(mock_container):
    declared = Dependency()
    declared.bind(mock_container, "spam")
    assert declared.attr_name == "spam"


def test_repr(container_factory):
    container = container_factory(Service, {})
    assert repr(next(iter(container.dependencies))).startswith("<Dependency [service.dependency] at 0x")
    reprs = sorted(repr(each).partition(" at ")[0] for each in container.entrypoints)
    assert reprs == ["<Trigger [service.bare]", "<Trigger [service.twice]", "<Trigger [service.twice]"]
    assert repr(Trigger()).startswith("<Trigger [unbound] at 0x")
    assert repr(Dependency()).startswith("<Dependency [unbound] at 0x")
    assert repr(Plain()).startswith("<Plain at 0x")


def test_kinds():
    assert is_extension(Plain())
    assert is_extension(Trigger())
    assert is_entrypoint(Trigger())
    assert not is_entrypoint(Dependency())
    assert is_dependency(Dependency())
    assert not is_dependency(Plain())
    assert not is_extension(Plain)


def test_a_decorated_method_stays_a_plain_function_and_carries_its_entrypoints():
    assert Service().bare(1) is None
    assert len(getattr(Service.bare, ENTRYPOINT_EXTENSIONS_ATTR)) == 1
    assert {each.expected_exceptions for each in Service.twice.nameko_entrypoints} == {ValueError, ()}
    assert {each.sensitive_arguments for each in Service.twice.nameko_entrypoints} == {"a", ()}


def test_entrypoints_are_registered_on_functions():
    def method(self: Any) -> None:
        pass

    entrypoint = Trigger()
    assert register_entrypoint(method, entrypoint) is method
    assert method.nameko_entrypoints == {entrypoint}  # type: ignore[attr-defined]


def test_expected_exceptions_may_be_a_list():
    assert Trigger(expected_exceptions=[ValueError, KeyError]).expected_exceptions == (ValueError, KeyError)
    assert Trigger(expected_exceptions=ValueError).expected_exceptions is ValueError


@pytest.mark.parametrize("wrong", [["ValueError"], [ValueError("x")], int, (None,)])
def test_expected_exceptions_must_be_exception_classes(wrong):
    with pytest.raises(ConfigurationError, match="Trigger: expected_exceptions takes exception classes, not"):
        Trigger(expected_exceptions=wrong)


def test_a_name_in_place_of_an_exception_class_is_shown_whole():
    with pytest.raises(ConfigurationError, match="takes exception classes, not 'ValueError'"):
        Trigger(expected_exceptions="ValueError")  # type: ignore[arg-type]


def test_an_entrypoint_that_does_not_call_super_init_has_the_defaults():
    class Careless(Entrypoint):
        def __init__(self) -> None:
            pass

    assert Careless().expected_exceptions == ()
    assert Careless().sensitive_arguments == ()


def test_the_old_name_of_sensitive_arguments_is_accepted():
    with pytest.warns(DeprecationWarning, match="sensitive_arguments"):
        assert Trigger(sensitive_variables=("a", "b")).sensitive_arguments == ("a", "b")


def test_an_unknown_argument_of_an_entrypoint_is_named():
    with pytest.raises(TypeError, match="Trigger does not take colour"):
        Trigger(colour="red")
    with pytest.raises(TypeError) as raised:
        Trigger(expected_exception=ValueError)
    assert str(raised.value) == "Trigger does not take expected_exception (did you mean 'expected_exceptions'?)"


@pytest.mark.parametrize(
    ("method_name", "args", "kwargs"),
    [
        ("bare", (1,), {}),
        ("bare", (1, 2), {}),
        ("bare", (1,), {"b": 3}),
        ("bare", (), {"a": 1, "b": 2}),
        ("twice", (1,), {"key": 1}),
    ],
)
def test_fitting_arguments(container_factory, method_name, args, kwargs):
    entrypoint = _entrypoint(container_factory, method_name)
    entrypoint.check_signature(args, kwargs)
    entrypoint.check_signature(args, kwargs)


@pytest.mark.parametrize(
    ("method_name", "args", "kwargs", "message"),
    [
        ("bare", (), {}, "missing a required argument: 'a'"),
        ("bare", (1, 2, 3), {}, "too many positional arguments"),
        ("bare", (1,), {"a": 2}, "multiple values for argument 'a'"),
        ("bare", (1,), {"c": 2}, "unexpected keyword argument 'c'"),
        ("bare", (1,), {"self": 2}, "multiple values for argument 'self'"),
        ("bare", (1,), {1: 2}, "keywords must be strings"),
        ("twice", (1,), {}, "missing a required"),
    ],
)
def test_arguments_that_do_not_fit(container_factory, method_name, args, kwargs, message):
    with pytest.raises(IncorrectSignature, match=message):
        _entrypoint(container_factory, method_name).check_signature(args, kwargs)


def _entrypoint(container_factory: Any, method_name: str) -> Entrypoint:
    container = container_factory(Service, {})
    return next(each for each in container.entrypoints if each.method_name == method_name)


class Collector(ProviderCollector, SharedExtension):
    pass


def test_a_collector_that_serves_nobody_stops_at_once():
    collector = Collector()
    collector.unregister_provider("unknown")
    collector.stop()


def test_a_collector_stops_when_the_last_provider_has_left(spawn, eventually):
    collector = Collector()
    collector.register_provider("a")
    collector.register_provider("b")
    stopping = spawn(collector.stop)
    collector.unregister_provider("a")
    sleep(0)
    assert not stopping.dead
    collector.unregister_provider("b")
    eventually(lambda: stopping.dead)


def test_a_collector_waits_again_for_a_provider_that_has_come_back(spawn, eventually):
    collector = Collector()
    collector.register_provider("a")
    collector.unregister_provider("a")
    collector.register_provider("a")
    stopping = spawn(collector.stop)
    sleep(0)
    assert not stopping.dead
    collector.unregister_provider("a")
    eventually(lambda: stopping.dead)
