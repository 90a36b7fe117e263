"""The rules that a plugin's hook implementations must keep, checked before it is registered."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

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
    for name, hook_name, options in _implementations(manager, plugin):
        if hook_name not in HOOK_NAMES and not options.get("optionalhook"):
            return Status.UNKNOWN_HOOK, f"there is no hook `{hook_name}`{did_you_mean(hook_name, HOOK_NAMES)}"
        if options.get("wrapper") or options.get("hookwrapper"):
            return Status.INVALID_HOOK, f"`{name}` is a wrapper, which nameko's hooks do not take"
    return None


def describe_wrong_argument(manager: pluggy.PluginManager, plugin: object) -> str:
    """The first argument that a hook of `plugin` takes and nameko does not give; empty when there is none."""
    for name, hook_name, _ in _implementations(manager, plugin):
        known = list(_required_arguments(getattr(hookspecs, hook_name, None)))
        for argument in _required_arguments(getattr(plugin, name)):
            if argument not in known:
                valid = ", ".join(known) or "none"
                hint = did_you_mean(argument, known)
                return f"`{name}` takes the argument `{argument}`{hint}; those of the hook `{hook_name}` are: {valid}"
    return ""


def _implementations(manager: pluggy.PluginManager, plugin: object) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Name, name of the hook, and options of each."""
    for name in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, name)
        if options is not None:
            yield name, options.get("specname") or name, options


def _required_arguments(function: Callable[..., Any] | None) -> Iterator[str]:
    parameters = inspect.signature(function).parameters.values() if function is not None else ()
    return (parameter.name for parameter in parameters if parameter.default is parameter.empty)


def _forgotten_marks(plugin: object) -> Iterator[str]:
    for name in HOOK_NAMES:
        function = inspect.getattr_static(plugin, name, None)
        if inspect.isfunction(function) and not hasattr(function, _MARK):
            yield name
