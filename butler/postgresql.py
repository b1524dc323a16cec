"""PostgreSQL as a Butler database (butler-repository.md sections 3, 4 and 12)."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import psycopg
import psycopg.adapt
import psycopg.sql
import psycopg.types.range
import sqlalchemy
import sqlalchemy.dialects.postgresql

from butler import credentials, database
from schemas import errors

CONNECTION: Final[dict[str, Any]] = {
    "connect_timeout": 30,
    "keepalives_idle": 60,
    "keepalives_interval": 10,
    "keepalives_count": 6,
    "fallback_application_name": "quantum-graph-aggregator",
}
"""Parameters of every connection, unless the URL has others: a server that is gone is noticed in minutes."""

LONGEST_IDENTIFIER: Final = 63
"""Bytes that the server keeps of a name."""

_Oops = tuple[type[psycopg.Error], ...]

_ROLLED_BACK: Final[_Oops] = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)

_LOST: Final[_Oops] = (
    psycopg.errors.AdminShutdown,
    psycopg.errors.CrashShutdown,
    psycopg.errors.CannotConnectNow,
    psycopg.errors.ConnectionException,
    psycopg.errors.TooManyConnections,
    psycopg.errors.IdleInTransactionSessionTimeout,
)

_MADE_BY_ANOTHER: Final[_Oops] = (psycopg.errors.DuplicateTable, psycopg.errors.DuplicateObject)

_NOT_ALLOWED: Final[_Oops] = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.ReadOnlySqlTransaction,
)

_USELESS: Final = ("does not exist", "authentication failed", "no password supplied", "no pg_hba.conf entry")
"""Parts of messages about connections that will not be made either the next time."""


class DatasetId(sqlalchemy.types.UserDefinedType[str]):
    """A native UUID, 32 lowercase hexadecimal digits on our side."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Return the name of the type."""
        return "UUID"


class _DigitsLoader(psycopg.adapt.Loader):
    """Reads a UUID without making an object of it."""

    def load(self, data: psycopg.adapt.Buffer) -> str:
        """Return the digits."""
        return bytes(data).decode("ascii").replace("-", "")


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

    Raises
    ------
    RefusedError
        Raised if there is no such database or schema, or the server does not let us in.
    AggregatorError
        Raised if the server can't be reached at the moment.
    """

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
    ) -> None:
        self._wait = lock_timeout_ms / 1000
        url = credentials.complete(url).set(drivername="postgresql+psycopg")
        engine = sqlalchemy.create_engine(
            url,
            # Statements prepared behind a pooler of connections may be unknown to the next one it gives us.
            connect_args={**CONNECTION, **url.query, "prepare_threshold": None},
            execution_options={} if writeable else {"postgresql_readonly": True},
            # A connection that was lost between two transactions is replaced without a word.
            pool_pre_ping=True,
            hide_parameters=True,
        )
        sqlalchemy.event.listen(engine, "connect", _adapt)
        sqlalchemy.event.listen(engine, "begin", self._begin)
        super().__init__(engine, _shown(url), namespace, writeable=writeable)
        try:
            found = self._find_namespace(namespace, required=not create)
        except BaseException:
            self.close()
            raise
        self._missing = found is None
        self.namespace = found or namespace
        self.place = f"{self.place} (schema {self.namespace})"

    def _find_namespace(self, wanted: str | None, *, required: bool) -> str | None:
        try:
            with self.engine.connect() as connection:
                if wanted is None:
                    found = connection.execute(sqlalchemy.text("SELECT current_schema()")).scalar_one()
                    problem = "the connection has no current schema; name one as registry.namespace"
                else:
                    query = sqlalchemy.text("SELECT nspname FROM pg_namespace WHERE nspname = :name")
                    found = connection.execute(query, {"name": wanted}).scalar()
                    problem = f"there is no schema {wanted}; see registry.namespace"
        except sqlalchemy.exc.DBAPIError as error:
            raise self._cannot_connect(error.orig or error) from error
        if found is None and (required or wanted is None):
            raise errors.RefusedError(f"{self.place}: {problem} in butler.yaml.")
        return None if found is None else str(found)

    def _cannot_connect(self, error: BaseException) -> errors.AggregatorError:
        text = _one_line(error)
        # The driver does not pass on the server's codes at this stage.
        if any(word in text for word in _USELESS):
            return errors.RefusedError(
                f"{self.place}: {text}. See registry.db in butler.yaml, db-auth.yaml and the PG* variables."
            )
        return errors.AggregatorError(f"{self.place}: {text}. Try again when the server can be reached.")

    def _begin(self, connection: sqlalchemy.Connection) -> None:
        # A timeout of 0 would be none at all.
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {max(1, round(self._wait * 1000))}")

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
        text = f"{self.place}: {_one_line(error)}"
        if isinstance(error, psycopg.errors.UniqueViolation) and error.diag.schema_name == "pg_catalog":
            return database.TransientError(f"{text} (another process was quicker).")
        if isinstance(error, psycopg.IntegrityError):
            return database.ConstraintError(f"{self.place}: the database refuses a row: {_one_line(error)}")
        if isinstance(error, _ROLLED_BACK + _LOST + _MADE_BY_ANOTHER) or _is_lost(error):
            return database.TransientError(f"{text} (the transaction was rolled back).")
        if isinstance(error, psycopg.errors.LockNotAvailable):
            advice = f"another process held a lock for {self._wait:g} s; try again when that has finished"
        elif isinstance(error, _NOT_ALLOWED):
            advice = "grant the role what it lacks, or use another one"
        elif isinstance(error, psycopg.errors.DiskFull):
            advice = "free some space on the server and try again; the transaction was rolled back"
        else:
            advice = "the transaction was rolled back"
        return errors.AggregatorError(f"{text} ({advice}).")

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
        (found,) = values
        if found is None:
            return None
        if found.isempty:
            return database.MAX_TIMESPAN, 0
        return found.lower or 0, database.MAX_TIMESPAN if found.upper is None else found.upper

    def insert_or_ignore(self, table: sqlalchemy.Table) -> sqlalchemy.Insert:
        """Make an INSERT … ON CONFLICT DO NOTHING."""
        return sqlalchemy.dialects.postgresql.insert(table).on_conflict_do_nothing()

    def lock(self, connection: sqlalchemy.Connection, *tables: sqlalchemy.Table) -> None:
        """Lock tables against all writers, in the order given; readers go on."""
        names = ", ".join(map(connection.dialect.identifier_preparer.format_table, tables))
        connection.exec_driver_sql(f"LOCK TABLE {names} IN EXCLUSIVE MODE")

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


def _adapt(connection: psycopg.Connection[Any], _: Any) -> None:
    connection.adapters.register_loader("uuid", _DigitsLoader)


def _shown(url: sqlalchemy.URL) -> str:
    """Return a URL for people: without any password."""
    plain = sqlalchemy.URL.create("postgresql", url.username, None, url.host, url.port, url.database)
    options = [f"{name}={value}" for name, value in url.query.items() if name in ("host", "port")]
    return plain.render_as_string() + ("?" if options else "") + "&".join(options)


def _is_lost(error: BaseException) -> bool:
    """Return whether an error came up on our side of a connection, without a code of the server's."""
    return isinstance(error, psycopg.OperationalError) and error.sqlstate is None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
