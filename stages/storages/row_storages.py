"""Storages that are tables of a database (stages.md section 6)."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

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
        ``overwrite``: whether rows are replaced that have the same key.
    databases
        Open databases.
    keeps
        Whether rows that are there already stay, in place of an error.

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
        self.replaces = settings.get("overwrite", False)
        """Whether rows take the place of those with the same key."""

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
        table = row_tables.RowTable(transaction.db, transaction.connection, self._content.table, example)
        table.check_foreign()
        for attempt in range(database.ATTEMPTS):
            work = functools.partial(self._write, table, self._content)
            try:
                row_tables.attempt(transaction.db, transaction.connection, work)
                break
            except database.ConstraintError as exc:
                # Another process may have written the same rows since they were looked for.
                if not (self.replaces or self._keeps) or attempt == database.ATTEMPTS - 1:
                    advice = (
                        " Rows that are there are replaced with 'overwrite: true'."
                        if not self.replaces
                        else ""
                    )
                    raise errors.RefusedError(f"{exc}{advice}") from exc
        fault_points.reached("rows_written")

    def _write(self, table: row_tables.RowTable, content: content_module.Rows) -> None:
        rows: Iterable[Sequence[Any]] = content.rows
        if self.replaces:
            table.replace(content.columns, rows)
            return
        if self._keeps:
            rows = table.missing(content.columns, rows)
        table.insert(content.columns, rows)

    def get(self, request: Any = None) -> list[dict[str, Any]]:
        """Return the rows with the values that are known of their key."""
        db = self._databases.opened(self.location, writeable=False)
        with db.reading() as connection:
            table = row_tables.RowTable(db, connection, request.table)
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
            table = row_tables.RowTable(db, connection, request.table)
            table.check_key()
            table.check_foreign()
            table.check_columns(request.columns)
            known = _known(table, request)
            return bool(known) and table.has_rows(known)

    def key(self, table: str) -> tuple[str, ...]:
        """Return the columns of the key of a table; errors as for `has`."""
        db = self._databases.opened(self.location, writeable=False)
        with db.reading() as connection:
            return row_tables.RowTable(db, connection, table).key

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
        ``TempPath``: directory of the file; ``SaveTemp``: whether it stays.
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
        self._path = ""

    def put(self, content: content_module.Rows, type_name: str) -> None:
        """Write rows to the file."""
        with durable_files.writing(self._directory):
            fd, self._path = tempfile.mkstemp(".tsv", f"{content.table}.", self._directory)
            with open(fd, "wb") as stream:
                stream.writelines(map(tsv_rows.encode, content.rows))
        self._content = content

    def _write(self, table: row_tables.RowTable, content: content_module.Rows) -> None:
        table.check_columns(content.columns)
        rows = self._rows(table, content.columns)
        self.replaces = bool(table.key)
        if self.replaces:
            table.replace(content.columns, rows)
        else:
            table.insert(content.columns, rows)

    def _rows(self, table: row_tables.RowTable, columns: Sequence[str]) -> Iterator[list[Any]]:
        converters = table.converters(columns)
        with open(self._path, "rb") as stream:
            for number, line in enumerate(stream, 1):
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
        """Undo what was not committed, and remove the file."""
        super().rollback()
        self._remove()

    def close(self) -> None:
        """Remove the file, unless it is to stay."""
        self._remove()

    def _remove(self) -> None:
        if self._path and not self._saves:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
        self._path = ""


def _known(table: row_tables.RowTable, request: content_module.Rows) -> dict[str, Any]:
    return {name: value for name, value in request.where if name in table.key}
