"""What a bundle adds to a repository, besides datasets and dataset types (transfer.md section 7.7)."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy
from aggregator.butler.databases import database
from aggregator.butler.registry import (
    collection_rows,
    dataset_type_rows,
    file_records,
    member_rows,
    record_rows,
    recorded_datasets,
    tables,
)
from aggregator.schemas import bundle, datastore_records
from aggregator.storage import errors, fault_points

_Kind = dataset_type_rows.DatasetTypeRow

FileRow = tuple[str, str, str, str, str, str, str | None, str | None, int]
"""Table, datastore, dataset id, path, formatter, storage class, component, checksum, bytes of a record."""


class ChainRule(enum.Enum):
    """What happens to a chain that has other children."""

    EXTEND = "extend"
    """Those that it lacks are put behind."""

    KEEP = "keep"
    """It stays as it is."""

    REPLACE = "replace"
    """It gets those of the bundle."""


@dataclasses.dataclass(frozen=True, slots=True)
class Presence:
    """What a repository has of some datasets."""

    runs: Mapping[str, int]
    """Key of the run of each that is there, by id."""

    recorded: frozenset[tuple[str, str]]
    """Datastore and id of those that have a file."""


class Additions:
    """Adds to one repository; each method is a transaction of its own.

    Parameters
    ----------
    registry
        The repository's tables.
    """

    def __init__(self, registry: tables.Tables) -> None:
        self._tables = registry
        self._db = registry.db

    def register(self, collections: Sequence[bundle.Collection]) -> int:
        """Make sure that collections exist; return how many are new.

        Raises
        ------
        AggregatorError
            If a name is taken by a collection of another type; nothing is added then.
        """

        def add(connection: sqlalchemy.Connection) -> int:
            rows = collection_rows.CollectionRows(self._tables, connection)
            types = collection_rows.CollectionType
            return sum(rows.register(each.name, types[each.type], each.doc)[1] for each in collections)

        return self._db.write(add, attempts=database.ATTEMPTS)

    def compare_records(self, element: str, rows: Sequence[record_rows.Row]) -> record_rows.Comparison:
        """Compare dimension records with those that are there."""
        return self._db.read(lambda connection: record_rows.compare(self._tables, connection, element, rows))

    def add_records(self, batch: bundle.DimensionRecords) -> record_rows.Comparison:
        """Insert those dimension records that are not there.

        Raises
        ------
        RefusedError
            If a record does not fit the element here.
        """
        return self._db.write(
            lambda connection: record_rows.add(
                self._tables, connection, batch.element, batch.rows, batch.overlaps
            ),
            attempts=database.ATTEMPTS,
        )

    def presence(self, ids: Sequence[str], datastores: Iterable[str]) -> Presence:
        """Return what there is of some datasets."""
        dataset, location, names = self._tables.dataset, self._tables.location, list(datastores)

        def look(connection: sqlalchemy.Connection) -> Presence:
            query = sqlalchemy.select(dataset.c.id, dataset.c.run_id)
            query = query.where(self._db.among(dataset.c.id, ids))
            runs = {row.id: row.run_id for row in connection.execute(query)}
            if not runs:
                return Presence({}, frozenset())
            files = sqlalchemy.select(location.c.datastore_name, location.c.dataset_id).where(
                location.c.datastore_name.in_(names), self._db.among(location.c.dataset_id, list(runs))
            )
            return Presence(runs, frozenset((name, each) for name, each in connection.execute(files)))

        return self._db.read(look)

    def owners(self, records_table: str, paths: Collection[str]) -> dict[str, str]:
        """Return a dataset whose file is recorded at each of some paths, if there is any."""
        records = self._tables.records(records_table)
        # There is no least UUID on PostgreSQL.
        least = sqlalchemy.func.min(sqlalchemy.cast(records.c.dataset_id, sqlalchemy.Text()))
        query = sqlalchemy.select(records.c.path, least).group_by(records.c.path)
        query = query.where(self._db.among(records.c.path, list(paths)))
        return {path: owner.replace("-", "") for path, owner in self._db.rows(query)}

    def ingest_dates(self, ids: Sequence[str]) -> dict[str, int]:
        """Return when those of some datasets that there are were ingested, ns TAI, by id."""
        dataset = self._tables.dataset
        query = sqlalchemy.select(dataset.c.id, dataset.c.ingest_date)
        return {row[0]: row[1] for row in self._db.rows(query.where(self._db.among(dataset.c.id, ids)))}

    def file_records(
        self, ids: Sequence[str], datastores: Sequence[tuple[str, str]]
    ) -> list[bundle.FileRecord]:
        """Return the records of datasets in datastores, each given with its table of them."""
        if not ids:
            return []
        return self._db.read(
            lambda connection: recorded_datasets.file_records(self._tables, connection, datastores, ids)
        )

    def record_files(self, rows: Sequence[FileRow]) -> None:
        """Record files of datasets that are there without any; all rows in one transaction or none."""

        def write(connection: sqlalchemy.Connection) -> None:
            locations = dict.fromkeys((row[1], row[2]) for row in rows)
            insert = self._db.insert_or_ignore(self._tables.location)
            values = [{"datastore_name": name, "dataset_id": each} for name, each in locations]
            connection.execute(insert, values)
            for table in sorted({row[0] for row in rows}):
                records = [_record(row) for row in rows if row[0] == table]
                self._check_records(connection, table, records)
                connection.execute(self._db.insert_or_ignore(self._tables.records(table)), records)
            fault_points.reached("repaired")

        if rows:
            self._db.write(write)

    def _check_records(
        self, connection: sqlalchemy.Connection, table: str, offered: Sequence[Mapping[str, Any]]
    ) -> None:
        """Refuse records where others are: datastores may share a table, which has one for each dataset."""
        records = self._tables.records(table)
        query = sqlalchemy.select(records.c.dataset_id, records.c.component, records.c.path)
        query = query.where(self._db.among(records.c.dataset_id, [each["dataset_id"] for each in offered]))
        there = {(row[0], row[1]): row[2] for row in connection.execute(query)}
        for each in offered:
            path = there.get((each["dataset_id"], each["component"]), each["path"])
            if path != each["path"]:
                raise errors.AggregatorError(
                    f"{self._db.place}: dataset {each['dataset_id']} is recorded at {path} in table {table}, "
                    f"and can't be recorded at {each['path']} besides. Use a datastore with a table of its "
                    "own, or the same paths."
                )

    def forget_files(self, ids: Sequence[str], datastores: Iterable[tuple[str, str]]) -> None:
        """Take the files of datasets out of datastores, each with its table; the datasets stay."""
        places = list(datastores)

        def write(connection: sqlalchemy.Connection) -> None:
            location = self._tables.location
            for name, table in places:
                here = (location.c.datastore_name == name) & self._db.among(location.c.dataset_id, ids)
                connection.execute(location.delete().where(here))
                records = self._tables.records(table)
                connection.execute(records.delete().where(self._db.among(records.c.dataset_id, ids)))
            fault_points.reached("departed")

        if ids:
            self._db.write(write)

    def compare_members(
        self, collection: str, kind: _Kind, rows: Sequence[bundle.Association], *, newest: bool
    ) -> member_rows.Comparison:
        """Compare members of a TAGGED or CALIBRATION collection with those that are there."""
        return self._db.write(
            lambda connection: member_rows.compare(
                self._tables, connection, collection, kind, rows, newest=newest
            )
        )

    def associate(
        self, collection: str, kind: _Kind, rows: Sequence[bundle.Association], *, newest: bool
    ) -> member_rows.Comparison:
        """Add members to a TAGGED or CALIBRATION collection; what contradicts it is left out.

        Parameters
        ----------
        collection
            Name of the collection.
        kind
            Type of all the datasets.
        rows
            The members.
        newest
            Whether a dataset takes the place of one with its data ID that was ingested before it, in a
            TAGGED collection.
        """
        return self._db.write(
            lambda connection: member_rows.add(
                self._tables, connection, collection, kind, rows, newest=newest
            ),
            attempts=database.ATTEMPTS,
        )

    def link(self, chain: str, children: Sequence[str], rule: ChainRule) -> list[str]:
        """Give a chain its children; return those that do not exist, which are left out.

        Raises
        ------
        AggregatorError
            If the chain would contain itself.
        """

        def write(connection: sqlalchemy.Connection) -> list[str]:
            rows = collection_rows.CollectionRows(self._tables, connection)
            [parent] = rows.find_all([chain])
            present = [name for name in children if rows.find(name) is not None]
            before = [row.name for row in rows.children(parent)]
            missing = [name for name in children if name not in present]
            if rule is ChainRule.REPLACE and before != present:
                link = self._tables.collection_chain
                connection.execute(link.delete().where(link.c.parent == parent.id))
                before = []
            if rule is not ChainRule.KEEP or not before:
                rows.extend(chain, [name for name in present if name not in before])
            return missing

        return self._db.write(write, attempts=database.ATTEMPTS)


def _record(row: FileRow) -> dict[str, Any]:
    record: dict[str, Any] = dict(zip(file_records.COLUMNS, row[2:], strict=True))
    return {**record, "component": record["component"] or datastore_records.NO_COMPONENT}
