"""Where the health of a process is told: the configuration, for the process itself and for whoever asks it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nameko.addresses import UNIX_PREFIX, Address, parse_address
from nameko.exceptions import ConfigurationError
from nameko.unix_sockets import private_directory

ADDRESS_KEY = "HEALTH_ADDRESS"
SOCKET_KEY = "HEALTH_SOCKET"
PATH_KEY = "HEALTH_PATH"

DEFAULT_PATH = "/health"
_SOCKET_NAME = "health.sock"


@dataclass(frozen=True)
class HealthSettings:
    """The settings of health.

    :param addresses: where to tell it, by the configuration keys that they come from; besides the web server
    :param path: at which path, with `/live` and `/ready` below it
    :param on_web_server: whether the web server of the service tells it
    """

    addresses: Mapping[str, Address]
    path: str
    on_web_server: bool

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> HealthSettings:
        """The settings in `config`, and the defaults of those that it does not have.

        :raises ConfigurationError: when a value cannot be what its key means
        """
        path = config.get(PATH_KEY)
        if path is not None and path is not False and not isinstance(path, str):
            raise ConfigurationError(f"{PATH_KEY} must be a path, or false, not {path!r}")
        return cls(dict(_addresses(config)), path or DEFAULT_PATH, on_web_server=path is not False)


def default_socket() -> Address:
    """The Unix socket of `HEALTH_SOCKET: true`, in a directory that is the user's own.

    :raises ConfigurationError: when others have access to that directory
    """
    return Address("", 0, os.path.join(private_directory(), _SOCKET_NAME))


def _addresses(config: Mapping[str, Any]) -> Iterator[tuple[str, Address]]:
    socket = config.get(SOCKET_KEY)
    if socket is True:
        yield SOCKET_KEY, default_socket()
    elif isinstance(socket, str) and socket:
        yield SOCKET_KEY, Address("", 0, socket.removeprefix(UNIX_PREFIX))
    elif socket is not None and socket is not False:
        raise ConfigurationError(f"{SOCKET_KEY} must be the path of a Unix socket, true or false, not {socket!r}")
    address = config.get(ADDRESS_KEY)
    if address is not None:
        yield ADDRESS_KEY, parse_address(address, ADDRESS_KEY)
