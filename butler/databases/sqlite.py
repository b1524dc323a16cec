"""SQLite as a Butler database (butler-repository.md sections 3, 4 and 12)."""

import contextlib
import itertools
import json
import os
import sqlite3
import stat
import urllib.parse
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import sqlalchemy
import sqlalchemy.dialects.sqlite
from aggregator.butler.databases import database, file_protection, sqlite_waiting
from aggregator.storage import errors, local_files, machine_trouble

BUSY_TIMEOUT_MS = 300_000
"""How long to wait for another process's lock, in milliseconds; the reference's value."""

CACHE_KIB = 65_536
"""Page cache of a connection; the default of 2 MiB writes pages of a large batch more than once."""

_SETTINGS = ("foreign_keys=ON", f"cache_size=-{CACHE_KIB}", "temp_store=MEMORY", "schema_version")

IDS_AT_ONCE = 10_000
"""Ids fetched together when all of a run are read."""

ROWS_PER_STATEMENT = 500
"""Rows in one INSERT: keeps the cursors of all indices open, which saves a third of the time."""


class Sqlite(database.Database):
    """An open SQLite file.

    Parameters
    ----------
    path
        The file.
    writeable
        Whether to open it for writing; otherwise nothing in or beside it is changed, unless a process was
        killed while it wrote: then the first who comes undoes that.
    create
        Whether to make the file if it does not exist; needs ``writeable``.
    busy_timeout_ms
        How long to wait for another process's lock, milliseconds.
    warn
        Told about transactions that have to be repeated, and about long waits.

    Raises
    ------
    RefusedError
        Raised if there is no such file.
    """

    uuid_type = sqlalchemy.CHAR(32)
    key_type = sqlalchemy.Integer()

    def __init__(
        self,
        path: str,
        *,
        writeable: bool,
        busy_timeout_ms: int,
        create: bool = False,
        warn: Callable[[str], object] | None = None,
    ) -> None:
        is_there = local_files.exists(path)
        if not create and not (
            is_there and stat.S_ISREG(machine_trouble.attempt(path, os.stat, path).st_mode)
        ):
            raise errors.RefusedError(f"{path}: there is no such database file.")
        self._made = create and not is_there
        self._wait = busy_timeout_ms / 1000
        self._path = os.path.abspath(path)
        # The file's path goes through SQLite's own URI syntax, because only that can refuse to create it.
        self._mode = "ro" if not writeable else "rwc" if create else "rw"
        self._protection = file_protection.Protection(path, writeable=writeable)
        self._uri = f"file:{urllib.parse.quote(self._path)}"
        engine = sqlalchemy.create_engine("sqlite://", creator=self._connect, poolclass=sqlalchemy.QueuePool)
        sqlalchemy.event.listen(engine, "begin", _begin)
        sqlalchemy.event.listen(engine, "commit", lambda _: self._protection.check())
        super().__init__(engine, path, None, writeable=writeable, warn=warn)
        self._file: tuple[int, int] | None = None

    def _connect(self) -> sqlite3.Connection:
        try:
            return self._open(self._mode)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
        if not self._protection.has_locks:
            # Somebody was killed in the middle of a transaction, or is at it: nothing tells a reader.
            protection = file_protection.Protection(self.place, writeable=True)
            try:
                self._open("rw").close()
            finally:
                protection.release()
            return self._open(self._mode)
        # Somebody was killed in the middle of a transaction. Any reader undoes that, if it may write.
        with contextlib.suppress(sqlite3.OperationalError):
            self._open("rw").close()
        return self._open(self._mode)

    def _open(self, mode: str) -> sqlite3.Connection:
        locking = "" if self._protection.has_locks else "&nolock=1"
        uri = f"{self._uri}?mode={mode}{locking}"
        connection = sqlite_waiting.connect(uri, self._path, self._wait, self._tell)
        try:
            # The last one reads the file, so that it shows at once whether that can be done.
            for setting in _SETTINGS:
                connection.execute(f"PRAGMA {setting}")
            if self._file is None:
                self._file = self._identity()
        except BaseException:
            connection.close()
            raise
        return connection

    def _tell(self, message: str) -> None:
        self.warn(message)

    def close(self) -> None:
        """Close all connections, and let others write."""
        super().close()
        self._protection.release()

    def _identity(self) -> tuple[int, int] | None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            status = os.stat(self._path)
            return status.st_dev, status.st_ino
        return None

    def check_place(self) -> None:
        """Raise an error if the path leads to another file than that which is open, whose content is lost."""
        if self._identity() != self._file:
            raise self._replaced()

    def _replaced(self) -> errors.AggregatorError:
        return errors.AggregatorError(
            f"{self.place}: the database file was replaced, moved or removed while it was in use, as when a "
            "backup is put back; the transaction was rolled back. Put the right file there, and run the same "
            "command again."
        )

    def prepare(self, connection: sqlalchemy.Connection) -> None:
        """Do nothing: a file is ready for tables."""

    def discard(self) -> None:
        """Remove the file if it was made by opening it, and nobody has put tables into it since."""
        if self._made and local_files.is_there(self.place):
            with contextlib.closing(self._connect()) as connection:
                (n_tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if not n_tables:
                os.unlink(self.place)

    def failure(self, error: BaseException) -> errors.AggregatorError:
        """Make the error that says what failed, where, and what to do next."""
        if isinstance(error, sqlite3.IntegrityError):
            return database.ConstraintError(f"{self.place}: the database refuses a row: {error}")
        extended = getattr(error, "sqlite_errorcode", 0)
        code = extended & 0xFF
        if extended == sqlite3.SQLITE_READONLY_DBMOVED:
            return self._replaced()
        if code == sqlite3.SQLITE_NOTADB:
            return errors.RefusedError(f"{self.place}: {error}; see registry.db in butler.yaml.")
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            advice = f"another process held it for {self._wait:g} s; try again when that has finished"
        elif extended == sqlite3.SQLITE_READONLY_ROLLBACK:
            advice = "a process was killed while it wrote; whoever may write has to open the file once"
        elif code == sqlite3.SQLITE_READONLY:
            advice = "make the file and its directory writeable"
        elif code == sqlite3.SQLITE_FULL:
            advice = "free some space and try again; the transaction was rolled back"
        elif code == sqlite3.SQLITE_IOERR:
            advice = (
                "the transaction was rolled back; look whether the disk fails or a limit of file sizes is "
                "reached, and run the same command again"
            )
        elif code == sqlite3.SQLITE_CORRUPT:
            advice = "the file is damaged: put back a backup of it, and run the same command again"
        else:
            advice = "the transaction was rolled back"
        return errors.AggregatorError(f"{self.place}: {error} ({advice}).")

    def identifier(self, name: str) -> str:
        """Return the name as it is: SQLite has no limit."""
        return name

    def length_checks(self, table: str, column: str, length: int) -> list[sqlalchemy.CheckConstraint]:
        """Make the constraint on a string's length, which SQLite's types do not enforce."""
        rule = f'length("{column}")<={length} AND length("{column}")>=1'
        return [sqlalchemy.CheckConstraint(rule, name=f"{table}_len_{column}")]

    def timespan_columns(self, *, nullable: bool) -> list[sqlalchemy.Column[Any]]:
        """Make the two columns of a timespan."""
        return [
            sqlalchemy.Column(
                f"timespan_{end}",
                sqlalchemy.BigInteger,
                nullable=nullable,
                server_default=None if nullable else sqlalchemy.text(default),
            )
            for end, default in (("begin", "0"), ("end", str(database.MAX_TIMESPAN)))
        ]

    def timespan_values(self, timespan: tuple[int, int] | None) -> tuple[Any, ...]:
        """Return the values of the two columns."""
        return (None, None) if timespan is None else timespan

    def timespan_of(self, *values: Any) -> tuple[int, int] | None:
        """Return the timespan that the two columns hold."""
        begin, end = values
        return None if begin is None else (begin, end)

    def insert_or_ignore(self, table: sqlalchemy.Table) -> sqlalchemy.Insert:
        """Make an INSERT … ON CONFLICT DO NOTHING."""
        return sqlalchemy.dialects.sqlite.insert(table).on_conflict_do_nothing()

    def lock(self, connection: sqlalchemy.Connection, *tables: sqlalchemy.Table) -> None:
        """Do nothing: a writing transaction has locked the whole file when it began."""

    def table_identity(self, connection: sqlalchemy.Connection, table: sqlalchemy.Table) -> object:
        """Return nothing: whether a commit was successful is always known."""
        return None

    def identity(self) -> str:
        """Return nothing: device and inode tell a file."""
        return ""

    @contextlib.contextmanager
    def staged(
        self,
        connection: sqlalchemy.Connection,
        columns: Sequence[sqlalchemy.Column[Any]],
        rows: Sequence[tuple[Any, ...]],
    ) -> Iterator[sqlalchemy.Table]:
        """Lay rows into a temporary table, which is dropped in the end."""
        stage = sqlalchemy.Table("ingest_stage", sqlalchemy.MetaData(), *columns, prefixes=["TEMPORARY"])
        stage.create(connection, checkfirst=False)
        self.insert_rows(connection, stage, stage.columns.keys(), rows)
        yield stage
        stage.drop(connection, checkfirst=False)

    def insert_rows(
        self,
        connection: sqlalchemy.Connection,
        table: sqlalchemy.Table,
        columns: Sequence[str],
        rows: Sequence[tuple[Any, ...]],
    ) -> None:
        """Insert many rows in the given order, hundreds to a statement of fixed size."""
        width = len(columns)
        # Values are laid end to end below, so a tuple too short would shift all that follow.
        if not {width}.issuperset(map(len, rows)):
            raise ValueError(f"rows for {table.name} do not all have {width} values")
        quote = connection.dialect.identifier_preparer.quote
        names = ", ".join(map(quote, columns))
        head = f"INSERT INTO {quote(table.name)} ({names}) VALUES "
        one = f"({', '.join('?' * width)})"
        step = min(ROWS_PER_STATEMENT, _max_variables(connection) // width)
        whole = len(rows) // step * step
        chunks = [
            tuple(itertools.chain.from_iterable(rows[start : start + step]))
            for start in range(0, whole, step)
        ]
        if chunks:
            connection.exec_driver_sql(head + ", ".join([one] * step), chunks)
        if rest := list(rows[whole:]):
            connection.exec_driver_sql(head + one, rest)

    def among(
        self, column: sqlalchemy.ColumnElement[Any], values: Collection[int | str]
    ) -> sqlalchemy.ColumnElement[bool]:
        """Make the condition with one parameter, which SQLite takes apart."""
        given = sqlalchemy.func.json_each(json.dumps(list(values))).table_valued("value")
        return column.in_(sqlalchemy.select(given.c.value))

    def id_pieces(
        self, connection: sqlalchemy.Connection, query: sqlalchemy.Select[tuple[str]]
    ) -> Iterator[bytes]:
        """Yield ids, 16 bytes each, in pieces."""
        cursor: Any = connection.execute(query).cursor
        while rows := cursor.fetchmany(IDS_AT_ONCE):
            yield bytes.fromhex("".join([row[0] for row in rows]))


def _begin(connection: sqlalchemy.Connection) -> None:
    # A transaction that reads first and writes later can't wait for a lock: SQLite refuses it at once.
    writing = connection.get_execution_options().get(database.WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _max_variables(connection: sqlalchemy.Connection) -> int:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
