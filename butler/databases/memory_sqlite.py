"""SQLite in the memory of one process."""

import sqlite3

import sqlalchemy
from aggregator.butler.databases import database, sqlite


class MemorySqlite(sqlite.Sqlite):
    """A database that nobody else sees, and that is gone when it is closed."""

    def __init__(self) -> None:
        engine = sqlalchemy.create_engine("sqlite://", creator=_connect, poolclass=sqlalchemy.StaticPool)
        sqlalchemy.event.listen(engine, "begin", sqlite.begin)
        database.Database.__init__(self, engine, "a database in memory", None, writeable=True)

    def close(self) -> None:
        """Let go of it."""
        self.engine.dispose()

    def check_place(self) -> None:
        """Do nothing: it has no place."""


def _connect() -> sqlite3.Connection:
    # Transactions are begun by SQLAlchemy.
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
