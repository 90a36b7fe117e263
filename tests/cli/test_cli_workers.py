"""`nameko run --workers N`: several processes, one of which dies, stops, cannot start, or loses its supervisor."""

from __future__ import annotations

import os
import re
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

# In one write: the processes share their output.
TICKS = "sys.stdout.write(f\"tick {os.getpid()} {os.environ['NAMEKO_WORKER_INDEX']}\\n\")"


LEAVES_SLOWLY = """
import atexit

@atexit.register
def leave():
    print("leaving", flush=True)
    while not os.path.exists("go"):
        time.sleep(0.01)
"""


@pytest.fixture
def ticks(project: Any, tick_service: Callable[[str], Path], eventually: Callable[..., Any]) -> Callable[..., Any]:
    """`ticks(process, count)`: waits until so many workers tick at once; their pids by their numbers."""
    module = tick_service(TICKS)
    module.write_text("import os, sys\n" + module.read_text())

    def latest(process: Any) -> dict[str, int]:
        lines = [line.split() for line in process.output.splitlines() if line.startswith("tick ")]
        return {index: int(pid) for _, pid, index in lines if _runs(int(pid))}

    def wait(process: Any, count: int) -> dict[str, int]:
        found: dict[str, int] = eventually(
            lambda: pids if len(pids := latest(process)) == count else None, timeout_s=30
        )
        return found

    return wait


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_runs_as_many_processes_as_told_and_stops_them_all(project: Any, ticks: Any) -> None:
    process = project.start("run", "--workers", "2", "ticking")
    pids = ticks(process, 2)
    assert set(pids) == {"0", "1"}
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    assert not any(map(_runs, pids.values()))


def test_replaces_a_process_that_dies(project: Any, ticks: Any, eventually: Any) -> None:
    process = project.start("run", "--workers=2", "ticking")
    before = ticks(process, 2)
    os.kill(before["1"], signal.SIGKILL)
    eventually(lambda: not _runs(before["1"]))
    after = ticks(process, 2)
    assert after["0"] == before["0"]
    assert after["1"] != before["1"]
    assert f"worker 1 (pid {before['1']}) ended with status 137; starting another at once" in process.output
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0


def test_processes_stop_when_their_supervisor_is_gone(project: Any, ticks: Any, eventually: Any) -> None:
    process = project.start("run", "--workers", "2", "ticking")
    pids = ticks(process, 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    eventually(lambda: not any(map(_runs, pids.values())), timeout_s=20)
    assert process.output.count("stopping services: ticking") == 2
    assert process.output.count("the supervisor has ended: stopping as well") == 2


def test_says_once_why_services_cannot_start(project: Any) -> None:
    project.write("failing.py", 'raise RuntimeError("broken")')
    ended = project.nameko("run", "--workers", "3", "failing")
    assert ended.returncode == 1
    assert ended.stderr.count("broken") == 1
    assert "Traceback" not in ended.stderr


def test_a_second_signal_kills(project: Any, tick_service: Any, eventually: Any) -> None:
    tick_service('print("busy", flush=True); concurrency.sleep(60)')
    process = project.start("run", "--workers", "2", "ticking")
    eventually(lambda: process.output.count("busy") == 2, timeout_s=30)
    process.send_signal(signal.SIGTERM)
    process.expect("SIGTERM: stopping 2 processes")
    eventually(lambda: process.output.count("stopping services") == 2, timeout_s=20)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM


def _signal_all(process: Any, pids: dict[str, int], number: signal.Signals = signal.SIGTERM) -> None:
    """As systemd does, and each of the others gets its own after what the supervisor makes of it."""
    process.send_signal(number)
    process.find("(?s)" + "stopping services.*" * len(pids))
    for pid in pids.values():
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@pytest.fixture
def busy(project: Any, tick_service: Callable[[str], Path], eventually: Callable[..., Any]) -> Callable[..., Any]:
    """`busy(seconds, *options)`: starts two processes that work for so long at a time; the supervisor, their pids."""

    def start(seconds: float, *options: str) -> tuple[Any, dict[str, int]]:
        module = tick_service(f"write(f'busy {{os.getpid()}}\\n'); concurrency.sleep({seconds}); write('done\\n')")
        module.write_text("import os, sys\n\nwrite = sys.stdout.write\n" + module.read_text())
        process = project.start("run", "--workers", "2", *options, "ticking")
        pids = eventually(
            lambda: found if len(found := set(re.findall(r"busy (\d+)", process.output))) == 2 else None, timeout_s=30
        )
        eventually(lambda: process.output.count("services ready") == 2, timeout_s=30)
        return process, {pid: int(pid) for pid in pids}

    return start


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_lets_workers_finish(busy: Any, number: signal.Signals) -> None:
    process, pids = busy(1)
    _signal_all(process, pids, number)
    assert process.wait() == 0
    assert "killing services" not in process.output
    assert process.output.count("busy") == process.output.count("done")


def test_a_second_signal_to_all_processes_kills(busy: Any) -> None:
    process, pids = busy(60)
    _signal_all(process, pids)
    _signal_all(process, pids)
    assert process.wait(timeout_s=10) == 128 + signal.SIGTERM
    assert not any(map(_runs, pids.values()))
    assert "done" not in process.output


def test_a_second_signal_ends_processes_whose_greenthreads_do_not_run(project: Any, tick_service: Any) -> None:
    module = tick_service('print("busy", flush=True)\n                    while True: pass')
    assert "while True" in module.read_text()
    process = project.start("run", "--workers", "1", "ticking")
    process.expect("busy")
    process.deliver_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout_s=10) == 128 + signal.SIGTERM
    assert "killed" not in process.output  # it has ended itself


