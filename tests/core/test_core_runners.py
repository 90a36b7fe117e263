"""Several services in one process."""

from __future__ import annotations

from typing import Any

import pytest

from nameko import config as global_config
from nameko.concurrency import Event, GreenletExit, Timeout, sleep
from nameko.containers import ServiceContainer
from nameko.extensions import DependencyProvider
from nameko.runners import ServiceRunner, run_services
from nameko.testing.services import dummy, entrypoint_hook


class Boom(Exception):
    pass


class Mark(DependencyProvider):
    """Notes what happens to it; a failure can be put into each step."""

    failing: dict[str, BaseException | Any] = {}  # noqa: RUF012
    log: list[str] = []  # noqa: RUF012

    def _note(self, step: str) -> None:
        name = f"{self.container.service_name}.{step}"
        self.log.append(name)
        failure = self.failing.get(name)
        if isinstance(failure, BaseException):
            raise failure
        if failure is not None:
            failure.wait()

    def setup(self) -> None:
        self._note("setup")

    def start(self) -> None:
        self._note("start")

    def stop(self) -> None:
        self._note("stop")

    def kill(self) -> None:
        self._note("kill")


@pytest.fixture(autouse=True)
def _fresh_marks() -> None:
    Mark.log.clear()
    Mark.failing.clear()


class One:
    name = "one"
    mark = Mark()

    @dummy
    def method(self) -> str:
        return "one"


class Two:
    name = "two"
    mark = Mark()


def test_a_runner_knows_its_services():
    runner = ServiceRunner({})
    runner.add_service(One)
    runner.add_service(Two)
    assert runner.service_names == ["one", "two"]
    assert list(runner.service_map) == ["one", "two"]
    assert [each.service_cls for each in runner.containers] == [One, Two]
    assert runner.container_cls is ServiceContainer


def test_a_service_of_the_same_name_is_replaced():
    class Other:
        name = "one"

    runner = ServiceRunner({})
    runner.add_service(One)
    runner.add_service(Other)
    assert [each.service_cls for each in runner.containers] == [Other]


def test_all_start_and_stop(runner_factory, caplog):
    caplog.set_level("INFO")
    runner = runner_factory({}, One, Two)
    runner.start()
    assert all(each.started for each in runner.containers)
    runner.stop()
    runner.wait()
    assert sorted(Mark.log) == ["one.setup", "one.start", "one.stop", "two.setup", "two.start", "two.stop"]
    messages = [each.getMessage() for each in caplog.records if each.name == "nameko.runners"]
    assert messages == ["starting services: one, two", "stopping services: one, two"]


def test_all_are_killed(runner_factory):
    runner = runner_factory({}, One, Two)
    runner.start()
    runner.kill()
    runner.wait()
    assert {"one.kill", "two.kill"} <= set(Mark.log)
    assert not {"one.stop", "two.stop"} & set(Mark.log)


def test_when_one_does_not_start_none_stays(runner_factory):
    Mark.failing["two.setup"] = Boom("no")
    Mark.failing["one.setup"] = Event()
    runner = runner_factory({}, One, Two)
    with pytest.raises(Boom, match="no"):
        runner.start()
    assert {"one.kill", "two.kill"} <= set(Mark.log)
    assert not any(each.started for each in runner.containers)


def test_when_one_does_not_start_the_error_alone_is_seen(runner_factory, caplog):
    caplog.set_level("INFO")
    runner = runner_factory({}, One, Two)
    one = runner.service_map["one"]

    class Failing:
        def wait(self) -> None:
            one.spawn_managed_thread(Event().wait, identifier="lasting")
            while one.not_ready_reasons():
                sleep(0)
            raise Boom("no")

    Mark.failing["two.start"] = Failing()
    with pytest.raises(Boom, match="no"):
        runner.start()
    assert not one.started
    assert caplog.messages == ["starting services: one, two"]


def test_when_one_fails_the_others_are_stopped(runner_factory, spawn):
    runner = runner_factory({}, One, Two)
    runner.start()
    waiting = spawn(runner.wait)
    sleep(0)
    runner.service_map["one"].spawn_managed_thread(_raise)
    with pytest.raises(Boom):
        waiting.wait()
    assert "two.stop" in Mark.log
    assert "two.kill" not in Mark.log


def _raise() -> None:
    raise Boom("no")


@pytest.mark.parametrize("reason", [SystemExit(3), GreenletExit(), Timeout()])
def test_a_container_may_have_died_of_anything(runner_factory, reason):
    runner = runner_factory({}, One, Two)
    runner.start()
    runner.service_map["one"].kill((type(reason), reason, None))
    with Timeout(5, Boom("hangs")), pytest.raises(type(reason)):
        runner.wait()
    assert "two.stop" in Mark.log


def test_interrupting_the_wait_does_not_stop_the_services(runner_factory):
    runner = runner_factory({}, One, Two)
    runner.start()
    with pytest.raises(Timeout), Timeout(0.02):
        runner.wait()
    assert all(each.started for each in runner.containers)


def test_wait_ends_when_all_have_stopped(runner_factory, spawn, eventually):
    runner = runner_factory({}, One, Two)
    runner.start()
    waiting = spawn(runner.wait)
    runner.service_map["one"].stop()
    sleep(0.01)
    assert not waiting.dead
    runner.service_map["two"].stop()
    eventually(lambda: waiting.dead)


def test_the_container_class_comes_from_the_configuration(runner_factory, monkeypatch):
    class Special(ServiceContainer):
        pass

    monkeypatch.setattr("nameko.runners.Special", Special, raising=False)
    runner = runner_factory({"SERVICE_CONTAINER_CLS": "nameko.runners.Special"}, One)
    assert type(runner.containers[0]) is Special


def test_run_services():
    with run_services({"key": 1}, One, Two) as runner:
        assert runner.service_names == ["one", "two"]
        assert runner.containers[0].config == {"key": 1}
        with entrypoint_hook(runner.containers[0], "method") as call:
            assert call() == "one"
    assert {"one.stop", "two.stop"} <= set(Mark.log)
    assert not {"one.kill", "two.kill"} & set(Mark.log)


def test_run_services_with_the_process_wide_configuration():
    with global_config.patch({"key": 2}), run_services(One) as runner:
        assert runner.containers[0].config["key"] == 2


def test_run_services_can_kill_at_the_end():
    with run_services({}, One, kill_on_exit=True):
        pass
    assert "one.kill" in Mark.log
    assert "one.stop" not in Mark.log


def test_when_the_block_raises_the_services_are_killed():
    with pytest.raises(Boom), run_services({}, One):
        raise Boom("no")
    assert "one.kill" in Mark.log
    assert "one.stop" not in Mark.log


def test_when_a_service_does_not_start_the_block_is_not_entered():
    Mark.failing["two.start"] = Boom("no")
    entered = []
    with pytest.raises(Boom), run_services({}, One, Two):
        entered.append(1)
    assert entered == []
    assert {"one.kill", "two.kill"} <= set(Mark.log)
