"""The commands that plugins add to the command line."""

from __future__ import annotations

from collections.abc import Container
from logging import getLogger

import click

from nameko.plugins import PluginInfo, PluginManager
from nameko.plugins._failures import blaming

_log = getLogger(__name__)


def collect_commands(plugins: PluginManager, built_in: Container[str]) -> dict[str, click.Command]:
    """The commands of plugins by name. Of two with one name the built-in one stays, or that of the first plugin."""
    commands: dict[str, click.Command] = {}
    for plugin, offered in commands_by_plugin(plugins).items():
        for name, command in offered.items():
            if name in built_in or name in commands:
                _log.warning("plugin %s: command %r is left out, there is one of that name", plugin, name)
            else:
                commands[name] = command
    return commands


def commands_by_plugin(plugins: PluginManager) -> dict[PluginInfo, dict[str, click.Command]]:
    """The commands that each plugin offers."""
    offered = {}
    for plugin, add_commands in plugins.observers("nameko_commands"):
        group = click.Group("nameko")
        with blaming(plugin, "nameko_commands"):
            add_commands(cli=group)
            offered[plugin] = dict(group.commands)
    return offered
