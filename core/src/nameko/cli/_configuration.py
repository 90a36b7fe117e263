"""The configuration that a command works with: file and options put together, checked, and logging set up by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from nameko.exceptions import ConfigurationError
from nameko.plugins import Selection

if TYPE_CHECKING:
    from nameko.plugins import PluginManager


def read_config(path: str | None, defines: Sequence[str] = ()) -> dict[str, Any]:
    """The configuration in the file at `path`, if any, with the `KEY=YAML` items of `defines` put over it.

    :raises ConfigurationError: when the file or a value is not what it should be
    """
    if path is None and not defines:
        return {}
    from nameko.config_yaml import load_config, load_yaml

    config = {} if path is None else load_config(path)
    for define in defines:
        key, equals, text = define.partition("=")
        if not equals or not key:
            raise click.UsageError(f"--define takes KEY=YAML, not {define!r}.")
        config[key] = load_yaml(text, f"--define {key}")
    return config


def apply_plugin_arguments(config: dict[str, Any], arguments: Sequence[str]) -> None:
    """Put `-p` options into the configuration, where everything that selects plugins stands.

    :raises click.UsageError: when one names nothing
    """
    if not arguments:
        return
    Selection.from_config(config)  # refuses what could not be added to
    settings = dict(config.get("plugins") or {})
    for argument in arguments:
        blocked = argument.removeprefix("no:")
        if not blocked:
            raise click.UsageError(
                f"`-p {argument}` names nothing: it takes `no:NAME` of a plugin, or a module to load"
            )
        key, name = ("load", argument) if blocked == argument else ("disable", blocked)
        settings[key] = [*(settings.get(key) or ()), name]
    config["plugins"] = settings


def configure_logging(config: dict[str, Any]) -> None:
    """Set up logging as `LOGGING` says (for `logging.config.dictConfig`), or plain messages from INFO on to stderr.

    :raises ConfigurationError: when `LOGGING` is not what `dictConfig` takes
    """
    import logging  # not for `nameko plugins`, which would wait for it

    settings = config.get("LOGGING")
    if settings is None:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        return
    from logging.config import dictConfig

    try:
        dictConfig(settings)
    except (ValueError, TypeError, AttributeError, ImportError) as exc:
        cause = f": {exc.__cause__}" if exc.__cause__ else ""
        raise ConfigurationError(f"configuration key 'LOGGING': {exc}{cause}") from exc


def check(config: Mapping[str, Any], plugins: PluginManager) -> None:
    """Check the configuration against the keys that are declared; what looks like a misspelt key is logged.

    :raises ConfigurationError: when a value has the wrong type
    """
    import logging

    from nameko.config_keys import check_types, declared_keys, suggestions

    keys = declared_keys(plugins.config_keys())
    for key, meant in suggestions(config, keys).items():
        logging.getLogger(__name__).warning("configuration key %r is not known; did you mean %r?", key, meant)
    check_types(config, keys)
