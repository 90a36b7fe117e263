"""Unix sockets to listen on: in a directory of the user's own, closed to others, and with nothing stale in the way."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from typing import Any

from nameko.exceptions import ConfigurationError

# Whether somebody listens there, the kernel knows at once; it only takes longer when that somebody is overloaded.
_PROBE_TIMEOUT_S = 1


def private_directory() -> str:
    """The directory that holds the sockets of this user's processes; made, if need be, so that nobody else can enter.

    It is `nameko` in `XDG_RUNTIME_DIR`, or `nameko-<user id>` in the directory for temporary files.

    :raises ConfigurationError: when there is something else in its place, or others have access to it
    """
    runtime_directory = os.environ.get("XDG_RUNTIME_DIR")
    if runtime_directory:
        path = os.path.join(runtime_directory, "nameko")
    else:
        path = os.path.join(tempfile.gettempdir(), f"nameko-{os.getuid()}")
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        found = os.lstat(path)
    except OSError as exc:
        raise ConfigurationError(f"no directory for sockets: {path}: {exc.strerror}") from exc
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigurationError(f"{path} must be a directory of this user that nobody else has access to (mode 0700)")
    return path


def bind_privately(sock: Any, path: str) -> None:
    """Bind `sock` to `path`, which only this user may connect to (mode 0600).

    A socket that a process left behind when it was killed makes way; one that somebody listens on does not.

    :raises OSError: when it cannot be bound
    """
    remove_stale(path)
    mask = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(mask)


def remove_stale(path: str) -> None:
    """Remove the socket at `path` if nobody listens there: the process that made it was killed."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_TIMEOUT_S)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:  # busy: somebody is there, as binding will tell
            pass
