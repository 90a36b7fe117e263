"""A method that runs for each file that is put into a directory: `@on_file("/var/spool/orders")`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nameko_spool._entrypoint import OnFile, on_file

__all__ = ["OnFile", "on_file"]


# Imported when first asked for: the command line imports this package to find the plugin, and should not have to wait.
def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nameko_spool import _entrypoint

    return getattr(_entrypoint, name)
