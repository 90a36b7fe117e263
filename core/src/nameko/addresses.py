"""Where a server listens: `[host:]port`, `[v6]:port` or `unix:/path`, and one for each of several processes."""

from __future__ import annotations

import re
from typing import NamedTuple

from nameko.exceptions import ConfigurationError

DEFAULT_HOST = "127.0.0.1"
UNIX_PREFIX = "unix:"

_ADDRESS = re.compile(r"(?:(?:\[(?P<v6>[^\[\]]+)\]|(?P<host>[^:\[\]]*)):)?(?P<port>[0-9]{1,9})", re.ASCII)
#: The last port of TCP, whose header has 16 bits for it.
MAX_PORT = 65535


class Address(NamedTuple):
    """Where a server listens: host and port, or the path of a Unix socket."""

    host: str
    port: int
    unix_path: str | None = None

    def of_worker(self, index: int) -> Address:
        """The address of one of several processes with the same configuration: the port, or the path, differs by it.

        The first process (0) has the address itself, and so has each one that asks for any free port (port 0).

        :raises ConfigurationError: when there is no such port
        """
        if self.unix_path is not None:
            return self._replace(unix_path=f"{self.unix_path}.{index}") if index else self
        if self.port and self.port + index > MAX_PORT:
            raise ConfigurationError(f"there is no port {self.port + index} for worker process {index} to listen on")
        return self._replace(port=self.port + index) if self.port else self

    def __str__(self) -> str:
        if self.unix_path is not None:
            return f"{UNIX_PREFIX}{self.unix_path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str | int, key: str) -> Address:
    """The address that `text` is. Without a host it is on the loopback interface.

    :param key: the configuration key or argument that it comes from, for the error
    :raises ConfigurationError: when it is none
    """
    text = str(text)
    if text.startswith(UNIX_PREFIX) and len(text) > len(UNIX_PREFIX):
        return Address("", 0, text[len(UNIX_PREFIX) :])
    host, port = split_address(text) or (None, None)
    if port is None or port > MAX_PORT:
        hint = "" if port is None else f": ports end at {MAX_PORT}"
        raise ConfigurationError(f"{key} must be `[host:]port` or `unix:/path`, not {text!r}{hint}")
    return Address(host or DEFAULT_HOST, port)


def split_address(text: str) -> tuple[str | None, int] | None:
    """Host and port of `[host:]port` or `[v6]:port`: no host where none is named; None when `text` is neither.

    The port may be greater than `MAX_PORT`.
    """
    match = _ADDRESS.fullmatch(text)
    return None if match is None else (match["v6"] or match["host"] or None, int(match["port"]))