def test_two_times_ctrl_c_is_what_the_status_says(busy: Any) -> None:
    process, pids = busy(60)
    _signal_all(process, pids, signal.SIGINT)
    _signal_all(process, pids, signal.SIGINT)
    assert process.wait(timeout_s=10) == 128 + signal.SIGINT


def test_a_signal_to_a_process_that_has_stopped_its_services_is_no_failure(
    project: Any, ticks: Any, eventually: Any
) -> None:
    module = project.path / "ticking.py"
    module.write_text(module.read_text() + LEAVES_SLOWLY)
    process = project.start("run", "--workers", "1", "ticking")
    pids = ticks(process, 1)
    eventually(lambda: "services ready" in process.output)
    _signal_all(process, pids)
    process.expect("leaving")
    os.kill(pids["0"], signal.SIGTERM)
    project.write("go", "")
    assert process.wait() == 0


def test_an_ignored_ctrl_c_stays_ignored(project: Any, ticks: Any) -> None:
    # As it is for the background jobs of a shell script.
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = project.start("run", "--workers", "1", "ticking")
    finally:
        signal.signal(signal.SIGINT, previous)
    ticks(process, 1)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    assert "SIGINT" not in process.output


def test_ctrl_c_in_a_terminal_drains(project: Any, tick_service: Any) -> None:
    tick_service('print("busy"); concurrency.sleep(0.5); print("done")')
    terminal = project.start_in_terminal("run", "--workers", "1", "ticking")
    terminal.expect("busy")
    terminal.interrupt()
    terminal.expect("done")
    assert terminal.wait() == 0
    assert "killing services" not in terminal.output


def test_a_process_that_is_still_starting_when_its_supervisor_ends(project: Any, eventually: Any) -> None:
    project.write(
        "orphan.py",
        """
        import os, signal, time
        from nameko.timer import timer

        supervisor = os.getppid()
        open("pid", "w").write(str(os.getpid()))
        os.kill(supervisor, signal.SIGKILL)
        while os.getppid() == supervisor:
            time.sleep(0.01)

        class Orphan:
            name = "orphan"

            @timer(interval=60)
            def tick(self):
                pass
        """,
    )
    process = project.start("run", "--workers", "2", "orphan")
    process.wait()
    pid = int((project.path / "pid").read_text())
    try:
        eventually(lambda: not _runs(pid), timeout_s=20)
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        raise
    assert "the supervisor has ended: stopping as well" in process.output


def test_a_process_that_does_not_stop_is_killed(project: Any, ticks: Any) -> None:
    process = project.start("run", "--workers", "1", "-d", "SHUTDOWN_TIMEOUT=0.1", "ticking")
    pids = ticks(process, 1)
    os.kill(pids["0"], signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 137
    assert "SIGTERM: stopping 1 process\n" in process.output
    assert f"worker 0 (pid {pids['0']}) does not stop: killed" in process.output


def test_a_process_that_cannot_be_started_for_now_does_not_end_the_others(
    project: Any, ticks: Any, eventually: Any
) -> None:
    process = project.start("run", "--workers", "2", "ticking")
    before = ticks(process, 2)
    limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    os.kill(before["1"], signal.SIGKILL)
    process.expect("worker 1 cannot be started: Too many open files; trying again in")
    assert _runs(before["0"])
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)
    assert ticks(process, 2)["0"] == before["0"]
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--workers", "0", "x"], "0 is not in the range"),
        (["--workers", "2", "--backdoor-port", "3000", "x"], "--backdoor-port cannot be shared"),
        (["--reload-dir", "src", "x"], "--reload-dir needs --reload"),
        (["--reload", "--reload-dir", "nowhere", "x"], "there is no directory 'nowhere'"),
    ],
)
def test_refuses_options_that_make_no_sense(project: Any, arguments: list[str], complaint: str) -> None:
    ended = project.nameko("run", *arguments)
    assert ended.returncode != 0
    assert complaint in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_programs_that_a_service_starts_have_no_supervisor(project: Any, tick_service: Any) -> None:
    # They inherit its environment.
    module = tick_service('subprocess.run([sys.executable, "child.py"]); concurrency.sleep(60)')
    project.write("child.py", "from nameko.cli._supervisor_link import supervisor_fd; print('line', supervisor_fd())")
    module.write_text("import subprocess, sys\n" + module.read_text())
    process = project.start("run", "--workers", "1", "ticking")
    process.expect("line None")
