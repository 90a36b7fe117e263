"""Which plugins are installed, as the metadata of distributions says. Nothing of a plugin is imported here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from nameko.plugins._installed import Distribution, entry_points, installed_distributions
from nameko.plugins._metadata import Metadata
from nameko.plugins._selection import Selection

ENTRY_POINT_GROUP = "nameko"


class Status(str, Enum):
    """What has become of a plugin."""

    ENABLED = "enabled"  # installed and selected; not imported so far
    LOADED = "loaded"
    BLOCKED = "blocked"
    VERSION_CONFLICT = "version conflict"
    DUPLICATE = "duplicate"
    NOT_IMPORTABLE = "not importable"
    UNKNOWN_HOOK = "unknown hook"
    INVALID_HOOK = "invalid hook"


@dataclass(frozen=True)
class PluginInfo:
    """One plugin as it was found.

    :param name: the name of its entry point
    :param target: the module, or `module:object`, that it names
    :param distribution: the name of the distribution that brings it; None for a local module
    :param version: the version of the distribution
    :param status: what has become of it
    :param problem: why it is not loaded, in one line; empty when there is nothing to say
    """

    name: str
    target: str
    distribution: str | None = None
    version: str | None = None
    status: Status = Status.ENABLED
    problem: str = ""

    @property
    def origin(self) -> str:
        """Where it comes from: `acme-audit 1.2`, or the module of a local one."""
        return f"{self.distribution} {self.version}" if self.distribution else f"module {self.target}"

    def __str__(self) -> str:
        return f"{self.name} ({self.origin})"

    def with_status(self, status: Status, problem: str) -> PluginInfo:
        """The same plugin, another status."""
        return replace(self, status=status, problem=problem)

    @property
    def broken(self) -> bool:
        """Whether it is wanted and cannot be used."""
        return self.status not in (Status.ENABLED, Status.LOADED, Status.BLOCKED)


def find_plugins(selection: Selection) -> list[PluginInfo]:
    """Every plugin that is installed, and the local modules that the selection names, in the order of their names."""
    installed = installed_distributions()
    found = [
        _inspect(name, target, Metadata.of(distribution), selection, installed)
        for distribution in installed.values()
        for name, target in entry_points(distribution, ENTRY_POINT_GROUP)
    ]
    found += [PluginInfo(target, target) for target in dict.fromkeys(selection.load)]
    return sorted(mark_duplicates(found), key=lambda info: (info.name, info.distribution or ""))


def _inspect(
    name: str, target: str, metadata: Metadata, selection: Selection, installed: Mapping[str, Distribution]
) -> PluginInfo:
    info = PluginInfo(name, target, metadata.name, metadata.version)
    reason = selection.why_blocked(info.name, metadata.name)
    if reason:
        return info.with_status(Status.BLOCKED, reason)
    conflict = metadata.find_conflict(installed)
    return info.with_status(Status.VERSION_CONFLICT, conflict) if conflict else info


def mark_duplicates(found: Sequence[PluginInfo]) -> list[PluginInfo]:
    """The same plugins; those that share a name are marked, since none of them can be meant."""
    by_name = defaultdict(list)
    for info in found:
        if info.status is not Status.BLOCKED:
            by_name[info.name].append(info)
    return [
        info.with_status(Status.DUPLICATE, f"the name is taken by several: {', '.join(_origins(by_name[info.name]))}")
        if len(by_name[info.name]) > 1 and info.status is not Status.BLOCKED
        else info
        for info in found
    ]


def _origins(infos: Iterable[PluginInfo]) -> list[str]:
    return sorted(info.origin for info in infos)
