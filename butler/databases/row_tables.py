"""Rows of tables that are a user's own: quality numbers beside the registry, say.

Such a table is made by the user, who knows its types and its key; here rows are added, replaced and found.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy
from aggregator.butler.databases import connections, database
from aggregator.storage import errors

ROWS_AT_ONCE: Final = 10_000
"""Rows that are staged together."""

_OF_REPOSITORIES: Final = "butler_attributes"
"""The table by which a repository is known."""

_TYPES: Final[Mapping[type, str]] = {
    bool: "BOOLEAN",
    int: "BIGINT",
    float: "DOUBLE PRECISION",
    bytes: "BYTEA",
}
"""What a column for values of a type might be."""


def connect(url: str, *, writeable: bool) -> database.Database:
    """Open a user's database; names and passwords are found as for a repository's.

    Parameters
    ----------
    url
        ``sqlite:///PATH`` or ``postgresql://HOST:PORT/NAME``.
    writeable
        Whether to open it for writing.

    Raises
    ------
    RefusedError
        If there is no such database, it is of another kind, or the URL has a password in it.
    AggregatorError
        If it can't be used at the moment.
    """
    check_url(url)
    return connections.connect(url, None, writeable=writeable)


def check_url(url: str) -> None:
    """Refuse what is no URL of a database that can be used; no message has any part of a password.

    Raises
    ------
    RefusedError
        If so.
    """
    try:
        parsed = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise errors.RefusedError(
            "A location for rows is no URL of a database; write sqlite:///PATH or postgresql://HOST/NAME."
        ) from None
    if parsed.password is not None or "password" in parsed.query:
        raise errors.RefusedError(
            f"{parsed.set(query={}).render_as_string(hide_password=True)}: no password can stand in a policy;"
            " give it in db-auth.yaml, or by the PG* variables."
        )
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise errors.RefusedError(
            f"{parsed.render_as_string()}: {parsed.get_backend_name()} is not supported; rows go to SQLite "
            "(sqlite:///PATH) or PostgreSQL (postgresql://HOST/NAME)."
        )


def attempt(db: database.Database, connection: sqlalchemy.Connection, work: Callable[[], object]) -> None:
    """Do something in a transaction that goes on as if nothing had been done if it fails.

    Raises
    ------
    ConstraintError
        If a constraint refuses a row.
    AggregatorError
        If the database fails in another way.
    """
    try:
        with connection.begin_nested():
            work()
    except sqlalchemy.exc.DBAPIError as error:
        raise db.failure(error.orig or error) from error


@dataclasses.dataclass(frozen=True, slots=True)
class Definition:
    """What a table is like, which stays the same while a command runs."""

    name: str
    """Its name, as it was asked for."""

    table: sqlalchemy.Table
    """Its columns and key."""

    is_foreign: bool
    """Whether it is among the tables of a repository."""


def definition(
    db: database.Database,
    connection: sqlalchemy.Connection,
    name: str,
    example: Mapping[str, Any] | None = None,
) -> Definition:
    """Return what a table is like.

    Parameters
    ----------
    db
        The database.
    connection
        A connection in a transaction.
    name
        The table; with a schema and a dot before it, if it is not where the connection looks first.
    example
        A row that is going to be written, for advice on how to make a table that is missing.

    Raises
    ------
    RefusedError
        If there is no such table.
    """
    schema, _, last = name.rpartition(".")
    inspector = sqlalchemy.inspect(connection)
    try:
        if schema and schema not in inspector.get_schema_names():
            raise sqlalchemy.exc.NoSuchTableError(last)
        table = sqlalchemy.Table(last, sqlalchemy.MetaData(), schema=schema or None, autoload_with=connection)
    except sqlalchemy.exc.NoSuchTableError:
        raise errors.RefusedError(
            f"{db.place}: there is no table {name!r}.{_advice(name, example)}"
        ) from None
    return Definition(name, table, inspector.has_table(_OF_REPOSITORIES, schema=table.schema))


class RowTable:
    """A table as a transaction sees it.

    Parameters
    ----------
    db
        The database.
    connection
        A connection in a transaction.
    defined
        What the table is like.
    """

    def __init__(self, db: database.Database, connection: sqlalchemy.Connection, defined: Definition) -> None:
        self._db = db
        self._connection = connection
        self._table = defined.table
        self._is_foreign = defined.is_foreign
        self.name = defined.name
        self.key = tuple(column.name for column in self._table.primary_key.columns)
        """Columns of its primary key."""

    def check_foreign(self) -> None:
        """Refuse to write beside the tables of a repository: all of them are its own.

        Raises
        ------
        RefusedError
            If that is so.
        """
        if self._is_foreign:
            raise errors.RefusedError(
                f"{self._db.place}: table {self.name!r} is among those of a repository, where nothing else "
                "is written; use another file (SQLite), or SCHEMA.TABLE in a schema of your own (PostgreSQL)."
            )

    def check_columns(self, names: Iterable[str]) -> None:
        """Refuse columns that it does not have.

        Raises
        ------
        RefusedError
            If there are some.
        """
        if strange := [name for name in names if name not in self._table.columns]:
            raise errors.RefusedError(
                f"{self._db.place}: table {self.name!r} has no column {strange[0]!r}, only "
                f"{', '.join(self._table.columns.keys())}. Add it, or name the columns to write (KeyList)."
            )

    def insert(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Add rows.

        Raises
        ------
        ConstraintError
            If one is there already, or the database refuses it for another reason.
        """
        self.check_columns(columns)
        for batch in _batches(rows):
            self._db.insert_rows(self._connection, self._table, columns, batch)

    def replace(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Add rows in place of those with the same key; of several with one key the last one stays.

        Raises
        ------
        RefusedError
            If the table has no key, or the rows lack a part of it.
        ConstraintError
            If the database refuses a row.
        """
        self.check_columns(columns)
        self.check_key(columns)
        places = [columns.index(name) for name in self.key]
        for batch in _batches(rows):
            latest = {tuple([row[place] for place in places]): row for row in batch}
            # Two who write the same rows must not wait for each other.
            ordered = [latest[key] for key in sorted(latest, key=_order)]
            self._replace(columns, ordered)

    def _replace(self, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        table = self._table
        staged_columns = [sqlalchemy.Column(name, table.columns[name].type) for name in columns]
        with self._db.staged(self._connection, staged_columns, rows) as stage:
            same = [table.columns[name] == stage.columns[name] for name in self.key]
            self._connection.execute(table.delete().where(sqlalchemy.exists().where(*same)))
            chosen = sqlalchemy.select(*[stage.columns[name] for name in columns])
            self._connection.execute(table.insert().from_select(list(columns), chosen))

    def missing(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        """Yield those of some rows whose key no row of the table has."""
        self.check_key(columns)
        for row in rows:
            values = dict(zip(columns, row, strict=True))
            if not self.has_rows({name: values[name] for name in self.key}):
                yield row

    def check_key(self, columns: Sequence[str] | None = None) -> None:
        """Refuse a table without a primary key, and columns that lack a part of it.

        Raises
        ------
        RefusedError
            If so.
        """
        if not self.key:
            raise errors.RefusedError(
                f"{self._db.place}: table {self.name!r} has no primary key, so that nobody can tell which "
                "rows are there already; add one."
            )
        if columns is None:
            return
        if missing := [name for name in self.key if name not in columns]:
            raise errors.RefusedError(
                f"{self._db.place}: the primary key of table {self.name!r} has the column {missing[0]!r}, "
                "which the rows do not have."
            )

    def converters(self, columns: Sequence[str]) -> list[Callable[[str], Any]]:
        """Return for each column what makes a value for it of a text."""
        return [_converter(self._table.columns[name].type) for name in columns]

    def select(self, columns: Sequence[str], where: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return rows, in the order of the key.

        Parameters
        ----------
        columns
            Which columns; none for all.
        where
            Values that columns have to have.
        """
        self.check_columns([*columns, *where])
        chosen = [self._table.columns[name] for name in columns] or list(self._table.columns)
        query = sqlalchemy.select(*chosen).where(*self._conditions(where))
        rows = self._connection.execute(query.order_by(*[self._table.columns[name] for name in self.key]))
        return [dict(row) for row in rows.mappings()]

    def has_rows(self, where: Mapping[str, Any]) -> bool:
        """Return whether there are rows in which columns have these values."""
        self.check_columns(where)
        query = sqlalchemy.select(sqlalchemy.literal(1)).where(*self._conditions(where)).limit(1)
        return self._connection.execute(query.select_from(self._table)).first() is not None

    def keys(self, where: Mapping[str, Any]) -> set[tuple[Any, ...]]:
        """Return the keys of all rows in which columns have these values."""
        query = sqlalchemy.select(*[self._table.columns[name] for name in self.key])
        return {tuple(row) for row in self._connection.execute(query.where(*self._conditions(where)))}

    def delete(self, where: Mapping[str, Any]) -> None:
        """Remove all rows in which columns have these values."""
        self._connection.execute(self._table.delete().where(*self._conditions(where)))

    def _conditions(self, where: Mapping[str, Any]) -> list[sqlalchemy.ColumnElement[bool]]:
        return [self._table.columns[name] == value for name, value in where.items()]


def _batches(rows: Iterable[Sequence[Any]]) -> Iterator[list[tuple[Any, ...]]]:
    iterator = iter(rows)
    while batch := [tuple(row) for row in itertools.islice(iterator, ROWS_AT_ONCE)]:
        yield batch


def _order(key: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(map(repr, key))


def _converter(kind: sqlalchemy.types.TypeEngine[Any]) -> Callable[[str], Any]:
    if isinstance(kind, sqlalchemy.Boolean):
        return lambda text: text in ("1", "t", "true", "True")
    if isinstance(kind, sqlalchemy.Integer):
        return int
    if isinstance(kind, sqlalchemy.Float):
        return float
    if isinstance(kind, sqlalchemy.LargeBinary):
        return lambda text: bytes.fromhex(text.removeprefix("\\x"))
    return str


def _advice(name: str, example: Mapping[str, Any] | None) -> str:
    """Return how to make a table for such rows."""
    if not example:
        return " Make it first."
    columns = [f"{column} {_TYPES.get(type(value), 'TEXT')}" for column, value in example.items()]
    return (
        f" Make it first, with a primary key: CREATE TABLE {name} ({', '.join(columns)}, PRIMARY KEY (...))"
    )
