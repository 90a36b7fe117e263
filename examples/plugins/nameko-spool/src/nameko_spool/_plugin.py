"""What nameko-spool tells nameko about itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nameko.plugins import ConfigKey, ExtensionInfo, hookimpl

if TYPE_CHECKING:
    from nameko.containers import ServiceContainer


@hookimpl
def nameko_extensions() -> Sequence[ExtensionInfo]:
    """The entrypoint."""
    from nameko_spool import OnFile

    return [ExtensionInfo(OnFile, "@on_file: runs a method for each file that is put into a directory")]


@hookimpl
def nameko_config_keys() -> Sequence[ConfigKey]:
    """How often to look."""
    from nameko_spool._config import DEFAULT_INTERVAL_S, INTERVAL_KEY

    return [ConfigKey(INTERVAL_KEY, "seconds", DEFAULT_INTERVAL_S, "How often `@on_file` looks into its directory.")]


@hookimpl
def nameko_ready(container: ServiceContainer) -> Sequence[str]:
    """Not ready while a directory cannot be used."""
    from nameko_spool import OnFile

    entrypoints = [each for each in container.entrypoints if isinstance(each, OnFile)]
    return [reason for each in entrypoints if (reason := each.not_ready_reason()) is not None]
