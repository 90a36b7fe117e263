"""What the plugin manager makes of hook implementations: order, arguments, failures."""

from __future__ import annotations

import inspect
import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from nameko import _failing_observers, hookspecs
from nameko.containers import ServiceContainer
from nameko.exceptions import ConfigurationError
from nameko.extensions import DependencyProvider, Entrypoint, Extension
from nameko.observers import OBSERVER_HOOKS, Observers, notify
from nameko.plugins import ConfigKey, PluginManager, Stat, hookimpl

HOOKS = {name: fn for name, fn in vars(hookspecs).items() if name.startswith("nameko_")}


def plugin(**functions: Callable[..., Any]) -> object:
    """A plugin that implements each hook by the function given for it."""

    class Plugin:
        pass

    instance = Plugin()
    for name, function in functions.items():
        setattr(instance, name, function if hasattr(function, "nameko_impl") else hookimpl(function))
    return instance


def manager(**plugins: object) -> PluginManager:
    return PluginManager.with_plugins(plugins)


def test_every_observer_hook_has_its_place() -> None:
    assert {name.removeprefix("nameko_") for name in OBSERVER_HOOKS} == set(vars(Observers()))
    assert set(OBSERVER_HOOKS) <= set(HOOKS)


@pytest.mark.parametrize("hook", OBSERVER_HOOKS)
def test_implementations_take_any_of_the_arguments(hook: str) -> None:
    names = list(inspect.signature(HOOKS[hook]).parameters)
    arguments = {name: object() for name in names}
    seen: list[Any] = []
    everything = eval(f"lambda {', '.join(names)}: seen.append([{', '.join(names)}])", {"seen": seen})
    last = eval(f"lambda {names[-1]}: seen.append({names[-1]})", {"seen": seen})

    def nothing() -> None:
        seen.append(None)

    plugins = manager(a=plugin(**{hook: everything}), b=plugin(**{hook: last}), c=plugin(**{hook: nothing}))
    notify(plugins.observers(hook), **arguments)
    assert seen == [list(arguments.values()), arguments[names[-1]], None]


def test_plugins_are_called_in_the_order_of_their_names() -> None:
    def reason(text: str, **options: bool) -> Callable[..., Any]:
        def nameko_ready() -> list[str]:
            return [text]

        return hookimpl(nameko_ready, **options)

    plugins = manager(
        c=plugin(nameko_ready=reason("c")),
        a=plugin(nameko_ready=reason("a", trylast=True)),
        d=plugin(nameko_ready=reason("d", tryfirst=True)),
        b=plugin(nameko_ready=reason("b")),
    )
    assert plugins.not_ready_reasons(None) == ["d", "b", "c", "a"]  # type: ignore[arg-type]


def test_an_observer_that_raises_hinders_no_other(caplog: pytest.LogCaptureFixture) -> None:
    seen = []

    def nameko_container_started(container: object) -> None:
        raise ZeroDivisionError

    plugins = manager(
        bad=plugin(nameko_container_started=nameko_container_started),
        good=plugin(nameko_container_started=lambda container: seen.append(container)),
    )
    notify(plugins.observers("nameko_container_started"), container="c")
    assert seen == ["c"]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert (
        record.getMessage() == "plugin bad (module Plugin): observer 'nameko_container_started' failed and is ignored"
    )
    assert record.exc_info


def failing_observer(raised: list[BaseException]) -> Callable[[], Any]:
    """`call()`: has the observer of a container of its own raise the next of `raised`, of which the last is kept."""

    def nameko_worker_started() -> None:
        raise raised.pop(0) if len(raised) > 1 else raised[0]

    plugins = manager(bad=plugin(nameko_worker_started=nameko_worker_started))
    return lambda: notify(Observers(plugins.observers).worker_started, worker_ctx="w")


def test_an_observer_that_goes_on_failing_is_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    monkeypatch.setattr(_failing_observers, "INTERVAL_S", 0.2)
    call = failing_observer([ZeroDivisionError()])
    for _ in range(100):
        call()
    who = "plugin bad (module Plugin): observer 'nameko_worker_started' failed"
    assert caplog.messages == [f"{who} and is ignored"]
    eventually(lambda: len(caplog.messages) == 2)  # although it is not called any more
    call()
    eventually(lambda: len(caplog.messages) == 3)
    assert caplog.messages[1:] == [
        f"{who} 99 more times and is ignored, most recently with ZeroDivisionError",
        f"{who} once more and is ignored, most recently with ZeroDivisionError",
    ]
    assert [bool(record.exc_info) for record in caplog.records] == [True, False, False]


