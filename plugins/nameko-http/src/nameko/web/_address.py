"""Where a server listens: `host:port`, `[v6]:port`, `port`, `unix:/path`."""

from __future__ import annotations

import re
from typing import NamedTuple

from nameko.exceptions import ConfigurationError

DEFAULT_ADDRESS = "127.0.0.1:8000"
UNIX_PREFIX = "unix:"

_ADDRESS = re.compile(r"(?:(?:\[(?P<v6>[^\[\]]+)\]|(?P<host>[^:\[\]]*)):)?(?P<port>[0-9]{1,9})", re.ASCII)
_MAX_PORT = 65535


class BindAddress(NamedTuple):
    """Where a server listens. For a Unix socket the address is `unix:/path` and the port 0."""

    address: str
    port: int

    @property
    def unix_path(self) -> str | None:
        """The path of the Unix socket; None for an address of the network."""
        return self.address[len(UNIX_PREFIX) :] if self.address.startswith(UNIX_PREFIX) else None

    def __str__(self) -> str:
        if self.unix_path is not None:
            return self.address
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def parse_address(address_string: str) -> BindAddress:
    """The address in `"[host:]port"` or `"unix:/path"`. Without a host: every interface, as nameko 2.14 has it.

    :raises ConfigurationError: when it is neither
    """
    text = str(address_string)
    if text.startswith(UNIX_PREFIX) and len(text) > len(UNIX_PREFIX):
        return BindAddress(text, 0)
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > _MAX_PORT:
        hint = "" if match is None else f" Ports end at {_MAX_PORT}."
        raise ConfigurationError(
            f"WEB_SERVER_ADDRESS: misconfigured bind address {text!r}. "
            f"Should be `[address:]port` or `unix:/path`.{hint}"
        )
    return BindAddress(match["v6"] or match["host"] or "", int(match["port"]))


BindAddress.__module__ = parse_address.__module__ = "nameko.web.server"
