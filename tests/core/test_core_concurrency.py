"""Greenthreads: running several at once, joining them, and what they do when they fail."""

from __future__ import annotations

import contextvars
import gc
import os
import subprocess
import sys
import time
import weakref
from typing import Any

import eventlet.corolocal
import pytest

from nameko import concurrency
from nameko.concurrency import (
    Event,
    GreenletExit,
    GreenPool,
    Signal,
    SpawningProxy,
    SpawningSet,
    Timeout,
    WorkerPool,
    call_without_leaks,
    cancel_after,
    fail_fast_imap,
    join_all,
    run_in_native_thread,
    schedule,
    sleep,
    soon,
    spawn_task,
    wait_all,
    wait_readable,
    wait_writable,
)


class Boom(Exception):
    pass


def fail(exc: BaseException | None = None) -> None:
    raise exc or Boom("no")


class Item:
    def __init__(self, result: Any = None, exc: BaseException | None = None, after: Any = None) -> None:
        self.result, self.exc, self.after = result, exc, after
        self.killed = False

    def method(self, *args: Any, **kwargs: Any) -> Any:
        try:
            if self.after is not None:
                self.after.wait()
        except GreenletExit:
            self.killed = True
            raise
        if self.exc is not None:
            raise self.exc
        return self.result, args, kwargs


# -- tasks


def test_a_task_has_a_result():
    assert spawn_task(lambda *args, **kwargs: (args, kwargs), 1, a=2).wait() == ((1,), {"a": 2})


@pytest.mark.parametrize("exc", [Boom("no"), SystemExit(3), KeyboardInterrupt("no"), Timeout()])
def test_the_exception_of_a_task_goes_to_who_waits_and_nobody_else(capsys, exc):
    seen = []
    task = spawn_task(fail, exc)
    task.link(seen.append)
    with pytest.raises(type(exc)):
        task.wait()
    sleep(0)
    assert seen == [task]
    assert capsys.readouterr().err == ""


def test_a_task_can_be_killed_before_and_while_it_runs():
    started = []
    before, during = spawn_task(started.append, 1), spawn_task(Event().wait)
    before.kill()
    sleep(0)
    during.kill()
    for task in (before, during):
        with pytest.raises(GreenletExit):
            task.wait()
    assert started == []


def test_join_all_waits_for_all():
    tasks = [spawn_task(sleep, seconds) for seconds in (0, 0.02, 0.01)]
    join_all(tasks)
    assert all(task.dead for task in tasks)
    join_all(tasks)
    join_all([])


def test_join_all_raises_the_first_exception_and_kills_the_rest():
    lasting = spawn_task(Event().wait)
    with pytest.raises(Boom):
        join_all([lasting, spawn_task(fail), spawn_task(sleep, 0)])
    with pytest.raises(GreenletExit):
        lasting.wait()


def test_join_all_kills_the_rest_when_it_is_interrupted():
    lasting = spawn_task(Event().wait)
    with pytest.raises(Timeout), Timeout(0.01):
        join_all([lasting])
    assert lasting.dead


def test_wait_all_takes_no_notice_of_exceptions_and_gives_up_in_time():
    lasting = spawn_task(Event().wait)
    assert wait_all([spawn_task(fail), spawn_task(sleep, 0)]) == []
    started_at = time.monotonic()
    assert wait_all([spawn_task(fail), lasting], timeout_s=0.05) == [lasting]
    assert 0.05 <= time.monotonic() - started_at < 2
    assert wait_all([lasting], timeout_s=0) == [lasting]
    lasting.kill()
    assert wait_all([lasting]) == []


# -- several calls at once


def test_a_spawning_proxy_calls_every_item_at_once():
    go = Event()
    waiting = Item("first", after=go)
    items = [waiting, Item("second")]
    concurrency.spawn_after(0.01, go.send, None)
    assert SpawningProxy(items).method(1, a=2) == [("first", (1,), {"a": 2}), ("second", (1,), {"a": 2})]
    assert SpawningProxy([]).method() == []
    with pytest.raises(AttributeError):
        SpawningProxy(items).__missing__  # noqa: B018


def test_a_spawning_proxy_waits_for_all_before_it_raises():
    go = Event()
    slow = Item("slow", after=go)
    concurrency.spawn_after(0.01, go.send, None)
    with pytest.raises(Boom):
        SpawningProxy([Item(exc=Boom("no")), slow]).method()
    assert not slow.killed
    assert go.ready()


