"""Which plugins are installed, as the metadata of distributions says. Nothing of a plugin is imported here."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from nameko.hookspecs import PROJECT_NAME
from nameko.plugins._selection import Selection

if TYPE_CHECKING:
    from importlib_metadata import EntryPoint

_OURS = re.compile(r"nameko(?![a-z0-9])", re.IGNORECASE)


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

    def with_status(self, status: Status, problem: str) -> PluginInfo:
        """The same plugin, another status."""
        return replace(self, status=status, problem=problem)

    @property
    def broken(self) -> bool:
        """Whether it is wanted and cannot be used."""
        return self.status not in (Status.ENABLED, Status.LOADED, Status.BLOCKED)


def find_plugins(selection: Selection, entry_points: Iterable[EntryPoint] | None = None) -> list[PluginInfo]:
    """Every plugin that is installed, and the local modules that the selection names, in the order of their names.

    :param entry_points: where to look; all entry points of the group `nameko` by default
    """
    if entry_points is None:
        import importlib_metadata  # takes 10 ms, which importing this package must not

        entry_points = importlib_metadata.entry_points(group=PROJECT_NAME)
    found = [_inspect(entry_point, selection) for entry_point in entry_points]
    found += [PluginInfo(target, target) for target in dict.fromkeys(selection.load)]
    return sorted(_mark_duplicates(found), key=lambda info: (info.name, info.distribution or ""))


def _inspect(entry_point: EntryPoint, selection: Selection) -> PluginInfo:
    if entry_point.dist is None:
        return PluginInfo(entry_point.name, entry_point.value)
    metadata = entry_point.dist.metadata
    name, version = metadata["Name"], metadata["Version"]
    info = PluginInfo(entry_point.name, entry_point.value, name, version)
    reason = selection.why_blocked(info.name, name)
    if reason:
        return info.with_status(Status.BLOCKED, reason)
    conflict = _version_conflict(metadata.get_all("Requires-Dist") or ())
    return info.with_status(Status.VERSION_CONFLICT, conflict) if conflict else info


def _version_conflict(requirements: Sequence[str]) -> str:
    # Of nameko's own distributions only: the rest of an environment is its owner's business.
    for requirement in requirements:
        if _OURS.match(requirement):
            conflict = _conflict_with_installed(requirement)
            if conflict:
                return conflict
    return ""


def _conflict_with_installed(text: str) -> str:
    import importlib_metadata
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            return ""
        installed = importlib_metadata.version(requirement.name)
    except (InvalidRequirement, importlib_metadata.PackageNotFoundError):
        return ""  # what is missing or misspelt shows on import
    if requirement.specifier.contains(installed, prereleases=True):
        return ""
    return f"requires {requirement.name}{requirement.specifier}, but {requirement.name} {installed} is installed"


def _mark_duplicates(found: Sequence[PluginInfo]) -> list[PluginInfo]:
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
