"""Keeps processes running that host the same services: `nameko run --workers N`, and `--reload`.

The supervisor imports no service and is not monkey patched. It starts its own command line again, N times, forwards the
signals it gets, and replaces a process that ends without being told to.
"""

from __future__ import annotations

import os
import random
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from logging import getLogger
from time import monotonic

from nameko.cli._source_watch import SourceWatch
from nameko.cli._supervisor_link import KILL, LINK_VARIABLE, READY
from nameko.exceptions import CommandError
from nameko.worker_processes import WORKER_COUNT_VARIABLE, WORKER_INDEX_VARIABLE

_log = getLogger(__name__)

# What a process may take to stop over the time that its services have (it ends itself 2 s after that).
_STOP_MARGIN_S = 4
# What it may take to stop after a second signal (it ends itself after 1 s).
_KILL_TIMEOUT_S = 3
# Between the ends of a process that ends again and again and its next start; doubled each time.
_BACKOFF_MIN_S = 1
_BACKOFF_MAX_S = 30
# One that ran for so long was all right.
_SETTLED_S = 30

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


class ServiceProcess:
    """One process that hosts the services.

    :param index: its number among its siblings
    :param count: how many there are
    :param command: the command line to run
    :raises OSError: when there can be no more processes, or no such program is there
    """

    def __init__(self, index: int, count: int, command: Sequence[str]) -> None:
        self.index = index
        with ExitStack() as on_failure:
            self.link, theirs = map(on_failure.enter_context, socket.socketpair())
            environ = {
                **os.environ,
                LINK_VARIABLE: str(theirs.fileno()),
                WORKER_INDEX_VARIABLE: str(index),
                WORKER_COUNT_VARIABLE: str(count),
            }
            # In a session of its own: Ctrl-C in a terminal must reach it once, through the supervisor.
            self._process = subprocess.Popen(command, env=environ, pass_fds=[theirs.fileno()], start_new_session=True)
            on_failure.pop_all()
        theirs.close()
        self.started_at = monotonic()
        self.ready = False
        self.told_to_stop = False
        self.killed_at: float | None = None  # when it will be, on the monotonic clock

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status as a shell has it, 128 + signal number when a signal ended it; None while it runs."""
        status = self._process.poll()
        return status if status is None or status >= 0 else 128 - status

    @property
    def settled(self) -> bool:
        """Whether it has run for so long that it was all right."""
        return self.ready and monotonic() - self.started_at >= _SETTLED_S

    def listen(self) -> bool:
        """Take what it says; whether it may say more."""
        said = self.link.recv(1)
        self.ready = self.ready or said == READY
        return bool(said)

    def stop(self, timeout_s: float) -> None:
        """Tell it to let its workers finish and stop; it is killed when it has not within `timeout_s`."""
        self.told_to_stop = True
        self.killed_at = monotonic() + timeout_s
        self._process.send_signal(signal.SIGTERM)

    def stop_at_once(self, timeout_s: float) -> None:
        """Tell it to kill its workers and stop; it is killed when it has not within `timeout_s`."""
        try:
            self.link.send(KILL)
        except OSError:  # it has ended
            pass
        self.stop(timeout_s)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()


class Supervisor:
    """Keeps `count` processes running.

    A process that ends before its services were ready, when none has been ready yet, ends the supervisor: they cannot
    work. Later it is replaced: at once, or after a growing delay of at most 30 s when that happens again and again.

    :param command: the command line of each process
    :param count: how many processes
    :param stop_timeout_s: how long the services may take to stop
    :param watch: when its files change, all processes are replaced; then one that fails waits for the next change
    """

    def __init__(
        self, command: Sequence[str], count: int, stop_timeout_s: float, watch: SourceWatch | None = None
    ) -> None:
        self._command = command
        self._count = count
        self._stop_timeout_s = stop_timeout_s
        self._watch = watch
        self._selector = selectors.DefaultSelector()
        self._running: dict[int, ServiceProcess] = {}
        self._failures = dict.fromkeys(range(count), 0)  # in a row, by index
        self._starts: dict[int, float] = {}  # when to start which, on the monotonic clock
        self._ready_once = False
        self._stops = 0  # how often it was told to stop
        self._status = 0

    def run(self) -> int:
        """Run until a signal ends it, or the services cannot start; the exit status.

        :raises CommandError: when the first process cannot be started
        """
        with self._signals():
            if self._watch is not None:
                self._selector.register(self._watch, selectors.EVENT_READ, self._replace_all)
            self._start_missing()
            while self._running or self._wants_more:
                self._step()
        return self._status

    @property
    def _stopping(self) -> bool:
        return self._stops > 0

    @property
    def _alone(self) -> bool:
        """Whether nobody asked for workers, only for a reload."""
        return self._watch is not None and self._count == 1

    @property
    def _wants_more(self) -> bool:
        return not self._stopping and (bool(self._starts) or self._watch is not None)

    def _step(self) -> None:
        for key, _ in self._selector.select(self._seconds_to_next()):
            key.data()
        for process in list(self._running.values()):
            if process.status is not None:
                self._ended(process, process.status)
        self._keep_times()

    def _seconds_to_next(self) -> float | None:
        times = [*self._starts.values(), *(each.killed_at for each in self._running.values() if each.killed_at)]
        return max(0.0, min(times) - monotonic()) if times else None

    def _keep_times(self) -> None:
        now = monotonic()
        for process in self._running.values():
            if process.killed_at is not None and process.killed_at <= now:
                _log.error("%s %s not stop: killed", self._name(process), "do" if self._alone else "does")
                process.killed_at = None
                process.kill()
        for index in [index for index, at in self._starts.items() if at <= now]:
            del self._starts[index]
            self._start(index)

    # -- processes

    def _start(self, index: int) -> None:
        try:
            process = ServiceProcess(index, self._count, self._command)
        except OSError as exc:  # for want of memory or processes, which may be over soon: the others go on
            self._try_again(index, exc)
            return
        self._running[index] = process
        self._selector.register(process.link, selectors.EVENT_READ, lambda: self._listen(process))
        _log.debug("worker %d has pid %d", index, process.pid)

    def _try_again(self, index: int, exc: OSError) -> None:
        reason = exc.strerror or exc
        if not self._ready_once:
            raise CommandError(f"{self._command[0]} cannot be started: {reason}") from exc
        delay_s = self._delay_s(index, settled=False)
        _log.error("worker %d cannot be started: %s; trying again in %.1f s", index, reason, delay_s)
        self._starts[index] = monotonic() + delay_s

    def _listen(self, process: ServiceProcess) -> None:
        if not process.listen():
            self._selector.unregister(process.link)
        elif not self._ready_once:
            self._ready_once = True
            if not self._stopping:
                self._start_missing()

    def _start_missing(self) -> None:
        now = monotonic()
        # The others follow when the first is ready: what is wrong is said once.
        wanted = self._count if self._ready_once else 1
        self._starts = {index: now for index in range(wanted) if index not in self._running}

    def _ended(self, process: ServiceProcess, status: int) -> None:
        del self._running[process.index]
        if process.link in self._selector.get_map():
            self._selector.unregister(process.link)
        process.link.close()
        if self._stopping:
            self._note_status(process, status)
        elif process.told_to_stop:  # to be replaced
            self._starts[process.index] = monotonic()
        else:
            self._replace(process, status)

    def _note_status(self, process: ServiceProcess, status: int) -> None:
        # One that was still on its way up, and had no handler yet, is none that failed.
        interrupted = not process.ready and status == 128 + signal.SIGTERM
        killed = self._stops > 1  # then the status tells by which signal
        if not interrupted and not killed:
            self._status = max(self._status, status)

    def _replace(self, process: ServiceProcess, status: int) -> None:
        name = self._name(process)
        if self._watch is not None:
            _log.error("%s ended with status %d; waiting for a change of its sources", name, status)
        elif not self._ready_once:
            _log.debug("%s ended with status %d", name, status)
            self._give_up(status)
        else:
            delay_s = self._delay_s(process.index, process.settled)
            when = f"in {delay_s:.1f} s" if delay_s else "at once"
            _log.error("%s ended with status %d; starting another %s", name, status, when)
            self._starts[process.index] = monotonic() + delay_s

    def _name(self, process: ServiceProcess) -> str:
        return f"{'the services' if self._alone else f'worker {process.index}'} (pid {process.pid})"

    def _delay_s(self, index: int, settled: bool) -> float:
        failures = 0 if settled else self._failures[index]
        self._failures[index] = failures + 1
        if failures == 0:
            return 0.0
        return float(min(_BACKOFF_MAX_S, _BACKOFF_MIN_S * 2 ** (failures - 1)) * random.uniform(0.5, 1))

    def _give_up(self, status: int) -> None:
        self._status = status
        self._stops = 1
        self._drain_all()

    def _replace_all(self) -> None:
        assert self._watch is not None
        changed = self._watch.take()
        if self._stopping or not changed:
            return
        _log.info("reloading: %s changed", ", ".join(changed[:3]) + (" ..." if len(changed) > 3 else ""))
        self._drain_all()
        self._start_missing()

    # -- signals

    @contextmanager
    def _signals(self) -> Iterator[None]:
        reader, writer = os.pipe()
        for fd in (reader, writer):
            os.set_blocking(fd, False)
        previous_fd = signal.set_wakeup_fd(writer)
        previous = {number: signal.signal(number, _ignore) for number in _SIGNALS if not _is_ignored(number)}
        self._selector.register(reader, selectors.EVENT_READ, lambda: self._take_signals(os.read(reader, 4096)))
        try:
            yield
        finally:
            for process in self._running.values():  # only when something went wrong: nobody is left behind
                process.kill()
            for number, handler in previous.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(previous_fd)
            self._selector.close()
            os.close(reader)
            os.close(writer)

    def _take_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number != signal.SIGCHLD:  # which is only to wake it up
                self._stop_for(number)

    def _stop_for(self, number: int) -> None:
        self._stops += 1
        if self._stops == 1:
            count = len(self._running)
            noun = "process" if count == 1 else "processes"
            _log.info("%s: stopping %d %s", signal.Signals(number).name, count, noun)
            self._drain_all()
        elif self._stops == 2:
            self._status = 128 + number
            for process in self._running.values():
                process.stop_at_once(_KILL_TIMEOUT_S)
        else:
            for process in self._running.values():
                process.kill()

    def _drain_all(self) -> None:
        self._starts.clear()
        for process in self._running.values():
            if not process.told_to_stop:  # by a change of its sources: to be told twice would kill it
                process.stop(self._stop_timeout_s + _STOP_MARGIN_S)


def _is_ignored(number: signal.Signals) -> bool:
    """Whether whoever has started this process wants it to ignore a signal, as a shell script does with Ctrl-C."""
    return number != signal.SIGCHLD and signal.getsignal(number) is signal.SIG_IGN


def _ignore(number: int, frame: object) -> None:
    """Let the signal wake the selector up, through the wake-up descriptor, and do nothing else."""


def own_command_line(*options: str) -> list[str]:
    """The command line that started this process, options of the interpreter included, and `options` besides."""
    return [sys.executable, *options, *sys.orig_argv[1:]]