def test_a_spawning_proxy_can_abort_on_the_first_error():
    lasting = Item(after=Event())
    with pytest.raises(Boom):
        SpawningProxy([lasting, Item(exc=Boom("no"))], abort_on_error=True).method()
    assert lasting.killed


def test_a_spawning_set():
    assert sorted(each[0] for each in SpawningSet([Item(1), Item(2)]).all.method()) == [1, 2]


def test_fail_fast_imap():
    assert fail_fast_imap(GreenPool(2), lambda number: number * 2, [1, 2, 3]) == [2, 4, 6]
    lasting = Item(after=Event())
    with pytest.raises(Boom):
        fail_fast_imap(WorkerPool(2), lambda item: item.method(), [lasting, Item(exc=Boom("no"))])
    assert lasting.killed


# -- the worker pool


def test_a_worker_pool_counts():
    pool = WorkerPool(2)
    go = Event()
    assert pool.free() == 2
    pool.spawn(go.wait)
    pool.spawn(go.wait)
    assert (pool.running(), pool.free(), pool.waiting()) == (2, 0, 0)
    third = spawn_task(pool.spawn, fail)
    sleep(0)
    assert pool.waiting() == 1
    go.send(None)
    third.wait()
    pool.waitall()
    assert (pool.running(), pool.free()) == (0, 2)
    pool.waitall()


def test_a_worker_pool_keeps_its_size_whatever_happens_to_its_threads():
    pool = WorkerPool(1)
    for _ in range(5):
        pool.spawn(fail)
        pool.spawn(Event().wait).kill()  # before it starts
        thread = pool.spawn(Event().wait)
        sleep(0)
        thread.kill()
    pool.waitall()
    assert (pool.running(), pool.free()) == (0, 1)


def test_one_who_is_killed_while_waiting_for_a_worker_pool_leaves_no_trace():
    pool = WorkerPool(1)
    go, ran = Event(), []
    pool.spawn(go.wait)
    waiting = [spawn_task(pool.spawn, ran.append, number) for number in range(3)]
    sleep(0)
    waiting[0].kill()
    go.send(None)
    join_all(waiting[1:])
    pool.waitall()
    assert ran == [1, 2]
    assert (pool.free(), pool.waiting()) == (1, 0)


def test_waitall_in_a_thread_of_the_pool_waits_for_the_others():
    pool = WorkerPool(2)
    other = pool.spawn(sleep, 0.01)
    seen = []
    pool.spawn(lambda: (pool.waitall(), seen.append(other.dead)))
    with Timeout(5):
        pool.waitall()
    assert seen == [True]


# -- threads that are used again


@pytest.fixture
def untraced():
    """Nothing keeps weak references to the threads, as coverage does to each that it traces."""
    trace = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(trace)


def ids_of(pool: WorkerPool, fn=lambda: None) -> list[int]:
    """The identities of the threads that run `fn`, each after the one before."""
    ids = []

    def run() -> None:
        ids.append(id(concurrency.current()))
        fn()

    for _ in range(3):
        pool.spawn(run)
        pool.waitall()
        sleep(0)  # what has woken us knows the thread
    return ids


@pytest.mark.usefixtures("untraced")
def test_a_thread_is_used_again():
    pool = WorkerPool(5)
    assert len(set(ids_of(pool))) == 1
    assert len(set(ids_of(pool, lambda: sleep(0)))) == 1
    assert len(pool.idle_threads) == 1
    pool.spawn(sleep, 0)
    pool.spawn(sleep, 0)
    pool.waitall()
    assert len(pool.idle_threads) == 2


@pytest.mark.parametrize(
    "leave",
    [
        lambda kept: kept.append(concurrency.current()),
        lambda kept: kept.append(concurrency.current().throw),
        lambda kept: kept.append(Timeout(30)),
        lambda kept: kept.append(concurrency.spawn_after(30, concurrency.current().switch)),
    ],
    ids=["a reference", "a way to throw", "a timeout", "a timer"],
)
def test_a_thread_that_somebody_knows_is_not_used_again(leave):
    pool = WorkerPool(5)
    kept = []
    ids = ids_of(pool, lambda: leave(kept))
    for each in kept:
        if hasattr(each, "cancel"):
            each.cancel()
    assert len(set(ids)) == 3


