"""Waiting for a call of some method."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from nameko.concurrency import Event
from nameko.extensions import ExcInfo

#: Called with (args, kwargs, result, exc_info) of a call; whether it is the one that is waited for.
CallFilter = Callable[[tuple[Any, ...], dict[str, Any], Any, "ExcInfo | None"], Any]


class WaitResult:
    """The outcome of what is waited for."""

    class NotReady(Exception):
        """There is no outcome yet."""

    def __init__(self) -> None:
        self.has_result = False
        self._result: Any = None
        self._exception: BaseException | None = None

    def send(self, result: Any, exc_info: ExcInfo | None) -> None:
        """Set the outcome; the first one counts."""
        if not self.has_result:
            self.has_result = True
            self._result = result
            self._exception = exc_info[1] if exc_info is not None else None

    def get(self) -> Any:
        """The result.

        :raises NotReady: when there is none yet
        :raises: what was raised instead of a result
        """
        if not self.has_result:
            raise WaitResult.NotReady("there is no result yet: call get() after the block")
        if self._exception is not None:
            raise self._exception
        return self._result


@contextmanager
def wait_for_call(obj: Any, target: str, callback: CallFilter | None = None) -> Iterator[WaitResult]:
    """At the end of the block, wait until the method `target` of `obj` has been called, in the block or afterwards.

    The wait has no limit of its own: put a timeout around it.

    :param callback: called after each call with its arguments, its result and, if it raised, `sys.exc_info()`; the wait
        goes on until it returns something true, and ends with what it raises
    :returns: yields the outcome of the call, for after the block
    """
    result = WaitResult()
    ended = Event()

    def end_wait_if_wanted(args: tuple[Any, ...], kwargs: dict[str, Any], value: Any, exc_info: Any) -> None:
        if ended.ready():
            return
        try:
            if callback is None or callback(args, kwargs, value, exc_info):
                result.send(value, exc_info)
                ended.send(None)
        except Exception as exc:  # the caller of the method is not to blame
            ended.send_exception(exc)

    original = getattr(obj, target)

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            value = original(*args, **kwargs)
        except BaseException:
            end_wait_if_wanted(args, kwargs, None, sys.exc_info())
            raise
        end_wait_if_wanted(args, kwargs, value, None)
        return value

    with patch.object(obj, target, new=_like_attribute(obj, target, call)):
        yield result
        ended.wait()


def _like_attribute(obj: Any, name: str, function: Callable[..., Any]) -> Any:
    # On a class, a plain function would be given `self` where the original takes none.
    is_bound_to_class = isinstance(inspect.getattr_static(obj, name, None), (staticmethod, classmethod))
    return staticmethod(function) if inspect.isclass(obj) and is_bound_to_class else function
