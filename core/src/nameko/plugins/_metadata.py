"""What the metadata of a distribution says: its name, its version, and whether what it requires of nameko is there.

`nameko plugins` takes as long as this does, so what is needed is read without importing a parser of mail or of
requirements, wherever that is certain to give the same answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nameko.plugins._installed import Distribution, installed_distributions, normalized

_OURS = re.compile(r"nameko(?![a-z0-9])", re.IGNORECASE)
_PLAIN_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+) ?(~=|>=)([0-9]+(?:\.[0-9]+)+)\Z")
_PLAIN_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)+\Z")


@dataclass(frozen=True)
class Metadata:
    """The head of a distribution's metadata."""

    name: str
    version: str
    requirements: Sequence[str]

    @classmethod
    def of(cls, distribution: Distribution) -> Metadata:
        """Read it from a distribution, ours or that of `importlib_metadata`."""
        text = distribution.read_text("METADATA")
        if text is None:  # not installed from a wheel, or damaged
            return cls(distribution.name, distribution.version, getattr(distribution, "requires", None) or ())
        found: dict[str, list[str]] = {"Name": [], "Version": [], "Requires-Dist": []}
        for line in text.splitlines():
            if not line:
                break  # the description follows
            key, _, value = line.partition(": ")
            if key in found:
                found[key].append(value)
        name, version = (found["Name"] or [distribution.name])[0], (found["Version"] or [distribution.version])[0]
        return cls(name, version, found["Requires-Dist"])

    def find_conflict(self, installed: Mapping[str, Distribution]) -> str:
        """Which of nameko's own distributions is installed in a version that this one refuses; empty when none is.

        The rest of an environment is its owner's business, and what is not installed shows on import.

        :param installed: the installed distributions
        """
        for requirement in self.requirements:
            if _OURS.match(requirement):
                conflict = _conflict(requirement, installed)
                if conflict:
                    return conflict
        return ""


def _conflict(text: str, distributions: Mapping[str, Distribution]) -> str:
    if _is_surely_satisfied(text, distributions):
        return ""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return ""
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return ""
    installed = _version(requirement.name, distributions)
    if installed is None or requirement.specifier.contains(installed, prereleases=True):
        return ""
    return f"requires {requirement.name}{requirement.specifier}, but {requirement.name} {installed} is installed"


def _is_surely_satisfied(text: str, distributions: Mapping[str, Distribution]) -> bool:
    """Whether it is a plain `name~=1.2` or `name>=1.2` that a plain version satisfies; False when in doubt."""
    plain = _PLAIN_REQUIREMENT.match(text)
    installed = _version(plain[1], distributions) if plain else None
    if plain is None or installed is None or not _PLAIN_VERSION.match(installed):
        return False
    wanted, found = _numbers(plain[3]), _numbers(installed)
    if len(wanted) != len(found):
        return False
    return found >= wanted and (plain[2] == ">=" or found[: len(wanted) - 1] == wanted[:-1])


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def installed_version(name: str) -> str | None:
    """The version of the distribution `name`; None when it is not installed."""
    return _version(name, installed_distributions())


def _version(name: str, distributions: Mapping[str, Distribution]) -> str | None:
    distribution = distributions.get(normalized(name))
    return None if distribution is None else Metadata.of(distribution).version