def test_a_thread_that_is_known_is_dead():
    pool = WorkerPool(5)
    threads = []
    pool.spawn(lambda: threads.append(concurrency.current()))
    pool.waitall()
    (thread,) = threads
    assert thread.dead
    thread.kill()
    assert thread.wait() is None
    assert pool.spawn(sleep, 0) is not thread
    pool.waitall()


def test_thread_local_data_is_not_passed_on():
    local = eventlet.corolocal.local()
    seen = []

    def look() -> None:
        seen.append(getattr(local, "value", None))
        local.value = "secret"

    ids_of(WorkerPool(1), look)
    assert seen == [None, None, None]


def test_thread_local_data_goes_with_its_thread():
    class Data:
        pass

    local, alive = eventlet.corolocal.local(), []

    def keep() -> None:
        local.value = Data()
        alive.append(weakref.ref(local.value))

    ids_of(WorkerPool(1), keep)
    assert not hasattr(local, "value")  # asked for in this thread, it lets go of what it last had in mind
    assert [each() for each in alive] == [None, None, None]


@pytest.mark.usefixtures("untraced")
def test_context_variables_are_not_passed_on():
    variable = contextvars.ContextVar("variable", default=None)
    seen = []
    ids = ids_of(WorkerPool(1), lambda: (seen.append(variable.get()), variable.set("secret")))
    assert seen == [None, None, None]
    assert len(set(ids)) == 1


@pytest.mark.usefixtures("untraced")
def test_a_thread_at_rest_keeps_nothing_alive():
    class Data:
        pass

    pool = WorkerPool(1)
    data = Data()
    alive = weakref.ref(data)
    pool.spawn(lambda data: None, data).label = data
    del data
    pool.waitall()
    assert alive() is None
    assert len(pool.idle_threads) == 1


@pytest.mark.usefixtures("untraced")
def test_a_pool_takes_its_threads_with_it():
    pool = WorkerPool(1)
    ids_of(pool)
    alive = weakref.ref(pool.idle_threads[0])
    del pool
    gc.collect()
    assert alive() is None


def test_a_failure_is_not_passed_on(capsys):
    pool = WorkerPool(1)
    failed = pool.spawn(fail)
    pool.waitall()
    assert pool.spawn(lambda: None).wait() is None
    with pytest.raises(Boom):
        failed.wait()
    assert pool.spawn(lambda: "done").wait() == "done"
    assert capsys.readouterr().err == ""


# -- threads that begin at once


def test_a_thread_can_begin_at_once_and_is_over_at_the_return():
    pool = WorkerPool(1)
    seen = []
    thread = pool.new_thread()
    thread.run_at_once(lambda: (seen.append("begin"), sleep(0.01), seen.append("end")))
    assert seen == ["begin", "end"]
    assert thread.dead
    assert pool.free() == 1


def test_the_caller_can_be_let_go():
    pool = WorkerPool(1)
    go_on, seen = Event(), []

    def worker() -> None:
        concurrency.current().let_caller_go()
        go_on.wait()
        seen.append("end")

    thread = pool.new_thread()
    thread.run_at_once(worker)
    assert not thread.dead
    concurrency.schedule(0.01, go_on.send, None)
    with Timeout(5):
        assert Event.wait(go_on) is None
        pool.waitall()
    assert seen == ["end"]


def test_a_caller_that_is_let_go_in_vain_is_not_woken_later():
    thread = WorkerPool(1).new_thread()
    thread.run_at_once(lambda: concurrency.current().let_caller_go())
    started_at = time.monotonic()
    sleep(0.05)
    assert time.monotonic() - started_at >= 0.05


def test_a_caller_that_gives_up_is_not_woken_by_the_end():
    pool = WorkerPool(1)
    with pytest.raises(Boom), cancel_after(0.01, Boom("late")):
        pool.new_thread().run_at_once(sleep, 0.05)
    started_at = time.monotonic()
    sleep(0.1)
    assert time.monotonic() - started_at >= 0.1
    assert pool.free() == 1


# -- timeouts


def test_a_timeout_left_behind_is_dropped_while_the_thread_goes_on(caplog, eventually):
    def worker() -> str:
        call_without_leaks(Timeout, (0.01,), {})
        sleep(0.03)
        return "done"

    assert WorkerPool(1).spawn(worker).wait() == "done"
    eventually(lambda: "a worker had left a timeout running (<Timeout" in caplog.text)


