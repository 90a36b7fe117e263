"""The line between a process of `nameko run --workers` or `--reload` and its supervisor: a socket pair.

The process says on it that its services are ready. The supervisor tells it on it to kill them. That it ends without a
word, when the supervisor is gone, is how the process knows that nobody looks after it any more.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from functools import cache
from typing import Any

#: The file descriptor.
LINK_VARIABLE = "NAMEKO_SUPERVISOR"
#: What a process sends when its services have started.
READY = b"r"
#: What a supervisor sends, before a SIGTERM, to one whose services are to be killed.
KILL = b"k"

_SUPERVISOR_OPTIONS = ("--workers", "--reload", "--reload-dir")


def wants_supervisor(args: Sequence[str]) -> bool:
    """Whether these arguments of `nameko run` ask for a supervisor, in a process that is none's child."""
    return supervisor_fd() is None and any(arg.partition("=")[0] in _SUPERVISOR_OPTIONS for arg in args)


@cache
def supervisor_fd() -> int | None:
    """The file descriptor of the line to the supervisor; None in a process that never had one.

    It is taken out of the environment, so that programs that a service starts do not find it. Who the parent is says
    nothing: the supervisor may be gone by now.
    """
    fd = os.environ.pop(LINK_VARIABLE, None)
    return None if fd is None else int(fd)


class SupervisorLink:
    """The process's end of the line. Without a supervisor it does nothing. A context manager."""

    def __init__(self) -> None:
        from nameko import concurrency  # not for commands that have nothing to do with processes

        self._concurrency = concurrency
        self._told_to_kill = False
        fd = supervisor_fd()
        self._socket: Any = None
        if fd is not None:
            self._socket = concurrency.original("socket").socket(fileno=fd)
            self._socket.setblocking(False)

    @property
    def is_supervised(self) -> bool:
        """Whether there is a supervisor, or was one."""
        return self._socket is not None

    def __enter__(self) -> SupervisorLink:
        self._watcher = self._concurrency.spawn(self._watch)
        return self

    def __exit__(self, *_: object) -> None:
        self._watcher.kill()

    def tell_ready(self) -> None:
        """Say that the services have started."""
        if self._socket is None:
            return
        try:
            self._socket.send(READY)
        except OSError:  # the supervisor is gone: the watcher finds out as well
            pass

    def told_to_kill(self) -> bool:
        """Whether the supervisor wants the services to be killed. May be called from a signal handler."""
        self._hear()
        return self._told_to_kill

    def _hear(self) -> bool:
        """Take what there is; whether there may be more."""
        try:
            heard = self._socket.recv(1)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._told_to_kill = self._told_to_kill or heard == KILL
        return bool(heard)

    def _watch(self) -> None:
        if self._socket is None:
            return
        while self._hear():
            if self._told_to_kill:  # the signal's handler may have found that taken, and not yet noted
                os.kill(os.getpid(), signal.SIGTERM)
            self._concurrency.wait_readable(self._socket)
        from logging import getLogger  # not for commands that have nothing to do with processes

        getLogger(__name__).warning("the supervisor has ended: stopping as well")
        os.kill(os.getpid(), signal.SIGTERM)
