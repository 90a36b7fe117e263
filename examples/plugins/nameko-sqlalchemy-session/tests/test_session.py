"""Sessions are committed or rolled back by the outcome, and never stay open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nameko_sqlalchemy_session import Database, DatabaseSession, _plugin
from sqlalchemy import ForeignKey, create_engine, event, select, text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from nameko.concurrency import Timeout, sleep
from nameko.exceptions import ConfigurationError
from nameko.testing.plugins import (
    DependencyProviderConformance,
    PluginConformance,
    SharedExtensionConformance,
    run_service,
)
from nameko.testing.services import dummy, entrypoint_hook


class Base(DeclarativeBase):
    pass


class Article(Base):
    __tablename__ = "articles"

    name: Mapped[str] = mapped_column(primary_key=True)
    # Checked at the commit, which is the one way to have it fail in SQLite.
    kind: Mapped[str | None] = mapped_column(ForeignKey("articles.name", deferrable=True, initially="DEFERRED"))


@event.listens_for(Engine, "connect")
def check_foreign_keys(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA foreign_keys = ON")


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/shop.db"
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    engine.dispose()
    return url


@pytest.fixture
def names(url: str) -> Callable[[], list[str]]:
    """What is in the database."""

    def names() -> list[str]:
        engine = create_engine(url)
        with Session(engine) as session:
            found = list(session.scalars(select(Article.name).order_by(Article.name)))
        engine.dispose()
        return found

    return names


class Shop:
    name = "shop"

    session: Any = DatabaseSession()

    @dummy
    def add(self, name: str, kind: str | None = None, then: Callable[[], object] = lambda: None) -> int:
        self.session.add(Article(name=name, kind=kind))
        self.session.flush()
        then()
        return len(self.session.scalars(select(Article)).all())


class OnDatabase:
    @pytest.fixture(autouse=True)
    def database(self, url: str) -> None:
        self.url = url

    def make_config(self) -> dict[str, object]:
        return {"DATABASE_URL": self.url}


class TestDatabaseSession(OnDatabase, DependencyProviderConformance):
    def make_extension(self) -> DatabaseSession:
        return DatabaseSession()

    def use(self, dependency: Any) -> None:
        dependency.execute(text("SELECT 1"))


class TestDatabase(OnDatabase, SharedExtensionConformance):
    def make_extension(self) -> Database:
        return Database()


class TestPlugin(PluginConformance):
    def make_plugin(self) -> object:
        return _plugin


def test_a_method_that_returns_commits(url: str, names: Callable[[], list[str]]) -> None:
    with run_service(Shop, {"DATABASE_URL": url}) as container, entrypoint_hook(container, "add") as add:
        assert add("tea") == 1
        assert add("cake") == 2
    assert names() == ["cake", "tea"]


@pytest.mark.parametrize("exc", [ValueError("no"), Timeout(), SystemExit(1)])
def test_a_method_that_raises_rolls_back(exc: BaseException, url: str, names: Callable[[], list[str]]) -> None:
    def fail() -> None:
        raise exc

    with run_service(Shop, {"DATABASE_URL": url}) as container, entrypoint_hook(container, "add") as add:
        with pytest.raises(type(exc)):
            add("tea", then=fail)
        assert add("cake") == 1
    assert names() == ["cake"]


def test_a_commit_that_fails_costs_its_worker_alone(
    url: str, names: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    with run_service(Shop, {"DATABASE_URL": url}) as container, entrypoint_hook(container, "add") as add:
        add("tea", kind="nothing that there is")
        add("cake")
        assert container.started
    assert names() == ["cake"]
    assert "what it has done to the database is lost" in caplog.text


def test_workers_do_not_see_each_others_work(url: str) -> None:
    counts: list[int] = []

    class Reader:
        name = "reader"

        session: Any = DatabaseSession()

        @dummy
        def read(self) -> None:
            counts.append(len(self.session.scalars(select(Article)).all()))

    with (
        run_service(Shop, {"DATABASE_URL": url}) as shop,
        run_service(Reader, {"DATABASE_URL": url}) as reader,
        entrypoint_hook(shop, "add") as add,
        entrypoint_hook(reader, "read") as read,
    ):
        add("tea", then=lambda: (sleep(0), read()))
        read()
    assert counts == [0, 1]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "DATABASE_URL is not set"),
        ({"DATABASE_URL": "no url, but a secret"}, "DATABASE_URL cannot be used: it is no URL of a database"),
        ({"DATABASE_URL": "sqlite://u:secret@h:port/x"}, "DATABASE_URL cannot be used: it is no URL of a database"),
        ({"DATABASE_URL": "nosuch://u:secret@h/x"}, "DATABASE_URL cannot be used: Can't load plugin: .*nosuch"),
        ({"DATABASE_URL": "oracle://u:secret@h/x"}, "DATABASE_URL cannot be used: there is no module `.*oracle.*`"),
    ],
)
def test_a_configuration_that_cannot_work(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught, run_service(Shop, config):
        pass
    assert "secret" not in str(caught.value)
