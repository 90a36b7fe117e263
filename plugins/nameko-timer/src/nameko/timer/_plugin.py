"""What nameko-timer tells the framework about itself."""

from __future__ import annotations

from collections.abc import Sequence

from nameko.plugins import ExtensionInfo, hookimpl


@hookimpl
def nameko_extensions() -> Sequence[ExtensionInfo]:
    """The entrypoint."""
    from nameko.timer import Timer

    return [ExtensionInfo(Timer, "@timer: runs a method every so many seconds")]
