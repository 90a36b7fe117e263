"""nameko.testing.services."""

from __future__ import annotations

import time
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest

from nameko import concurrency
from nameko.concurrency import Event, sleep
from nameko.exceptions import ContainerBeingKilled, ExtensionNotFound
from nameko.extensions import DependencyProvider, Entrypoint, Extension, SharedExtension
from nameko.testing.services import (
    MockDependencyProvider,
    Once,
    dummy,
    entrypoint_hook,
    entrypoint_waiter,
    once,
    replace_dependencies,
    restrict_entrypoints,
    worker_factory,
)
from nameko.testing.utils import get_extension
from nameko.testing.waiting import WaitResult


class Boom(Exception):
    pass


class Connection(SharedExtension):
    """Used by two dependencies."""


class Private(Extension):
    """Used by one dependency."""


class First(DependencyProvider):
    connection = Connection()
    private = Private()

    def get_dependency(self, worker_ctx: Any) -> str:
        return "first"


class Second(DependencyProvider):
    connection = Connection()

    def get_dependency(self, worker_ctx: Any) -> str:
        return "second"


class Listener(Extension):
    """Used by one entrypoint."""


class Listening(Entrypoint):
    listener = Listener()


class Service:
    name = "service"

    first = First()
    second = Second()

    @dummy
    def method(self, arg: Any = None, wait: Any = None) -> Any:
        if wait is not None:
            wait.wait()
        return arg, self.first, self.second

    @Listening.decorator
    def listen(self) -> Any:
        return self.first

    @dummy
    def fail(self, exc: BaseException) -> None:
        raise exc


@pytest.fixture
def container(container_factory):
    return container_factory(Service, {})


def trigger(container: Any, method_name: str, *args: Any, **options: Any) -> Any:
    entrypoint = get_extension(container, Entrypoint, method_name=method_name)
    return container.spawn_worker(entrypoint, args, {}, **options)


# -- entrypoint_hook


def test_a_hook_calls_the_method_with_its_dependencies(container):
    container.start()
    with entrypoint_hook(container, "method") as call:
        assert call(1) == (1, "first", "second")
        assert call(arg=2) == (2, "first", "second")


def test_a_hook_raises_what_the_method_raises(container):
    container.start()
    with entrypoint_hook(container, "fail") as call:
        for exc in (Boom("no"), SystemExit(3)):
            with pytest.raises(type(exc)):
                call(exc)
        with pytest.raises(TypeError, match="required positional argument"):
            call()


def test_a_hook_returns_after_the_teardown(container_factory):
    log = []

    class Slow(DependencyProvider):
        def worker_teardown(self, worker_ctx: Any) -> None:
            sleep(0.01)
            log.append("teardown")

    class Torn(Service):
        slow = Slow()

    container = container_factory(Torn, {})
    container.start()
    with entrypoint_hook(container, "method") as call:
        call()
        assert log == ["teardown"]


def test_a_hook_passes_context_data(container_factory):
    seen = []

    class Watch(DependencyProvider):
        def worker_setup(self, worker_ctx: Any) -> None:
            seen.append((worker_ctx.data, worker_ctx.call_id_stack[:-1]))

    class Watched(Service):
        watch = Watch()

    container = container_factory(Watched, {})
    container.start()
    with entrypoint_hook(container, "method", context_data={"user_id": 1, "call_id_stack": ["a"]}) as call:
        call()
    assert seen == [({"user_id": 1}, ["a"])]


def test_a_hook_has_a_timeout(container):
    container.start()
    with (
        entrypoint_hook(container, "method", timeout=0.02) as call,
        pytest.raises(entrypoint_waiter.Timeout, match=r"Timeout on service\.method after 0\.02 seconds"),
    ):
        call(wait=Event())
    container.kill()


def test_a_hook_does_not_fire_the_entrypoints_own_result_handler(container_factory):
    class Replying(Entrypoint):
        def handle_result(self, *args: Any) -> Any:
            raise AssertionError("must not be called")

    class Replier:
        name = "replier"

        @Replying.decorator
        def method(self) -> int:
            return 5

    container = container_factory(Replier, {})
    container.start()
    with entrypoint_hook(container, "method") as call:
        assert call() == 5


def test_hooks_can_be_called_at_the_same_time(container, spawn):
    container.start()
    before = container.observers.worker_finished
    with entrypoint_hook(container, "method") as call:
        go = Event()
        calls = [spawn(call, number, go) for number in range(5)]
        sleep(0)
        go.send(None)
        assert [each.wait()[0] for each in calls] == [0, 1, 2, 3, 4]
    assert container.observers.worker_finished == before


def test_a_hook_for_an_unknown_method(container):
    with (
        pytest.raises(ExtensionNotFound, match="No entrypoint for 'missing' found on container 'service'"),
        entrypoint_hook(container, "missing"),
    ):
        pass


