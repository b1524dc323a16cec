"""PostgreSQL as a Butler database (butler-repository.md sections 3, 4 and 12)."""

import contextlib
import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, ClassVar, Final

import psycopg
import psycopg.sql
import psycopg.types.range
import sqlalchemy
import sqlalchemy.dialects.postgresql
from aggregator.butler.configuration import credentials
from aggregator.butler.databases import database, postgresql_engine, postgresql_failures, uuid_copies
from aggregator.storage import errors

LONGEST_IDENTIFIER: Final = 63
"""Bytes that the server keeps of a name."""


class DatasetId(sqlalchemy.types.UserDefinedType[str]):
    """A native UUID, 32 lowercase hexadecimal digits on our side."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Return the name of the type."""
        return "UUID"


class Postgresql(database.Database):
    """An open PostgreSQL database.

    Parameters
    ----------
    url
        Where it is. What is missing comes from the user's file of passwords, or from ``PG*`` variables.
    namespace
        Schema that holds the tables; by default the first one of the connection's search path.
    writeable
        Whether to open it for writing; otherwise the server refuses all changes.
    create
        Whether the schema may not exist yet; see `prepare`.
    lock_timeout_ms
        How long to wait for another process's lock, milliseconds.
    warn
        Told about transactions that have to be repeated.

    Raises
    ------
    RefusedError
        Raised if there is no such database or schema, the server does not let us in, or a pooler stands
        between that has no transactions.
    AggregatorError
        Raised if the server can't be reached at the moment, or takes no changes.
    """

    # One snapshot for all statements. Those that write see what others commit while they wait for a lock.
    reading_options: ClassVar = {"isolation_level": "REPEATABLE READ"}
    uuid_type = DatasetId()
    key_type = sqlalchemy.BigInteger()

    def __init__(
        self,
        url: sqlalchemy.URL,
        namespace: str | None,
        *,
        writeable: bool,
        lock_timeout_ms: int,
        create: bool = False,
        warn: Callable[[str], object] | None = None,
    ) -> None:
        self._wait = lock_timeout_ms / 1000
        self._is_open = False
        url = credentials.complete(url)
        engine = postgresql_engine.make(url, writeable=writeable, lock_timeout_ms=lock_timeout_ms)
        super().__init__(engine, _shown(url), namespace, writeable=writeable, warn=warn)
        try:
            schema = self.read(lambda connection: self._look_around(connection, required=not create))
        except BaseException:
            self.close()
            raise
        self._is_open = True
        self._missing = schema is None
        self.namespace = schema or namespace
        self.place = f"{self.place} (schema {self.namespace})"

    def _look_around(self, connection: sqlalchemy.Connection, *, required: bool) -> str | None:
        """Return the namespace if it exists; refuse a server that can't be used."""
        kept, is_standby = connection.exec_driver_sql(
            "SELECT current_setting('lock_timeout')::interval = %s::interval, pg_is_in_recovery()",
            (f"{max(1, round(self._wait * 1000))} ms",),
        ).one()
        if not kept:
            raise errors.RefusedError(f"{self.place}: {postgresql_failures.STATEMENT_POOLING}.")
        if is_standby and self.writeable:
            raise errors.AggregatorError(f"{self.place}: the server {postgresql_failures.STANDBY}.")
        if self.namespace is None:
            schema = connection.execute(sqlalchemy.text("SELECT current_schema()")).scalar_one()
            problem = "the connection has no current schema; name one as registry.namespace"
        else:
            query = sqlalchemy.text("SELECT nspname FROM pg_namespace WHERE nspname = :name")
            schema = connection.execute(query, {"name": self.namespace}).scalar()
            problem = f"there is no schema {self.namespace}; see registry.namespace"
        if schema is None and (required or self.namespace is None):
            raise errors.RefusedError(f"{self.place}: {problem} in butler.yaml.")
        return None if schema is None else str(schema)

    def prepare(self, connection: sqlalchemy.Connection) -> None:
        """Make the schema if it is missing.

        Raises
        ------
        RefusedError
            Raised if the database lacks the extension that the reference insists on.
        """
        query = sqlalchemy.text("SELECT count(*) FROM pg_extension WHERE extname = 'btree_gist'")
        if not connection.execute(query).scalar():
            raise errors.RefusedError(
                f"{self.place}: the database has no extension btree_gist, without which no Butler opens it. "
                "Have its administrator run CREATE EXTENSION btree_gist in it."
            )
        if self._missing:
            connection.execute(sqlalchemy.schema.CreateSchema(str(self.namespace), if_not_exists=True))

    def discard(self) -> None:
        """Remove the schema if it was made, and nothing else is in it."""
        if self._missing:
            with contextlib.suppress(errors.AggregatorError), self.writing() as connection:
                connection.execute(sqlalchemy.schema.DropSchema(str(self.namespace)))

    def failure(self, error: BaseException) -> errors.AggregatorError:
        """Make the error that says what failed, where, and what to do next."""
        return postgresql_failures.explain(error, self.place, self._wait, is_open=self._is_open)

    def check_place(self) -> None:
        """Do nothing: a connection leads to the server that it was made to."""

    def identifier(self, name: str) -> str:
        """Shorten a name that is too long for the server, as the reference does."""
        if len(name.encode()) <= LONGEST_IDENTIFIER:
            return name
        digest = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
        return f"{name[: LONGEST_IDENTIFIER - len(digest) - 1]}_{digest}"

    def length_checks(self, table: str, column: str, length: int) -> list[sqlalchemy.CheckConstraint]:
        """Return nothing: column types limit the length."""
        return []

    def timespan_columns(self, *, nullable: bool) -> list[sqlalchemy.Column[Any]]:
        """Make the one column of a timespan."""
        unbounded = None if nullable else sqlalchemy.text("'(,)'::int8range")
        kind = sqlalchemy.dialects.postgresql.INT8RANGE
        return [sqlalchemy.Column("timespan", kind, nullable=nullable, server_default=unbounded)]

    def timespan_values(self, timespan: tuple[int, int] | None) -> tuple[Any, ...]:
        """Return the range; ends that are no bounds are left out."""
        if timespan is None:
            return (None,)
        begin, end = timespan
        lower, upper = begin if begin > 0 else None, end if end < database.MAX_TIMESPAN else None
        return (psycopg.types.range.Int8Range(lower, upper),)

    def timespan_of(self, *values: Any) -> tuple[int, int] | None:
        """Return the timespan that a range stands for."""
        (timespan,) = values
        if timespan is None:
            return None
        if timespan.isempty:
            return database.MAX_TIMESPAN, 0
        return timespan.lower or 0, database.MAX_TIMESPAN if timespan.upper is None else timespan.upper

    def insert_or_ignore(self, table: sqlalchemy.Table) -> sqlalchemy.Insert:
        """Make an INSERT … ON CONFLICT DO NOTHING."""
        return sqlalchemy.dialects.postgresql.insert(table).on_conflict_do_nothing()

    def lock(self, connection: sqlalchemy.Connection, *tables: sqlalchemy.Table) -> None:
        """Lock tables against all writers, in the order given; readers go on."""
        names = ", ".join(map(connection.dialect.identifier_preparer.format_table, tables))
        connection.exec_driver_sql(f"LOCK TABLE {names} IN EXCLUSIVE MODE")

    def table_identity(self, connection: sqlalchemy.Connection, table: sqlalchemy.Table) -> object:
        """Return the number that the server has given to the table; nothing if there is none."""
        name = connection.dialect.identifier_preparer.format_table(table)
        query = sqlalchemy.text("SELECT to_regclass(:name)::oid::bigint")
        return connection.execute(query, {"name": name}).scalar()

    def identity(self) -> str:
        """Return the numbers of cluster (if that may be asked), database and schema; standbys share them."""
        return self.read(self._numbers)

    def _numbers(self, connection: sqlalchemy.Connection) -> str:
        may_ask, *numbers = connection.exec_driver_sql(
            "SELECT has_function_privilege(to_regprocedure('pg_control_system()'), 'EXECUTE'), d.oid, n.oid "
            "FROM pg_database d, pg_namespace n WHERE d.datname = current_database() AND n.nspname = %s",
            (self.namespace,),
        ).one()
        if may_ask:
            query = "SELECT system_identifier FROM pg_control_system()"
            numbers.insert(0, connection.exec_driver_sql(query).scalar_one())
        return " ".join(map(str, numbers))

    @contextlib.contextmanager
    def staged(
        self,
        connection: sqlalchemy.Connection,
        columns: Sequence[sqlalchemy.Column[Any]],
        rows: Sequence[tuple[Any, ...]],
    ) -> Iterator[sqlalchemy.Table]:
        """Lay rows into a temporary table, which ends with the transaction at the latest."""
        metadata = sqlalchemy.MetaData()
        stage = sqlalchemy.Table(
            "ingest_stage", metadata, *columns, prefixes=["TEMPORARY"], postgresql_on_commit="DROP"
        )
        stage.create(connection, checkfirst=False)
        self.insert_rows(connection, stage, stage.columns.keys(), rows)
        # Without this the planner would take the table for a tiny one, and join row by row.
        connection.exec_driver_sql("ANALYZE ingest_stage")
        yield stage
        stage.drop(connection, checkfirst=False)

    def insert_rows(
        self,
        connection: sqlalchemy.Connection,
        table: sqlalchemy.Table,
        columns: Sequence[str],
        rows: Sequence[tuple[Any, ...]],
    ) -> None:
        """Insert many rows in the given order by one COPY, which streams them."""
        width = len(columns)
        if not {width}.issuperset(map(len, rows)):
            raise ValueError(f"rows for {table.name} do not all have {width} values")
        preparer = connection.dialect.identifier_preparer
        names = ", ".join(map(preparer.quote, columns))
        command = f"COPY {preparer.format_table(table)} ({names}) FROM STDIN"
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        try:
            with driver.cursor() as cursor, cursor.copy(command.encode()) as copy:
                for row in rows:
                    copy.write_row(row)
        except psycopg.Error as error:
            # SQLAlchemy has not seen it, and would give the connection out again.
            if driver.broken:
                connection.invalidate(error)
            raise self.failure(error) from error

    def among(
        self, column: sqlalchemy.ColumnElement[Any], values: Collection[int | str]
    ) -> sqlalchemy.ColumnElement[bool]:
        """Make the condition with one parameter, an array."""
        kind = sqlalchemy.dialects.postgresql.ARRAY(column.type)
        return column == sqlalchemy.func.any(sqlalchemy.cast(sqlalchemy.literal(list(values), kind), kind))

    def id_pieces(
        self, connection: sqlalchemy.Connection, query: sqlalchemy.Select[tuple[str]]
    ) -> Iterator[bytes]:
        """Yield ids, 16 bytes each, in pieces, by one COPY."""
        compiled = query.compile(self.engine)
        command = f"COPY ({compiled}) TO STDOUT (FORMAT BINARY)"
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        try:
            with driver.cursor() as cursor, cursor.copy(command.encode(), compiled.params) as copy:
                yield from uuid_copies.pieces(copy)
        except psycopg.Error as error:
            if driver.broken:
                connection.invalidate(error)
            raise self.failure(error) from error


def _shown(url: sqlalchemy.URL) -> str:
    """Return a URL for people: without any password."""
    plain = sqlalchemy.URL.create("postgresql", url.username, None, url.host, url.port, url.database)
    options = [f"{name}={value}" for name, value in url.query.items() if name in ("host", "port")]
    return plain.render_as_string() + ("?" if options else "") + "&".join(options)
