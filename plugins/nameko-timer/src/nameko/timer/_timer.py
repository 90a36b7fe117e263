"""The timer entrypoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from logging import getLogger
from typing import TYPE_CHECKING, Any

from nameko.concurrency import Event, GreenletExit, sleep
from nameko.exceptions import ConfigurationError, ContainerBeingKilled
from nameko.extensions import Entrypoint, ExcInfo
from nameko.timer._schedule import Schedule

if TYPE_CHECKING:
    from typing_extensions import Self

    from nameko.containers import ServiceContainer, WorkerContext

_log = getLogger(__name__)

# Seconds until the next try when no worker could be made: not at once, or an interval of 0 would fill the log.
_PAUSE_AFTER_FAILURE_S = 1


class Timer(Entrypoint):
    """Runs a method every `interval` seconds, in each instance of the service.

    Ticks are due at start + n * interval by a monotonic clock, so they do not drift and do not mind when somebody sets
    the clock. There is one worker at a time: a tick that is due while the method is still running waits, and ticks that
    are late for that reason are made up for one after the other, without a pause. Ticks that were missed because the
    whole process stood still for more than a few seconds are left out. Whatever the method raises, it is run again.

    :param interval: seconds from tick to tick; with 0 the method runs again as soon as it has ended
    :param eager: whether the first tick is at start rather than one interval later
    :param kwargs: `expected_exceptions` and `sensitive_arguments`, as for every entrypoint
    """

    def __init__(self, interval: float, eager: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.interval = interval
        self.eager = eager
        self._thread: Any = None

    def bind(self, container: ServiceContainer, method_name: str) -> Self:  # type: ignore[override]
        """A clone that belongs to `container`.

        :raises ConfigurationError: when the interval is not a number of at least 0
        """
        bound = super().bind(container, method_name)
        interval = bound.interval
        is_number = isinstance(interval, (int, float)) and not isinstance(interval, bool)
        if not is_number or not math.isfinite(interval) or interval < 0:
            where = f"{container.service_name}.{method_name}"
            raise ConfigurationError(f"{where}: the interval of a timer is a number of seconds, not {interval!r}.")
        return bound

    def describe(self) -> Mapping[str, str]:
        """How often it ticks."""
        return {"interval_s": f"{self.interval:g}"}

    def start(self) -> None:
        """Start ticking."""
        self._thread = self.container.spawn_managed_thread(self._run, identifier=f"timer of {self.method_name}")

    def stop(self) -> None:
        """Stop ticking at once; a worker that is running goes on."""
        if self._thread is not None:
            self._thread.kill()

    def kill(self) -> None:
        """Stop ticking at once."""
        self.stop()

    def _run(self) -> None:
        schedule = Schedule(self.interval, eager=self.eager)
        while True:
            seconds_left = schedule.seconds_left()
            if seconds_left > 0:
                sleep(seconds_left)
                skipped = schedule.skip_missed()
                if skipped:
                    _log.warning("%r leaves out %d ticks: the process stood still meanwhile", self, skipped)
            try:
                self._run_worker()
            except ContainerBeingKilled:
                return
            except GreenletExit:
                raise
            except BaseException:  # of a container class that is not ours
                _log.exception("%r could not run its method", self)
                sleep(_PAUSE_AFTER_FAILURE_S)
            schedule.advance()

    def _run_worker(self) -> None:
        ended = Event()

        def handle_result(worker_ctx: WorkerContext, result: Any, exc_info: ExcInfo | None) -> Any:
            ended.send(None)
            return result, exc_info

        self.container.spawn_worker(self, (), {}, handle_result=handle_result)
        ended.wait()


timer = Timer.decorator

Timer.__module__ = "nameko.timer"
