"""Transactions in users' databases, which several storages share that write at the same time.

Two transactions of one process would wait for each other in one SQLite file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import sqlalchemy
from aggregator.butler.databases import database, row_tables


class RowTransaction:
    """A transaction of some storages: committed when all of them are, and rolled back if one of them is.

    Parameters
    ----------
    db
        The database.
    """

    def __init__(self, db: database.Database) -> None:
        self.db = db
        self._stack = contextlib.ExitStack()
        self.connection: sqlalchemy.Connection = self._stack.enter_context(db.writing())
        self.n_members = 0
        """Storages that have not committed."""
        self.is_over = False
        """Whether it was committed or rolled back."""

    def commit(self) -> None:
        """Commit for one of the storages.

        Raises
        ------
        AggregatorError
            If the database fails; all is rolled back, unless just its answer was lost.
        """
        self.n_members -= 1
        if not self.n_members:
            self.is_over = True
            self._stack.close()

    def rollback(self) -> None:
        """Roll back for all of them; what was committed stays."""
        if not self.is_over:
            self.is_over = True
            undo = _Undo()
            with contextlib.suppress(_Undo):
                self._stack.__exit__(_Undo, undo, None)


class _Undo(Exception):
    """Makes a transaction end without a commit."""


class RowDatabases:
    """Databases by URL, each of them open once."""

    def __init__(self) -> None:
        self._databases: dict[tuple[str, bool], database.Database] = {}
        self._transactions: dict[str, RowTransaction] = {}
        self._definitions: dict[tuple[str, str], row_tables.Definition] = {}

    def opened(self, url: str, *, writeable: bool) -> database.Database:
        """Return a database; errors as for `row_tables.connect`."""
        key = url, writeable
        if key not in self._databases:
            self._databases[key] = row_tables.connect(url, writeable=writeable)
        return self._databases[key]

    def join(self, url: str) -> RowTransaction:
        """Return the transaction for a storage; errors as for `row_tables.connect`."""
        transaction = self._transactions.get(url)
        if transaction is None or transaction.is_over:
            transaction = self._transactions[url] = RowTransaction(self.opened(url, writeable=True))
        transaction.n_members += 1
        return transaction

    def table(
        self,
        url: str,
        db: database.Database,
        connection: sqlalchemy.Connection,
        name: str,
        example: Mapping[str, Any] | None = None,
    ) -> row_tables.RowTable:
        """Return a table of a database; parameters and errors as for `row_tables.definition`."""
        if (url, name) not in self._definitions:
            self._definitions[url, name] = row_tables.definition(db, connection, name, example)
        return row_tables.RowTable(db, connection, self._definitions[url, name])

    def close(self) -> None:
        """Close all of them."""
        for transaction in self._transactions.values():
            transaction.rollback()
        for db in self._databases.values():
            db.close()
        self._databases.clear()
        self._transactions.clear()
