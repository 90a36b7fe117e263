"""Plugins: what a plugin author imports, and the manager that finds, checks and loads plugins."""

from __future__ import annotations

import pluggy

from nameko.plugins._declarations import ConfigKey, ExtensionInfo, RunOption
from nameko.plugins._discovery import PluginInfo, Status, find_plugins
from nameko.plugins._manager import PluginManager, plugins_for
from nameko.plugins._selection import Selection

__all__ = [
    "ConfigKey",
    "ExtensionInfo",
    "PluginInfo",
    "PluginManager",
    "RunOption",
    "Selection",
    "Status",
    "find_plugins",
    "hookimpl",
    "plugins_for",
]

#: Marks a function of a plugin module as the implementation of the hook of the same name.
hookimpl = pluggy.HookimplMarker("nameko")

for _name in __all__:
    _public = globals()[_name]
    if isinstance(_public, type):
        _public.__module__ = __name__
del _name, _public