def test_a_timeout_left_behind_is_dropped_when_the_thread_has_ended(caplog, capsys, eventually):
    WorkerPool(1).spawn(call_without_leaks, Timeout, (0.01,), {}).wait()
    eventually(lambda: "had left a timeout running" in caplog.text)
    assert capsys.readouterr().err == ""


def test_a_timeout_of_the_thread_itself_strikes():
    def worker() -> None:
        with Timeout(0.01):
            call_without_leaks(sleep, (5,), {})

    with pytest.raises(Timeout):
        WorkerPool(1).spawn(worker).wait()


def test_a_timeout_strikes_the_foreign_code_that_made_it_also_one_call_deeper():
    def foreign() -> None:
        with Timeout(0.01):
            call_without_leaks(sleep, (5,), {})

    with pytest.raises(Timeout):
        WorkerPool(1).spawn(call_without_leaks, foreign, (), {}).wait()


def test_outside_of_a_worker_thread_foreign_code_is_simply_called():
    assert call_without_leaks(max, (1, 2), {}) == 2
    with pytest.raises(Boom):
        call_without_leaks(fail, (), {})


def test_cancel_after():
    with pytest.raises(Boom, match="late"), cancel_after(0.01, Boom("late")):
        sleep(5)
    with cancel_after(0.01, Boom("late")):
        pass
    with cancel_after(None, Boom("late")):
        sleep(0.02)
    sleep(0.02)


# -- the rest


def test_schedule():
    seen = []
    schedule(0.01, seen.append, "late")
    schedule(0.01, seen.append, "cancelled").cancel()
    sleep(0.03)
    assert seen == ["late"]


def test_waiting_for_a_socket():
    ours, theirs = concurrency.socket.socketpair()
    with ours, theirs:
        wait_writable(ours, 1)
        with pytest.raises(Timeout):
            wait_readable(ours, 0.01)
        theirs.sendall(b"x")
        wait_readable(ours, 1)
        assert ours.recv(10) == b"x"


def test_blocking_code_runs_in_a_native_thread_while_greenthreads_go_on():
    ticks = []
    ticking = spawn_task(lambda: [(sleep(0.01), ticks.append(1)) for _ in range(100)])
    assert run_in_native_thread(_sleep_natively, 0.1) == "slept"
    assert len(ticks) >= 2
    ticking.kill()
    with pytest.raises(Boom):
        run_in_native_thread(fail)


def _sleep_natively(seconds: float) -> str:
    concurrency.original("time").sleep(seconds)
    return "slept"


