"""The test kit for plugin authors: throw-away distributions, services with some plugins, recorded hooks, leaks."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from nameko import concurrency
from nameko.config import config as global_config
from nameko.exceptions import PluginError
from nameko.extensions import Entrypoint, Extension
from nameko.plugins import ConfigKey, PluginManager, Selection, Status, find_plugins, hookimpl, plugins_for
from nameko.testing.plugins import (
    HookRecorder,
    install_distribution,
    no_leaks,
    plugin_manager,
    run_service,
    wait_until,
)
from nameko.testing.services import dummy, entrypoint_hook

READY = """
    from nameko.plugins import hookimpl

    @hookimpl
    def nameko_ready(container):
        return ["not yet"]
"""


class Service:
    name = "service"

    @dummy
    def method(self, value: int) -> int:
        return 10 // value


class Plugin:
    @hookimpl
    def nameko_config_keys(self) -> list[ConfigKey]:
        return [ConfigKey("KEY", "int", 1, "Help.")]

    @hookimpl(specname="nameko_ready", trylast=True)
    def why_not(self) -> list[str]:
        return ["of the plugin"]

    @hookimpl
    def nameko_worker_finished(self, duration_s: float) -> None:
        raise ZeroDivisionError


def found() -> set[str]:
    return {info.name for info in find_plugins(Selection())}


# -- distributions


def test_a_distribution_of_modules() -> None:
    modules = {"acme_audit": READY}
    requires = ["nameko-core>=3"]
    with install_distribution("acme-audit", {"audit": "acme_audit"}, version="1.2", requires=requires, modules=modules):
        manager = plugins_for({})
        (info,) = [info for info in manager.loaded if info.name == "audit"]
        assert (info.distribution, info.version, info.target) == ("acme-audit", "1.2", "acme_audit")
        assert "not yet" in manager.not_ready_reasons(None)  # type: ignore[arg-type]
    assert "audit" not in found()


def test_a_distribution_of_objects() -> None:
    with install_distribution("acme-audit", {"audit": Plugin()}):
        manager = PluginManager.load(Selection(only=frozenset(["acme-audit"])))
        assert manager.not_ready_reasons(None) == ["of the plugin"]  # type: ignore[arg-type]


def test_what_a_distribution_requires_counts() -> None:
    with install_distribution("acme-audit", {"audit": Plugin()}, requires=["nameko-core<3"]):
        (info,) = [info for info in find_plugins(Selection()) if info.name == "audit"]
    assert info.status is Status.VERSION_CONFLICT


def test_several_distributions() -> None:
    with install_distribution("acme-a", {"a": Plugin()}), install_distribution("acme-b", {"b": Plugin()}):
        assert {"a", "b"} <= found()


def test_nothing_of_a_distribution_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    path, modules = list(sys.path), set(sys.modules)
    with install_distribution("acme-audit", {"audit": "acme_audit", "other": Plugin()}, modules={"acme_audit": READY}):
        plugins_for({})
        directory = sys.path[0]
        assert "acme_audit" in sys.modules
    assert sys.path == path
    assert set(sys.modules) == modules
    assert not os.path.exists(directory)


# -- services with exactly some plugins


def test_a_service_runs_with_the_plugins_that_are_named() -> None:
    plugin = Plugin()
    with run_service(Service, {"max_workers": 3}, plugins=["timer", plugin]) as container:
        assert [info.name for info in container.plugins.loaded] == ["Plugin", "timer"]
        assert container.started
        assert global_config["max_workers"] == container.max_workers == 3
    assert not container.started
    assert "max_workers" not in global_config


def test_none_by_default() -> None:
    with run_service(Service) as container:
        assert container.plugins.loaded == []


def test_a_service_is_killed_when_the_block_raises() -> None:
    recorder = HookRecorder()
    with pytest.raises(ZeroDivisionError), run_service(Service, plugins=[recorder]):
        raise ZeroDivisionError
    assert recorder.hooks[-1] == "nameko_container_killed"


def test_a_plugin_that_is_not_installed() -> None:
    with pytest.raises(PluginError, match="plugin 'nowhere' is required"):
        plugin_manager(["nowhere"])


def test_plugins_with_one_name() -> None:
    with pytest.raises(ValueError, match="two plugins are called 'Plugin'"):
        plugin_manager([Plugin(), Plugin()])
    with install_distribution("acme", {"Plugin": HookRecorder()}), pytest.raises(PluginError, match="taken by several"):
        plugin_manager(["Plugin", Plugin()])


# -- what hooks saw


def test_a_recorder_sees_all_hooks() -> None:
    recorder = HookRecorder()
    with run_service(Service, plugins=[recorder]) as container, entrypoint_hook(container, "method") as method:
        assert method(5) == 2
        finished = recorder.wait_for("nameko_worker_finished")
    assert finished["result"] == 2
    assert finished["worker_ctx"].args == (5,)
    observed = [hook for hook in recorder.hooks if "worker" in hook or "container" in hook]
    assert observed == [
        "nameko_container_started",
        "nameko_worker_started",
        "nameko_worker_result",
        "nameko_worker_finished",
        "nameko_container_stopped",
    ]


def test_a_recorder_of_some_hooks() -> None:
    recorder = HookRecorder(hooks=["nameko_container_stopped"])
    with run_service(Service, plugins=[recorder]):
        pass
    assert recorder.hooks == ["nameko_container_stopped"]


def test_a_recorder_stands_for_a_plugin() -> None:
    recorder = HookRecorder(Plugin())
    with run_service(Service, plugins=[recorder]) as container, entrypoint_hook(container, "method") as method:
        method(5)
        assert container.plugins.not_ready_reasons(container) == ["of the plugin"]
        assert [key.name for key in container.plugins.config_keys()] == ["KEY"]
    (ready,) = recorder.of("nameko_ready")
    assert ready.result == ["of the plugin"]
    (finished,) = recorder.of("nameko_worker_finished")
    assert isinstance(finished.exception, ZeroDivisionError)
    assert set(finished.arguments) == {"duration_s"}


def test_a_hook_that_is_not_called() -> None:
    recorder = HookRecorder()
    with (
        run_service(Service, plugins=[recorder]),
        pytest.raises(AssertionError, match="nameko_worker_result is called"),
    ):
        recorder.wait_for("nameko_worker_result", timeout_s=0.05)


# -- leaks


def test_a_file_that_stays_open() -> None:
    files = []
    with pytest.raises(AssertionError, match=r"left behind: file descriptor \d+ \(/dev/null\)"), no_leaks(0.1):
        files.append(open(os.devnull))  # noqa: SIM115
    files[0].close()


@pytest.mark.parametrize("spawn", [concurrency.spawn, concurrency.spawn_detached, concurrency.spawn_task])
def test_a_greenthread_that_stays(spawn: Any) -> None:
    gate = concurrency.Event()

    def stay() -> None:
        gate.wait()

    def leave() -> None:
        with no_leaks(0.1):
            spawn(stay)
            concurrency.sleep(0)

    with pytest.raises(AssertionError, match=r"left behind: greenthread at .*\(stay\)"):
        leave()
    gate.send(None)
    concurrency.sleep(0)


def test_what_is_on_its_way_out() -> None:
    with no_leaks():
        concurrency.spawn(concurrency.sleep, 0.05)
        concurrency.sleep(0)


def test_waiting_for_a_condition() -> None:
    values = iter([0, None, "yes"])
    assert wait_until(lambda: next(values)) == "yes"
    with pytest.raises(AssertionError, match=r"not within 0\.01 s: the sun rises"):
        wait_until(lambda: False, 0.01, "the sun rises")


def test_running_greenthreads_spare_the_one_that_asks() -> None:
    threads = concurrency.running_greenthreads()
    assert concurrency.current() not in threads
    assert all(not isinstance(thread, (Entrypoint, Extension)) and not thread.dead for thread in threads)
