"""Where a server listens: `host:port`, `[v6]:port`, `port`, `unix:/path`."""

from __future__ import annotations

from typing import NamedTuple

from nameko.addresses import MAX_PORT, UNIX_PREFIX, split_address
from nameko.exceptions import ConfigurationError

DEFAULT_ADDRESS = "127.0.0.1:8000"


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
    host, port = split_address(text) or (None, None)
    if port is None or port > MAX_PORT:
        hint = "" if port is None else f" Ports end at {MAX_PORT}."
        raise ConfigurationError(
            f"WEB_SERVER_ADDRESS: misconfigured bind address {text!r}. "
            f"Should be `[address:]port` or `unix:/path`.{hint}"
        )
    return BindAddress(host or "", port)


BindAddress.__module__ = parse_address.__module__ = "nameko.web.server"
