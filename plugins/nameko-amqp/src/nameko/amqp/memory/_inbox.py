"""What the broker has for one connection, pushed by whoever causes it and taken by whoever drains the connection."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from amqp.exceptions import RecoverableConnectionError
from nameko.concurrency import Doorbell, Event, sleep

#: A function of the connection's side, and its arguments.
Happening = tuple[Callable[..., None], tuple[Any, ...]]

# A reader that always finds something never waits; it has to let the other greenthreads run all the same.
_TAKEN_BETWEEN_YIELDS = 100


class Inbox:
    """A queue of happenings. `put` wakes the reader, from any thread; the readers must all be in one."""

    def __init__(self) -> None:
        self._happenings: deque[Happening] = deque()
        self._wakeup: Any = None
        self._doorbell: Doorbell | None = None
        self._closed = False
        self._taken = 0

    def put(self, fn: Callable[..., None], *args: Any) -> None:
        """Have the reader call `fn(*args)`. Called with the broker's lock held."""
        self._happenings.append((fn, args))
        if self._wakeup is not None:
            self._wake_up()

    def close(self) -> None:
        """No more happenings: what there is can still be taken. Called with the broker's lock held."""
        self._closed = True
        if self._wakeup is not None:
            self._wake_up()
        doorbell, self._doorbell = self._doorbell, None
        if doorbell is not None:
            doorbell.close()

    def _wake_up(self) -> None:
        wakeup, self._wakeup = self._wakeup, None
        if self._doorbell is not None:
            self._doorbell.call(wakeup.send, None)

    def take(self, timeout_s: float | None = None) -> Happening:
        """The next happening. Waits for it in this greenthread.

        :raises socket.timeout: when there is none within `timeout_s` seconds of wall clock; None waits for ever
        :raises RecoverableConnectionError: when there is none and the inbox is closed
        """
        self._taken += 1
        if self._taken % _TAKEN_BETWEEN_YIELDS == 0:
            sleep(0)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            try:
                return self._happenings.popleft()
            except IndexError:
                self._wait(deadline)

    def _wait(self, deadline: float | None) -> None:
        if self._closed:
            raise RecoverableConnectionError("connection already closed")
        wakeup = self._event_of_this_thread()
        if self._happenings:  # put by another thread before it could see the event
            return
        if deadline is None:
            wakeup.wait()
            return
        wakeup.wait(max(0, deadline - time.monotonic()))
        if not self._happenings and time.monotonic() >= deadline:
            raise TimeoutError("timed out")

    def _event_of_this_thread(self) -> Any:
        doorbell = self._doorbell
        if doorbell is None or not doorbell.is_mine():
            self._doorbell = Doorbell()
            self._wakeup = None
            if doorbell is not None:
                doorbell.close()
        if self._wakeup is None:
            self._wakeup = Event()
        return self._wakeup
