"""The rules that a plugin's hook implementations must keep, checked before it is registered."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pluggy

from nameko import hookspecs
from nameko.plugins._discovery import Status
from nameko.suggestions import did_you_mean

HOOK_NAMES = tuple(name for name in vars(hookspecs) if name.startswith("nameko_"))

_MARK = f"{hookspecs.PROJECT_NAME}_impl"


def find_fault(manager: pluggy.PluginManager, plugin: object) -> tuple[Status, str] | None:
    """The first rule that `plugin` breaks, apart from the signatures, which pluggy checks; None when there is none."""
    for name in _forgotten_marks(plugin):
        return Status.INVALID_HOOK, f"`{name}` is not marked with @nameko.plugins.hookimpl"
    for name in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, name)
        if options is None:
            continue
        hook_name = options.get("specname") or name
        if hook_name not in HOOK_NAMES and not options.get("optionalhook"):
            return Status.UNKNOWN_HOOK, f"there is no hook `{hook_name}`{did_you_mean(hook_name, HOOK_NAMES)}"
        if options.get("wrapper") or options.get("hookwrapper"):
            return Status.INVALID_HOOK, f"`{name}` is a wrapper, which nameko's hooks do not take"
    return None


def _forgotten_marks(plugin: object) -> Iterator[str]:
    for name in HOOK_NAMES:
        function = inspect.getattr_static(plugin, name, None)
        if inspect.isfunction(function) and not hasattr(function, _MARK):
            yield name
