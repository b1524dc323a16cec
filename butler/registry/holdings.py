"""What a repository holds, read in bulk to be given away (transfer.md section 7.1)."""

from __future__ import annotations

import collections
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, TypeVar

import numpy as np
import sqlalchemy
from aggregator.butler.registry import (
    collection_rows,
    dataset_type_rows,
    record_rows,
    recorded_datasets,
    selected_datasets,
    tables,
)
from aggregator.schemas import bundle
from aggregator.schemas.graphs import addresses

_Item = TypeVar("_Item")

IDS_AT_ONCE: Final = 10_000
"""Ids in one statement."""


class Holdings:
    """What one repository holds; each method is a transaction of its own, or several short ones.

    Parameters
    ----------
    registry
        The repository's tables.
    """

    def __init__(self, registry: tables.Tables) -> None:
        self._tables = registry
        self._db = registry.db

    def dataset_types(self) -> dict[str, dataset_type_rows.DatasetTypeRow]:
        """Return all dataset types by name."""
        return self._db.read(lambda connection: dataset_type_rows.everything(self._tables, connection))

    def collections(self) -> dict[str, collection_rows.CollectionRow]:
        """Return all collections by name."""
        rows = self._db.read(
            lambda connection: collection_rows.CollectionRows(self._tables, connection).everything()
        )
        return {row.name: row for row in rows}

    def chains(self) -> dict[int, list[int]]:
        """Return the keys of the children of all chains in search order, by key of the chain."""
        link = self._tables.collection_chain
        query = sqlalchemy.select(link.c.parent, link.c.child).order_by(link.c.parent, link.c.position)
        children: dict[int, list[int]] = {}
        for parent, child in self._db.rows(query):
            children.setdefault(parent, []).append(child)
        return children

    def kinds_of(self, collections: Collection[int]) -> dict[int, set[int]]:
        """Return the keys of the dataset types that collections may have, by key of the collection."""
        kinds: dict[int, set[int]] = {}
        for collection, kind in self._db.rows(selected_datasets.kinds_of(self._tables, collections)):
            kinds.setdefault(collection, set()).add(kind)
        return kinds

    def ids_of_run(self, run_id: int, kinds: Collection[int]) -> addresses.Ids:
        """Return the ids of all datasets of some types in a RUN collection, sorted, shape (n,)."""

        def read(connection: sqlalchemy.Connection) -> addresses.Ids:
            query = selected_datasets.of_run(self._tables, run_id, kinds)
            data = bytearray()
            for piece in self._db.id_pieces(connection, query):
                data += piece
            ids = np.frombuffer(data, addresses.ID_TYPE)
            ids.sort()
            return ids

        return self._db.read(read)

    def search(self, search: selected_datasets.Search) -> Iterator[tuple[str, int]]:
        """Iterate over id and key of the run of the datasets that a search finds (see `Database.rows`)."""
        for query in selected_datasets.of_search(self._tables, search):
            for row in self._db.rows(query):
                yield row.id, row.run_id

    def runs_of(self, ids: Sequence[str]) -> Iterator[tuple[str, int]]:
        """Iterate over id and key of the run of those of some datasets that there are."""
        for piece in _pieces(ids):
            for row in self._db.rows(selected_datasets.runs_of(self._tables, piece)):
                yield row.id, row.run_id

    def datasets(
        self,
        kinds: recorded_datasets.Kinds,
        run_id: int,
        ids: Sequence[str],
        datastores: Sequence[tuple[str, str]],
    ) -> tuple[list[bundle.Dataset], list[bundle.FileRecord]]:
        """Return datasets of a RUN collection, with the records of their files.

        Parameters
        ----------
        kinds
            All dataset types.
        run_id
            Key of the collection.
        ids
            Ids of datasets; those that are gone are left out.
        datastores
            Name of each datastore whose records are wanted, and its table of them.
        """

        def read(
            connection: sqlalchemy.Connection,
        ) -> tuple[list[bundle.Dataset], list[bundle.FileRecord]]:
            rows = recorded_datasets.read(self._tables, connection, kinds, run_id, ids)
            present = [row.id for row in rows]
            return rows, recorded_datasets.file_records(self._tables, connection, datastores, present)

        return self._db.read(read)

    def data_ids(
        self, kind: dataset_type_rows.DatasetTypeRow, run_id: int
    ) -> Iterator[tuple[bundle.Value, ...]]:
        """Iterate over the data IDs of all datasets of a type in a RUN collection (see `Database.rows`)."""
        with self._db.reading() as connection:
            yield from recorded_datasets.data_ids(self._tables, connection, kind, run_id)

    def associations(
        self, collection: collection_rows.CollectionRow, kind: dataset_type_rows.DatasetTypeRow
    ) -> Iterator[tuple[int, bundle.Association]]:
        """Iterate over the datasets of a type in a TAGGED or CALIBRATION collection, sorted by id.

        Each comes with the key of its run (see `Database.rows`).
        """
        is_calibration = collection.type is collection_rows.CollectionType.CALIBRATION
        query = recorded_datasets.members(self._tables, kind, collection.id, is_calibration=is_calibration)
        for row in self._db.rows(query):
            yield (
                row[1],
                recorded_datasets.association(self._tables, kind, row, is_calibration=is_calibration),
            )

    def records(self, element: str, keys: Collection[record_rows.Key]) -> list[record_rows.Row]:
        """Return the dimension records with some keys, sorted by key."""
        return self._read(lambda connection: list(record_rows.read(self._tables, connection, element, keys)))

    def related(
        self, element: str, dimensions: Sequence[str], keys: Collection[record_rows.Key]
    ) -> list[record_rows.Key]:
        """Return the keys of the records of an element that belong to some data IDs."""
        return self._read(
            lambda connection: list(record_rows.related(self._tables, connection, element, dimensions, keys))
        )

    def overlaps(self, element: str, keys: Collection[record_rows.Key]) -> list[record_rows.Row]:
        """Return system, level, key and index of all sky pixels that records of an element overlap."""
        return self._read(lambda connection: record_rows.overlaps(self._tables, connection, element, keys))

    def archive_members(self, datastores: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """Return the number of records of each archive, by datastore and path.

        Parameters
        ----------
        datastores
            Name of each datastore, and its table of file records.
        """
        members: collections.Counter[tuple[str, str]] = collections.Counter()
        for name, table in datastores:
            for (path,) in self._db.rows(recorded_datasets.paths_in_archives(self._tables, name, table)):
                members[name, bundle.file_path(path)] += 1
        return members

    def _read(self, work: Callable[[sqlalchemy.Connection], _Item]) -> _Item:
        return self._db.read(work)


def _pieces(ids: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    for begin in range(0, len(ids), IDS_AT_ONCE):
        yield ids[begin : begin + IDS_AT_ONCE]
