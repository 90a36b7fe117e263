"""Workers: one call each, whatever the method does."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest

from nameko import concurrency
from nameko.concurrency import Event, GreenletExit, GreenPool, Timeout, sleep
from nameko.containers import ServiceContainer, WorkerContext
from nameko.exceptions import ContainerBeingKilled
from nameko.extensions import DependencyProvider, Entrypoint
from nameko.plugins import PluginManager, hookimpl

trigger = Entrypoint.decorator


class Boom(Exception):
    pass


class OtherBoom(Exception):
    pass


def raising(exc: BaseException) -> Callable[..., None]:
    def fail(*args: Any) -> None:
        raise exc

    return fail


# -- what a worker does


def test_the_order_of_a_worker(container_factory, make_service, calls_of, log):
    container = container_factory(make_service(lambda: "result"), {})
    container.start()
    del log[:]

    def handle_result(worker_ctx: WorkerContext, result: Any, exc_info: Any) -> Any:
        log.append(f"handle_result {result} {exc_info}")
        return result, exc_info

    (entrypoint,) = container.entrypoints
    worker_ctx = container.spawn_worker(entrypoint, (), {}, handle_result=handle_result)
    assert log == []  # it runs in a greenthread of its own
    container._worker_pool.waitall()
    assert log == [
        "dependency.get_dependency",
        "dependency.worker_setup",
        "worker begins",
        "worker ends",
        "handle_result result None",
        "dependency.worker_result",
        "dependency.worker_teardown",
    ]
    assert worker_ctx.service.dependency == "dependency"


def test_each_worker_has_a_service_instance_of_its_own(container_factory):
    seen = []

    class Service:
        name = "service"

        @trigger
        def method(self, arg: int, *, key: int) -> None:
            seen.append((self, arg, key))

    container = container_factory(Service, {})
    (entrypoint,) = container.entrypoints
    contexts = [container.spawn_worker(entrypoint, (number,), {"key": -number}) for number in range(3)]
    container.stop()
    assert [(arg, key) for _, arg, key in seen] == [(0, 0), (1, -1), (2, -2)]
    assert [service for service, _, _ in seen] == [each.service for each in contexts]
    assert len({id(service) for service, _, _ in seen}) == 3


def test_the_wait_for_a_worker_can_be_told(container_factory):
    release, ended = Event(), []

    class Service:
        name = "service"

        @trigger
        def method(self) -> None:
            release.wait()
            ended.append(time.perf_counter())

    container = container_factory(Service, {"max_workers": 1})
    (entrypoint,) = container.entrypoints
    asked_at = time.perf_counter()
    first = container.spawn_worker(entrypoint, (), {}, fired_at=asked_at - 5)
    waiting = concurrency.spawn(container.spawn_worker, entrypoint, (), {})
    sleep(0)
    assert container.running_workers == 1
    assert first.started_at - first.fired_at >= 5
    release.send(None)
    second = waiting.wait()
    container.stop()
    assert asked_at < second.fired_at < ended[0] <= second.started_at
    assert container.running_workers == 0


def test_a_worker_that_is_not_wanted_any_more_does_not_run(container_factory):
    release, ran, asked = Event(), [], []

    class Service:
        name = "service"

        @trigger
        def method(self, number: int) -> None:
            ran.append(number)
            release.wait()

    def still_wanted(worker_ctx: WorkerContext) -> bool:
        asked.append(worker_ctx)
        return worker_ctx.args != (1,)

    def handle_result(worker_ctx: WorkerContext, *outcome: object) -> object:
        settled.append(worker_ctx.args)
        return outcome

    def spawn(number: int) -> WorkerContext:
        options = {"handle_result": handle_result, "still_wanted": still_wanted}
        return container.spawn_worker(entrypoint, (number,), {}, **options)

    settled: list[object] = []
    container = container_factory(Service, {"max_workers": 1})
    (entrypoint,) = container.entrypoints
    spawn(0)
    waiting = concurrency.spawn(spawn, 1)
    sleep(0)
    assert [each.args for each in asked] == [(0,)]  # not asked while there is no worker for it
    release.send(None)
    assert waiting.wait().started_at > asked[0].started_at
    spawn(2)
    container.stop()
    assert ran == [0, 2]
    assert settled == [(0,), (2,)]
    assert [each.args for each in asked] == [(0,), (1,), (2,)]


def test_the_entrypoint_may_replace_the_outcome_before_the_dependencies_see_it(container_factory):
    seen = []

    class Watch(DependencyProvider):
        def worker_result(self, worker_ctx: WorkerContext, result: Any = None, exc_info: Any = None) -> None:
            seen.append((result, exc_info))

    class Service:
        name = "service"
        watch = Watch()

        @trigger
        def method(self) -> int:
            return 1

    container = container_factory(Service, {})
    container.start()
    (entrypoint,) = container.entrypoints
    container.spawn_worker(entrypoint, (), {}, handle_result=lambda ctx, result, exc_info: (result + 1, None))
    exc_info = (Boom, Boom(), None)
    container.spawn_worker(entrypoint, (), {}, handle_result=lambda *_: (None, exc_info))
    container.stop()
    assert seen == [(2, None), (None, exc_info)]


@pytest.mark.parametrize(
    "exc",
    [
        Boom("no"),
        Timeout(),
        GreenletExit(),
        SystemExit(3),
        KeyboardInterrupt(),
        RecursionError(),
        MemoryError(),
        BaseException("no"),
        GeneratorExit(),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_whatever_a_method_raises_is_its_outcome(container_factory, make_service, calls_of, log, exc):
    container = container_factory(make_service(raising(exc)), {"max_workers": 2})
    container.start()
    calls = calls_of(container)
    for _ in range(20):  # far more than there are slots
        calls("method")
    container.stop()
    assert [outcome for _, outcome in calls.outcomes] == [exc] * 20
    assert log.count("dependency.worker_result") == log.count("dependency.worker_teardown") == 20
    container.wait()


def test_an_endless_recursion_is_an_outcome(container_factory, calls_of):
    class Service:
        name = "service"

        @trigger
        def method(self) -> None:
            self.method()

    container = container_factory(Service, {})
    container.start()
    calls = calls_of(container)
    calls("method")
    container.stop()
    assert isinstance(calls.outcomes[0][1], RecursionError)


def test_a_method_that_fails_is_logged_as_an_error(container_factory, make_service, calls_of, caplog):
    container = container_factory(make_service(raising(Boom("no"))), {})
    context = calls_of(container)("method")
    container.stop()
    (record,) = [each for each in caplog.records if "error handling worker" in each.getMessage()]
    assert record.levelno == logging.ERROR
    assert record.getMessage() == f"error handling worker {context}: no"
    assert record.exc_info[0] is Boom


@pytest.mark.parametrize("expected", [Boom, (OtherBoom, Boom), [OtherBoom, Boom], Exception])
def test_an_expected_exception_is_logged_as_a_warning(container_factory, calls_of, caplog, expected):
    class Service:
        name = "service"

        @trigger(expected_exceptions=expected)
        def method(self) -> None:
            raise Boom("no")

    container = container_factory(Service, {})
    context = calls_of(container)("method")
    container.stop()
    (record,) = [each for each in caplog.records if "error handling worker" in each.getMessage()]
    assert record.levelno == logging.WARNING
    assert record.getMessage() == f"(expected) error handling worker {context}: no"


# -- timeouts that a method leaves behind


def test_a_timeout_left_behind_does_not_strike_the_rest_of_the_worker(container_factory, calls_of, caplog, eventually):
    done = []

    class Slow(DependencyProvider):
        def worker_result(self, worker_ctx: WorkerContext, result: Any = None, exc_info: Any = None) -> None:
            sleep(0.03)
            done.append("result")

        def worker_teardown(self, worker_ctx: WorkerContext) -> None:
            sleep(0.03)
            done.append("teardown")

    class Service:
        name = "service"
        slow = Slow()

        @trigger
        def method(self) -> str:
            for seconds in (0.01, 0.04, 0.07, 0.1):
                Timeout(seconds)
            Timeout(0.01, Boom("of the timeout"))
            return "result"

    container = container_factory(Service, {})
    container.start()
    (entrypoint,) = container.entrypoints
    handled = []

    def handle_result(worker_ctx: WorkerContext, result: Any, exc_info: Any) -> Any:
        sleep(0.03)  # as if to send a reply
        handled.append(result)
        return result, exc_info

    context = container.spawn_worker(entrypoint, (), {}, handle_result=handle_result)
    eventually(lambda: caplog.text.count("had left a timeout running") == 5)
    assert handled == ["result"]
    assert done == ["result", "teardown"]
    assert caplog.text.count(repr(context)) == 5
    container.stop()
    container.wait()


def test_a_timeout_strikes_while_the_method_runs(container_factory, make_service, calls_of):
    def method() -> None:
        with Timeout(0.01):
            sleep(5)

    container = container_factory(make_service(method), {})
    calls = calls_of(container)
    calls("method")
    container.stop()
    assert isinstance(calls.outcomes[0][1], Timeout)


def test_a_timeout_that_a_dependency_sets_for_the_method_strikes_it(container_factory, calls_of):
    class Limit(DependencyProvider):
        def worker_setup(self, worker_ctx: WorkerContext) -> None:
            worker_ctx.data["limit"] = Timeout(0.01)

        def worker_result(self, worker_ctx: WorkerContext, result: Any = None, exc_info: Any = None) -> None:
            worker_ctx.data["limit"].cancel()

    class Service:
        name = "service"
        limit = Limit()

        @trigger
        def method(self) -> None:
            sleep(5)

    container = container_factory(Service, {})
    calls = calls_of(container)
    calls("method")
    container.stop()
    assert isinstance(calls.outcomes[0][1], Timeout)


def test_timeouts_of_the_steps_after_the_method_work(container_factory, make_service):
    seen = []

    def handle_result(worker_ctx: WorkerContext, result: Any, exc_info: Any) -> Any:
        try:
            with Timeout(0.01):
                sleep(5)
        except Timeout as timeout:
            seen.append(timeout)
        return result, exc_info

    container = container_factory(make_service(), {})
    (entrypoint,) = container.entrypoints
    container.spawn_worker(entrypoint, (), {}, handle_result=handle_result)
    container.stop()
    assert len(seen) == 1


# -- failures around the method


@pytest.mark.parametrize("failure", [Boom("no"), SystemExit(3), KeyboardInterrupt(), Timeout()])
@pytest.mark.parametrize("method_name", ["get_dependency", "worker_setup", "worker_result", "worker_teardown"])
def test_a_dependency_that_fails_kills_the_container(
    container_factory, make_service, calls_of, capsys, log, method_name, failure
):
    service_cls = make_service(**{f"dependency_{method_name}": raising(failure)})
    container = container_factory(service_cls, {})
    container.start()
    calls = calls_of(container)
    calls("method")
    with pytest.raises(type(failure)):
        container.wait()
    after_method = method_name in ("worker_result", "worker_teardown")
    assert bool(calls.outcomes) is after_method
    assert ("worker begins" in log) is after_method
    assert ("dependency.worker_teardown" in log) is (method_name == "worker_teardown")
    assert capsys.readouterr().err == ""


def test_an_entrypoint_that_fails_to_handle_a_result_kills_the_container(container_factory, make_service, log):
    container = container_factory(make_service(), {})
    container.start()
    (entrypoint,) = container.entrypoints
    container.spawn_worker(entrypoint, (), {}, handle_result=raising(Boom("no")))
    with pytest.raises(Boom, match="no"):
        container.wait()
    assert "dependency.worker_result" not in log


def test_a_service_that_cannot_be_made_is_the_problem_of_the_entrypoint(container_factory, calls_of):
    class Service:
        name = "service"

        def __init__(self) -> None:
            raise Boom("no")

        @trigger
        def method(self) -> None:
            pass

    container = container_factory(Service, {})
    container.start()
    calls = calls_of(container)
    calls("method")
    container._worker_pool.waitall()
    [(result, exc)] = calls.outcomes
    assert result is None
    assert isinstance(exc, Boom)
    assert container._worker_pool.free() == container.max_workers
    container.stop()


def test_a_constructor_that_blocks_holds_up_its_own_worker_alone(container_factory, calls_of):
    gates = [Event(), Event()]
    waiting = iter(gates)

    class Service:
        name = "service"

        def __init__(self) -> None:
            next(waiting).wait()

        @trigger
        def method(self, number: int) -> int:
            return number

    container = container_factory(Service, {})
    calls = calls_of(container)
    with Timeout(5):
        calls("method", 0)
        calls("method", 1)
        sleep(0)
        gates[1].send(None)
        sleep(0)
        assert calls.outcomes == [(1, None)]
        gates[0].send(None)
        container.stop()
    assert calls.outcomes == [(1, None), (0, None)]


def test_a_timeout_that_a_constructor_leaves_behind_strikes_nobody(container_factory, calls_of):
    class Service:
        name = "service"

        def __init__(self) -> None:
            self.left_behind = Timeout(0.02)

        @trigger
        def method(self) -> str:
            sleep(0.05)
            return "not struck"

    container = container_factory(Service, {})
    calls = calls_of(container)
    calls("method")
    sleep(0.05)  # nor is who asked for the worker
    container.stop()
    assert calls.outcomes == [("not struck", None)]


def test_a_service_that_is_asked_for_before_its_worker_begins_is_that_of_the_worker(container_factory):
    seen = []

    class Service:
        name = "service"

        @trigger
        def method(self) -> None:
            seen.append(self)

    container = container_factory(Service, {})
    (entrypoint,) = container.entrypoints
    early = container.spawn_worker(entrypoint, (), {})
    replaced = container.spawn_worker(entrypoint, (), {})
    service, other = early.service, Service()
    replaced.service = other
    assert seen == []
    container.stop()
    assert seen == [service, other]


def test_a_worker_that_is_killed_in_its_method_has_an_outcome(container_factory, make_service, calls_of, eventually):
    container = container_factory(make_service(Event().wait), {})
    container.start()
    calls = calls_of(container)
    context = calls("method")
    sleep(0)
    container._worker_threads[context].kill()
    assert isinstance(calls.outcomes[0][1], GreenletExit)
    container.stop()


def test_a_worker_that_is_killed_before_it_starts_is_not_lost_in_silence(container_factory, make_service, calls_of):
    container = container_factory(make_service(), {})
    container.start()
    context = calls_of(container)("method")
    container._worker_threads[context].kill()
    with pytest.raises(RuntimeError, match=r"WorkerContext \[service.method\].* was killed while service was running"):
        container.wait()
    assert container._worker_threads == {}
    assert container._worker_pool.free() == container.max_workers


def test_a_worker_may_outlive_being_killed_with_its_container(container_factory, calls_of, make_service, log):
    """GreenletExit in the method of a container that is going down is not an outcome."""
    container = container_factory(make_service(Event().wait), {})
    container.start()
    calls = calls_of(container)
    calls("method")
    sleep(0)
    container.kill()
    assert calls.outcomes == []
    assert container._worker_threads == {}
    assert "dependency.worker_result" not in log


# -- the pool


def test_no_more_than_max_workers_run_at_once(container_factory, make_service, calls_of, spawn, eventually):
    release, running = Event(), []

    def method(number: int) -> None:
        running.append(number)
        release.wait()

    container = container_factory(make_service(method), {"max_workers": 3})
    container.start()
    calls = calls_of(container)
    feeding = spawn(lambda: [calls("method", number) for number in range(5)])
    eventually(lambda: len(running) == 3)
    sleep(0.01)
    assert running == [0, 1, 2]
    assert not feeding.dead
    release.send(None)
    eventually(lambda: sorted(running) == [0, 1, 2, 3, 4])
    container.stop()


@pytest.mark.parametrize("reason", [None, (Boom, Boom("reason"), None)])
def test_one_who_waits_for_a_slot_is_told_when_the_container_is_killed(
    container_factory, make_service, calls_of, spawn, reason
):
    container = container_factory(make_service(Event().wait), {"max_workers": 1})
    container.start()
    calls = calls_of(container)
    calls("method")
    waiting = spawn(calls, "method")
    sleep(0)
    container.kill(reason)
    with pytest.raises(ContainerBeingKilled, match="service is going down"):
        waiting.wait()
    assert calls.outcomes == []
    with pytest.raises(ContainerBeingKilled):
        calls("method")


def test_a_worker_that_waited_for_a_slot_still_runs_during_a_stop(
    container_factory, make_service, calls_of, spawn, eventually
):
    release = Event()
    container = container_factory(make_service(release.wait), {"max_workers": 1})
    container.start()
    calls = calls_of(container)
    calls("method")
    waiting = spawn(calls, "method")
    stopping = spawn(container.stop)
    sleep(0.01)
    release.send(None)
    stopping.wait()
    # Either it got the slot in time, or it is told so: nothing is lost.
    try:
        waiting.wait()
        assert len(calls.outcomes) == 2
    except ContainerBeingKilled:
        assert len(calls.outcomes) == 1


def test_a_worker_that_spawns_one_in_its_own_full_pool_does_not_deadlock(container_factory, make_service, calls_of):
    everything: list[Any] = []

    def method(depth: int) -> None:
        if depth:
            everything[0]("method", depth - 1)

    container = container_factory(make_service(method), {"max_workers": 1})
    container.start()
    everything.append(calls_of(container))
    everything[0]("method", 3)
    with Timeout(5):
        container.stop()
    assert len(everything[0].outcomes) == 4


# -- observers


class Watcher:
    """A plugin that notes what it observes."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    @hookimpl
    def nameko_worker_started(self, worker_ctx: WorkerContext) -> None:
        self.seen.append(("started", worker_ctx))

    @hookimpl
    def nameko_worker_result(self, worker_ctx: WorkerContext, result: Any, exc_info: Any) -> None:
        self.seen.append(("result", result, exc_info and exc_info[0]))

    @hookimpl
    def nameko_worker_finished(self, result: Any, exc_info: Any, duration_s: float) -> None:
        self.seen.append(("finished", result, exc_info and exc_info[0], duration_s))


