"""`nameko show-config`: the configuration in effect, as YAML."""

from __future__ import annotations

import json

import click
import yaml

from nameko.config import config
from nameko.config_keys import declared_keys
from nameko.masking import MASK, mask_config
from nameko.plugins import ConfigKey, PluginManager


def main(plugins: PluginManager, reveal: bool, defaults: bool) -> None:
    """Print the process-wide configuration.

    :param plugins: who declares keys
    :param reveal: show secrets
    :param defaults: add the keys that are declared and not set, as comments
    """
    keys = declared_keys(plugins.config_keys())
    shown = dict(config) if reveal else mask_config(config, {key.name for key in keys.values() if key.secret})
    if shown or not defaults:
        click.echo(_to_yaml(shown), nl=False)
    if defaults:
        for key in keys.values():
            if key.name not in config:
                click.echo(_describe(key))


def _to_yaml(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False)


def _describe(key: ConfigKey) -> str:
    default = MASK if key.secret and key.default is not None else key.default
    return f"# {key.help} ({key.type})\n# {key.name}: {json.dumps(default, default=str)}"  # JSON is YAML in one line
