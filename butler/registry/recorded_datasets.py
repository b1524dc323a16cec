"""Datasets of a repository with all that is recorded of them, read in bulk to be given away."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy
from aggregator.butler.registry import associations, dataset_type_rows, tables
from aggregator.schemas import bundle, datastore_records

_ROWS_AT_ONCE: Final = 10_000
"""Rows that are fetched together."""

Kinds = Mapping[int, dataset_type_rows.DatasetTypeRow]
"""Dataset types by key."""


def read(
    registry: tables.Tables, connection: sqlalchemy.Connection, kinds: Kinds, run_id: int, ids: Sequence[str]
) -> list[bundle.Dataset]:
    """Return datasets of a RUN collection, sorted by id; those that are not in it are left out.

    Parameters
    ----------
    registry
        The repository's tables.
    connection
        Connection in a transaction.
    kinds
        All dataset types.
    run_id
        Key of the collection.
    ids
        Ids of datasets.
    """
    dataset = registry.dataset
    query = sqlalchemy.select(dataset.c.id, dataset.c.dataset_type_id, dataset.c.ingest_date)
    query = query.where(registry.db.among(dataset.c.id, ids), dataset.c.run_id == run_id)
    dates: dict[str, int] = {}
    groups: dict[int, list[str]] = {}
    for dataset_id, kind_id, date in connection.execute(query).all():
        dates[dataset_id] = date
        groups.setdefault(kind_id, []).append(dataset_id)
    by_table: dict[str, list[str]] = {}
    for kind_id, some in groups.items():
        by_table.setdefault(kinds[kind_id].tag_table, []).extend(some)
    required = {kind.tag_table: kind.required for kind in kinds.values()}
    names = {key: kind.name for key, kind in kinds.items()}
    rows: list[bundle.Dataset] = []
    for name, some in by_table.items():
        tags = associations.tags(registry, name, required[name])
        columns = [tags.c.dataset_id, tags.c.dataset_type_id, *(tags.c[each] for each in required[name])]
        members: sqlalchemy.Select[*tuple[Any, ...]] = sqlalchemy.select(*columns).where(
            registry.db.among(tags.c.dataset_id, some), tags.c.collection_id == run_id
        )
        rows += [
            bundle.Dataset(row[0], names[row[1]], tuple(row[2:]), dates[row[0]])
            for row in connection.execute(members).all()
        ]
    rows.sort(key=operator.itemgetter(0))
    return rows


def file_records(
    registry: tables.Tables,
    connection: sqlalchemy.Connection,
    datastores: Sequence[tuple[str, str]],
    ids: Sequence[str],
) -> list[bundle.FileRecord]:
    """Return the records of all files of datasets, sorted by dataset.

    Parameters
    ----------
    registry
        The repository's tables.
    connection
        Connection in a transaction.
    datastores
        Name of each datastore, and its table of file records.
    ids
        Ids of the datasets.
    """
    found: list[bundle.FileRecord] = []
    location = registry.location
    for name, table in datastores:
        records = registry.records(table)
        query = (
            sqlalchemy.select(records)
            .join(location, location.c.dataset_id == records.c.dataset_id)
            .where(location.c.datastore_name == name, registry.db.among(records.c.dataset_id, ids))
        )
        found += [_file_record(name, *row) for row in connection.execute(query).all()]
    # Those of one dataset are in the order of datastores, and then as the database has them.
    found.sort(key=operator.itemgetter(0))
    return found


def paths_in_archives(
    registry: tables.Tables, datastore: str, records_table: str
) -> sqlalchemy.Select[tuple[str]]:
    """Make the query for all paths of a datastore that name a member of an archive."""
    records, location = registry.records(records_table), registry.location
    is_member = sqlalchemy.or_(*(records.c.path.contains(f"#{begin}") for begin in bundle.MEMBER))
    return (
        sqlalchemy.select(records.c.path)
        .join(location, location.c.dataset_id == records.c.dataset_id)
        .where(location.c.datastore_name == datastore, is_member)
    )


def _file_record(
    datastore: str,
    dataset_id: str,
    path: str,
    formatter: str,
    storage_class: str,
    component: str,
    checksum: str | None,
    size: int | None,
) -> bundle.FileRecord:
    part = None if component == datastore_records.NO_COMPONENT else component
    n_bytes = datastore_records.UNKNOWN_SIZE if size is None else size
    return bundle.FileRecord(dataset_id, datastore, path, formatter, storage_class, part, checksum, n_bytes)


def data_ids(
    registry: tables.Tables,
    connection: sqlalchemy.Connection,
    kind: dataset_type_rows.DatasetTypeRow,
    run_id: int,
) -> Iterator[tuple[bundle.Value, ...]]:
    """Iterate over the data IDs of all datasets of a type in a RUN collection."""
    tags = associations.tags(registry, kind.tag_table, kind.required)
    # Without dimensions there is nothing to select but that there is one.
    columns: list[sqlalchemy.ColumnElement[Any]] = [tags.c[name] for name in kind.required]
    columns = columns or [sqlalchemy.literal(1)]
    query: sqlalchemy.Select[*tuple[Any, ...]] = sqlalchemy.select(*columns).where(
        tags.c.dataset_type_id == kind.id, tags.c.collection_id == run_id
    )
    width = len(kind.required)
    for rows in connection.execute(query.execution_options(yield_per=_ROWS_AT_ONCE)).partitions():
        yield from [tuple(row[:width]) for row in rows]


def members(
    registry: tables.Tables,
    kind: dataset_type_rows.DatasetTypeRow,
    collection_id: int,
    *,
    is_calibration: bool,
) -> sqlalchemy.Select[*tuple[Any, ...]]:
    """Make the query for the datasets of a type in a TAGGED or CALIBRATION collection, sorted by id."""
    make = associations.calibs if is_calibration else associations.tags
    name = kind.calibs_table if is_calibration else kind.tag_table
    table, dataset = make(registry, name, kind.required), registry.dataset
    columns = [table.c.dataset_id, dataset.c.run_id, dataset.c.ingest_date]
    columns += [table.c[each] for each in kind.required]
    if is_calibration:
        columns += [table.c[column.name] for column in registry.db.timespan_columns(nullable=False)]
    return (
        sqlalchemy.select(*columns)
        .join(dataset, dataset.c.id == table.c.dataset_id)
        .where(table.c.dataset_type_id == kind.id, table.c.collection_id == collection_id)
        .order_by(table.c.dataset_id)
    )


def association(
    registry: tables.Tables,
    kind: dataset_type_rows.DatasetTypeRow,
    row: sqlalchemy.Row[*tuple[Any, ...]],
    *,
    is_calibration: bool,
) -> bundle.Association:
    """Return a member that such a query has found."""
    width = 3 + len(kind.required)
    timespan = registry.db.timespan_of(*row[width:]) if is_calibration else None
    return bundle.Association(row[0], kind.name, tuple(row[3:width]), timespan, row[2])