def test_observers_of_a_worker(make_service):
    watcher = Watcher()

    def method(fail: bool) -> str:
        sleep(0.02)
        if fail:
            raise Boom("no")
        return "result"

    container = ServiceContainer(make_service(method), {}, plugins=PluginManager.with_plugins({"watch": watcher}))
    (entrypoint,) = container.entrypoints
    for fail in (False, True):
        worker_ctx = container.spawn_worker(entrypoint, (fail,), {})
        container._worker_pool.waitall()
        result, exc_type = (None, Boom) if fail else ("result", None)
        assert watcher.seen[:2] == [("started", worker_ctx), ("result", result, exc_type)]
        assert watcher.seen[2][:3] == ("finished", result, exc_type)
        assert 0.02 <= watcher.seen[2][3] < 5
        del watcher.seen[:]
    container.stop()


def test_an_observer_that_raises_is_logged_and_changes_nothing(make_service, calls_of, caplog):
    class Broken:
        @hookimpl
        def nameko_worker_started(self, worker_ctx: WorkerContext) -> None:
            raise Boom("no")

    watcher = Watcher()
    plugins = PluginManager.with_plugins({"broken": Broken(), "watch": watcher})
    container = ServiceContainer(make_service(lambda: 1), {}, plugins=plugins)
    calls = calls_of(container)
    calls("method")
    calls("method")
    container.stop()
    assert calls.outcomes == [(1, None)] * 2
    assert [each[0] for each in watcher.seen] == ["started", "result", "finished"] * 2
    who = "plugin broken (module Broken): observer 'nameko_worker_started' failed"
    assert [message for message in caplog.messages if message.startswith(who)] == [
        f"{who} and is ignored",
        f"{who} once more and is ignored, most recently with Boom",
    ]