@pytest.mark.parametrize("step", ["get_dependency", "worker_setup", "worker_result", "worker_teardown"])
def test_a_hook_raises_what_kills_the_container(container_factory, step):
    def fail(*args: Any) -> None:
        raise Boom("no")

    class Failing(Service):
        broken = type("Broken", (DependencyProvider,), {step: fail})()

    container = container_factory(Failing, {})
    container.start()
    with entrypoint_hook(container, "method") as call, pytest.raises(Boom, match="no"):
        call()


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_hook_does_not_wait_for_a_container_that_is_gone(container_factory, spawn, end):
    container = container_factory(Service, {"SHUTDOWN_TIMEOUT": 0})
    container.start()
    with entrypoint_hook(container, "method") as call:
        calling = spawn(call, 1, Event())
        sleep(0)
        getattr(container, end)()
        with pytest.raises(ContainerBeingKilled):
            calling.wait()
        with pytest.raises(ContainerBeingKilled):
            call(1)


# -- entrypoint_waiter


def test_a_waiter_waits_for_a_call(container):
    container.start()
    with entrypoint_waiter(container, "method") as result:
        assert isinstance(result, WaitResult)
        concurrency.spawn_after(0.01, trigger, container, "method", 7)
        with pytest.raises(WaitResult.NotReady):
            result.get()
    assert result.get() == (7, "first", "second")


def test_a_waiter_waits_for_the_end_of_the_worker(container_factory):
    log = []

    class Slow(DependencyProvider):
        def worker_teardown(self, worker_ctx: Any) -> None:
            sleep(0.01)
            log.append("teardown")

    class Torn(Service):
        slow = Slow()

    container = container_factory(Torn, {})
    container.start()
    with entrypoint_waiter(container, "method"):
        trigger(container, "method")
    assert log == ["teardown"]


def test_a_waiter_keeps_the_exception(container):
    container.start()
    with entrypoint_waiter(container, "fail") as result:
        trigger(container, "fail", Boom("no"))
    with pytest.raises(Boom, match="no"):
        result.get()
    with pytest.raises(Boom, match="no"):
        result.get()


def test_a_waiter_sees_the_result_as_the_entrypoint_has_replaced_it(container):
    container.start()
    with entrypoint_waiter(container, "method") as result:
        trigger(container, "method", handle_result=lambda *_: ("replaced", None))
    assert result.get() == "replaced"


def test_a_waiter_takes_no_notice_of_other_methods(container):
    container.start()
    with entrypoint_waiter(container, "method") as result:
        trigger(container, "listen")
        trigger(container, "method", 1)
    assert result.get()[0] == 1


def test_the_callback_of_a_waiter_chooses(container):
    container.start()
    seen = []

    def callback(worker_ctx: Any, result: Any, exc_info: Any) -> bool:
        seen.append((worker_ctx.args, result[0], exc_info))
        return len(seen) == 2

    with entrypoint_waiter(container, "method", callback=callback) as result:
        for number in range(4):
            trigger(container, "method", number)
            container._worker_pool.waitall()
    assert seen == [((0,), 0, None), ((1,), 1, None)]
    assert result.get()[0] == 1


def test_the_callback_of_a_waiter_sees_exceptions(container):
    container.start()
    with entrypoint_waiter(container, "fail", callback=lambda ctx, result, exc_info: exc_info[0] is Boom) as result:
        trigger(container, "fail", ValueError())
        trigger(container, "fail", Boom("no"))
    with pytest.raises(Boom):
        result.get()


def test_a_callback_that_raises_ends_the_wait_and_nothing_else(container):
    container.start()

    def callback(*_: Any) -> bool:
        raise Boom("in the callback")

    with pytest.raises(Boom, match="in the callback"), entrypoint_waiter(container, "method", callback=callback):
        trigger(container, "method")
    container.stop()
    container.wait()


def test_a_waiter_has_a_timeout(container):
    container.start()
    started_at = time.monotonic()
    with (
        pytest.raises(entrypoint_waiter.Timeout, match=r"^Timeout on service\.method after 0\.05 seconds$"),
        entrypoint_waiter(container, "method", timeout=0.05),
    ):
        pass
    assert 0.05 <= time.monotonic() - started_at < 2


def test_the_timeout_of_a_waiter_holds_for_the_block_as_well(container):
    with pytest.raises(entrypoint_waiter.Timeout), entrypoint_waiter(container, "method", timeout=0.02):
        sleep(5)


def test_a_waiter_whose_block_raises_does_not_wait(container):
    with pytest.raises(Boom), entrypoint_waiter(container, "method"):
        raise Boom


def test_a_waiter_for_an_unknown_method(container):
    with pytest.raises(ExtensionNotFound, match="'missing'"), entrypoint_waiter(container, "missing"):
        pass


def test_a_waiter_does_not_outlive_the_container(container):
    container.start()
    with pytest.raises(Boom, match="reason"), entrypoint_waiter(container, "method"):
        container.kill((Boom, Boom("reason"), None))


