"""The options that plugins add to `nameko run` and `nameko shell`."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from typing import Any

import click

from nameko.config_keys import declared_keys
from nameko.config_yaml import load_yaml
from nameko.plugins import ConfigKey, PluginManager, RunOption

_log = getLogger(__name__)


def plugin_options(
    plugins: PluginManager, config: dict[str, Any], taken: Sequence[click.Parameter]
) -> list[click.Option]:
    """An option for each `RunOption`; its callback puts the value into `config`.

    :param taken: the parameters that the command has of its own
    """
    keys = declared_keys(plugins.config_keys())
    flags = {flag for parameter in taken for flag in parameter.opts} | {"--help"}
    options = []
    for plugin, option in plugins.collect_items("nameko_run_options", RunOption):
        if option.flag in flags:
            _log.warning("plugin %s: option %s is left out, it is taken", plugin, option.flag)
            continue
        flags.add(option.flag)
        options.append(_click_option(option, config, keys.get(option.config_key)))
    return options


def _click_option(option: RunOption, config: dict[str, Any], key: ConfigKey | None) -> click.Option:
    def set_key(_: click.Context, __: click.Parameter, text: str | None) -> None:
        if text == "":
            raise click.BadParameter("is empty; leave it out, or give it a value")
        if text is not None:
            config[option.config_key] = text if key is not None and key.type == "str" else load_yaml(text, option.flag)

    help_text = f"{option.help} Sets {option.config_key}."
    return click.Option(
        [option.flag],
        metavar=option.metavar,
        help=help_text,
        envvar=option.envvar,
        show_envvar=option.envvar is not None,
        expose_value=False,
        callback=set_key,
    )
