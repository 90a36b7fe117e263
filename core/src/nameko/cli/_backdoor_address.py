"""Where a backdoor is: a Unix socket in a directory of the user's own, or a loopback TCP port."""

from __future__ import annotations

import ipaddress
import os
import stat
import tempfile

from nameko.exceptions import ConfigurationError

DEFAULT_HOST = "127.0.0.1"


def private_directory() -> str:
    """The directory that holds the sockets of this user's processes; made, if need be, so that nobody else can enter.

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
        raise ConfigurationError(f"no directory for the backdoor's socket: {path}: {exc.strerror}") from exc
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigurationError(f"{path} must be a directory of this user that nobody else has access to (mode 0700)")
    return path


def socket_path(pid: int) -> str:
    """The socket of the process `pid`."""
    return os.path.join(private_directory(), f"{pid}.sock")


def parse_loopback_address(text: str | int) -> tuple[str, int]:
    """The host and port of `[host:]port`.

    :raises ConfigurationError: when it is no address, or not one of the loopback interface
    """
    host, _, port = str(text).rpartition(":")
    host = host.strip("[]") or DEFAULT_HOST
    if not port.isdecimal() or int(port) > 65535:
        raise ConfigurationError(f"{text!r} is not an address of the form [host:]port")
    if not _is_loopback(host):
        raise ConfigurationError(f"a backdoor listens on loopback addresses only (127.0.0.1, ::1), not on {host!r}")
    return host, int(port)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
