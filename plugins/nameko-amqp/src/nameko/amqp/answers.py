"""Waiting for the broker's answer to a method, for connections and channels."""

from __future__ import annotations

import errno
from collections.abc import Callable
from time import monotonic
from typing import Any

from amqp.exceptions import RecoverableConnectionError

#: Seconds that a synchronous method may wait for the broker's answer.
ANSWER_TIMEOUT_S = 30.0


class Answers:
    """What `Connection` and `Channel` share: waiting by the wall clock, and why the broker has closed it."""

    _pending: dict[Any, Any]
    connection: Any
    #: Why the broker has closed this, once it has.
    closed_by: Exception | None = None

    def wait(
        self,
        method: Any,
        callback: Callable[..., Any] | None = None,
        timeout: float | None = None,
        returns_tuple: bool = False,
    ) -> Any:
        """Wait for `method`, or any of a list of them, and return its arguments.

        :raises ChannelError, ConnectionError: when the broker closes the channel or the connection instead
        :raises TimeoutError: when no answer comes within `timeout` seconds
        """
        methods = method if isinstance(method, list) else [method]
        answers: list[tuple[Any, ...]] = []
        for each in methods:
            self._pending[each] = lambda _, *arguments: answers.append(arguments)
        deadline = monotonic() + (timeout or ANSWER_TIMEOUT_S)
        try:
            while not answers:
                self._await_progress(deadline - monotonic())
        finally:
            for each in methods:
                self._pending.pop(each, None)
        arguments = answers[0]
        if callback is not None:
            callback(method, *arguments)
        return arguments if returns_tuple else (arguments and arguments[0])

    def send_method(self, *args: Any, **options: Any) -> Any:
        """As py-amqp's, but a channel that the broker has closed says why."""
        if self.connection is None and self.closed_by is not None:
            raise self.closed_by
        return super().send_method(*args, **options)  # type: ignore[misc]

    def _await_progress(self, remaining_s: float) -> None:
        if self.closed_by is not None:
            raise self.closed_by
        if self.connection is None:
            raise RecoverableConnectionError("connection already closed")
        if remaining_s <= 0:
            raise TimeoutError(errno.ETIMEDOUT, "the broker did not answer in time")
        self.connection.drain_events(timeout=remaining_s)
