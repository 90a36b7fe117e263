"""Plugins: what a plugin author imports, and the manager that finds, checks and loads plugins.

Names are imported when they are first used: to list what is installed takes neither pluggy nor the hooks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nameko.plugins._declarations import ConfigKey, ExtensionInfo, RunOption, Stat
    from nameko.plugins._discovery import PluginInfo, Status, find_plugins
    from nameko.plugins._manager import PluginManager, hookimpl, plugins_for
    from nameko.plugins._metadata import installed_version
    from nameko.plugins._named import describe_unknown_names, describe_unmet_requirements
    from nameko.plugins._selection import Selection

__all__ = [
    "ConfigKey",
    "ExtensionInfo",
    "PluginInfo",
    "PluginManager",
    "RunOption",
    "Selection",
    "Stat",
    "Status",
    "describe_unknown_names",
    "describe_unmet_requirements",
    "find_plugins",
    "hookimpl",
    "installed_version",
    "plugins_for",
]

_HOMES = {
    "ConfigKey": "_declarations",
    "ExtensionInfo": "_declarations",
    "RunOption": "_declarations",
    "Stat": "_declarations",
    "PluginInfo": "_discovery",
    "Status": "_discovery",
    "find_plugins": "_discovery",
    "PluginManager": "_manager",
    "installed_version": "_metadata",
    "describe_unknown_names": "_named",
    "describe_unmet_requirements": "_named",
    "hookimpl": "_manager",
    "plugins_for": "_manager",
    "Selection": "_selection",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if isinstance(value, type):
        value.__module__ = __name__
    globals()[name] = value
    return value
