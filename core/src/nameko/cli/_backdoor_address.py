"""Where a backdoor is: a Unix socket in a directory of the user's own, or a loopback TCP port."""

from __future__ import annotations

import ipaddress
import os

from nameko.exceptions import ConfigurationError
from nameko.unix_sockets import private_directory

DEFAULT_HOST = "127.0.0.1"


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
