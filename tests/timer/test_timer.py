"""@timer: when it ticks, and that nothing stops it but the end of the service."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nameko.concurrency import Event, GreenletExit, Timeout, sleep, spawn_task
from nameko.exceptions import ConfigurationError
from nameko.extensions import DependencyProvider
from nameko.plugins import PluginManager
from nameko.testing.services import dummy, entrypoint_hook
from nameko.testing.utils import get_extension
from nameko.timer import Timer, timer
from nameko.timer._schedule import Schedule

INTERVAL_S = 0.02


class Boom(Exception):
    pass


def make_service(method: Callable[[], Any], interval: float = INTERVAL_S, **options: Any) -> type:
    class Service:
        name = "service"

        @timer(interval, **options)
        def tick(self) -> None:
            method()

        @dummy
        def other(self) -> str:
            return "other"

    return Service


@pytest.fixture
def ticks() -> list[float]:
    """When there was a tick, in seconds since the start of the test."""
    return []


@pytest.fixture
def note(ticks) -> Callable[[], None]:
    """The method of a timer that puts the time into `ticks`."""
    started_at = time.monotonic()
    return lambda: ticks.append(time.monotonic() - started_at)


# -- when it ticks


def test_it_ticks_every_interval(container_factory, ticks, note, eventually):
    container = container_factory(make_service(note, 0.05), {})
    started_at = time.monotonic()
    container.start()
    eventually(lambda: len(ticks) == 4)
    elapsed_s = time.monotonic() - started_at
    container.stop()
    assert 0.2 <= elapsed_s < 2
    assert len(ticks) == 4


def test_the_first_tick_comes_after_an_interval(container_factory, ticks, note):
    container = container_factory(make_service(note, 60), {})
    container.start()
    sleep(0.05)
    assert ticks == []
    container.stop()


def test_an_eager_timer_ticks_at_the_start(container_factory, ticks, note, eventually):
    container = container_factory(make_service(note, 60, eager=True), {})
    container.start()
    eventually(lambda: len(ticks) == 1)
    container.stop()
    assert len(ticks) == 1


def test_an_interval_of_zero_runs_the_method_again_and_again(container_factory, ticks, note, eventually):
    container = container_factory(make_service(note, 0), {})
    container.start()
    eventually(lambda: len(ticks) > 100)
    with entrypoint_hook(container, "other") as call:  # and leaves room for others
        assert call() == "other"
    container.stop()


def test_the_number_of_ticks_does_not_drift(container_factory, ticks, note, eventually):
    """Every tick comes late, by what the method takes and by the scheduling; that must not add up."""

    def method() -> None:
        note()
        sleep(INTERVAL_S / 2)

    container = container_factory(make_service(method), {})
    started_at = time.monotonic()
    container.start()
    eventually(lambda: len(ticks) >= 10)
    container.stop()
    assert abs(len(ticks) - (time.monotonic() - started_at) / INTERVAL_S) <= 2


def test_a_method_that_takes_longer_than_the_interval_runs_back_to_back_and_once_at_a_time(
    container_factory, eventually
):
    running, most, count = 0, 0, 0

    def method() -> None:
        nonlocal running, most, count
        running += 1
        most = max(most, running)
        sleep(0.05)
        running -= 1
        count += 1

    container = container_factory(make_service(method, 0.01), {})
    started_at = time.monotonic()
    container.start()
    eventually(lambda: count >= 10)
    container.stop()
    assert most == 1
    assert abs(count - (time.monotonic() - started_at) / 0.05) <= 2


def test_ticks_that_an_overrun_has_made_late_are_made_up_for(container_factory, ticks, note, eventually):
    def method() -> None:
        note()
        if len(ticks) == 1:
            sleep(5 * INTERVAL_S)

    container = container_factory(make_service(method), {})
    started_at = time.monotonic()
    container.start()
    eventually(lambda: len(ticks) >= 12)
    elapsed_s = time.monotonic() - started_at
    container.stop()
    assert elapsed_s < 16 * INTERVAL_S + 0.3  # 12 intervals, had there been no overrun; 17 if they were not made up for
    assert abs(len(ticks) - elapsed_s / INTERVAL_S) <= 2


# -- the schedule, by a clock of its own


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def run(schedule: Schedule, clock: Clock, ticks: int, run_s: Callable[[int], float] = lambda tick: 0.0) -> list[float]:
    """When the first ticks come, if the method takes `run_s(n)`, in seconds from 1000."""
    times = []
    for tick in range(ticks):
        left = schedule.seconds_left()
        if left > 0:
            clock.now += left
            schedule.skip_missed()
        times.append(round(clock.now - 1000, 6))
        clock.now += run_s(tick)
        schedule.advance()
    return times


def test_the_schedule(clock):
    assert run(Schedule(2, clock=clock), clock, 4) == [2, 4, 6, 8]


def test_the_eager_schedule(clock):
    assert run(Schedule(2, eager=True, clock=clock), clock, 4) == [0, 2, 4, 6]


def test_the_schedule_of_a_slow_method(clock):
    assert run(Schedule(2, clock=clock), clock, 4, lambda tick: 1.5) == [2, 4, 6, 8]
    clock.now = 1000
    assert run(Schedule(2, clock=clock), clock, 4, lambda tick: 3) == [2, 5, 8, 11]


def test_the_schedule_after_an_overrun(clock):
    times = run(Schedule(2, clock=clock), clock, 7, lambda tick: 7 if tick == 0 else 0.5)
    assert times == [2, 9, 9.5, 10, 10.5, 12, 14]


def test_the_schedule_after_the_process_was_suspended_in_a_sleep(clock):
    schedule = Schedule(2, clock=clock)
    assert run(schedule, clock, 1) == [2]
    clock.now += 3600.5  # in place of 2
    assert schedule.skip_missed() == 1799
    assert run(schedule, clock, 3) == [3602.5, 3604, 3606]


def test_the_schedule_after_the_process_was_suspended_for_less_than_an_interval(clock):
    schedule = Schedule(60, clock=clock)
    clock.now += 100
    assert schedule.skip_missed() == 0
    assert run(schedule, clock, 3) == [100, 120, 180]


def test_a_sleep_that_is_a_little_late_leaves_nothing_out(clock):
    schedule = Schedule(0.01, clock=clock)
    clock.now += 0.5
    assert schedule.skip_missed() == 0


def test_an_interval_of_zero_has_nothing_to_leave_out(clock):
    schedule = Schedule(0, clock=clock)
    clock.now += 3600
    assert schedule.seconds_left() <= 0
    assert schedule.skip_missed() == 0


def test_a_timer_tells_that_it_leaves_out_ticks(container_factory, ticks, note, eventually, caplog, monkeypatch):
    monkeypatch.setattr(Schedule, "skip_missed", lambda self: 7)
    container = container_factory(make_service(note), {})
    container.start()
    eventually(lambda: "leaves out 7 ticks: the process stood still" in caplog.text)
    assert "<Timer [service.tick] at" in caplog.text
    container.stop()


# -- what does not stop it


@pytest.mark.parametrize(
    "exc",
    [Boom("no"), Timeout(), GreenletExit(), SystemExit(3), KeyboardInterrupt(), RecursionError()],
    ids=lambda exc: type(exc).__name__,
)
def test_whatever_the_method_raises_it_ticks_on(container_factory, ticks, note, eventually, exc):
    def method() -> None:
        note()
        raise exc

    container = container_factory(make_service(method), {"max_workers": 1})
    container.start()
    eventually(lambda: len(ticks) >= 5)
    assert container.started
    container.stop()
    container.wait()


def test_a_timeout_that_the_method_leaves_behind_does_not_matter(container_factory, ticks, note, eventually, caplog):
    def method() -> None:
        note()
        Timeout(INTERVAL_S / 2)
        Timeout(INTERVAL_S * 3)

    container = container_factory(make_service(method), {})
    container.start()
    eventually(lambda: len(ticks) >= 10)
    container.stop()
    container.wait()
    eventually(lambda: caplog.text.count("had left a timeout running") == 2 * len(ticks))


@pytest.mark.parametrize("error", [Boom("no"), SystemExit(3), Timeout(None)])
def test_a_service_that_cannot_be_made_for_a_while_does_not_matter(container_factory, eventually, caplog, error):
    made = []

    class Service:
        name = "service"

        def __init__(self) -> None:
            made.append(1)
            if len(made) < 4:
                raise error

        @timer(0)
        def tick(self) -> None:
            pass

    container = container_factory(Service, {})
    container.start()
    eventually(lambda: len(made) > 5)
    assert caplog.text.count("error handling worker") == 3
    container.stop()


@pytest.mark.parametrize("error", [Boom("no"), SystemExit(3), Timeout(None)])
def test_a_container_that_makes_no_worker_for_a_while_does_not_matter(
    container_factory, ticks, note, eventually, caplog, monkeypatch, error
):
    monkeypatch.setattr("nameko.timer._timer._PAUSE_AFTER_FAILURE_S", 0.01)
    refused = []
    container = container_factory(make_service(note, 0), {})

    def refuse(*args: object, **kwargs: object) -> None:
        refused.append(1)
        if len(refused) == 3:
            del container.spawn_worker
        raise error

    container.spawn_worker = refuse
    container.start()
    eventually(lambda: ticks)
    assert caplog.text.count("could not run its method") == 3
    container.stop()


def test_a_busy_service_does_not_matter(container_factory, ticks, note, eventually):
    """While other workers hold all slots there is no tick; afterwards there is."""
    go = Event()

    class Service:
        name = "service"

        @timer(INTERVAL_S)
        def tick(self) -> None:
            note()

        @dummy
        def block(self) -> None:
            go.wait()

    container = container_factory(Service, {"max_workers": 1})
    container.start()
    with entrypoint_hook(container, "block") as call:
        blocking = spawn_task(call)
        sleep(5 * INTERVAL_S)
        missed = len(ticks)
        go.send(None)
        blocking.wait()
    assert missed <= 1
    eventually(lambda: len(ticks) >= 5)
    container.stop()


# -- what stops it


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_end_of_the_service_interrupts_the_sleep(container_factory, ticks, note, caplog, end):
    container = container_factory(make_service(note, 3600), {})
    container.start()
    sleep(0)
    started_at = time.monotonic()
    getattr(container, end)()
    assert time.monotonic() - started_at < 1
    assert ticks == []
    assert container._managed_threads == {}
    assert "killing managed thread" not in caplog.text


def test_a_stop_lets_the_method_finish_and_does_not_run_it_again(container_factory, eventually):
    log = []

    def method() -> None:
        log.append("begins")
        sleep(5 * INTERVAL_S)
        log.append("ends")

    container = container_factory(make_service(method), {})
    container.start()
    eventually(lambda: log)
    container.stop()
    assert log == ["begins", "ends"]
    sleep(2 * INTERVAL_S)
    assert log == ["begins", "ends"]


def test_a_stop_while_the_timer_waits_for_a_slot(container_factory):
    go = Event()

    class Service:
        name = "service"

        @timer(0, eager=True)
        def tick(self) -> None:
            go.wait()

        @timer(0, eager=True)
        def tock(self) -> None:
            go.wait()

    container = container_factory(Service, {"max_workers": 1})
    container.start()
    sleep(0.01)
    stopping = spawn_task(container.stop)
    sleep(0.01)
    go.send(None)
    with Timeout(2):
        stopping.wait()


def test_a_kill_while_the_method_runs_leaves_nothing(container_factory, eventually):
    begun = []
    container = container_factory(make_service(lambda: (begun.append(1), Event().wait())), {})
    container.start()
    eventually(lambda: begun)
    with Timeout(2):
        container.kill()
    assert container._worker_threads == container._managed_threads == {}
    container.wait()


def test_a_dependency_that_fails_kills_the_container_and_the_timer_with_it(container_factory, ticks, note, eventually):
    class Broken(DependencyProvider):
        def worker_setup(self, worker_ctx: Any) -> None:
            ticks.append(1)
            raise Boom("no")

    service_cls = make_service(note)
    service_cls.broken = Broken()
    container = container_factory(service_cls, {})
    container.start()
    with pytest.raises(Boom), Timeout(5):
        container.wait()
    sleep(3 * INTERVAL_S)
    assert ticks == [1]


def test_it_can_be_stopped_without_having_been_started(container_factory, note):
    container = container_factory(make_service(note), {})
    get_extension(container, Timer).stop()
    container.stop()


# -- declaring it


@pytest.mark.parametrize("interval", [-1, "1", None, float("nan"), float("inf"), True, [1]])
def test_a_wrong_interval_is_named(container_factory, interval):
    with pytest.raises(ConfigurationError, match=r"service\.tick: the interval of a timer is a number of seconds, not"):
        container_factory(make_service(lambda: None, interval), {})


def test_the_arguments(container_factory):
    service_cls = make_service(lambda: None, 1.5, eager=True, expected_exceptions=Boom, sensitive_arguments="x")
    entrypoint = get_extension(container_factory(service_cls, {}), Timer)
    assert (entrypoint.interval, entrypoint.eager) == (1.5, True)
    assert (entrypoint.expected_exceptions, entrypoint.sensitive_arguments) == (Boom, "x")
    assert Timer(interval=1).eager is False


def test_an_expected_exception_is_a_warning(container_factory, eventually, caplog):
    def method() -> None:
        raise Boom("no")

    container = container_factory(make_service(method, expected_exceptions=Boom), {})
    container.start()
    eventually(lambda: "(expected) error handling worker" in caplog.text)
    container.stop()
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


def test_the_decorated_method_is_a_plain_function():
    assert make_service(lambda: None)().tick() is None


def test_the_public_names():
    import nameko.timer

    assert Timer.__module__ == "nameko.timer"
    assert set(nameko.timer.__all__) == {"Timer", "timer"}
    with pytest.raises(AttributeError, match=r"nameko\.timer.*no_such_name"):
        nameko.timer.no_such_name  # noqa: B018


def test_it_is_a_plugin():
    from nameko.timer import _plugin

    manager = PluginManager.with_plugins({"timer": _plugin})
    (offered,) = [info for _, infos in manager.collect("nameko_extensions") for info in infos]
    assert offered.cls is Timer
    assert "timer" in offered.help


def test_the_plugin_loads_without_the_concurrency_library():
    script = "import sys; import nameko.timer._plugin; print('eventlet' in sys.modules)"
    env = {key: value for key, value in os.environ.items() if not key.startswith("COV")}  # coverage may load it
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, env=env, check=True
    )
    assert done.stdout == "False\n"


# -- in a process of its own


def test_the_example():
    with _nameko_run("examples.timer_service", cwd=Path(__file__).parents[2]) as process:
        assert [_next_line(process), _next_line(process)] == ["pong\n", "pong\n"]
        process.terminate()
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 0, errors
    assert "starting services: service" in errors


def test_sigterm_while_the_method_hangs(tmp_path):
    """The shutdown has a bound: SHUTDOWN_TIMEOUT and two seconds."""
    (tmp_path / "hanging.py").write_text(
        "from nameko.timer import timer\n"
        "from nameko.concurrency import Event\n"
        "class Service:\n"
        "    name = 'hanging'\n"
        "    @timer(0, eager=True)\n"
        "    def tick(self):\n"
        "        print('begun')\n"
        "        Event().wait()\n"
    )
    with _nameko_run("-d", "SHUTDOWN_TIMEOUT=0.5", "hanging", cwd=tmp_path) as process:
        assert _next_line(process) == "begun\n"
        started_at = time.monotonic()
        process.terminate()
        _, errors = process.communicate(timeout=10)
        elapsed_s = time.monotonic() - started_at
    assert 0.5 <= elapsed_s <= 2.5, errors
    assert process.returncode == 0, errors
    assert "killing 1 active workers" in errors
    assert "<WorkerContext [hanging.tick]" in errors


@contextmanager
def _nameko_run(*arguments: str, cwd: Path) -> Iterator[Any]:
    process = subprocess.Popen(
        [sys.executable, "-m", "nameko", "run", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _next_line(process: Any) -> str:
    line: str = process.stdout.readline()
    assert line, process.stderr.read()
    return line
