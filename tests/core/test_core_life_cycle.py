"""Starting, stopping and killing a container, in good order and in bad."""

from __future__ import annotations

import gc
import logging
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nameko import concurrency
from nameko.concurrency import Event, GreenletExit, Timeout, sleep
from nameko.containers import ServiceContainer, get_container_cls, get_service_name
from nameko.exceptions import ConfigurationError, ContainerBeingKilled
from nameko.extensions import DependencyProvider, Entrypoint
from nameko.plugins import PluginManager, hookimpl


class Boom(Exception):
    pass


def raising(exc: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise exc

    return fail


def phase(log: list[str], method_name: str) -> list[str]:
    return sorted(each for each in log if each.endswith("." + method_name))


# -- start


def test_all_are_set_up_before_any_is_started(container_factory, log, make_service):
    container = container_factory(make_service(), {})
    assert not container.started
    container.start()
    assert container.started
    assert sorted(log[:3]) == ["dependency.setup", "entrypoint.setup", "shared.setup"]
    assert sorted(log[3:]) == ["dependency.start", "entrypoint.start", "shared.start"]


@pytest.mark.parametrize("method_name", ["setup", "start"])
def test_each_phase_runs_all_extensions_at_once(container_factory, method_name, make_service):
    first, second = Event(), Event()

    def meet(mine: Any, other: Any) -> Callable[[], Any]:
        return lambda: (mine.send(None), other.wait())

    behaviour = {f"dependency_{method_name}": meet(first, second), f"shared_{method_name}": meet(second, first)}
    container = container_factory(make_service(**behaviour), {})
    with Timeout(5):
        container.start()


@pytest.mark.parametrize("method_name", ["setup", "start"])
def test_a_failure_to_start_is_raised_and_kills_the_container(container_factory, log, method_name, make_service):
    never = Event()
    aborted = []

    def hang() -> None:
        try:
            never.wait()
        except GreenletExit:
            aborted.append("shared")
            raise

    behaviour = {f"dependency_{method_name}": raising(Boom("no")), f"shared_{method_name}": hang}
    container = container_factory(make_service(**behaviour), {})
    with pytest.raises(Boom, match="no"):
        container.start()
    assert phase(log, "kill") == ["dependency.kill", "entrypoint.kill", "entrypoint.kill", "shared.kill"]
    assert aborted == ["shared"]
    assert not container.started
    with pytest.raises(Boom, match="no"):
        container.wait()
    container.stop()
    assert phase(log, "stop") == []


def test_a_failure_to_start_says_nothing_of_the_threads_that_end_with_it(container_factory, caplog, make_service):
    caplog.set_level("INFO", "nameko")

    def fail() -> None:
        container.spawn_managed_thread(Event().wait, identifier="lasting")
        raise Boom("no")

    container = container_factory(make_service(dependency_start=fail), {})
    with pytest.raises(Boom, match="no"):
        container.start()
    assert caplog.messages == []


def test_a_running_container_that_is_killed_names_the_threads_that_end_with_it(container_factory, caplog, make_service):
    container = container_factory(make_service(), {})
    container.start()
    container.spawn_managed_thread(Event().wait, identifier="lasting")
    container.kill()
    assert caplog.messages == [f"killing managed thread `lasting` of {container}"]


def test_a_start_that_is_interrupted_kills_the_container(container_factory, log, make_service):
    container = container_factory(make_service(dependency_setup=Event().wait), {})
    with pytest.raises(Timeout), Timeout(0.05):
        container.start()
    assert "dependency.kill" in log
    assert phase(log, "start") == []
    with pytest.raises(Timeout):
        container.wait()


def test_a_start_whose_greenthread_is_killed_kills_the_container(container_factory, log, spawn, make_service):
    container = container_factory(make_service(dependency_setup=Event().wait), {})
    starting = spawn(container.start)
    sleep(0)
    starting.kill()
    container.wait()
    assert "dependency.kill" in log


def test_a_container_can_be_stopped_while_it_starts(container_factory, log, spawn, make_service):
    container = container_factory(make_service(dependency_setup=Event().wait), {})
    starting = spawn(container.start)
    sleep(0)
    with Timeout(5):
        container.stop()
        starting.wait()
    assert phase(log, "start") == []
    assert phase(log, "stop") == ["dependency.stop", "entrypoint.stop", "shared.stop"]


def test_a_container_that_is_killed_while_it_starts_says_why(container_factory, spawn, make_service):
    container = container_factory(make_service(dependency_start=Event().wait), {})
    starting = spawn(container.start)
    sleep(0)
    sleep(0)
    container.kill((Boom, Boom("why"), None))
    with pytest.raises(Boom, match="why"):
        starting.wait()


def test_a_stop_between_the_two_phases_of_a_start_is_obeyed(container_factory, log, make_service, spawn):
    container = container_factory(make_service(), {})
    starting = spawn(container.start)
    sleep(0)  # spawns the setups
    sleep(0)  # they run; the start is about to go on
    assert phase(log, "setup") == ["dependency.setup", "entrypoint.setup", "shared.setup"]
    with Timeout(5):
        container.stop()
        starting.wait()
    started, stopped = phase(log, "start"), phase(log, "stop")
    assert len(stopped) == 3
    assert started == [] or log.index("entrypoint.stop") > max(log.index(each) for each in started)


def test_a_container_that_has_ended_does_not_start(container_factory, log, make_service):
    container = container_factory(make_service(), {})
    container.stop()
    container.start()
    assert not container.started
    assert phase(log, "setup") == []
    killed = container_factory(make_service(), {})
    killed.kill((Boom, Boom("before"), None))
    with pytest.raises(Boom, match="before"):
        killed.start()


# -- stop


def test_the_order_of_a_stop(container_factory, log, spawn, eventually, make_service, calls_of):
    release = Event()
    container = container_factory(make_service(release.wait), {})
    container.start()
    container.spawn_managed_thread(lambda: _note_kill(log), identifier="lasting")
    calls_of(container)("method")
    eventually(lambda: log[-1] == "worker begins")
    del log[:]
    stopping = spawn(container.stop)
    sleep(0.02)
    assert log == ["entrypoint.stop"]
    release.send(None)
    stopping.wait()
    assert log == [
        "entrypoint.stop",
        "worker ends",
        "dependency.worker_result",
        "dependency.worker_teardown",
        "dependency.stop",
        "shared.stop",
        "managed thread killed",
    ]
    container.wait()
    assert not container.started


def _note_kill(log: list[str]) -> None:
    try:
        Event().wait()
    except GreenletExit:
        log.append("managed thread killed")
        raise


def test_a_managed_thread_that_a_stop_has_to_kill_is_named(container_factory, caplog, make_service):
    container = container_factory(make_service(), {})
    container.start()
    container.spawn_managed_thread(Event().wait, identifier="lasting")
    sleep(0)
    container.stop()
    assert [each.getMessage() for each in caplog.records if "lasting" in each.getMessage()] == [
        f"killing managed thread `lasting` of {container}"
    ]


def test_stopping_twice_is_harmless(container_factory, log, make_service):
    container = container_factory(make_service(), {})
    container.start()
    container.stop()
    container.stop()
    assert phase(log, "stop") == ["dependency.stop", "entrypoint.stop", "shared.stop"]


def test_a_second_stop_waits_for_the_first(container_factory, log, spawn, eventually, make_service):
    release = Event()
    container = container_factory(make_service(dependency_stop=release.wait), {})
    container.start()
    first, second = spawn(container.stop), spawn(container.stop)
    eventually(lambda: "dependency.stop" in log)
    assert not first.dead
    assert not second.dead
    release.send(None)
    eventually(lambda: first.dead and second.dead)
    assert log.count("dependency.stop") == 1


def test_a_stop_goes_on_when_the_one_who_asked_for_it_is_gone(container_factory, log, spawn, eventually, make_service):
    release = Event()
    container = container_factory(make_service(entrypoint_stop=release.wait), {})
    container.start()
    stopping = spawn(container.stop)
    eventually(lambda: "entrypoint.stop" in log)
    stopping.kill()
    release.send(None)
    with Timeout(5):
        container.stop()
    assert "shared.stop" in log


def test_a_container_that_never_started_can_be_stopped(container_factory, log, make_service):
    container = container_factory(make_service(), {})
    container.stop()
    container.wait()
    assert phase(log, "stop") == ["dependency.stop", "entrypoint.stop", "shared.stop"]


@pytest.mark.parametrize("failure", [Boom("no"), SystemExit(3), KeyboardInterrupt(), Timeout()])
def test_an_extension_that_fails_to_stop_does_not_hinder_the_others(
    container_factory, log, caplog, failure, make_service
):
    container = container_factory(make_service(entrypoint_stop=raising(failure)), {})
    container.start()
    container.stop()
    assert phase(log, "stop") == ["dependency.stop", "entrypoint.stop", "shared.stop"]
    container.wait()
    assert "[service.method]" in caplog.text
    assert "failed in stop()" in caplog.text


@pytest.mark.parametrize("hanging", ["entrypoint", "dependency", "shared"])
def test_an_extension_that_does_not_stop_is_given_up(container_factory, log, caplog, hanging, make_service):
    behaviour = {f"{hanging}_stop": Event().wait}
    container = container_factory(make_service(**behaviour), {"SHUTDOWN_TIMEOUT": 0.1})
    container.start()
    started_at = time.monotonic()
    container.stop()
    assert time.monotonic() - started_at < 2.1
    assert phase(log, "stop") == ["dependency.stop", "entrypoint.stop", "shared.stop"]
    assert caplog.text.count("stop() has not returned and is given up") == 1


def test_workers_that_outlast_the_shutdown_timeout_are_killed(container_factory, log, caplog, make_service, calls_of):
    container = container_factory(make_service(Event().wait), {"SHUTDOWN_TIMEOUT": 0.1})
    container.start()
    calls = calls_of(container)
    calls("method")
    calls("method")
    sleep(0)
    started_at = time.monotonic()
    container.stop()
    assert 0.1 <= time.monotonic() - started_at < 2.1
    assert calls.outcomes == []  # the work is to be given back, not answered
    assert log[-2:] == ["dependency.stop", "shared.stop"]
    (warning,) = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert warning.startswith(f"killing 2 active workers of {container}, still running after SHUTDOWN_TIMEOUT (0.1 s)")
    assert warning.count("<WorkerContext [service.method]") == 2
    container.wait()


def test_a_worker_that_cannot_be_killed_does_not_hold_up_the_shutdown(
    container_factory, log, caplog, make_service, calls_of
):
    def method() -> None:
        while True:
            try:
                sleep(30)
            except GreenletExit:
                pass

    container = container_factory(make_service(method), {"SHUTDOWN_TIMEOUT": 0})
    container.start()
    calls_of(container)("method")
    sleep(0)
    with Timeout(2):
        container.stop()
    assert "does not end although it was killed" in caplog.text
    assert log[-1] == "shared.stop"


def test_the_whole_shutdown_stays_within_its_bound_when_everything_hangs(container_factory, make_service, calls_of):
    behaviour = {f"{label}_stop": Event().wait for label in ("entrypoint", "dependency", "shared")}
    container = container_factory(make_service(Event().wait, **behaviour), {"SHUTDOWN_TIMEOUT": 0.3})
    container.start()
    calls_of(container)("method")
    sleep(0)
    started_at = time.monotonic()
    container.stop()
    assert time.monotonic() - started_at < 0.3 + 2


def test_a_worker_can_stop_its_own_container(container_factory, eventually, make_service, calls_of):
    calls: list[Any] = []

    def method() -> str:
        calls[0].container.stop()
        return "stopped"

    container = container_factory(make_service(method), {})
    calls.append(calls_of(container))
    container.start()
    calls[0]("method")
    with Timeout(5):
        container.wait()
    eventually(lambda: calls[0].outcomes == [("stopped", None)])


def test_a_managed_thread_can_stop_its_own_container(container_factory, log, eventually, make_service):
    container = container_factory(make_service(), {})
    container.start()
    thread = container.spawn_managed_thread(lambda: (container.stop(), log.append("survived")))
    with Timeout(5):
        thread.wait()
    assert log[-1] == "survived"


def test_an_extension_can_stop_the_container_while_it_starts(container_factory, log, make_service):
    containers: list[ServiceContainer] = []
    container = container_factory(make_service(dependency_start=lambda: containers[0].stop()), {})
    containers.append(container)
    with Timeout(5):
        container.start()
    assert "shared.stop" in log


def test_no_worker_starts_after_the_stop(container_factory, make_service, calls_of):
    container = container_factory(make_service(), {})
    container.start()
    container.stop()
    with pytest.raises(ContainerBeingKilled, match="service is going down"):
        calls_of(container)("method")


# -- kill


def test_the_order_of_a_kill(container_factory, log, eventually, make_service, calls_of):
    container = container_factory(make_service(lambda: _hang(log, "worker")), {})
    container.start()
    container.spawn_managed_thread(lambda: _hang(log, "managed thread"))
    calls = calls_of(container)
    calls("method")
    eventually(lambda: "worker begins" in log)
    del log[:]
    container.kill()
    assert log[:2] == ["entrypoint.kill", "worker killed"]
    assert sorted(log[2:-1]) == ["dependency.kill", "entrypoint.kill", "shared.kill"]
    assert log[-1] == "managed thread killed"
    assert calls.outcomes == []
    container.wait()
    assert not container.started
    assert phase(log, "stop") == []


def _hang(log: list[str], what: str) -> None:
    try:
        Event().wait()
    except GreenletExit:
        log.append(f"{what} killed")
        raise


def test_wait_raises_the_reason_of_a_kill(container_factory, spawn, make_service):
    container = container_factory(make_service(), {})
    container.start()
    waiting = spawn(container.wait)
    sleep(0)
    container.kill((Boom, Boom("reason"), None))
    for wait in (waiting.wait, container.wait):
        with pytest.raises(Boom, match="reason"):
            wait()


def test_a_second_kill_only_waits(container_factory, log, spawn, eventually, make_service):
    release = Event()
    container = container_factory(make_service(dependency_kill=release.wait), {})
    container.start()
    first = spawn(container.kill, (Boom, Boom("first"), None))
    eventually(lambda: "dependency.kill" in log)
    second = spawn(container.kill, (ValueError, ValueError("second"), None))
    sleep(0)
    assert not second.dead
    release.send(None)
    first.wait()
    second.wait()
    assert log.count("dependency.kill") == 1
    with pytest.raises(Boom, match="first"):
        container.wait()


def test_a_kill_after_a_stop_does_nothing(container_factory, log, make_service):
    container = container_factory(make_service(), {})
    container.start()
    container.stop()
    container.kill((Boom, Boom(), None))
    container.wait()
    assert phase(log, "kill") == []


@pytest.mark.parametrize("failure", [Boom("no"), SystemExit(3), Timeout()])
def test_an_extension_that_fails_to_be_killed_does_not_hinder_the_others(
    container_factory, log, caplog, failure, make_service
):
    container = container_factory(make_service(entrypoint_kill=raising(failure)), {})
    container.start()
    container.kill()
    assert phase(log, "kill") == ["dependency.kill", "entrypoint.kill", "entrypoint.kill", "shared.kill"]
    assert caplog.text.count("failed in kill()") == 2


def test_an_extension_that_hangs_in_kill_is_given_up(container_factory, caplog, make_service):
    container = container_factory(make_service(shared_kill=Event().wait), {})
    container.start()
    with Timeout(3):
        container.kill()
    assert "kill() has not returned and is given up" in caplog.text


def test_a_kill_ends_a_stop_that_is_under_way(container_factory, log, spawn, eventually, make_service, calls_of):
    container = container_factory(make_service(Event().wait), {})
    container.start()
    calls_of(container)("method")
    stopping = spawn(container.stop)
    eventually(lambda: "entrypoint.stop" in log)
    with Timeout(5):
        container.kill((Boom, Boom("enough"), None))
        stopping.wait()
    assert phase(log, "stop") == ["entrypoint.stop"]
    with pytest.raises(Boom):
        container.wait()


def test_a_kill_ends_a_stop_whose_extension_hangs(container_factory, log, spawn, eventually, make_service):
    container = container_factory(make_service(dependency_stop=Event().wait), {})
    container.start()
    stopping = spawn(container.stop)
    eventually(lambda: "dependency.stop" in log)
    with Timeout(5):
        container.kill()
        stopping.wait()


def test_a_stop_during_a_kill_waits_for_it(container_factory, log, spawn, eventually, make_service):
    release = Event()
    container = container_factory(make_service(dependency_kill=release.wait), {})
    container.start()
    spawn(container.kill, (Boom, Boom(), None))
    eventually(lambda: "dependency.kill" in log)
    stopping = spawn(container.stop)
    sleep(0)
    assert not stopping.dead
    release.send(None)
    stopping.wait()
    assert phase(log, "stop") == []


def test_a_worker_can_kill_its_own_container(container_factory, make_service, calls_of):
    containers: list[ServiceContainer] = []
    container = container_factory(make_service(lambda: containers[0].kill((Boom, Boom("me"), None))), {})
    containers.append(container)
    container.start()
    calls_of(container)("method")
    with Timeout(5), pytest.raises(Boom, match="me"):
        container.wait()


# -- managed threads


@pytest.mark.parametrize("failure", [Boom("no"), SystemExit(3), KeyboardInterrupt("no"), Timeout()])
def test_a_managed_thread_that_fails_kills_the_container(container_factory, log, capsys, failure, make_service):
    container = container_factory(make_service(), {})
    container.start()
    container.spawn_managed_thread(raising(failure), identifier="failing")
    with pytest.raises(type(failure)):
        container.wait()
    assert "dependency.kill" in log
    assert capsys.readouterr().err == ""  # logged once, not printed by the hub as well


def test_a_managed_thread_that_is_killed_alone_does_not_matter(container_factory, make_service):
    container = container_factory(make_service(), {})
    container.start()
    container.spawn_managed_thread(Event().wait).kill()
    sleep(0.01)
    assert container.started


def test_a_managed_thread_that_ends_is_forgotten(container_factory, make_service):
    container = container_factory(make_service(), {})
    container.start()
    thread = container.spawn_managed_thread(lambda: 7)
    assert thread.wait() == 7
    assert thread not in container._managed_threads
    assert container.started


def test_a_container_that_has_ended_runs_no_threads(container_factory, make_service):
    container = container_factory(make_service(), {})
    container.kill()
    with pytest.raises(ContainerBeingKilled, match="service has ended"):
        container.spawn_managed_thread(lambda: None)


# -- the rest


def test_a_container_can_be_collected_when_it_has_stopped(make_service, calls_of):
    container = ServiceContainer(make_service(), {})
    container.start()
    calls = calls_of(container)
    calls("method")
    container.stop()
    gone = weakref.ref(container)
    del container, calls
    sleep(0)
    gc.collect()
    assert gone() is None


@pytest.fixture
def no_log() -> Iterator[None]:
    """The log keeps exceptions, and with them all that their frames refer to."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("no_log")
def test_a_container_can_be_collected_after_failures(make_service, calls_of):
    container = ServiceContainer(make_service(raising(Boom("no"))), {})
    container.start()
    calls = calls_of(container)
    calls("method")
    sleep(0.01)
    container.kill((Boom, Boom("reason"), None))
    gone = weakref.ref(container)
    del container, calls
    sleep(0)
    gc.collect()
    assert gone() is None


@pytest.mark.usefixtures("no_log")
def test_a_failed_worker_leaves_no_cycle_of_references(make_service, calls_of):
    """Its exception, frames and arguments go at once, and not only when the garbage collector happens to run."""

    class Argument:
        pass

    container = ServiceContainer(make_service(lambda argument: 1 / 0), {})
    container.start()
    calls = calls_of(container)
    calls._handle_result = lambda worker_ctx, result, exc_info: (result, exc_info)  # type: ignore[method-assign]
    gc.collect()
    gc.disable()
    try:
        argument = Argument()
        gone = weakref.ref(argument)
        calls("method", argument)
        del argument
        container._worker_pool.waitall()
        sleep(0)  # lets go of the last timer of the hub, which has switched here
        assert gone() is None
    finally:
        gc.enable()
    container.stop()


def test_readiness(make_service):
    class Plugin:
        @hookimpl
        def nameko_ready(self, container: ServiceContainer) -> list[str]:
            return ["the moon is in the wrong quarter"]

    container = ServiceContainer(make_service(), {}, plugins=PluginManager.with_plugins({"moon": Plugin()}))
    assert container.not_ready_reasons() == ["service is not started", "the moon is in the wrong quarter"]
    container.start()
    assert container.not_ready_reasons() == ["the moon is in the wrong quarter"]
    container.stop()
    assert container.not_ready_reasons()[0] == "service is not started"


def test_a_container_is_not_ready_while_it_starts_or_stops(make_service, container_factory, log, spawn, eventually):
    begun, stopping, release = Event(), Event(), {"start": Event(), "stop": Event()}
    container = container_factory(
        make_service(
            entrypoint_start=lambda: (begun.send(None), release["start"].wait()),
            entrypoint_stop=lambda: (stopping.send(None), release["stop"].wait()),
        ),
        {},
    )
    spawn(container.start)
    begun.wait()
    assert container.not_ready_reasons() == ["service is starting"]
    release["start"].send(None)
    eventually(lambda: container.not_ready_reasons() == [])
    spawn(container.stop)
    stopping.wait()
    assert container.not_ready_reasons() == ["service is stopping"]
    release["stop"].send(None)
    eventually(lambda: container.not_ready_reasons() == ["service is not started"])


def test_observers_of_a_container(make_service):
    seen: list[Any] = []

    class Plugin:
        @hookimpl
        def nameko_container_started(self, container: ServiceContainer) -> None:
            seen.append(("started", container.service_name))

        @hookimpl
        def nameko_container_stopped(self, container: ServiceContainer) -> None:
            seen.append(("stopped", container.service_name))

        @hookimpl
        def nameko_container_killed(self, container: ServiceContainer, exc_info: Any) -> None:
            seen.append(("killed", container.service_name, exc_info and exc_info[0]))

    plugins = PluginManager.with_plugins({"watch": Plugin()})
    for end in (
        lambda container: container.stop(),
        lambda container: container.kill(),
        lambda container: container.kill((Boom, Boom(), None)),
    ):
        container = ServiceContainer(make_service(), {}, plugins=plugins)
        container.start()
        end(container)
    assert seen == [
        ("started", "service"),
        ("stopped", "service"),
        ("started", "service"),
        ("killed", "service", None),
        ("started", "service"),
        ("killed", "service", Boom),
    ]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_an_observer_that_hangs_does_not_hold_up_the_end(make_service, caplog, end):
    class Plugin:
        @hookimpl
        def nameko_container_stopped(self) -> None:
            Event().wait()

        @hookimpl
        def nameko_container_killed(self) -> None:
            Event().wait()

    plugins = PluginManager.with_plugins({"hanging": Plugin()})
    container = ServiceContainer(make_service(), {"SHUTDOWN_TIMEOUT": 0}, plugins=plugins)
    container.start()
    with Timeout(2):
        getattr(container, end)()
    assert "have not returned and are given up" in caplog.text


def test_an_observer_that_gives_up_altogether_does_not_hinder_the_end(make_service, caplog):
    class Plugin:
        @hookimpl
        def nameko_container_stopped(self) -> None:
            raise SystemExit(3)

    container = ServiceContainer(make_service(), {}, plugins=PluginManager.with_plugins({"broken": Plugin()}))
    container.start()
    container.stop()
    container.wait()
    assert "plugin broken (module Plugin): observer" in caplog.text


def test_plugins_attach_extensions_to_a_service(log, make_service, recording):
    class Plugin:
        @hookimpl
        def nameko_service_extensions(self, service_cls: type, config: Any) -> dict[str, Any]:
            return {
                "greeting": recording.Dependency(config["greeting"], log),
                "method": recording.Entrypoint("attached", log),
                "plain": recording.Extension("plain", log),
            }

    def method(*args: Any) -> None:
        log.append("ran")

    service_cls = make_service(method)
    plugins = PluginManager.with_plugins({"attach": Plugin()})
    container = ServiceContainer(service_cls, {"greeting": "hello"}, plugins=plugins)
    container.start()
    assert {"hello.start", "attached.start", "plain.start"} < set(log)
    attached = next(each for each in container.entrypoints if each.label == "attached")
    service = container.spawn_worker(attached, (), {}).service
    container.stop()
    assert service.greeting == "hello"
    assert "ran" in log
    assert {"hello.stop", "attached.stop", "plain.stop"} < set(log)
    assert not hasattr(service_cls, "greeting")


def test_what_a_container_knows(container_factory, make_service):
    config = {"max_workers": 3, "parent_calls_tracked": 4, "SHUTDOWN_TIMEOUT": 5, "serializer": "yaml"}
    container = container_factory(make_service(), config)
    assert container.service_name == "service"
    assert container.config is config
    assert (container.max_workers, container.parent_calls_tracked, container.shutdown_timeout_s) == (3, 4, 5)
    assert (container.serializer, container.accept) == ("yaml", ["yaml"])
    assert container.interface is container
    assert container.extensions == container.entrypoints | container.dependencies | container.subextensions
    labels = {each.label for each in container.extensions if hasattr(each, "label")}  # plugins attach others
    assert labels == {"entrypoint", "dependency", "shared"}
    assert repr(container).startswith("<ServiceContainer [service] at 0x")


def test_the_defaults(container_factory, make_service):
    container = container_factory(make_service(), {"max_workers": None})
    assert (container.max_workers, container.parent_calls_tracked, container.shutdown_timeout_s) == (10, 10, 30)
    assert (container.serializer, container.accept) == ("json", ["json"])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_workers", 0),
        ("max_workers", "10"),
        ("max_workers", True),
        ("parent_calls_tracked", -1),
        ("SHUTDOWN_TIMEOUT", -0.1),
        ("SHUTDOWN_TIMEOUT", float("nan")),
        ("SHUTDOWN_TIMEOUT", "soon"),
    ],
)
def test_bad_configuration_is_named(key, value, make_service):
    with pytest.raises(ConfigurationError, match=f"{key} must be a number of at least"):
        ServiceContainer(make_service(), {key: value})


def test_the_process_wide_configuration_is_the_default(make_service):
    from nameko import config

    with config.patch({"max_workers": 7}):
        assert ServiceContainer(make_service()).max_workers == 7


@pytest.mark.parametrize("name", [None, "", 5])
def test_a_service_has_a_name(name):
    service_cls = type("Nameless", (), {"name": name})
    with pytest.raises(ConfigurationError, match=r"Nameless.*`name`"):
        get_service_name(service_cls)
    with pytest.raises(ConfigurationError, match="Nameless has no `name`"):
        ServiceContainer(type("Nameless", (), {}), {})


class OtherContainer(ServiceContainer):
    pass


def test_the_container_class_can_be_configured(monkeypatch):
    monkeypatch.setattr("nameko.containers.OtherContainer", OtherContainer, raising=False)
    assert get_container_cls({}) is ServiceContainer
    assert get_container_cls({"SERVICE_CONTAINER_CLS": "nameko.containers.OtherContainer"}) is OtherContainer
    with pytest.raises(ConfigurationError, match=r"SERVICE_CONTAINER_CLS: `nameko\.containers\.Missing`"):
        get_container_cls({"SERVICE_CONTAINER_CLS": "nameko.containers.Missing"})


@pytest.mark.parametrize("path", ["os.path", "collections.OrderedDict"])
def test_a_container_class_that_is_none_is_refused(path):
    with pytest.raises(ConfigurationError, match=f"SERVICE_CONTAINER_CLS: `{path}` is no subclass of"):
        get_container_cls({"SERVICE_CONTAINER_CLS": path})


def test_inherited_declarations_count(container_factory):
    class Base:
        dependency = DependencyProvider()

        @Entrypoint.decorator
        def method(self) -> None:
            pass

    class Service(Base):
        name = "heir"

    container = container_factory(Service, {})
    assert [each.method_name for each in container.entrypoints] == ["method"]
    assert [each.attr_name for each in container.dependencies] == ["dependency"]


def test_greenthreads_return_to_their_number(make_service, calls_of):
    def count() -> int:
        gc.collect()
        return sum(issubclass(type(each), concurrency.GreenThread) and not each.dead for each in gc.get_objects())

    before = count()
    for end in (ServiceContainer.stop, ServiceContainer.kill):
        container = ServiceContainer(make_service(Event().wait), {"SHUTDOWN_TIMEOUT": 0})
        container.start()
        calls_of(container)("method")
        container.spawn_managed_thread(Event().wait)
        sleep(0)
        end(container)
    sleep(0.01)
    assert count() == before
