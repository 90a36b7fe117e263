"""nameko.testing.utils and nameko.testing.waiting."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any
from unittest.mock import Mock, call

import pytest

from nameko import concurrency
from nameko.concurrency import Event, Timeout, sleep
from nameko.extensions import DependencyProvider, Entrypoint
from nameko.testing import utils, waiting
from nameko.testing.services import dummy
from nameko.testing.utils import (
    ANY_PARTIAL,
    AnyInstanceOf,
    DummyProvider,
    ResourcePipeline,
    assert_stops_raising,
    find_free_port,
    get_container,
    get_extension,
    unpack_mock_call,
    wait_for_call,
    wait_for_worker_idle,
)
from nameko.testing.waiting import WaitResult


class Boom(Exception):
    pass


class Service:
    name = "service"
    dependency = DependencyProvider()

    @dummy
    def method(self) -> None:
        pass

    @dummy
    def other(self) -> None:
        pass


class Other:
    name = "other"


def test_get_extension(container_factory):
    container = container_factory(Service, {})
    (dependency,) = container.dependencies
    assert get_extension(container, DependencyProvider) is dependency
    assert get_extension(container, Entrypoint, method_name="other").method_name == "other"
    assert get_extension(container, Entrypoint, method_name="missing") is None
    assert get_extension(container, Entrypoint, no_such_attribute=None) is None
    assert get_extension(container, DummyProvider) is None


def test_get_container(runner_factory):
    runner = runner_factory({}, Service)
    assert get_container(runner, Service) is runner.containers[0]
    assert get_container(runner, Other) is None


def test_wait_for_a_call_of_a_mock():
    mock = Mock()
    concurrency.spawn_after(0.01, mock)
    with wait_for_call(5, mock) as yielded:
        assert yielded is mock
        assert not mock.called
    assert mock.called
    with pytest.raises(Timeout), wait_for_call(0.02, Mock()):
        pass


def test_wait_for_worker_idle(container_factory):
    container = container_factory(Service, {})
    container.start()
    context = container.spawn_worker(get_extension(container, Entrypoint, method_name="method"), (), {})
    with pytest.warns(DeprecationWarning, match="entrypoint_waiter"):
        wait_for_worker_idle(container)
    assert context not in container._worker_threads


def test_assert_stops_raising():
    outcomes = iter([Boom("no"), Boom("no"), None])

    def fn() -> None:
        outcome = next(outcomes)
        if outcome:
            raise outcome

    assert_stops_raising(fn, interval=0)
    fails = Mock(side_effect=Boom("no"))
    with pytest.raises(Boom):
        assert_stops_raising(fails, timeout=0.02, interval=0.005)
    assert fails.call_count > 1
    fails.reset_mock()
    with pytest.raises(Boom):
        assert_stops_raising(fails, exception_type=ValueError)
    assert fails.call_count == 1


def test_any_instance_of():
    mock = Mock()
    mock(5, key="x")
    assert mock.mock_calls == [call(AnyInstanceOf(int), key=AnyInstanceOf(str))]
    assert AnyInstanceOf(int) != "5"
    assert AnyInstanceOf(int) == 5
    assert repr(AnyInstanceOf(int)) == "<AnyInstanceOf int>"
    assert partial(print) == ANY_PARTIAL
    assert print != ANY_PARTIAL


def test_dummy_provider(mock_container):
    assert DummyProvider().method_name is None
    assert DummyProvider("method").method_name == "method"
    assert DummyProvider("x").bind(mock_container, "method").method_name == "method"


def test_unpack_mock_call():
    mock = Mock()
    mock(1, a=2)
    mock.method(3)
    assert unpack_mock_call(mock.call_args) == ((1,), {"a": 2})
    positional, keyword = unpack_mock_call(mock.mock_calls[1])
    assert (positional, keyword) == ((3,), {})
    assert unpack_mock_call(call(1)).positional == (1,)


def test_find_free_port():
    port = find_free_port()
    with concurrency.socket.socket() as sock:
        sock.bind(("127.0.0.1", port))
    assert 0 < find_free_port("localhost") < 65536


def test_what_belongs_to_amqp_is_found_there():
    from nameko.testing import rabbit

    assert utils.get_rabbit_connections is rabbit.get_rabbit_connections
    assert utils.reset_rabbit_connections is rabbit.reset_rabbit_connections
    with pytest.raises(AttributeError, match=r"nameko\.testing\.utils.*no_such_name"):
        utils.no_such_name  # noqa: B018


# -- ResourcePipeline


class Resources:
    def __init__(self) -> None:
        self.made: list[int] = []
        self.destroyed: list[int] = []
        self.exc: Exception | None = None

    def create(self) -> int:
        if self.exc is not None:
            raise self.exc
        self.made.append(len(self.made))
        return self.made[-1]

    def destroy(self, resource: int) -> None:
        self.destroyed.append(resource)


def test_a_pipeline_makes_resources_ahead_and_destroys_all():
    resources = Resources()
    with ResourcePipeline(resources.create, resources.destroy, size=3).run() as pipeline:
        sleep(0)
        assert resources.made == [0, 1, 2]
        with pipeline.get() as first, pipeline.get() as second:
            assert (first, second) == (0, 1)
            sleep(0)
            assert resources.made == [0, 1, 2, 3, 4]
            assert resources.destroyed == []
        sleep(0)
        assert sorted(resources.destroyed) == [0, 1]
    assert sorted(resources.destroyed) == resources.made


def test_a_pipeline_destroys_also_when_its_block_raises():
    resources = Resources()
    pipeline = ResourcePipeline(resources.create, resources.destroy)
    with pytest.raises(Boom), pipeline.run(), pipeline.get():
        raise Boom
    assert sorted(resources.destroyed) == resources.made


def test_a_pipeline_that_is_slow_to_create_loses_nothing():
    resources = Resources()

    def create() -> int:
        sleep(0.02)
        return resources.create()

    with ResourcePipeline(create, resources.destroy).run():
        sleep(0)
    assert sorted(resources.destroyed) == resources.made
    assert len(resources.made) == 1


def test_the_failure_to_create_is_raised_to_who_needs_it():
    resources = Resources()
    resources.exc = Boom("no")
    with ResourcePipeline(resources.create, resources.destroy, size=1).run() as pipeline:
        with pytest.raises(Boom, match="no"), pipeline.get():
            pass
        resources.exc = None
        with pipeline.get() as resource:
            assert resource == 0
    assert sorted(resources.destroyed) == resources.made


def test_the_failure_to_destroy_is_raised_at_the_end():
    destroyed = []

    def destroy(resource: int) -> None:
        destroyed.append(resource)
        raise Boom(str(resource))

    resources = Resources()
    with pytest.raises(Boom), ResourcePipeline(resources.create, destroy).run() as pipeline, pipeline.get():
        pass
    assert sorted(destroyed) == resources.made


def test_a_pipeline_has_a_size():
    with pytest.raises(ValueError, match="size must be at least 1, not 0"):
        ResourcePipeline(Resources().create, size=0)


# -- WaitResult, waiting.wait_for_call


def test_a_wait_result():
    result = WaitResult()
    assert not result.has_result
    with pytest.raises(result.NotReady):
        result.get()
    result.send(1, None)
    result.send(2, None)
    assert result.has_result
    assert result.get() == result.get() == 1
    failed = WaitResult()
    failed.send(None, (Boom, Boom("no"), None))
    with pytest.raises(Boom, match="no"):
        failed.get()


class Target:
    def method(self, *args: Any, **kwargs: Any) -> Any:
        if args == ("fail",):
            raise Boom("no")
        return self, args, kwargs

    @classmethod
    def on_class(cls, arg: int) -> tuple[Any, int]:
        return cls, arg

    @staticmethod
    def static(arg: int) -> int:
        return arg


def test_waiting_for_a_call_of_a_method():
    target = Target()
    with waiting.wait_for_call(target, "method") as result:
        concurrency.spawn_after(0.01, target.method, 1, a=2)
        assert not result.has_result
    assert result.get() == (target, (1,), {"a": 2})
    assert "method" not in vars(target)


def test_a_call_in_the_block_counts():
    target = Target()
    with waiting.wait_for_call(target, "method") as result:
        assert target.method(1) == (target, (1,), {})
        target.method(2)
    assert result.get() == (target, (1,), {})


def test_waiting_for_a_call_on_any_instance():
    target = Target()
    with waiting.wait_for_call(Target, "method") as result:
        target.method(1)
    assert result.get() == (target, (1,), {})


@pytest.mark.parametrize(("name", "expected"), [("on_class", (Target, 5)), ("static", 5)])
def test_waiting_for_a_call_of_a_method_of_the_class(name, expected):
    with waiting.wait_for_call(Target, name) as result:
        assert getattr(Target(), name)(5) == expected
    assert result.get() == expected


def test_an_exception_goes_to_the_caller_and_into_the_result():
    target = Target()
    with waiting.wait_for_call(target, "method") as result, pytest.raises(Boom):
        target.method("fail")
    with pytest.raises(Boom):
        result.get()


def test_the_callback_chooses_among_the_calls():
    target = Target()
    seen = []

    def callback(args: Any, kwargs: Any, result: Any, exc_info: Any) -> bool:
        seen.append((args, kwargs, result and result[1], exc_info and exc_info[0]))
        return args == (2,)

    with waiting.wait_for_call(target, "method", callback=callback) as result:
        with pytest.raises(Boom):
            target.method("fail")
        target.method(1, a=1)
        target.method(2)
        target.method(3)
    assert seen == [(("fail",), {}, None, Boom), ((1,), {"a": 1}, (1,), None), ((2,), {}, (2,), None)]
    assert result.get()[1] == (2,)


def test_a_callback_that_raises_ends_the_wait_and_not_the_call():
    target = Target()
    callback = Mock(side_effect=ValueError("callback"))
    with (
        pytest.raises(ValueError, match="callback"),
        waiting.wait_for_call(target, "method", callback=callback),
    ):
        assert target.method(1)[1] == (1,)


def test_the_wait_can_be_limited_from_outside():
    with pytest.raises(Timeout), Timeout(0.02), waiting.wait_for_call(Target(), "method"):
        pass


def test_a_block_that_raises_does_not_wait():
    target = Target()
    with pytest.raises(Boom), waiting.wait_for_call(target, "method"):
        raise Boom
    assert "method" not in vars(target)


def test_a_killed_call_does_not_keep_the_wait(spawn, eventually):
    class Blocking:
        def method(self) -> None:
            Event().wait()

    target = Blocking()
    with waiting.wait_for_call(target, "method") as result:
        thread = spawn(target.method)
        sleep(0)
        thread.kill()
    with pytest.raises(concurrency.GreenletExit):
        result.get()
    assert sys.exc_info() == (None, None, None)