def test_observers_can_be_attached_for_a_while(container_factory, make_service, calls_of):
    container = container_factory(make_service(lambda: 1), {})
    seen = []
    calls = calls_of(container)
    with container.observers.attached("me", worker_result=lambda **arguments: seen.append(arguments)):
        worker_ctx = calls("method")
        container._worker_pool.waitall()
    calls("method")
    container.stop()
    assert seen == [{"worker_ctx": worker_ctx, "result": 1, "exc_info": None}]
    with (
        pytest.raises(ValueError, match="no observer hook nameko_worker_ended; there are"),
        container.observers.attached("me", worker_result=seen.append, worker_ended=seen.append),
    ):
        pass
    assert container.observers.worker_result == ()


# -- what published extensions and their tests reach into


def test_the_steps_of_a_worker_can_be_patched(container_factory, make_service, calls_of):
    container = container_factory(make_service(lambda: "result"), {})
    container.start()
    seen = []
    with (
        patch.object(container, "_worker_setup", lambda worker_ctx: seen.append("setup")),
        patch.object(container, "_worker_result", lambda worker_ctx, result, exc_info: seen.append((result, exc_info))),
        patch.object(container, "_worker_teardown", lambda worker_ctx: seen.append("teardown")),
    ):
        calls_of(container)("method")
        container._worker_pool.waitall()
    assert seen == ["setup", ("result", None), "teardown"]
    container.stop()


