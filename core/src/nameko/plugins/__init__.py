"""Plugins: what a plugin author imports, and the manager that finds, checks and loads plugins."""

from __future__ import annotations

import pluggy

from nameko.plugins._declarations import ConfigKey, ExtensionInfo, RunOption
from nameko.plugins._manager import PluginManager, plugins_for

__all__ = ["ConfigKey", "ExtensionInfo", "PluginManager", "RunOption", "hookimpl", "plugins_for"]

#: Marks a function of a plugin module as the implementation of the hook of the same name.
hookimpl = pluggy.HookimplMarker("nameko")
