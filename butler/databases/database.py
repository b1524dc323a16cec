"""What the registry needs of a database, and the only place where databases may differ.

A class per database derives from `Database`; everything above it is SQLAlchemy's common language.
"""

import abc
import contextlib
import logging
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, TypeVar

import sqlalchemy
from aggregator.storage import errors

_log = logging.getLogger(__name__)

WRITING = "butler_writing"
"""Execution option of a connection whose transaction is going to write."""

PAUSES: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds to wait before each repetition of a transaction, give or take a third; a minute in all."""

ATTEMPTS: Final = 10
"""How often rows are written while other processes write conflicting ones between our look and our rows."""

_ROWS_AT_ONCE: Final = 10_000
"""Rows of a query that are fetched together, where they are not all held."""

MAX_TIMESPAN: Final = 4102444800000000000
"""End of an unbounded timespan, nanoseconds TAI; its begin is 0. An empty one has them exchanged."""

_Result = TypeVar("_Result")


class ConstraintError(errors.AggregatorError):
    """A constraint of the database refused a row; the transaction is rolled back."""


class TransientError(errors.AggregatorError):
    """The transaction is rolled back through no fault of its own; the same again may succeed."""


class LostError(TransientError):
    """The connection is gone, or leads to a server that takes no changes; the next one may lead elsewhere."""


class Database(abc.ABC):
    """An open database.

    Parameters
    ----------
    engine
        Engine whose connections are set up already (timeouts, foreign keys).
    place
        File or server, for messages.
    namespace
        Schema that holds the tables, if the database has schemas.
    writeable
        Whether transactions may write.
    warn
        Told about transactions that have to be repeated; by default the log.
    """

    reading_options: ClassVar[Mapping[str, Any]] = {}
    """Execution options of a transaction that only reads: all its statements see the same."""

    uuid_type: sqlalchemy.types.TypeEngine[Any]
    """Column type of dataset ids; values are 32 lowercase hexadecimal digits on our side."""

    key_type: sqlalchemy.types.TypeEngine[Any]
    """Column type of integer keys that the database counts up."""

    def __init__(
        self,
        engine: sqlalchemy.Engine,
        place: str,
        namespace: str | None,
        *,
        writeable: bool,
        warn: Callable[[str], object] | None = None,
    ) -> None:
        self.engine = engine
        self.place = place
        self.namespace = namespace
        self.writeable = writeable
        self.warn = warn or _log.warning
        self.n_connections = 0
        """Connections made so far. After another one, the server may not hold any more what it held."""
        sqlalchemy.event.listen(engine, "connect", self._count)

    def _count(self, *_: Any) -> None:
        self.n_connections += 1

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def read(self, work: Callable[[sqlalchemy.Connection], _Result]) -> _Result:
        """Call a function with a transaction that only reads, repeatedly if need be.

        Raises
        ------
        AggregatorError
            Raised if the database fails.
        """
        return self._repeated(self.reading, work)

    def write(self, work: Callable[[sqlalchemy.Connection], _Result], *, attempts: int = 1) -> _Result:
        """Call a function with a transaction that writes; all of it is repeated if need be.

        If the connection was lost during the commit, the function may meet the rows of its first call.

        Parameters
        ----------
        work
            The function.
        attempts
            How often it is called if constraints refuse rows, because others write such rows between its look
            and its own.

        Raises
        ------
        ConstraintError
            Raised if a constraint refuses a row.
        AggregatorError
            Raised if the database fails in another way, or is open for reading only.
        """
        for _ in range(attempts - 1):
            try:
                return self._repeated(self.writing, work)
            except ConstraintError:
                continue
        return self._repeated(self.writing, work)

    def _repeated(
        self,
        transaction: Callable[[], contextlib.AbstractContextManager[sqlalchemy.Connection]],
        work: Callable[[sqlalchemy.Connection], _Result],
    ) -> _Result:
        for pause in PAUSES:
            try:
                with transaction() as connection:
                    return work(connection)
            except TransientError as error:
                self._pause(error, pause)
        with transaction() as connection:
            return work(connection)

    def _pause(self, error: TransientError, pause: float) -> None:
        """Wait before a transaction is repeated."""
        if isinstance(error, LostError):
            self.engine.dispose()
        # Those who have met should not meet again.
        seconds = pause * random.uniform(0.67, 1.33)
        self.warn(f"{error} Trying again in {seconds:.1f} s.")
        time.sleep(seconds)

    def rows(self, query: sqlalchemy.Select[*tuple[Any, ...]]) -> Iterator[sqlalchemy.Row[*tuple[Any, ...]]]:
        """Yield the rows of a query as they come, in a transaction that only reads.

        Nothing can be committed to a SQLite file until the iterator is exhausted or closed.

        Raises
        ------
        AggregatorError
            Raised if the database fails. Only until the first row is there can the query be repeated.
        """
        query = query.execution_options(yield_per=_ROWS_AT_ONCE)
        pauses, has_begun = iter(PAUSES), False
        while True:
            try:
                with self.reading() as connection, connection.execute(query) as result:
                    for row in result:
                        has_begun = True
                        yield row
                return
            except TransientError as error:
                pause = None if has_begun else next(pauses, None)
                if pause is None:
                    raise
                self._pause(error, pause)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlalchemy.Connection]:
        """Open a transaction that only reads.

        Raises
        ------
        AggregatorError
            Raised if the database fails.
        """
        with self._explained(), self.engine.connect() as connection:
            connection = connection.execution_options(**self.reading_options)
            connection.begin()
            try:
                self.check_place()
                yield connection
            finally:
                # All is read, and nothing to be committed: whether the end gets through does not matter.
                try:
                    connection.rollback()
                except sqlalchemy.exc.DBAPIError:
                    connection.invalidate()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlalchemy.Connection]:
        """Open a transaction that writes: committed as a whole at the end, rolled back on any error.

        Raises
        ------
        ConstraintError
            Raised if a constraint refuses a row.
        AggregatorError
            Raised if the database fails in another way, or is open for reading only.
        """
        if not self.writeable:
            raise errors.AggregatorError(f"{self.place}: opened for reading only, nothing was written.")
        with self._explained(), self.engine.connect() as connection:
            connection = connection.execution_options(**{WRITING: True})
            with connection.begin():
                self.check_place()
                yield connection
                self.check_place()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlalchemy.exc.DBAPIError as error:
            raise self.failure(error.orig or error) from error

    @abc.abstractmethod
    def check_place(self) -> None:
        """Look whether the place still holds the database that was opened.

        Raises
        ------
        AggregatorError
            Raised if it does not.
        """

    @abc.abstractmethod
    def prepare(self, connection: sqlalchemy.Connection) -> None:
        """Make ready for the tables of a new repository.

        Raises
        ------
        RefusedError
            Raised if the database lacks something that only its owner can add.
        """

    @abc.abstractmethod
    def discard(self) -> None:
        """Remove what was made only to create a repository that did not come about."""

    @abc.abstractmethod
    def failure(self, error: BaseException) -> errors.AggregatorError:
        """Make the error that says what failed, where, and what to do next, from one of the driver."""

    @abc.abstractmethod
    def identifier(self, name: str) -> str:
        """Fit the name of a constraint or index into the database's limits."""

    @abc.abstractmethod
    def length_checks(self, table: str, column: str, length: int) -> list[sqlalchemy.CheckConstraint]:
        """Make the constraints that enforce a short string's length, where its type does not."""

    @abc.abstractmethod
    def timespan_columns(self, *, nullable: bool) -> list[sqlalchemy.Column[Any]]:
        """Make the columns of a timespan; one that can't be null is unbounded by default."""

    @abc.abstractmethod
    def timespan_values(self, timespan: tuple[int, int] | None) -> tuple[Any, ...]:
        """Return the values of a timespan's columns; its ends are in nanoseconds TAI."""

    @abc.abstractmethod
    def timespan_of(self, *values: Any) -> tuple[int, int] | None:
        """Return the timespan that its columns hold: the inverse of `timespan_values`."""

    @abc.abstractmethod
    def insert_or_ignore(self, table: sqlalchemy.Table) -> sqlalchemy.Insert:
        """Make an INSERT that leaves rows in place which exist already."""

    @abc.abstractmethod
    def lock(self, connection: sqlalchemy.Connection, *tables: sqlalchemy.Table) -> None:
        """Keep other writers out of these tables until the transaction ends."""

    @abc.abstractmethod
    def table_identity(self, connection: sqlalchemy.Connection, table: sqlalchemy.Table) -> object:
        """Return what tells a table from all others that ever had its name; None if no commit gets lost."""

    @abc.abstractmethod
    def identity(self) -> str:
        """Return what tells it from all databases that are, or ever were, to be had by the same URL.

        A server that takes over from another one has the same databases. Empty if its place tells all that.
        """

    @abc.abstractmethod
    def staged(
        self,
        connection: sqlalchemy.Connection,
        columns: Sequence[sqlalchemy.Column[Any]],
        rows: Sequence[tuple[Any, ...]],
    ) -> contextlib.AbstractContextManager[sqlalchemy.Table]:
        """Lay rows into a temporary table, to be joined with others."""

    @abc.abstractmethod
    def insert_rows(
        self,
        connection: sqlalchemy.Connection,
        table: sqlalchemy.Table,
        columns: Sequence[str],
        rows: Sequence[tuple[Any, ...]],
    ) -> None:
        """Insert many rows in the given order: the bulk path.

        Parameters
        ----------
        connection
            Connection in a writing transaction.
        table
            Table to insert into.
        columns
            Names of the columns given, in the order of the values.
        rows
            Tuples with one value per column.
        """

    @abc.abstractmethod
    def among(
        self, column: sqlalchemy.ColumnElement[Any], values: Collection[int | str]
    ) -> sqlalchemy.ColumnElement[bool]:
        """Make the condition that a column has one of many values, which does not grow with their number."""

    @abc.abstractmethod
    def id_pieces(
        self, connection: sqlalchemy.Connection, query: sqlalchemy.Select[tuple[str]]
    ) -> Iterator[bytes]:
        """Yield the dataset ids that a query selects, 16 bytes each, many to a piece."""
