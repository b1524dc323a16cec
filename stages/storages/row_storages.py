"""Storages that are tables of a database (stages.md section 6)."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

from aggregator.butler.databases import database, row_tables
from aggregator.schemas import tsv_rows
from aggregator.stages.policies import policy as policy_module
from aggregator.stages.storages import content as content_module
from aggregator.stages.storages import row_transactions
from aggregator.storage import durable_files, errors, fault_points


class DbStorage(content_module.ContentStorage):
    """Rows of a table, added in one transaction.

    Parameters
    ----------
    name
        Name of the storage.
    location
        URL of the database, without a password.
    settings
        ``overwrite``: whether rows are replaced that have the same key; for a job, all that have its values.
    databases
        Open databases.
    keeps
        Whether rows are those of a job, which stay if they are there, in place of an error.

    Raises
    ------
    RefusedError
        If there can't be such a database.
    """

    form = content_module.Form.ROWS
    is_final = True

    def __init__(
        self,
        name: str,
        location: str,
        settings: policy_module.Policy,
        databases: row_transactions.RowDatabases,
        *,
        keeps: bool = False,
    ) -> None:
        super().__init__(name, location)
        row_tables.check_url(location)
        self._databases = databases
        self._transaction: row_transactions.RowTransaction | None = None
        self._content: content_module.Rows | None = None
        self._keeps = keeps
        self._overwrites = settings.get("overwrite", False)

    def start(self) -> None:
        """Do nothing: others wait for whoever has begun a transaction."""

    def put(self, content: content_module.Rows, type_name: str) -> None:
        """Take rows, to be written when all is ready."""
        self._content = content

    def prepare(self) -> None:
        """Write the rows, in a transaction that has not ended then."""
        if self._content is None:
            return
        transaction = self._transaction = self._databases.join(self.location)
        example = dict(zip(self._content.columns, next(iter(self._content.rows), ()), strict=False))
        table = self._databases.table(
            self.location, transaction.db, transaction.connection, self._content.table, example
        )
        table.check_foreign()
        for attempt in range(database.ATTEMPTS):
            work = functools.partial(self._write, table, self._content)
            try:
                row_tables.attempt(transaction.db, transaction.connection, work)
                break
            except database.ConstraintError as exc:
                # Another process may have written the same rows since they were looked for.
                replaces = self._replaces(table)
                if not (replaces or self._keeps) or attempt == database.ATTEMPTS - 1:
                    advice = "" if replaces else " Rows that are there are replaced with 'overwrite: true'."
                    raise errors.RefusedError(f"{exc}{advice}") from exc
        fault_points.reached("rows_written")

    def _write(self, table: row_tables.RowTable, content: content_module.Rows) -> None:
        table.check_columns(content.columns)
        rows = self._rows(table, content)
        known = _known(table, content) if self._keeps else {}
        if known:
            rows = list(rows)
            if not self._makes_room(table, content.columns, rows, known):
                return
        if self._replaces(table):
            table.replace(content.columns, rows)
            return
        if self._keeps and not known:
            rows = table.missing(content.columns, rows)
        table.insert(content.columns, rows)

    def _rows(self, table: row_tables.RowTable, content: content_module.Rows) -> Iterable[Sequence[Any]]:
        return content.rows

    def _replaces(self, table: row_tables.RowTable) -> bool:
        """Return whether rows take the place of those with the same key."""
        return self._overwrites

    def _makes_room(
        self,
        table: row_tables.RowTable,
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
        known: Mapping[str, Any],
    ) -> bool:
        """Return whether the rows of a job are to be written; those that it had before are other rows never.

        Parameters
        ----------
        table
            The table.
        columns, rows
            The rows.
        known
            What the key has of the job.

        Raises
        ------
        RefusedError
            If they are another job's, or other ones are there that would stay.
        """
        table.check_key(columns)
        own = [dict(zip(columns, row, strict=True)) for row in rows]
        for row in own:
            for name, value in known.items():
                if row[name] != value and str(row[name]) != str(value):
                    raise errors.RefusedError(
                        f"{self.location}: a row for table {table.name!r} has {name}={row[name]!r}, but its "
                        f"job {name}={value!r}; a job writes rows with its own values."
                    )
        if self._overwrites:
            table.delete(known)
            return True
        there = {tuple(map(str, key)) for key in table.keys(known)}
        if there and there != {tuple(str(row[name]) for name in table.key) for row in own}:
            shown = ", ".join(f"{name}={value!r}" for name, value in known.items())
            raise errors.RefusedError(
                f"{self.location}: table {table.name!r} has other rows with {shown} than those that are to "
                "be written. Remove them, or have them replaced with 'overwrite: true'."
            )
        return not there or self._replaces(table)

    def get(self, request: Any = None) -> list[dict[str, Any]]:
        """Return the rows with the values that are known of their key."""
        db = self._databases.opened(self.location, writeable=False)
        with db.reading() as connection:
            table = self._databases.table(self.location, db, connection, request.table)
            return table.select(request.columns, _known(table, request))

    def has(self, request: content_module.Rows) -> bool:
        """Return whether there are rows with what is known of their key, which the table has to have.

        Raises
        ------
        RefusedError
            If there is no such table, it has no key, or is a repository's.
        """
        db = self._databases.opened(self.location, writeable=False)
        with db.reading() as connection:
            table = self._databases.table(self.location, db, connection, request.table)
            table.check_key()
            table.check_foreign()
            table.check_columns(request.columns)
            known = _known(table, request)
            return bool(known) and table.has_rows(known)

    def key(self, table: str) -> tuple[str, ...]:
        """Return the columns of the key of a table; errors as for `has`."""
        db = self._databases.opened(self.location, writeable=False)
        with db.reading() as connection:
            return self._databases.table(self.location, db, connection, table).key

    def commit(self) -> None:
        """Commit the transaction, when all others have that write in it."""
        if self._transaction is not None:
            transaction, self._transaction = self._transaction, None
            transaction.commit()
            fault_points.reached("rows_committed")

    def rollback(self) -> None:
        """Undo what was not committed."""
        if self._transaction is not None:
            transaction, self._transaction = self._transaction, None
            transaction.rollback()


class DbTsvStorage(DbStorage):
    """Many rows, by way of a file of text; those with the same key are replaced.

    Parameters
    ----------
    name, location, databases, keeps
        As for `DbStorage`.
    settings
        ``TempPath``: directory of the file; ``SaveTemp``: whether it stays; and those of `DbStorage`.
    """

    def __init__(
        self,
        name: str,
        location: str,
        settings: policy_module.Policy,
        databases: row_transactions.RowDatabases,
        *,
        keeps: bool = False,
    ) -> None:
        super().__init__(name, location, settings, databases, keeps=keeps)
        self._directory = settings.get("TempPath", "") or tempfile.gettempdir()
        self._saves = settings.get("SaveTemp", False)
        self._stream: IO[bytes] | None = None

    def put(self, content: content_module.Rows, type_name: str) -> None:
        """Write rows to the file, which has no name unless it is to stay: nobody has to remove it."""
        make: Callable[..., Any] = tempfile.TemporaryFile
        if self._saves:
            make = functools.partial(tempfile.NamedTemporaryFile, delete=False)
        with durable_files.writing(self._directory):
            self._stream = make(suffix=".tsv", prefix=f"{content.table}.", dir=self._directory)
            self._stream.writelines(map(tsv_rows.encode, content.rows))
            self._stream.flush()
        self._content = content

    def _replaces(self, table: row_tables.RowTable) -> bool:
        return bool(table.key)

    def _rows(self, table: row_tables.RowTable, content: content_module.Rows) -> Iterator[list[Any]]:
        assert self._stream is not None
        converters = table.converters(content.columns)
        self._stream.seek(0)
        for number, line in enumerate(self._stream, 1):
            try:
                yield [
                    None if text is None else convert(text)
                    for text, convert in zip(tsv_rows.decode(line), converters, strict=True)
                ]
            except ValueError as exc:
                raise errors.RefusedError(
                    f"{self.location}: row {number} does not fit to the types of table {table.name!r} "
                    f"({exc})."
                ) from exc

    def rollback(self) -> None:
        """Undo what was not committed, and give the file up."""
        super().rollback()
        self.close()

    def close(self) -> None:
        """Give the file up; it stays only if it is to."""
        if self._stream is not None:
            self._stream.close()


def _known(table: row_tables.RowTable, request: content_module.Rows) -> dict[str, Any]:
    return {name: value for name, value in request.where if name in table.key}