@pytest.mark.parametrize("patched", [True, False])
def test_monkey_patching_is_asked_for(patched):
    script = (
        "from nameko.concurrency import is_monkey_patched, monkey_patch\n"
        "assert not is_monkey_patched()\n"
        f"if {patched}: monkey_patch()\n"
        "print(is_monkey_patched())\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == (f"{patched}\n", "")


def test_blocking_can_be_detected():
    script = (
        "import time\n"
        "from nameko import concurrency\n"
        "concurrency.detect_blocking()\n"
        "def block():\n"
        "    deadline = time.monotonic() + 3\n"
        "    while time.monotonic() < deadline: pass\n"
        "task = concurrency.spawn_task(block)\n"
        "try: task.wait()\n"
        "except RuntimeError as exc: print(exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert "Blocking detector" in done.stdout


# -- in the same turn of the hub


def test_what_is_due_soon_is_called_in_order_and_before_timers_that_come_after():
    called, done = [], Signal()

    def first():
        called.append("first")
        schedule(0, called.append, "timer")
        soon(called.append, "third")
        soon(done.set)

    soon(first)
    soon(called.append, "second")
    done.wait()
    assert called == ["first", "second", "third"]


def test_more_that_is_due_soon_than_fits_in_a_turn_lets_timers_through():
    called = []

    def again(remaining):
        called.append(remaining)
        if remaining:
            soon(again, remaining - 1)

    schedule(0, called.append, "timer")
    soon(again, 5000)
    with Timeout(10):
        while 0 not in called:
            sleep(0)
    assert called[-1] == 0
    assert len(called) == 5002
    assert called.index("timer") < 5000


def test_one_that_fails_does_not_keep_the_next_from_being_called(capsys):
    done = Signal()
    soon(fail, Boom("of one"))
    soon(done.set)
    with Timeout(5):
        done.wait()
    assert "of one" in capsys.readouterr().err


def test_a_signal_lets_everybody_go_on():
    signal, gone_on = Signal(), []
    threads = [spawn_task(lambda: gone_on.append(signal.wait())) for _ in range(3)]
    sleep(0)
    assert (gone_on, signal.is_set()) == ([], False)
    signal.set()
    for thread in threads:
        thread.wait()
    signal.wait()  # returns at once from now on
    assert (gone_on, signal.is_set()) == ([None] * 3, True)


def test_who_gave_up_waiting_for_a_signal_is_not_disturbed_by_it():
    signal = Signal()

    def give_up():
        with Timeout(0.01, False):
            signal.wait()
        sleep(0.05)  # would end at once if the signal woke this thread
        return time.monotonic()

    started_at = time.monotonic()
    thread = spawn_task(give_up)
    sleep(0.02)
    signal.set()
    assert thread.wait() - started_at >= 0.06


def test_a_signal_that_was_set_does_not_wake_who_was_killed_in_the_same_turn():
    signal, ended = Signal(), []
    thread = spawn_task(signal.wait)
    sleep(0)
    thread.link(lambda _: ended.append(True))
    signal.set()
    thread.kill()
    sleep(0)
    assert thread.dead
    assert ended == [True]


# -- names


LOOKUPS = """
import errno
import resource
import socket as plain
from nameko import concurrency
from nameko.concurrency._names import resolve_names_in_native_threads

names = []

def resolve(host, *args):  # the system's, slow
    names.append((host, concurrency.original("_thread").get_ident()))
    concurrency.original("time").sleep(0.3)
    if host == "no.such":
        raise plain.gaierror(-2, "not known")
    return ("looked up", host)

main = concurrency.original("_thread").get_ident()
concurrency.original("socket").gethostbyname = resolve
resolve_names_in_native_threads()
concurrency.monkey_patch()
import os, socket, time

assert socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)[0][4] == ("127.0.0.1", 80)
assert socket.getaddrinfo("localhost", 80)

fds = len(os.listdir("/proc/self/fd"))
started_at, ticks = time.monotonic(), []
ticker = concurrency.spawn(lambda: [ticks.append(concurrency.sleep(0.02)) for _ in range(10)])
threads = [concurrency.spawn(socket.gethostbyname, f"host{number}") for number in range(40)]
assert [thread.wait() for thread in threads] == [("looked up", f"host{number}") for number in range(40)]
assert 0.6 <= time.monotonic() - started_at < 5   # twenty at once
assert len(ticks) == 10
assert main not in {thread_id for _, thread_id in names}

try:
    socket.gethostbyname("no.such")
except socket.gaierror as exc:
    assert exc.errno == -2
else:
    raise AssertionError("resolved")

with concurrency.Timeout(0.05, False):
    socket.gethostbyname("given up")
given_up_at = time.monotonic()
while len(os.listdir("/proc/self/fd")) != fds:
    assert time.monotonic() - given_up_at < 20
    concurrency.sleep(0.02)

# Out of file descriptors for more lookups than there are at once, then not any more.
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
for number in range(25):
    try:
        socket.gethostbyname("no file")
    except OSError as exc:
        assert exc.errno == errno.EMFILE
    else:
        raise AssertionError("resolved")
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
with concurrency.Timeout(20):
    assert socket.gethostbyname("again") == ("looked up", "again")
"""


def test_names_are_resolved_in_native_threads_while_greenthreads_go_on():
    done = subprocess.run([sys.executable, "-c", LOOKUPS], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("variable", "before", "greendns"),
    [(None, "", False), ("no", "", True), ("yes", "", False), (None, "import eventlet;", True)],
)
def test_the_dns_library_of_eventlet_is_loaded_only_for_those_who_ask_for_it(variable, before, greendns):
    program = (
        f"import os, sys, warnings; warnings.simplefilter('ignore'); {before} from nameko import concurrency;"
        "print('eventlet.support.greendns' in sys.modules, os.environ.get('EVENTLET_NO_GREENDNS'))"
    )
    environ = {key: value for key, value in os.environ.items() if key != "EVENTLET_NO_GREENDNS"}
    if variable is not None:
        environ["EVENTLET_NO_GREENDNS"] = variable
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=50, check=True
    )
    assert done.stdout.split() == [str(greendns), str(variable)]
