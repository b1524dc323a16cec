"""What a graph is built from: data IDs, and the datasets that exist for them, with their files."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import sqlalchemy
from aggregator.butler.registry import (
    associations,
    batch,
    collection_rows,
    data_id_joins,
    dataset_type_rows,
    tables,
)
from aggregator.schemas import datastore_records

Values = tuple[batch.Value, ...]
"""Values of some dimensions."""


_AT_ONCE: Final = 1000
"""Rows in one statement. A temporary table would be a change, which no server that is read only takes."""

_Item = TypeVar("_Item")


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A dataset that exists."""

    id: str
    """Its id, 32 hexadecimal digits."""

    run: str
    """Its RUN collection."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pairs:
    """Data IDs that belong together, though no record says so."""

    dimensions: tuple[str, ...]
    """Dimensions of the columns."""

    rows: Sequence[Values]
    """Values of each row."""


class Searches:
    """Looks for data IDs and datasets of one repository; each method is a transaction of its own.

    Parameters
    ----------
    registry
        The repository's tables.
    """

    def __init__(self, registry: tables.Tables) -> None:
        self._tables = registry
        self._db = registry.db

    def collections(self, names: Iterable[str]) -> list[collection_rows.CollectionRow]:
        """Return collections in the order in which they are searched, with chains replaced by their members.

        Raises
        ------
        AggregatorError
            If some do not exist.
        """
        given = list(names)

        def read(connection: sqlalchemy.Connection) -> list[collection_rows.CollectionRow]:
            rows = collection_rows.CollectionRows(self._tables, connection)
            return rows.find_all(rows.flatten(given))

        return self._db.read(read)

    def calibrated(
        self, dataset_type: dataset_type_rows.DatasetTypeRow, rows: Iterable[collection_rows.CollectionRow]
    ) -> list[str]:
        """Return those collections that have datasets of a type with times of validity."""
        calibrations = {
            row.id: row.name for row in rows if row.type is collection_rows.CollectionType.CALIBRATION
        }
        summary = self._tables.summary
        query = sqlalchemy.select(summary.c.collection_id).where(
            summary.c.dataset_type_id == dataset_type.id, summary.c.collection_id.in_(calibrations)
        )
        return [calibrations[row.collection_id] for row in self._db.rows(query)] if calibrations else []

    def project(
        self,
        request: data_id_joins.Request,
        pairs: Pairs | None,
        projections: Collection[tuple[str, ...]],
    ) -> dict[tuple[str, ...], set[Values]]:
        """Return the data IDs that a request asks for, once for each of some subsets of their dimensions.

        Parameters
        ----------
        request
            Which data IDs are asked for.
        pairs
            Data IDs that belong together.
        projections
            Subsets of the dimensions.

        Raises
        ------
        RefusedError
            If nothing says which values a dimension has, or the expression does not fit the dimensions.
        """
        order = request.dimensions.names
        places = {names: [order.index(name) for name in names] for names in projections}

        chunks = (
            [None]
            if pairs is None
            else [data_id_joins.Choice(pairs.dimensions, each) for each in _pieces(pairs.rows)]
        )
        result: dict[tuple[str, ...], set[Values]] = {names: set() for names in projections}
        for chunk in chunks:
            query = data_id_joins.select(self._tables, request, chunk)
            for row in self._db.rows(query):
                for names, chosen in places.items():
                    result[names].add(tuple([row[place] for place in chosen]))
        return result

    def find(
        self,
        dataset_type: dataset_type_rows.DatasetTypeRow,
        collections: Sequence[collection_rows.CollectionRow],
        data_ids: Collection[Values],
    ) -> dict[Values, Place]:
        """Return the first dataset of a type for each of some data IDs.

        Parameters
        ----------
        dataset_type
            The dataset type.
        collections
            Collections in the order in which they are searched.
        data_ids
            Values of the required dimensions.
        """
        ranks = {row.id: rank for rank, row in enumerate(collections)}
        if not ranks or not data_ids:
            return {}

        best: dict[Values, tuple[int, Place]] = {}
        for piece in _pieces(list(data_ids)) if dataset_type.required else [[()]]:
            query = self._found(dataset_type, list(ranks), piece)
            for collection, dataset_id, run, *values in self._db.rows(query):
                key, rank = tuple(values), ranks[collection]
                if key not in best or rank < best[key][0]:
                    best[key] = rank, Place(dataset_id, run)
        return {key: place for key, (_, place) in best.items()}

    def _found(
        self,
        kind: dataset_type_rows.DatasetTypeRow,
        collections: list[int],
        data_ids: Sequence[Values],
    ) -> sqlalchemy.Select[*tuple[Any, ...]]:
        tags = associations.tags(self._tables, kind.tag_table, kind.required)
        dataset, run = self._tables.dataset, self._tables.collection
        columns = {name: tags.c[name] for name in kind.required}
        query: sqlalchemy.Select[*tuple[Any, ...]] = sqlalchemy.select(
            tags.c.collection_id, tags.c.dataset_id, run.c.name, *columns.values()
        )
        query = (
            query.join(dataset, dataset.c.id == tags.c.dataset_id)
            .join(run, run.c.collection_id == dataset.c.run_id)
            .where(tags.c.dataset_type_id == kind.id, tags.c.collection_id.in_(collections))
        )
        return query.where(data_id_joins.Choice(kind.required, data_ids).among(columns)) if columns else query

    def files(
        self, ids: Collection[str], datastores: Iterable[tuple[str, str]]
    ) -> dict[str, list[tuple[str, datastore_records.FileRecord]]]:
        """Return the records of the files of datasets, with the datastore of each, by dataset id.

        Parameters
        ----------
        ids
            Ids of the datasets.
        datastores
            Names of datastores, with the tables of their records.
        """
        result: dict[str, list[tuple[str, datastore_records.FileRecord]]] = {}
        for name, table in datastores:
            records, location = self._tables.records(table), self._tables.location
            for piece in _pieces(sorted(ids)):
                query = (
                    sqlalchemy.select(records)
                    .join(location, location.c.dataset_id == records.c.dataset_id)
                    .where(location.c.datastore_name == name, records.c.dataset_id.in_(piece))
                )
                for row in self._db.rows(query):
                    result.setdefault(row.dataset_id, []).append((name, _record(row, table)))
        return result


def _pieces(rows: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """Yield rows, as many at a time as a statement may have values for."""
    for begin in range(0, len(rows), _AT_ONCE):
        yield rows[begin : begin + _AT_ONCE]


def _record(row: sqlalchemy.Row[*tuple[Any, ...]], table: str) -> datastore_records.FileRecord:
    component = None if row.component == datastore_records.NO_COMPONENT else row.component
    size = datastore_records.UNKNOWN_SIZE if row.file_size is None else row.file_size
    return datastore_records.FileRecord(
        uuid.UUID(row.dataset_id),
        row.path,
        row.formatter,
        row.storage_class,
        component,
        row.checksum,
        size,
        table,
    )
