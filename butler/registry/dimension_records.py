"""Records of dimensions and of relations between them: inserting and finding them.

Implements butler-repository.md sections 3 and 4: element tables, and what goes with a governor's records.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy
from aggregator.butler.dimensions import elements
from aggregator.butler.registry import batch, element_tables, record_columns, tables
from aggregator.storage import errors

_Query = sqlalchemy.Select[*tuple[Any, ...]]


class DimensionRecords:
    """The dimension records of one repository.

    Parameters
    ----------
    registry
        The repository's tables.
    """

    def __init__(self, registry: tables.Tables) -> None:
        self._tables = registry
        self._db = registry.db

    def has_records(self, element: str) -> bool:
        """Return whether there is any record of an element that has a table."""
        query = sqlalchemy.select(sqlalchemy.literal(1)).select_from(self._tables.dimension(element)).limit(1)
        return self._db.read(lambda connection: connection.execute(query).first() is not None)

    def insert(self, element: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Insert records of one element in one transaction, all of them or none.

        Parameters
        ----------
        element
            Name of the element.
        records
            Values by column name (`Universe.record_columns`): the element's own key is ``id`` or ``name``,
            other dimensions have their own names. Columns other than keys and dimensions can be left out or
            `None`. A hash is `bytes`; a timespan is its begin and end in nanoseconds TAI.

        Raises
        ------
        RefusedError
            Raised if the element has no records of its own, a record does not fit the element, or it has a
            region: its overlaps with sky pixels can't be computed.
        ConstraintError
            Raised if a record exists already, or refers to one that does not exist.
        """
        entry = self._element(element)
        if not entry.has_table:
            reason = f"insert records of {entry.union_of}" if entry.union_of else "it is a pixelization"
            raise errors.RefusedError(f"{self._db.place}: {element} has no records of its own; {reason}.")
        columns, values = record_columns.stored(self._db, entry, records)
        if not records:
            return
        table = element_tables.element(self._tables, element)
        rows = list(zip(*values, strict=True))

        def write(connection: sqlalchemy.Connection) -> None:
            self._db.insert_rows(connection, table, columns, rows)
            if entry.governor:
                summarize(self._tables, connection, element, values[0])

        self._db.write(write)

    def records(self, element: str, **data_id: batch.Value) -> Iterator[dict[str, Any]]:
        """Iterate over the records of one element, ordered by their keys (see `Database.rows`).

        Parameters
        ----------
        element
            Name of the element.
        **data_id
            Values of some of the dimensions that the element requires or implies, or of itself.

        Returns
        -------
        records
            Records as `insert` takes them, with all columns.

        Raises
        ------
        RefusedError
            Raised if the element has no records in the database, or does not depend on one of the dimensions.
        """
        entry = self._element(element)
        if entry.skypix:
            raise errors.RefusedError(f"{self._db.place}: {element} is a pixelization; it has no records.")
        if other := [name for name in data_id if name not in (*entry.required, *entry.implied)]:
            raise errors.RefusedError(
                f"{self._db.place}: {entry.name} does not depend on {other[0]!r}, but on "
                f"{', '.join((*entry.required, *entry.implied))}."
            )
        if entry.union_of is not None:
            return self._union_records(entry, entry.union_of, data_id)
        return self._records(entry, data_id)

    def _element(self, name: str) -> elements.Element:
        universe = self._tables.universe
        if name not in universe:
            raise errors.RefusedError(
                f"{self._db.place}: there is no {name!r} in dimension universe {universe.namespace} "
                f"version {universe.version}."
            )
        return universe.element(name)

    def _union_records(
        self, entry: elements.Element, target: str, data_id: Mapping[str, batch.Value]
    ) -> Iterator[dict[str, Any]]:
        """Iterate over the values that occur in another element's records."""
        assert entry.key is not None
        column = element_tables.element(self._tables, target).c[entry.name]
        query: _Query = sqlalchemy.select(column).distinct().order_by(column)
        for value in data_id.values():
            query = query.where(column == value)
        for (value,) in self._db.rows(query):
            yield {entry.key.name: value}

    def _records(
        self, entry: elements.Element, data_id: Mapping[str, batch.Value]
    ) -> Iterator[dict[str, Any]]:
        table = element_tables.element(self._tables, entry.name)
        query: _Query = table.select().order_by(*table.primary_key.columns)
        for name, value in data_id.items():
            own = entry.key is not None and name == entry.name
            query = query.where(table.c[self._tables.universe.primary_key(name) if own else name] == value)
        names = [column.name for column in entry.columns]
        for values in record_columns.loaded(self._db, entry, self._db.rows(query)):
            yield dict(zip(names, values, strict=True))


def summarize(
    registry: tables.Tables, connection: sqlalchemy.Connection, governor: str, values: Sequence[Any]
) -> None:
    """Note that overlaps with the common pixelization are kept for everything of a governor's records."""
    common = re.fullmatch(r"(.*?)([0-9]+)", registry.universe.common_skypix or "")
    for name in registry.universe.elements:
        if common is None or not registry.universe.element(name).spatial:
            continue
        if registry.universe.governor(name) == governor:
            rows = [
                {"skypix_system": common[1], "skypix_level": int(common[2]), governor: value}
                for value in values
            ]
            table = element_tables.overlap_summary(registry, name)
            connection.execute(registry.db.insert_or_ignore(table), rows)
