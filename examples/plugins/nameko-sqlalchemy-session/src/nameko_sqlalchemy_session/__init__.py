"""A SQLAlchemy session for each worker: `session = DatabaseSession()`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nameko_sqlalchemy_session._provider import Database, DatabaseSession

__all__ = ["Database", "DatabaseSession"]


# Imported when first asked for: the command line imports this package to find the plugin, and should not have to wait
# for SQLAlchemy.
def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nameko_sqlalchemy_session import _provider

    return getattr(_provider, name)
