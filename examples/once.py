"""A handler whose effect happens once for each message, however often that arrives."""

import os
import sqlite3
from contextlib import closing

from nameko.events import event_handler
from nameko.extensions import DependencyProvider
from nameko.rpc import rpc

SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS bookings (article TEXT, price INTEGER);
"""


class Database(DependencyProvider):
    """Injects a function that connects to the database."""

    def setup(self):
        self.path = self.container.config.get("DATABASE", os.environ.get("DATABASE", "till.db"))
        with closing(self.connect()) as connection:
            connection.executescript(SCHEMA)

    def connect(self):
        return sqlite3.connect(self.path, timeout=10)

    def get_dependency(self, worker_ctx):
        return self.connect


class Till:
    """Books each sale once."""

    name = "till"

    connect = Database()

    @event_handler("shop", "sold")
    def book(self, sale):
        # One transaction: the note that the message has been seen, and the effect. Or neither, when anything fails.
        with closing(self.connect()) as connection, connection:
            try:
                connection.execute("INSERT INTO seen VALUES (?)", [sale["id"]])
            except sqlite3.IntegrityError:
                return  # it came before
            connection.execute("INSERT INTO bookings VALUES (?, ?)", [sale["article"], sale["price"]])

    @rpc
    def total(self):
        with closing(self.connect()) as connection:
            return connection.execute("SELECT COALESCE(SUM(price), 0) FROM bookings").fetchone()[0]
