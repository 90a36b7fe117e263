"""What the broker has for one connection, pushed by whoever causes it and taken by whoever drains the connection."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from amqp.exceptions import RecoverableConnectionError
from nameko.concurrency import Doorbell, Event, has_hub, original, sleep

#: A function of the connection's side, and its arguments.
Happening = tuple[Callable[..., None], tuple[Any, ...]]

# A reader that always finds something never waits; it has to let the other greenthreads run all the same.
_TAKEN_BETWEEN_YIELDS = 100


class Inbox:
    """A queue of happenings. `put` wakes the reader, from any thread; the readers must all be in one.

    In a thread with greenthreads, only the reader's greenthread waits. In another one, all of the thread does.
    """

    def __init__(self) -> None:
        self._happenings: deque[Happening] = deque()
        self._wake_up: Callable[[], object] | None = None
        self._green_event: Any = None  # that `_wake_up` sends, for any number of greenthreads
        self._doorbell: Doorbell | None = None
        self._closed = False
        self._taken = 0

    # -- for the broker, with its lock held

    def put(self, fn: Callable[..., None], *args: Any) -> None:
        """Have the reader call `fn(*args)`."""
        self._happenings.append((fn, args))
        if self._wake_up is not None:
            self._wake_readers()

    def close(self) -> None:
        """No more happenings: what there is can still be taken."""
        self._closed = True
        if self._wake_up is not None:
            self._wake_readers()
        doorbell, self._doorbell = self._doorbell, None
        if doorbell is not None:
            doorbell.close()

    def _wake_readers(self) -> None:
        wake_up, self._wake_up, self._green_event = self._wake_up, None, None
        if wake_up is not None:
            wake_up()

    def call_in_hub(self, fn: Callable[..., object], *args: Any) -> bool:
        """Call `fn(*args)` in the hub of the thread that drains this; False when there is none."""
        doorbell = self._doorbell
        if doorbell is None:
            return False
        doorbell.call(fn, *args)
        return True

    # -- for readers

    def take(self, timeout_s: float | None = None) -> Happening:
        """The next happening. Waits for it.

        :raises TimeoutError: when there is none within `timeout_s` seconds of wall clock; None waits for ever
        :raises RecoverableConnectionError: when there is none and the inbox is closed
        """
        self._taken += 1
        if self._taken % _TAKEN_BETWEEN_YIELDS == 0 and has_hub():
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
        if self._happenings or self._closed:  # by another thread, before it could see the event
            return
        if deadline is None:
            wakeup.wait()
            return
        wakeup.wait(max(0, deadline - time.monotonic()))
        if not self._happenings and time.monotonic() >= deadline:
            raise TimeoutError("timed out")

    def _event_of_this_thread(self) -> Any:
        # Always a local one is returned: another thread may use up and forget the attributes at any time.
        if not has_hub():
            native_event = original("threading").Event()
            self._green_event, self._wake_up = None, native_event.set
            return native_event
        doorbell, event = self._doorbell, self._green_event
        if doorbell is None or not doorbell.is_mine():
            if doorbell is not None:
                doorbell.close()
            doorbell, event = Doorbell(), None
            self._doorbell = doorbell
        if event is None:
            event = Event()
            self._green_event, self._wake_up = event, partial(doorbell.call, event.send, None)
        return event
