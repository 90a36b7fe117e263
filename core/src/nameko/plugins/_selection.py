"""Which plugins to use: what the configuration and the environment say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nameko.exceptions import ConfigurationError

CONFIG_KEY = "plugins"
DISABLE_VARIABLE = "NAMEKO_DISABLE_PLUGINS"


@dataclass(frozen=True)
class Selection:
    """Which of the installed plugins to use, and what to load besides them.

    A name is that of a plugin, or that of a distribution, which stands for all its plugins.

    :param disable: names that are not loaded
    :param only: the only names that are loaded; None means all, an empty set none
    :param require: names without which nothing starts
    :param load: modules (`package.module` or `package.module:object`) that are plugins without being installed as such
    """

    disable: frozenset[str] = frozenset()
    only: frozenset[str] | None = None
    require: frozenset[str] = frozenset()
    load: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, config: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Selection:
        """What `plugins: {disable, only, require, load}` and NAMEKO_DISABLE_PLUGINS (names, comma-separated) say.

        :raises ConfigurationError: when `plugins` has another key, or holds anything but lists of names
        """
        settings = config.get(CONFIG_KEY)
        if settings is None:
            settings = {}
        if not isinstance(settings, Mapping):
            raise ConfigurationError(f"configuration key {CONFIG_KEY!r} must be a mapping, not {settings!r}")
        unknown = [key for key in settings if key not in ("disable", "only", "require", "load")]
        if unknown:
            raise ConfigurationError(f"`{CONFIG_KEY}: {unknown[0]}` is none of disable, only, require, load")
        disabled_outside = (os.environ if environ is None else environ).get(DISABLE_VARIABLE, "")
        return cls(
            disable=frozenset([*_names(settings, "disable"), *disabled_outside.replace(",", " ").split()]),
            only=None if settings.get("only") is None else frozenset(_names(settings, "only")),
            require=frozenset(_names(settings, "require")),
            load=tuple(_names(settings, "load")),
        )

    def why_blocked(self, name: str, distribution: str | None) -> str:
        """Why a plugin is not to be loaded; empty when it is to be."""
        names = {name, distribution}
        if names & self.disable:
            return "disabled"
        if self.only is not None and not names & self.only:
            return f"not in `{CONFIG_KEY}: only`"
        return ""


def _names(settings: Mapping[str, Any], key: str) -> list[str]:
    names = settings.get(key)
    if names is None:
        return []
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ConfigurationError(f"`{CONFIG_KEY}: {key}` must be a list of names, not {names!r}")
    return list(names)
