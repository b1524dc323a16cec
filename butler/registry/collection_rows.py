"""Rows of collections and chains, within a transaction (butler-repository.md section 6)."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy
from aggregator.butler.registry import tables
from aggregator.storage import errors


class CollectionType(enum.IntEnum):
    """Kind of a collection, as stored."""

    RUN = 1
    TAGGED = 2
    CHAINED = 3
    CALIBRATION = 4


@dataclasses.dataclass(frozen=True, slots=True)
class CollectionRow:
    """A collection of the repository."""

    id: int
    """Its key."""

    name: str
    """Its name."""

    type: CollectionType
    """Its kind."""

    doc: str | None = None
    """What it is for."""


class CollectionRows:
    """Collections of one repository, as a transaction sees and changes them.

    The methods run inside the caller's transaction, so that several steps are one change.

    Parameters
    ----------
    registry
        The repository's tables.
    connection
        Connection in a transaction.
    """

    def __init__(self, registry: tables.Tables, connection: sqlalchemy.Connection) -> None:
        self._tables = registry
        self._connection = connection

    def find(self, name: str) -> CollectionRow | None:
        """Look a collection up."""
        table = self._tables.collection
        query = _select(table).where(table.c.name == name)
        row = self._connection.execute(query).one_or_none()
        return None if row is None else _row(row)

    def everything(self) -> list[CollectionRow]:
        """Return all collections, sorted by name."""
        table = self._tables.collection
        return sorted(map(_row, self._connection.execute(_select(table))), key=lambda row: row.name)

    def find_all(self, names: Iterable[str]) -> list[CollectionRow]:
        """Look collections up, each once, in the order given.

        Raises
        ------
        AggregatorError
            Raised if some do not exist; names all of them.
        """
        rows = {name: self.find(name) for name in names}
        if missing := [name for name, row in rows.items() if row is None]:
            raise errors.AggregatorError(
                f"{self._tables.db.place}: there is no collection {', '.join(map(repr, missing))}."
            )
        return [row for row in rows.values() if row is not None]

    def find_run(self, name: str) -> CollectionRow:
        """Look a RUN collection up.

        Raises
        ------
        AggregatorError
            Raised if there is none of this name.
        """
        [row] = self.find_all([name])
        return self._of_type(row, CollectionType.RUN)

    def is_complete_run(self, name: str) -> bool:
        """Return whether a RUN collection exists with all its rows."""
        row = self.find(name)
        if row is None:
            return False
        self._of_type(row, CollectionType.RUN)
        run = self._tables.run
        query = sqlalchemy.select(run.c.collection_id).where(run.c.collection_id == row.id)
        return self._connection.execute(query).first() is not None

    def _of_type(self, row: CollectionRow, kind: CollectionType) -> CollectionRow:
        if row.type is not kind:
            raise errors.AggregatorError(
                f"{self._tables.db.place}: collection {row.name!r} is a {row.type.name} collection, "
                f"not a {kind.name} collection. Choose another name."
            )
        return row

    def register(self, name: str, kind: CollectionType, doc: str | None = None) -> tuple[CollectionRow, bool]:
        """Make sure that a collection exists.

        Parameters
        ----------
        name
            Its name.
        kind
            Its kind.
        doc
            What it is for, if it is new.

        Returns
        -------
        row, is_new
            The collection, and whether it did not exist before.

        Raises
        ------
        AggregatorError
            Raised if the name is taken by a collection of another kind.
        """
        table, run, insert = self._tables.collection, self._tables.run, self._tables.db.insert_or_ignore
        is_new = False
        if self.find(name) is None:
            added = insert(table).values(name=name, type=int(kind), doc=doc).returning(table.c.collection_id)
            is_new = self._connection.execute(added).first() is not None
        [row] = self.find_all([name])
        self._of_type(row, kind)
        if kind is CollectionType.RUN:
            self._connection.execute(insert(run).values(collection_id=row.id))
        return row, is_new

    def children(self, chain: CollectionRow) -> list[CollectionRow]:
        """Return the children of a chain in search order."""
        table, link = self._tables.collection, self._tables.collection_chain
        query = (
            _select(table)
            .join(link, link.c.child == table.c.collection_id)
            .where(link.c.parent == chain.id)
            .order_by(link.c.position)
        )
        return [_row(row) for row in self._connection.execute(query)]

    def walk(self, rows: Iterable[CollectionRow]) -> Iterator[CollectionRow]:
        """Go through collections and the chains among them, depth first, each collection once."""
        seen: set[int] = set()
        todo = list(rows)[::-1]
        while todo:
            row = todo.pop()
            if row.id in seen:
                continue
            seen.add(row.id)
            yield row
            if row.type is CollectionType.CHAINED:
                todo += self.children(row)[::-1]

    def flatten(self, names: Iterable[str]) -> list[str]:
        """Return collections with chains replaced by their members.

        Raises
        ------
        AggregatorError
            Raised if some do not exist.
        """
        rows = self.walk(self.find_all(names))
        return [row.name for row in rows if row.type is not CollectionType.CHAINED]

    def prepend(self, chain: str, names: Sequence[str]) -> None:
        """Put collections in front of a chain, moving those that are in it already.

        Raises
        ------
        AggregatorError
            Raised if a collection does not exist, the chain is none, or would contain itself.
        """
        self._insert(chain, names, front=True)

    def extend(self, chain: str, names: Sequence[str]) -> None:
        """Put collections behind a chain; otherwise like `prepend`."""
        self._insert(chain, names, front=False)

    def _insert(self, chain: str, names: Sequence[str], *, front: bool) -> None:
        parent = self._lock(chain)
        children = self.find_all(names)
        if any(row.id == parent.id for row in self.walk(children)):
            raise errors.AggregatorError(
                f"{self._tables.db.place}: chain {chain!r} would contain itself through {', '.join(names)}."
            )
        link = self._tables.collection_chain
        for child in children:
            self._connection.execute(
                link.delete().where(link.c.parent == parent.id, link.c.child == child.id)
            )
        edge = sqlalchemy.func.min if front else sqlalchemy.func.max
        query = sqlalchemy.select(edge(link.c.position)).where(link.c.parent == parent.id)
        position = self._connection.execute(query).scalar() or 0
        start = position - len(children) if front else position + 1
        rows = [
            {"parent": parent.id, "position": number, "child": child.id}
            for number, child in enumerate(children, start)
        ]
        if rows:
            self._connection.execute(link.insert(), rows)

    def _lock(self, chain: str) -> CollectionRow:
        """Look a chain up, and keep others from editing it until the transaction ends."""
        [row] = self.find_all([chain])
        table = self._tables.collection
        query = _select(table).where(table.c.collection_id == row.id).with_for_update()
        self._connection.execute(query).one()
        return self._of_type(row, CollectionType.CHAINED)


def _select(table: sqlalchemy.Table) -> sqlalchemy.Select[*tuple[Any, ...]]:
    return sqlalchemy.select(table.c.collection_id, table.c.name, table.c.type, table.c.doc)


def _row(row: sqlalchemy.Row[*tuple[Any, ...]]) -> CollectionRow:
    return CollectionRow(row[0], row[1], CollectionType(row[2]), row[3])
