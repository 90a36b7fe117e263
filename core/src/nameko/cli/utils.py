"""What the 3.0 line's commands are made of, for commands of others that are made of it. None of ours is."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike, fspath
from typing import IO, Any

from nameko.cli._configuration import configure_logging, read_config
from nameko.cli._services import import_service
from nameko.config import config
from nameko.config_yaml import load_yaml
from nameko.constants import AMQP_URI_CONFIG_KEY
from nameko.exceptions import ConfigurationError

__all__ = ["import_services", "setup_config"]


def setup_config(
    config_file: str | PathLike[str] | IO[Any] | None,
    define: Iterable[tuple[str, Any]] | None = None,
    broker: str | None = None,
) -> None:
    """Make `nameko.config` what a file and options say, and set up logging as it says.

    :param config_file: YAML: its path, or open for reading; None for no file
    :param define: pairs of a key and its value, which go before what the file says
    :param broker: the `AMQP_URI`, where neither says
    :raises ConfigurationError: when the file does not hold a mapping, or cannot be read
    """
    values = {} if broker is None else {AMQP_URI_CONFIG_KEY: broker}
    values |= _read(config_file)
    values |= dict(define or ())
    config.setup(values)
    configure_logging(values)


def _read(config_file: str | PathLike[str] | IO[Any] | None) -> dict[str, Any]:
    if config_file is None:
        return {}
    if isinstance(config_file, (str, PathLike)):
        return read_config(fspath(config_file))
    content = config_file.read()
    source = getattr(config_file, "name", "configuration")
    values = load_yaml(content.decode() if isinstance(content, bytes) else content, source)
    if values is not None and not isinstance(values, dict):
        raise ConfigurationError(f"{source}: the configuration must be a mapping, not {values!r}.")
    return values or {}


def import_services(module_name: str) -> list[type]:
    """The service classes that `module` or `module:Class` names.

    :raises CommandError: when there is none, or the module cannot be imported
    """
    return import_service(module_name)
