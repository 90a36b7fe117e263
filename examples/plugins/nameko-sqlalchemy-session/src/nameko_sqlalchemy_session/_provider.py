"""The dependency provider, and the engine that it shares with others of its container."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session

from nameko.containers import WorkerContext
from nameko.exceptions import ConfigurationError
from nameko.extensions import DependencyProvider, ExcInfo, SharedExtension
from nameko_sqlalchemy_session._config import URL_KEY

logger = logging.getLogger(__name__)


class Database(SharedExtension):
    """The engine of a container, with as many connections as there may be workers: none of them waits for one."""

    engine: Engine

    def setup(self) -> None:
        """Make the engine, which connects when it is first used.

        :raises ConfigurationError: when `DATABASE_URL` is missing, or is none
        """
        url = self.container.config.get(URL_KEY)
        if not url:
            raise ConfigurationError(f"{URL_KEY} is not set: say which database to use, as in sqlite:///shop.db")
        try:
            self.engine = create_engine(url, pool_size=self.container.max_workers, pool_pre_ping=True)
        except (ArgumentError, ImportError, ValueError) as exc:
            raise ConfigurationError(f"{URL_KEY} cannot be used: {_describe(exc)}") from exc

    def stop(self) -> None:
        """Close all connections: workers are done."""
        if hasattr(self, "engine"):
            self.engine.dispose()

    def kill(self) -> None:
        """Close all connections."""
        self.stop()


def _describe(exc: Exception) -> str:
    # Not what SQLAlchemy says of a URL that it cannot read: that may have the password in it.
    if isinstance(exc, ImportError):
        return f"there is no module `{exc.name}`, the driver of this database; install it"
    if isinstance(exc, NoSuchModuleError):
        return f"{exc}; is the beginning of the URL right?"
    return "it is no URL of a database, such as sqlite:///shop.db"


class DatabaseSession(DependencyProvider):
    """Injects a `sqlalchemy.orm.Session`, one for each worker.

    When the method has returned it is committed, when the method has raised it is rolled back; then it is closed. That
    is *after* the caller has the method's result. A method whose caller must not be told of success before the commit
    does that itself: `self.session.commit()`.
    """

    database = Database()

    def __init__(self) -> None:
        self._sessions: dict[WorkerContext, Session] = {}

    def get_dependency(self, worker_ctx: WorkerContext) -> Session:
        """The session; it connects when it is first used."""
        session = self._sessions[worker_ctx] = Session(self.database.engine)
        return session

    def worker_result(self, worker_ctx: WorkerContext, result: Any = None, exc_info: ExcInfo | None = None) -> None:
        """Commit or roll back."""
        session = self._sessions[worker_ctx]
        try:
            if exc_info is None:
                session.commit()
            elif isinstance(exc_info[1], Exception):
                session.rollback()
            else:  # a Timeout, say, has come over SQLAlchemy: nobody knows what state the connection is in
                session.invalidate()
        except SQLAlchemyError:  # raising here would end the service
            logger.exception("%s: what it has done to the database is lost", worker_ctx.call_id)
            session.invalidate()

    def worker_teardown(self, worker_ctx: WorkerContext) -> None:
        """Give the connection back."""
        self._sessions.pop(worker_ctx).close()

    def stop(self) -> None:
        """Drop what workers that were killed have left behind."""
        while self._sessions:
            _, session = self._sessions.popitem()
            session.invalidate()

    def kill(self) -> None:
        """Drop all sessions, with their connections."""
        self.stop()
