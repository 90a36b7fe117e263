"""What is wrong with the names by which plugins are selected: those that are required, and those that are disabled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from nameko.plugins._discovery import PluginInfo, Status
from nameko.plugins._selection import CONFIG_KEY, Selection
from nameko.suggestions import did_you_mean


def describe_unmet_requirements(selection: Selection, plugins: Sequence[PluginInfo]) -> Iterator[str]:
    """A line for each name that is required while there is no such plugin, or it is blocked."""
    for name in sorted(selection.require - _names(info for info in plugins if info.status is not Status.BLOCKED)):
        start = f"plugin {name!r} is required by `{CONFIG_KEY}: require`, but it is"
        blocked = [info for info in plugins if name in (info.name, info.distribution)]
        if blocked:
            yield f"{start} blocked: {blocked[0].problem}"
        else:
            yield f"{start} not installed{did_you_mean(name, [info.name for info in plugins])}"


def describe_unknown_names(selection: Selection, plugins: Sequence[PluginInfo]) -> Iterator[str]:
    """A line for each name that is disabled while there is no such plugin."""
    known = _names(plugins)
    for name in sorted(selection.disable - known):
        yield f"no plugin {name!r} is installed, so there is nothing to disable{did_you_mean(name, known)}"


def _names(plugins: Iterable[PluginInfo]) -> set[str]:
    return {name for info in plugins for name in (info.name, info.distribution) if name}