def test_a_waiter_leaves_no_trace(container):
    def observers():
        found = container.observers
        return found.worker_result, found.worker_finished, found.container_killed

    before = observers()  # of plugins that happen to be installed
    with pytest.raises(Boom), entrypoint_waiter(container, "method"):
        raise Boom
    assert observers() == before


# -- worker_factory


def test_a_worker_has_mocks_for_dependencies():
    service = worker_factory(Service)
    assert isinstance(service.first, MagicMock)
    service.first.spam.return_value = 5
    assert service.listen().spam() == 5
    assert service.second is not service.first


def test_a_worker_takes_dependencies():
    service = worker_factory(Service, first=1, second=None)
    assert service.method(0) == (0, 1, None)


def test_a_worker_does_not_take_unknown_dependencies():
    with pytest.raises(ExtensionNotFound, match=r"DependencyProvider\(s\) 'third, fourth' not found"):
        worker_factory(Service, first=1, third=3, fourth=4)


# -- replace_dependencies


def test_one_dependency_can_be_replaced(container):
    mock = replace_dependencies(container, "first")
    container.start()
    with entrypoint_hook(container, "method") as call:
        assert call() == (None, mock, "second")
    assert isinstance(mock, MagicMock)
    assert get_extension(container, First) is None
    assert get_extension(container, MockDependencyProvider).attr_name == "first"


def test_several_dependencies_can_be_replaced(container):
    second, first = replace_dependencies(container, "second", "first")
    container.start()
    with entrypoint_hook(container, "method") as call:
        assert call() == (None, first, second)


def test_dependencies_can_be_replaced_by_given_objects(container):
    mocks = replace_dependencies(container, first=1, second=None)
    assert list(mocks) == []
    container.start()
    with entrypoint_hook(container, "method") as call:
        service_first, service_second = call()[1:]
    assert service_first == 1
    assert isinstance(service_second, MagicMock) or service_second is None


def test_names_and_objects_can_be_mixed(container):
    mock = replace_dependencies(container, "first", second=2)
    container.start()
    with entrypoint_hook(container, "method") as call:
        assert call() == (None, mock, 2)


def test_what_only_a_replaced_dependency_uses_is_dropped(container):
    replace_dependencies(container, "first")
    assert get_extension(container, Private) is None
    assert get_extension(container, Connection) is not None
    replace_dependencies(container, "second")
    assert get_extension(container, Connection) is None
    assert container.shared_extensions == {}
    container.start()


def test_unknown_dependencies_are_not_replaced(container):
    with pytest.raises(ExtensionNotFound, match=r"Dependency\(s\) 'third, fourth' not found on container 'service'"):
        replace_dependencies(container, "first", "third", fourth=4)
    assert get_extension(container, First) is not None


def test_dependencies_are_replaced_before_the_start(container):
    container.start()
    with pytest.raises(RuntimeError, match="before the container is started"):
        replace_dependencies(container, "first")


# -- restrict_entrypoints


def test_entrypoints_can_be_restricted(container):
    restrict_entrypoints(container, "method", "fail")
    assert {each.method_name for each in container.entrypoints} == {"method", "fail"}
    assert get_extension(container, Listener) is None
    container.start()
    with entrypoint_hook(container, "method") as call:
        assert call(1)[0] == 1


def test_all_entrypoints_can_be_removed(container):
    restrict_entrypoints(container)
    assert container.entrypoints == set()


def test_unknown_entrypoints_cannot_be_chosen(container):
    with pytest.raises(ExtensionNotFound, match=r"Entrypoint\(s\) 'missing' not found on container 'service'"):
        restrict_entrypoints(container, "method", "missing")


def test_entrypoints_are_restricted_before_the_start(container):
    container.start()
    with pytest.raises(RuntimeError, match="before the container is started"):
        restrict_entrypoints(container, "method")


# -- once, dummy


def test_once_runs_at_the_start(container_factory):
    tracker = Mock()

    class Starter:
        name = "starter"

        @once
        def bare(self) -> None:
            tracker("bare")

        @once(1, b=2, expected_exceptions=Boom, sensitive_arguments="b")
        def configured(self, a: int, b: int) -> None:
            tracker(a, b=b)
            raise Boom

    container = container_factory(Starter, {})
    configured = get_extension(container, Once, method_name="configured")
    assert configured.expected_exceptions is Boom
    assert configured.sensitive_arguments == "b"
    with entrypoint_waiter(container, "bare"), entrypoint_waiter(container, "configured"):
        container.start()
    container.stop()
    assert sorted(map(str, tracker.mock_calls)) == ["call('bare')", "call(1, b=2)"]


def test_dummy_declares_an_entrypoint_that_nothing_triggers(container):
    container.start()
    container.stop()
    assert type(get_extension(container, Entrypoint, method_name="method")) is Entrypoint


def test_public_names_are_functions_of_the_kit():
    assert entrypoint_waiter.Timeout.__name__ == "EntrypointWaiterTimeout"
    assert entrypoint_waiter.Timeout.__module__ == "nameko.testing.services"
