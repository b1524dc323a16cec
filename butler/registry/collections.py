"""Collections and chains of a repository (butler-repository.md section 6)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import sqlalchemy
from aggregator.butler.databases import database
from aggregator.butler.registry import collection_rows, tables

_Result = TypeVar("_Result")

_Type = collection_rows.CollectionType


class Collections:
    """The collections of one repository; each method is a transaction of its own.

    Parameters
    ----------
    registry
        The repository's tables.
    """

    def __init__(self, registry: tables.Tables) -> None:
        self._tables = registry

    def find(self, name: str) -> collection_rows.CollectionRow | None:
        """Look a collection up."""
        return self._read(lambda rows: rows.find(name))

    def runs(self) -> Iterator[str]:
        """Iterate over the names of all RUN collections, oldest first (see `Database.rows`)."""
        table = self._tables.collection
        query = sqlalchemy.select(table.c.name).where(table.c.type == int(_Type.RUN))
        for row in self._tables.db.rows(query.order_by(table.c.collection_id)):
            yield row.name

    def children(self, chain: str) -> list[str]:
        """Return the names of a chain's children in search order.

        Raises
        ------
        AggregatorError
            Raised if there is no such collection.
        """
        return self._read(lambda rows: [row.name for row in rows.children(rows.find_all([chain])[0])])

    def flatten(self, names: Iterable[str]) -> list[str]:
        """Return collections with chains replaced by their members, each collection once.

        Raises
        ------
        AggregatorError
            Raised if some do not exist.
        """
        given = list(names)
        return self._read(lambda rows: rows.flatten(given))

    def members(self, names: Iterable[str]) -> set[str]:
        """Return the names of collections and of all that is in chains among them, chains included.

        Raises
        ------
        AggregatorError
            Raised if some do not exist.
        """
        given = list(names)
        return self._read(lambda rows: {row.name for row in rows.walk(rows.find_all(given))})

    def register_run(self, name: str) -> None:
        """Make sure that a RUN collection exists.

        Raises
        ------
        AggregatorError
            Raised if the name is taken by a collection of another type.
        """
        if not self._read(lambda rows: rows.is_complete_run(name)):
            self._write(lambda rows: rows.register(name, _Type.RUN))

    def register_chain(self, name: str) -> bool:
        """Make sure that a CHAINED collection exists.

        Returns
        -------
        is_new
            Whether it did not exist before.

        Raises
        ------
        AggregatorError
            Raised if the name is taken by a collection of another type.
        """
        return self._write(lambda rows: rows.register(name, _Type.CHAINED)[1])

    def update_output_chain(self, chain: str, run: str, inputs: Sequence[str]) -> None:
        """Put a run in front of an output chain.

        If the chain is new, the flattened inputs follow the run. All of it is one transaction, since a
        chain left behind without its inputs would never get them.

        Parameters
        ----------
        chain
            CHAINED collection, created if need be.
        run
            The output run, registered already.
        inputs
            Input collections.

        Raises
        ------
        AggregatorError
            Raised if a collection does not exist or is of the wrong type.
        """

        def update(rows: collection_rows.CollectionRows) -> None:
            _, is_new = rows.register(chain, _Type.CHAINED)
            if is_new:
                rows.extend(chain, rows.flatten(inputs))
            rows.prepend(chain, [run])

        self._write(update)

    def _read(self, work: Callable[[collection_rows.CollectionRows], _Result]) -> _Result:
        return self._tables.db.read(
            lambda connection: work(collection_rows.CollectionRows(self._tables, connection))
        )

    def _write(self, work: Callable[[collection_rows.CollectionRows], _Result]) -> _Result:
        # What another process is just making is not to be refused but met.
        return self._tables.db.write(
            lambda connection: work(collection_rows.CollectionRows(self._tables, connection)),
            attempts=database.ATTEMPTS,
        )