def test_the_pool_and_the_threads_are_there(container_factory, make_service, calls_of):
    release = Event()
    container = container_factory(make_service(release.wait), {"max_workers": 5})
    container.start()
    context = calls_of(container)("method")
    assert container._worker_pool.size == 5
    assert (container._worker_pool.running(), container._worker_pool.free()) == (1, 4)
    assert list(container._worker_threads) == [context]
    thread = container.spawn_managed_thread(Event().wait, identifier="x")
    assert container._managed_threads == {thread: "x"}
    assert not container._being_killed
    assert not container._died.ready()
    release.send(None)
    container.stop()
    assert container._died.ready()
    assert container._managed_threads == {}


def test_another_pool_can_be_put_in_place(container_factory, make_service, calls_of):
    container = container_factory(make_service(lambda: 1), {})
    container._worker_pool = GreenPool(1)
    calls = calls_of(container)
    calls("method")
    calls("method")
    container.stop()
    assert calls.outcomes == [(1, None), (1, None)]


def test_being_killed_can_be_pretended(container_factory, make_service, calls_of):
    container = container_factory(make_service(), {})
    with patch.object(container, "_being_killed", True), pytest.raises(ContainerBeingKilled):
        calls_of(container)("method")


def test_the_kill_of_a_failing_worker_can_be_intercepted(container_factory, make_service, calls_of, eventually):
    container = container_factory(make_service(dependency_worker_setup=raising(Boom("no"))), {})
    container.start()
    with patch.object(container, "kill") as kill:
        calls_of(container)("method")
        eventually(lambda: kill.called)
    ((exc_info,), _) = kill.call_args
    assert exc_info[0] is Boom
    container.stop()


