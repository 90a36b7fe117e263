"""The log of observers that fail: the first failure with its traceback, then a line now and then that counts the rest.

An observer that fails for every message would otherwise write a traceback for each of them.
"""

from __future__ import annotations

import atexit
import logging
import sys
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

_log = logging.getLogger("nameko.observers")

#: Seconds between two records about one observer.
INTERVAL_S = 5.0


def report_failure(plugin: object, fn: Callable[..., Any], exc: BaseException) -> None:
    """Log, now or soon, that an observer has failed.

    :param plugin: whom to blame
    :param fn: the observer. Its failures are counted for as long as it lives, whoever calls it
    """
    try:
        failing = _failing.setdefault(fn, _FailingObserver(plugin, getattr(fn, "__name__", fn)))
    except TypeError:  # it cannot be remembered
        failing = _FailingObserver(plugin, fn)
    failing.report(exc)


def tell_what_is_left(fns: Iterable[Callable[..., Any]]) -> None:
    """Log what has been counted of these observers' failures, rather than later."""
    if _failing:
        for fn in fns:
            try:
                failing = _failing.get(fn)
            except TypeError:
                continue
            if failing is not None:
                failing.tell()


class _FailingObserver:
    # The function itself would keep itself alive in here.

    def __init__(self, plugin: object, name: object) -> None:
        self._plugin = plugin
        self._name = name
        self._quiet_until = 0.0
        self._shown: type[BaseException] | None = None  # the last traceback that was logged is of such an exception
        self._told = False
        self._untold = 0
        self._last = ""
        self._timer: Any = None

    def report(self, exc: BaseException) -> None:
        self._untold += 1
        self._last = type(exc).__name__
        if monotonic() >= self._quiet_until:
            is_new = type(exc) is not self._shown
            self._shown = type(exc)
            self._tell(exc if is_new else None)
        elif self._untold == 1:
            self._tell_later()

    def tell(self) -> None:
        if self._untold:
            self._tell(None)

    def _tell_later(self) -> None:
        atexit.register(self.tell)
        # Where there is no hub, as in a program without services, the next failure or the end of the process tells.
        concurrency = sys.modules.get("nameko.concurrency")
        if concurrency is not None and concurrency.has_hub():
            # A log handler may wait, which the hub must not.
            delay_s = self._quiet_until - monotonic()
            self._timer = concurrency.schedule(delay_s, concurrency.spawn_detached, self.tell)

    def _tell(self, exc: BaseException | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        atexit.unregister(self.tell)
        self._quiet_until = monotonic() + INTERVAL_S
        count, self._untold = self._untold, 0
        what = self._describe(count)
        self._told = True
        _log.error("plugin %s: observer %r failed%s", self._plugin, self._name, what, exc_info=exc)

    def _describe(self, count: int) -> str:
        if not self._told:
            return " and is ignored"
        times = "once more" if count == 1 else f"{count} more times"
        return f" {times} and is ignored, most recently with {self._last}"


# By the function, of which there is one for each hook of a plugin.
_failing: WeakKeyDictionary[Callable[..., Any], _FailingObserver] = WeakKeyDictionary()
