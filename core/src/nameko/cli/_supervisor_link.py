"""The line between a process of `nameko run --workers` or `--reload` and its supervisor: a socket pair.

The process says on it that its services are ready. That it ends without a word, when the supervisor is gone, is how the
process knows that nobody looks after it any more.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from functools import cache

#: The file descriptor.
LINK_VARIABLE = "NAMEKO_SUPERVISOR"
#: What a process sends when its services have started.
READY = b"r"

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
        import socket  # not for commands that have nothing to do with processes

        fd = supervisor_fd()
        self._socket = None if fd is None else socket.socket(fileno=fd)

    def __enter__(self) -> SupervisorLink:
        from nameko import concurrency

        self._watcher = concurrency.spawn(self._watch)
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

    def _watch(self) -> None:
        if self._socket is None:
            return
        try:
            self._socket.recv(1)  # nothing is ever sent: it ends when the supervisor does
        except OSError:
            pass
        from logging import getLogger  # not for commands that have nothing to do with processes

        getLogger(__name__).warning("the supervisor has ended: stopping as well")
        os.kill(os.getpid(), signal.SIGTERM)