def test_an_observer_that_fails_in_another_way_shows_where(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_failing_observers, "INTERVAL_S", 0)
    call = failing_observer([ZeroDivisionError(), ZeroDivisionError(), ValueError()])
    for _ in range(4):
        call()
    assert [bool(record.exc_info) for record in caplog.records] == [True, False, True, False]


def test_what_is_counted_is_told_when_the_process_ends() -> None:
    program = """if True:
        from nameko.observers import notify

        def fail():
            raise ZeroDivisionError

        for _ in range(3):
            notify((("me", fail),))
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("plugin me")]
    assert lines == [
        "plugin me: observer 'fail' failed and is ignored",
        "plugin me: observer 'fail' failed 2 more times and is ignored, most recently with ZeroDivisionError",
    ]


def test_a_hook_that_nobody_implements_costs_nothing() -> None:
    assert manager(a=plugin()).observers("nameko_worker_started") == ()


def test_an_implementation_that_takes_all_is_called_as_it_is() -> None:
    def nameko_container_started(container: object) -> None: ...

    ((_, function),) = manager(a=plugin(nameko_container_started=nameko_container_started)).observers(
        "nameko_container_started"
    )
    assert function is nameko_container_started


# -- declarations


def test_configuration_keys(caplog: pytest.LogCaptureFixture) -> None:
    key = ConfigKey("K", "int", 1, "Help.")

    def broken() -> None:
        raise ZeroDivisionError

    plugins = manager(
        a=plugin(nameko_config_keys=lambda: [key, "no key"]),
        b=plugin(nameko_config_keys=broken),
        c=plugin(nameko_config_keys=lambda: None),
        d=plugin(nameko_config_keys=lambda: (key,)),
    )
    assert plugins.config_keys() == [key, key]
    assert [record.getMessage() for record in caplog.records] == [
        "plugin a (module Plugin): nameko_config_keys must return a list of ConfigKey, not str",
        "plugin b (module Plugin): nameko_config_keys failed and is ignored",
    ]


# -- readiness


def test_reasons_not_to_be_ready() -> None:
    plugins = manager(
        a=plugin(nameko_ready=lambda container: [f"{container} is away", "and more"]),
        b=plugin(nameko_ready=lambda: ()),
        c=plugin(nameko_ready=lambda: None),
        d=plugin(nameko_ready=lambda: "one line"),
    )
    assert plugins.not_ready_reasons("broker") == ["broker is away", "and more", "one line"]  # type: ignore[arg-type]


def test_a_check_that_raises_cannot_vouch_for_the_container(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    plugins = manager(a=plugin(nameko_ready=broken), b=plugin(nameko_ready=lambda: ["other"]))
    assert plugins.not_ready_reasons(None) == ["plugin a cannot tell: ZeroDivisionError", "other"]  # type: ignore[arg-type]
    assert "plugin a (module Plugin): nameko_ready failed" in caplog.text


# -- numbers


def test_numbers_about_a_container(caplog: pytest.LogCaptureFixture) -> None:
    size = Stat("acme_size_bytes", "gauge", "How big.", 3, {"of": "it"})

    def broken() -> None:
        raise ZeroDivisionError

    plugins = manager(
        a=plugin(nameko_stats=lambda container: [size, (container, 1)]),
        b=plugin(nameko_stats=broken),
        c=plugin(nameko_stats=lambda: [size]),
    )
    assert plugins.stats("cache") == [size, size]  # type: ignore[arg-type]
    assert "plugin a (module Plugin): nameko_stats must return a list of Stat, not tuple" in caplog.text
    assert "plugin b (module Plugin): nameko_stats failed" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"name": "no-name"}, "'no-name'"),
        ({"help": None}, "help must be a string"),
        ({"kind": "histogram"}, "acme_size: kind must be"),
        ({"value": "3"}, "acme_size: value must be a number"),
        ({"labels": {"__of": "it"}}, "acme_size: labels"),
        ({"labels": {"of": 1}}, "acme_size: labels"),
    ],
)
def test_a_number_that_cannot_be_shown_is_refused(wrong: dict[str, Any], complaint: str) -> None:
    arguments: dict[str, Any] = {"name": "acme_size", "kind": "gauge", "help": "How big.", "value": 1}
    with pytest.raises((TypeError, ValueError), match=complaint):
        Stat(**{**arguments, **wrong})


# -- extensions attached to services


class Greeting(DependencyProvider):
    def get_dependency(self, worker_ctx: object) -> str:
        return "hello"


class Call(Entrypoint):
    pass


class Plain(Extension):
    pass


class Service:
    name = "service"
    taken = 1

    def method(self) -> str:
        return self.greeting  # type: ignore[attr-defined,no-any-return]


def attach(**extensions: object) -> object:
    return plugin(nameko_service_extensions=lambda service_cls, config: extensions)


def test_extensions_are_attached() -> None:
    plugins = manager(a=attach(greeting=Greeting(), method=Call(), background=Plain()))
    container = ServiceContainer(Service, {}, plugins=plugins)
    assert {type(each) for each in container.extensions} == {Greeting, Call, Plain}
    (entrypoint,) = container.entrypoints
    results: list[Any] = []
    container.spawn_worker(entrypoint, (), {}, handle_result=lambda ctx, *outcome: results.append(outcome) or outcome)
    container.stop()
    assert results == [("hello", None)]
    assert not hasattr(Service, "greeting")


def test_the_service_and_the_configuration_are_given() -> None:
    given: list[Any] = []

    def nameko_service_extensions(service_cls: type, config: object) -> dict[str, Extension]:
        given.extend([service_cls, config])
        return {}

    config = {"max_workers": 3}
    ServiceContainer(
        Service, config, plugins=manager(a=plugin(nameko_service_extensions=nameko_service_extensions))
    ).stop()
    assert given == [Service, config]


@pytest.mark.parametrize(
    ("offer", "complaint"),
    [
        ({"taken": Greeting()}, "plugin b (module Plugin): `taken` is left out, Service has one of its own"),
        ({"nowhere": Call()}, "plugin b (module Plugin): `nowhere` is left out, Service has no such method"),
        ({"taken": Call()}, "plugin b (module Plugin): `taken` is left out, Service has no such method"),
        ({"odd": 5}, "plugin b (module Plugin): `odd` is left out, it is no unbound extension but int"),
        ([Greeting()], "plugin b (module Plugin): nameko_service_extensions must return a mapping, not list"),
        ({5: Plain()}, "plugin b (module Plugin): an extension is left out, its name is no string but 5"),
        ({"first": Plain()}, "plugin b (module Plugin): `first` is left out, another plugin has attached one"),
    ],
)
def test_what_cannot_be_attached_is_left_out(offer: object, complaint: str, caplog: pytest.LogCaptureFixture) -> None:
    first = Plain()
    plugins = manager(
        a=attach(first=first), b=plugin(nameko_service_extensions=lambda: offer), c=attach(last=Greeting())
    )
    attached = plugins.service_extensions(Service, {})
    assert [name for _, name, _ in attached] == ["first", "last"]
    assert attached[0][2] is first
    assert complaint in caplog.text


def test_a_hook_that_raises_leaves_the_service_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    plugins = manager(a=plugin(nameko_service_extensions=broken), b=attach(greeting=Greeting()))
    assert [name for _, name, _ in plugins.service_extensions(Service, {})] == ["greeting"]
    assert "plugin a (module Plugin): nameko_service_extensions failed and is ignored" in caplog.text


def test_an_extension_that_cannot_be_bound_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    class Unbindable(Extension):
        def bind(self, container: object) -> Unbindable:
            raise ZeroDivisionError

    plugins = manager(a=attach(odd=Unbindable()), b=attach(greeting=Greeting()))
    container = ServiceContainer(Service, {}, plugins=plugins)
    assert {type(each) for each in container.extensions} == {Greeting}
    assert "plugin a (module Plugin): `odd` is left out, it cannot be bound to <ServiceContainer" in caplog.text


def test_an_extension_that_refuses_its_configuration_refuses_the_service() -> None:
    class Refusing(Extension):
        def bind(self, container: object) -> Refusing:
            raise ConfigurationError("no such address")

    with pytest.raises(ConfigurationError, match="no such address"):
        ServiceContainer(Service, {}, plugins=manager(a=attach(odd=Refusing())))