# -- without monkey patching


def test_a_container_works_in_a_process_that_is_not_monkey_patched(tmp_path):
    import subprocess
    import sys

    script = tmp_path / "script.py"
    script.write_text(
        "from nameko.concurrency import is_monkey_patched, sleep\n"
        "from nameko.runners import run_services\n"
        "from nameko.testing.services import dummy, entrypoint_hook\n"
        "class Service:\n"
        "    name = 'service'\n"
        "    @dummy\n"
        "    def method(self, arg):\n"
        "        sleep(0.01)\n"
        "        return arg\n"
        "with run_services({}, Service) as runner:\n"
        "    with entrypoint_hook(runner.containers[0], 'method') as call:\n"
        "        print(call(5), is_monkey_patched())\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("5 False\n", "", 0)


def test_a_worker_thread_is_what_runs_the_method(container_factory, make_service, calls_of):
    seen = []

    def method() -> None:
        thread = concurrency.current()
        seen.append((type(thread), thread.label))

    container = container_factory(make_service(method), {})
    context = calls_of(container)("method")
    container.stop()
    assert seen == [(concurrency.WorkerThread, context)]


# -- a worker for a caller that waits for it


def test_run_worker_is_done_when_it_returns(container_factory, make_service, log):
    container = container_factory(make_service(lambda: sleep(0.01) or "result"), {})
    container.start()
    (entrypoint,) = container.entrypoints
    outcomes = []
    worker_ctx = container.run_worker(
        entrypoint, (), {}, {"key": "value"}, lambda *outcome: outcomes.append(outcome) or outcome[1:]
    )
    assert outcomes == [(worker_ctx, "result", None)]
    assert worker_ctx.data == {"key": "value"}
    assert container._worker_threads == {}
    assert container._worker_pool.free() == container.max_workers
    container.stop()


def test_run_worker_does_not_wait_for_what_follows_the_result(container_factory, make_service, log, eventually):
    go_on = Event()
    container = container_factory(make_service(dependency_worker_teardown=go_on.wait), {})
    container.start()
    (entrypoint,) = container.entrypoints
    outcomes = []
    context = container.run_worker(
        entrypoint, (), {}, handle_result=lambda *outcome: outcomes.append(outcome) or outcome[1:]
    )
    assert len(outcomes) == 1
    assert list(container._worker_threads) == [context]
    sleep(0.01)  # the end of the worker must not disturb this
    go_on.send(None)
    started_at = time.monotonic()
    sleep(0.05)
    assert time.monotonic() - started_at >= 0.05
    assert container._worker_threads == {}
    container.stop()


def test_run_worker_keeps_to_max_workers(container_factory, make_service, calls_of, eventually):
    go_on = Event()
    container = container_factory(make_service(go_on.wait), {"max_workers": 1})
    container.start()
    (entrypoint,) = container.entrypoints
    callers = [concurrency.spawn_task(container.run_worker, entrypoint, (), {}) for _ in range(3)]
    eventually(lambda: container._worker_pool.waiting() == 2)
    assert len(container._worker_threads) == 1
    go_on.send(None)
    concurrency.join_all(callers)
    container.stop()


def test_run_worker_ends_when_the_container_is_killed(container_factory, make_service, eventually):
    container = container_factory(make_service(Event().wait), {"max_workers": 1})
    container.start()
    (entrypoint,) = container.entrypoints
    outcomes = []
    running, waiting = (
        concurrency.spawn_task(container.run_worker, entrypoint, (), {}, None, lambda *args: outcomes.append(args))
        for _ in range(2)
    )
    eventually(lambda: container._worker_pool.waiting() == 1)
    container.kill()
    running.wait()
    with pytest.raises(ContainerBeingKilled):
        waiting.wait()
    assert outcomes == []
    with pytest.raises(ContainerBeingKilled):
        container.run_worker(entrypoint, (), {})


def test_a_worker_outlives_the_one_who_ran_it(container_factory, make_service, eventually):
    go_on, ended = Event(), []
    container = container_factory(make_service(lambda: (go_on.wait(), ended.append(1))), {})
    container.start()
    (entrypoint,) = container.entrypoints
    caller = concurrency.spawn_task(container.run_worker, entrypoint, (), {})
    eventually(lambda: container._worker_threads)
    caller.kill()
    assert len(container._worker_threads) == 1
    go_on.send(None)
    container.stop()
    assert ended == [1]


def test_run_worker_in_a_worker_of_a_full_pool(container_factory, make_service, log):
    results = []

    def method(depth: int) -> int:
        if depth:
            container.run_worker(entrypoint, (depth - 1,), {}, None, lambda ctx, *outcome: outcome)
        results.append(depth)

    container = container_factory(make_service(method), {"max_workers": 1})
    (entrypoint,) = container.entrypoints
    container.start()
    container.run_worker(entrypoint, (2,), {})
    assert results == [0, 1, 2]
    container.stop()


def test_a_container_class_that_overrides_spawn_worker_is_asked(make_service):
    class Counting(ServiceContainer):
        spawned = 0

        def spawn_worker(self, entrypoint, args, kwargs, context_data=None, handle_result=None):
            self.spawned += 1
            return super().spawn_worker(entrypoint, args, kwargs, context_data, handle_result)

    container = Counting(make_service(lambda: 1), {})
    container.start()
    (entrypoint,) = container.entrypoints
    container.run_worker(entrypoint, (), {})
    container._worker_pool.waitall()
    assert container.spawned == 1
    container.stop()


def test_a_pool_of_another_kind_runs_workers_too(container_factory, make_service, log):
    container = container_factory(make_service(lambda: 1), {})
    container._worker_pool = GreenPool(1)
    (entrypoint,) = container.entrypoints
    outcome = Event()
    container.run_worker(entrypoint, (), {}, None, lambda ctx, *result: outcome.send(result[0]) or result)
    assert outcome.wait() == 1
    container.stop()
