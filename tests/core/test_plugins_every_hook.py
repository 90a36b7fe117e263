"""Every hook is fired by the framework, documented and used; a plugin that raises in it is named, and no more happens.

A new hook fails here until it has an entry in `FIRE`, which makes the framework fire it, a section in the reference,
and a user among our own plugins and examples.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nameko import concurrency, hookspecs
from nameko.cli.main import main
from nameko.config import config
from nameko.extensions import Entrypoint
from nameko.outgoing_calls import OutgoingCall
from nameko.plugins import hookimpl
from nameko.testing.plugins import HookRecorder, install_distribution, run_service
from nameko.testing.services import dummy, entrypoint_hook

HOOKS = {name: fn for name, fn in vars(hookspecs).items() if name.startswith("nameko_")}
REFERENCE = Path(__file__).parents[2] / "docs/hooks.md"

#: The plugins of each test, besides our own: one that does as it is told, and one that is called after it.
PLUGINS = ["told", "witness"]


class Service:
    name = "service"

    @dummy
    def method(self) -> str:
        return "result"

    @dummy
    def fail(self) -> None:
        raise ZeroDivisionError


def command(*arguments: str) -> None:
    with config.patch({}, clear=True), pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == (2 if arguments == ("no-such-command",) else 0)


def shell() -> None:
    sys.stdin = io.StringIO("n.config\n")
    command("shell", "-d", "plugins={only: [told, witness]}")


def life() -> None:
    with run_service(Service, plugins=PLUGINS):
        pass


def kill() -> None:
    with run_service(Service, plugins=PLUGINS) as container:
        container.kill()


def work() -> None:
    with run_service(Service, plugins=PLUGINS) as container:
        with entrypoint_hook(container, "method") as method:
            assert method() == "result"
        with entrypoint_hook(container, "fail") as fail, pytest.raises(ZeroDivisionError):
            fail()
        assert container.started


def ask() -> None:
    with run_service(Service, plugins=PLUGINS) as container:
        container.not_ready_reasons()
        container.plugins.stats(container)


def call() -> None:
    with run_service(Service, plugins=PLUGINS) as container:
        with OutgoingCall(container.observers, "message", "exchange", "key", None, container.config):
            pass
        assert container.started


#: What makes the framework fire each hook.
FIRE: dict[str, Callable[[], None]] = {
    "nameko_extensions": lambda: command("plugins", "--verbose"),
    "nameko_config_keys": lambda: command("show-config"),
    "nameko_commands": lambda: command("no-such-command"),
    "nameko_run_options": lambda: command("run", "--help"),
    "nameko_shell_namespace": shell,
    "nameko_service_extensions": life,
    "nameko_container_started": life,
    "nameko_container_stopped": life,
    "nameko_container_killed": kill,
    "nameko_worker_started": work,
    "nameko_worker_result": work,
    "nameko_worker_finished": work,
    "nameko_ready": ask,
    "nameko_stats": ask,
    "nameko_call_started": call,
    "nameko_call_finished": call,
}

OUTCOMES = {
    "Exception": lambda: ValueError("told to"),
    "Timeout": lambda: concurrency.Timeout(),
    "Timeout that strikes": lambda: concurrency.Timeout(0.01) and concurrency.sleep(10),
    "SystemExit": lambda: SystemExit(3),
    "GreenletExit": lambda: concurrency.GreenletExit(),
}


class Told:
    """A plugin with one hook, which does what it is told, and notes from where it is called."""

    def __init__(self, hook: str, action: Callable[[], Any]) -> None:
        self.callers: set[str] = set()

        @functools.wraps(HOOKS[hook])
        def implementation(*args: Any, **kwargs: Any) -> Any:
            self.callers.add(sys._getframe(1).f_globals["__name__"])
            return action()

        setattr(self, hook, hookimpl(implementation))


@contextlib.contextmanager
def installed(told: object, witness: object) -> Iterator[None]:
    with (
        install_distribution("acme-told", {"told": told}, version="1.2"),
        install_distribution("acme-witness", {"witness": witness}),
    ):
        yield


@pytest.fixture(autouse=True)
def standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", sys.stdin)


def test_every_hook_is_fired_here() -> None:
    assert set(FIRE) == set(HOOKS), "say in FIRE what makes the framework fire each hook"


@pytest.mark.parametrize("hook", HOOKS)
def test_the_framework_fires_it_with_what_is_documented(hook: str) -> None:
    told, witness = Told(hook, lambda: None), HookRecorder(hooks=[hook])
    with installed(told, witness):
        FIRE[hook]()
    calls = witness.of(hook)
    assert calls
    assert {frozenset(call.arguments) for call in calls} == {frozenset(inspect.signature(HOOKS[hook]).parameters)}
    assert all(caller.startswith("nameko.") for caller in told.callers)


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("hook", HOOKS)
def test_one_that_raises_is_named_and_nothing_else_happens(
    hook: str, outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        exc = OUTCOMES[outcome]()
        assert exc is not None
        raise exc

    told, witness = Told(hook, fail), HookRecorder(hooks=[hook])
    with installed(told, witness):
        FIRE[hook]()
    assert told.callers
    assert len(witness.of(hook)) >= 1, "the plugin that comes after it was not called"
    messages = {record.getMessage() for record in caplog.records if record.exc_info}
    assert any(each.startswith("plugin told (acme-told 1.2): ") and hook in each for each in messages)


def test_a_kill_of_its_greenthread_is_obeyed() -> None:
    blocked = concurrency.Event()

    def block() -> None:
        blocked.send(None)
        concurrency.Event().wait()

    told, witness = Told("nameko_worker_started", block), HookRecorder()
    with installed(told, witness), run_service(Service, plugins=PLUGINS) as container:
        (entrypoint,) = (each for each in container.entrypoints if each.method_name == "method")
        assert isinstance(entrypoint, Entrypoint)
        container.spawn_worker(entrypoint, (), {})
        blocked.wait()
        container.kill()
    assert "nameko_worker_result" not in witness.hooks
    assert "nameko_container_killed" in witness.hooks


@pytest.mark.parametrize("hook", ["nameko_worker_started", "nameko_worker_result", "nameko_worker_finished"])
def test_a_keyboard_interrupt_in_a_worker_is_the_plugins(hook: str, caplog: pytest.LogCaptureFixture) -> None:
    with installed(Told(hook, interrupt), HookRecorder()):
        FIRE[hook]()
    assert f"plugin told (acme-told 1.2): observer {hook!r} failed and is ignored" in caplog.text


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("hook", ["nameko_worker_started", "nameko_ready", "nameko_container_started"])
def test_a_timeout_around_it_is_obeyed(hook: str) -> None:
    told = Told(hook, lambda: concurrency.sleep(10))
    with installed(told, HookRecorder()), pytest.raises(concurrency.Timeout):
        fire_within(1, hook)


def fire_within(timeout_s: float, hook: str) -> None:
    with concurrency.Timeout(timeout_s):
        # It is known to be from outside unless it strikes later than by as much as it was set before the hook.
        concurrency.sleep(timeout_s / 2)
        FIRE[hook]()


def test_ctrl_c_in_a_declaration_is_obeyed() -> None:
    with installed(Told("nameko_config_keys", interrupt), HookRecorder()), pytest.raises(SystemExit) as ended:
        main(["show-config"])
    assert ended.value.code == 130


def documented() -> dict[str, str]:
    """The sections of the reference by hook."""
    sections = re.split(r"^## ", REFERENCE.read_text(), flags=re.MULTILINE)[1:]
    return {section.splitlines()[0]: section for section in sections}


@pytest.mark.parametrize("hook", HOOKS)
def test_it_is_documented_as_it_is(hook: str) -> None:
    section = documented()[hook]
    signature = inspect.signature(HOOKS[hook])
    assert f"{hook}{signature}".replace("'", "") in section, "the signature is stale: run scripts/write_references.py"
    assert "\nFires: " in section
    assert [name for name in signature.parameters if f"- `{name}`: " not in section] == []
    assert signature.return_annotation == "None" or "- returns: " in section


def test_the_reference_has_no_other_hooks() -> None:
    assert set(documented()) == set(HOOKS)


@pytest.mark.parametrize("hook", HOOKS)
def test_one_of_ours_or_an_example_uses_it(hook: str) -> None:
    users = re.search(r"^Used by: (.+)\.$", documented()[hook], re.MULTILINE)
    assert users is not None, "no distribution of ours and no example uses the hook"
