"""Which distributions are installed, told without importing `importlib_metadata` where that is certain to say the same.

`nameko plugins` and `nameko --version` would mostly wait for that import. Wheels, which is what pip and its like
install, leave a `*.dist-info` directory on the Python path; where there is anything else, the library is asked.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

_SEPARATORS = re.compile(r"[-_.]+")
_INFO = ".dist-info"


class Distribution(Protocol):
    """As much of `importlib_metadata.Distribution` as is needed here."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def version(self) -> str:
        """Its version."""

    def read_text(self, filename: str) -> str | None:
        """A file of the distribution's metadata; None when there is none of that name."""


class _WheelDistribution:
    """A distribution that was installed from a wheel, by its `*.dist-info` directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    # As the directory is called, for one whose metadata is damaged; else it says the same.
    @property
    def name(self) -> str:
        return self._words[0]

    @property
    def version(self) -> str:
        return self._words[2]

    @property
    def _words(self) -> tuple[str, str, str]:
        return os.path.basename(self._directory).removesuffix(_INFO).partition("-")

    def read_text(self, filename: str) -> str | None:
        try:
            with open(os.path.join(self._directory, filename), encoding="utf-8") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None


def installed_distributions() -> Mapping[str, Distribution]:
    """The installed distributions by their normalized names; of several with one name, the one that counts."""
    found = _installed_wheels(sys.path) if _is_plain(sys.meta_path) else None
    return _ask_library() if found is None else found


def normalized(name: str) -> str:
    """A distribution's name as packaging tools compare it: https://packaging.python.org/specifications/name-normalization."""
    return _SEPARATORS.sub("-", name).lower()


def entry_points(distribution: Distribution, group: str) -> Iterator[tuple[str, str]]:
    """The entry points of a group: name and target."""
    text = distribution.read_text("entry_points.txt") or ""
    section = ""
    for line in map(str.strip, text.splitlines() if f"[{group}]" in text else ()):
        if line.startswith("["):
            section = line
        elif section == f"[{group}]" and line and not line.startswith("#"):
            name, _, target = line.partition("=")
            yield name.strip(), target.strip()


def _is_plain(meta_path: list[Any]) -> bool:
    """Whether nothing but the Python path says what is installed."""
    finders = [finder for finder in meta_path if hasattr(finder, "find_distributions")]
    return all(_home(finder) in ("_frozen_importlib_external", "importlib_metadata") for finder in finders)


def _home(finder: Any) -> str:
    return str((finder if isinstance(finder, type) else type(finder)).__module__)


def _installed_wheels(path: list[str]) -> dict[str, Distribution] | None:
    """What is installed in the directories of `path`; None when something there is no wheel."""
    found: dict[str, Distribution] = {}
    for directory in path:
        try:
            names = os.listdir(directory or ".")
        except NotADirectoryError:  # a zip file, which may hold distributions
            return None
        except OSError:
            continue
        for name in names:
            if name.endswith((".egg-info", ".egg")):
                return None
            if name.endswith(_INFO):
                key = normalized(name.removesuffix(_INFO).partition("-")[0])
                found.setdefault(key, _WheelDistribution(os.path.join(directory, name)))
    return found


def _ask_library() -> dict[str, Distribution]:
    import importlib_metadata

    found: dict[str, Distribution] = {}
    for distribution in importlib_metadata.distributions():
        if distribution.name:  # what is left of a broken installation has none
            found.setdefault(normalized(distribution.name), distribution)
    return found
