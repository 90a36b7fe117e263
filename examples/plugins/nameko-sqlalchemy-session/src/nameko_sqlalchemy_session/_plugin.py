"""What nameko-sqlalchemy-session tells nameko about itself."""

from __future__ import annotations

from collections.abc import Sequence

from nameko.plugins import ConfigKey, ExtensionInfo, hookimpl


@hookimpl
def nameko_extensions() -> Sequence[ExtensionInfo]:
    """The dependency provider."""
    from nameko_sqlalchemy_session import DatabaseSession

    return [ExtensionInfo(DatabaseSession, "injects a SQLAlchemy session, committed or rolled back by the outcome")]


@hookimpl
def nameko_config_keys() -> Sequence[ConfigKey]:
    """The database. Secret, since it holds a password: `nameko show-config` masks it."""
    from nameko_sqlalchemy_session._config import URL_KEY

    return [ConfigKey(URL_KEY, "str", None, "The database that sessions work on, as a URL of SQLAlchemy.", secret=True)]
