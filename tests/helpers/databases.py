"""A repository's database as tests see it, without any code of ours: a SQLite file or a PostgreSQL schema."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import pathlib
import sqlite3
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import yaml
from aggregator.butler.registry import registry
from psycopg.types import range as ranges

from tests.helpers import postgresql_server

Rows = list[tuple[Any, ...]]


class Database(abc.ABC):
    """A database of one repository."""

    url: str
    """SQLAlchemy URL."""

    namespace: str | None
    """Schema that holds the tables."""

    shown: str
    """Part of every message about it."""

    row_place: str
    """Column that tells where a row lies in its table."""

    @abc.abstractmethod
    def query(self, statement: str) -> Rows:
        """Ask; ids are 32 hexadecimal digits. Names need no namespace."""

    @abc.abstractmethod
    def reading(self) -> contextlib.AbstractContextManager[Database]:
        """Give this database with one connection for many questions: each one reads the whole schema."""

    @abc.abstractmethod
    def execute(self, *statements: str) -> None:
        """Change something, without checks of foreign keys."""

    @abc.abstractmethod
    def tables(self) -> list[str]:
        """Return the names of all tables."""

    @abc.abstractmethod
    def columns(self, table: str) -> list[str]:
        """Return the names of a table's columns."""

    @abc.abstractmethod
    def schema(self) -> Any:
        """Return the definitions of all tables, constraints and indices by name."""

    @abc.abstractmethod
    def fingerprint(self) -> Any:
        """Return a value that is another one after each transaction that writes."""

    def open(self, **options: Any) -> registry.Registry:
        """Open it with our code, for writing unless told otherwise."""
        return registry.open_registry(self.url, self.namespace, **{"writeable": True, **options})

    def configure(self, root: pathlib.Path, url: str | None = None) -> None:
        """Let the configuration of a repository name this database, by another URL if one is given."""
        path = root / "butler.yaml"
        content = yaml.safe_load(path.read_text())
        content["registry"].update(db=url or self.url)
        if self.namespace is not None:
            content["registry"].update(namespace=self.namespace)
        path.write_text(yaml.safe_dump(content))

    def count(self, table: str) -> int:
        """Return the number of rows of a table."""
        return int(self.query(f"SELECT count(*) FROM {table}")[0][0])

    def content(self) -> dict[str, Rows]:
        """Return the sorted rows of all tables, without the dates of ingest."""
        found = {}
        with self.reading() as connected:
            for table in connected.tables():
                columns = "id, dataset_type_id, run_id" if table == "dataset" else "*"
                found[table] = sorted(connected.query(f'SELECT {columns} FROM "{table}"'), key=repr)
        return found


@dataclasses.dataclass(frozen=True, slots=True)
class Sqlite(Database):
    """A SQLite file."""

    path: pathlib.Path
    """The file."""

    connection: sqlite3.Connection | None = dataclasses.field(default=None, repr=False, compare=False)
    """What is used for all questions while `reading`."""

    row_place = "rowid"
    namespace = None

    @property
    def url(self) -> str:  # type: ignore[override]
        """SQLAlchemy URL."""
        return f"sqlite:///{self.path}"

    @property
    def shown(self) -> str:  # type: ignore[override]
        """Part of every message about it."""
        return self.path.name

    def query(self, statement: str) -> Rows:
        if self.connection is not None:
            return self.connection.execute(statement).fetchall()
        with self.reading() as connected:
            return connected.query(statement)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Sqlite]:
        with contextlib.closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as connection:
            yield dataclasses.replace(self, connection=connection)

    def execute(self, *statements: str) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def tables(self) -> list[str]:
        return [name for (name,) in self.query("SELECT name FROM sqlite_master WHERE type = 'table'")]

    def columns(self, table: str) -> list[str]:
        return [row[1] for row in self.query(f"PRAGMA table_info({table})")]

    def schema(self) -> Any:
        return dict(self.query("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))

    def fingerprint(self) -> Any:
        return self.path.read_bytes()


@dataclasses.dataclass(frozen=True, slots=True)
class Postgresql(Database):
    """A schema of a PostgreSQL database."""

    server: postgresql_server.Server
    """Where it is."""

    name: str
    """Name of the database."""

    namespace: str
    """The schema."""

    connection: psycopg.Connection[tuple[Any, ...]] | None = dataclasses.field(
        default=None, repr=False, compare=False
    )
    """What is used for all questions while `reading`."""

    row_place = "ctid"

    @property
    def url(self) -> str:  # type: ignore[override]
        """SQLAlchemy URL for the owner of everything."""
        return self.server.url(self.name)

    @property
    def shown(self) -> str:  # type: ignore[override]
        """Part of every message about it."""
        return f"/{self.name}?"

    def query(self, statement: str) -> Rows:
        if self.connection is not None:
            rows = self.connection.execute(statement.encode()).fetchall()
            return [tuple(map(_plain, row)) for row in rows]
        with self.reading() as connected:
            return connected.query(statement)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Postgresql]:
        with self.server.connect(self.name, self.namespace) as connection:
            yield dataclasses.replace(self, connection=connection)

    def execute(self, *statements: str) -> None:
        unchecked = "SET session_replication_role = replica"
        self.server.execute(self.name, unchecked, *statements, schema=self.namespace)

    def tables(self) -> list[str]:
        found = self.query("SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1")
        return [name for (name,) in found]

    def columns(self, table: str) -> list[str]:
        condition = f"table_schema = current_schema() AND table_name = '{table}'"
        found = self.query(
            f"SELECT column_name FROM information_schema.columns WHERE {condition} ORDER BY ordinal_position"
        )
        return [name for (name,) in found]

    def schema(self) -> Any:
        fields = "table_name, ordinal_position, column_name, data_type, character_maximum_length"
        queries = [
            f"SELECT {fields}, is_nullable, column_default FROM information_schema.columns "
            "WHERE table_schema = current_schema()",
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE connamespace = current_schema()::regnamespace",
            "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()",
            "SELECT sequencename, data_type::text, start_value, min_value, max_value, increment_by, "
            "cache_size, last_value FROM pg_sequences WHERE schemaname = current_schema()",
        ]
        return [sorted(self.query(query), key=repr) for query in queries]

    def fingerprint(self) -> Any:
        # The number that the next transaction that writes is going to have.
        return self.query("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")

    def copy(self) -> Postgresql:
        """Make another database with the same content; nobody may be connected to this one."""
        return dataclasses.replace(self, name=self.server.create_database(self.name))

    def remove(self) -> None:
        """Remove the database."""
        self.server.drop_database(self.name)


def _plain(value: Any) -> Any:
    if isinstance(value, uuid.UUID):
        return value.hex
    if isinstance(value, ranges.Range):
        return (value.lower, value.upper)
    return value
