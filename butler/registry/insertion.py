"""Rows of a batch of datasets, written within a transaction (butler-repository.md section 7)."""

import dataclasses
import operator
import time
from collections.abc import Collection
from typing import Any, Final

import sqlalchemy
from aggregator.butler.registry import (
    associations,
    batch,
    collection_rows,
    conflicts,
    file_records,
    forgetting,
    recorded_graphs,
    tables,
)
from aggregator.schemas import datastore_records
from aggregator.storage import errors, fault_points

TAI_OFFSET_NS: Final = 37_000_000_000
"""TAI minus UTC in nanoseconds, since 2017."""


class UnregisteredError(errors.AggregatorError):
    """The run or a dataset type is not registered as it was: the database holds less than it did."""


@dataclasses.dataclass(frozen=True, slots=True)
class Destination:
    """Where datasets go, and what has to be true of it when they do."""

    run: str
    """RUN collection, registered already."""

    graphs: frozenset[str]
    """Ids of the provenance graphs that the run may hold; none if that is to be the first."""

    is_backed: bool
    """Whether these graphs back the datasets, so that the run has to hold them."""


def check(offered: batch.Batch) -> None:
    """Raise an error if a batch has files of datasets that are not in it."""
    ids = {dataset_id for dataset_id, _, _ in offered.datasets}
    if not ids.issuperset(map(operator.itemgetter(2), offered.files)):
        raise ValueError("a file in the batch belongs to no dataset of the batch")


def insert(
    registry: tables.Tables, connection: sqlalchemy.Connection, destination: Destination, offered: batch.Batch
) -> batch.IngestResult:
    """Insert all rows of a batch, which fails if some are there already.

    Parameters
    ----------
    registry
        The repository's tables.
    connection
        Connection in a writing transaction.
    destination
        Where the datasets go.
    offered
        The datasets and their files.

    Raises
    ------
    ConstraintError
        Raised if a row exists, or refers to one that does not.
    UnknownGraphError
        Raised if the run holds another provenance graph.
    UnrecordedGraphError
        Raised if it does not hold a graph that backs the datasets.
    UnregisteredError
        Raised if the run does not exist, or a dataset type has another key.
    """
    _insert(registry, connection, _run_id(registry, connection, destination, offered), offered)
    fault_points.reached("insert")
    return batch.IngestResult(len(offered.datasets), 0, ())


def insert_missing(
    registry: tables.Tables, connection: sqlalchemy.Connection, destination: Destination, offered: batch.Batch
) -> batch.IngestResult:
    """Insert the rows of those datasets that are new and contradict nothing; otherwise like `insert`."""
    run_id = _run_id(registry, connection, destination, offered)
    findings = conflicts.examine(registry, connection, run_id, offered)
    _insert(registry, connection, run_id, findings.new)
    fault_points.reached("insert")
    return findings.result


def replace(
    registry: tables.Tables,
    connection: sqlalchemy.Connection,
    destination: Destination,
    offered: batch.Batch,
    replaced: Collection[str],
    records_tables: Collection[str],
) -> batch.IngestResult:
    """Delete datasets, and insert others like `insert_missing`, of which some take their places.

    Parameters
    ----------
    registry, connection, destination, offered
        As for `insert`.
    replaced
        Ids of the datasets that go.
    records_tables
        Tables of their file records.

    Raises
    ------
    AggregatorError
        Raised if anything contradicts the batch all the same: what goes must not leave an empty place.
    """
    kept: dict[str, Collection[str]] = dict.fromkeys(records_tables, ())
    forgetting.forget(registry, connection, destination.run, replaced, kept, None)
    result = insert_missing(registry, connection, destination, offered)
    if result.conflicts:
        raise errors.AggregatorError(
            f"{registry.db.place}: {result.conflicts[0]}. Somebody else writes there; run the same command "
            "again."
        )
    return result


def rehearse(
    registry: tables.Tables, connection: sqlalchemy.Connection, run: str, offered: batch.Batch
) -> batch.IngestResult:
    """Return what would come of a batch; nothing is written, but temporary tables are made."""
    row = collection_rows.CollectionRows(registry, connection).find(run)
    if row is None:
        return batch.IngestResult(len(offered.datasets), 0, ())
    return conflicts.examine(registry, connection, row.id, offered).result


def _run_id(
    registry: tables.Tables, connection: sqlalchemy.Connection, destination: Destination, offered: batch.Batch
) -> int:
    """Return the key of a run that holds no other provenance graphs, and will not before we are through.

    All keys of which the batch is made are looked at: after a fail-over they may not be there, or be others'.
    """
    rows, run = collection_rows.CollectionRows(registry, connection), destination.run
    if not rows.is_complete_run(run):
        raise UnregisteredError(f"{registry.db.place}: there is no run {run!r}. Run the same command again.")
    table = registry.dataset_type
    kinds = {kind.id: kind.name for _, kind, _ in offered.datasets}
    types = {key: registry.overrides.stored_name(name) for key, name in kinds.items()}
    names = sqlalchemy.select(table.c.id, table.c.name).where(table.c.id.in_(types))
    if {row.id: row.name for row in connection.execute(names)} != types:
        raise UnregisteredError(
            f"{registry.db.place}: dataset types are not registered as they were. Run the same command again."
        )
    run_id = rows.find_run(run).id
    recorded_graphs.check(
        registry, connection, run, run_id, destination.graphs, required=destination.is_backed
    )
    return run_id


def _insert(
    registry: tables.Tables, connection: sqlalchemy.Connection, run_id: int, new: batch.Batch
) -> None:
    """Insert all rows, parents before children; always in the same order, so that writers can't deadlock."""
    now = time.time_ns() + TAI_OFFSET_NS
    # Ids grow with time: in their order, neighbours in the batch are neighbours in the indices.
    datasets = sorted(new.datasets, key=operator.itemgetter(0))
    registry.db.insert_rows(
        connection,
        registry.dataset,
        ("id", "dataset_type_id", "ingest_date", "run_id"),
        [(dataset_id, dataset_type.id, now, run_id) for dataset_id, dataset_type, _ in datasets],
    )
    _insert_tags(registry, connection, run_id, datasets)
    _insert_files(registry, connection, new)


def _insert_tags(
    registry: tables.Tables, connection: sqlalchemy.Connection, run_id: int, datasets: list[batch.Dataset]
) -> None:
    types = {dataset_type.id: dataset_type for _, dataset_type, _ in datasets}
    groups: dict[str, list[tuple[Any, ...]]] = {}
    required: dict[str, tuple[str, ...]] = {}
    for dataset_type in types.values():
        groups[dataset_type.tag_table] = []
        required[dataset_type.tag_table] = dataset_type.required
    for dataset_id, dataset_type, values in datasets:
        groups[dataset_type.tag_table].append((dataset_type.id, dataset_id, run_id, *values))
    governors: dict[str, set[Any]] = {}
    for name, rows in groups.items():
        for column, dimension in enumerate(required[name], 3):
            if dimension in registry.universe.governors:
                governors.setdefault(dimension, set()).update(map(operator.itemgetter(column), rows))
    summarize(registry, connection, run_id, sorted(types), governors)
    for name in sorted(groups):
        columns = ("dataset_type_id", "dataset_id", "collection_id", *required[name])
        registry.db.insert_rows(
            connection, associations.tags(registry, name, required[name]), columns, groups[name]
        )


def summarize(
    registry: tables.Tables,
    connection: sqlalchemy.Connection,
    run_id: int,
    type_ids: list[int],
    governors: dict[str, set[Any]],
) -> None:
    """Note which dataset types and governor values a collection contains."""
    insert = registry.db.insert_or_ignore
    rows = [{"collection_id": run_id, "dataset_type_id": type_id} for type_id in type_ids]
    if rows:
        connection.execute(insert(registry.summary), rows)
    for governor in sorted(governors):
        values = [{"collection_id": run_id, governor: value} for value in sorted(governors[governor])]
        connection.execute(insert(registry.governor_summary(governor)), values)


def _insert_files(registry: tables.Tables, connection: sqlalchemy.Connection, new: batch.Batch) -> None:
    ordered = sorted(new.files, key=operator.itemgetter(2))
    # A dataset with several components in a datastore is in one location.
    locations = dict.fromkeys(map(operator.itemgetter(1, 2), ordered))
    registry.db.insert_rows(connection, registry.location, ("datastore_name", "dataset_id"), list(locations))
    records: dict[str, list[tuple[Any, ...]]] = {}
    unmeasured = None, new.file_size
    for table, _, dataset_id, path, formatter, storage_class, component in ordered:
        measure = new.measures.get((table, dataset_id, component), unmeasured)
        part = component or datastore_records.NO_COMPONENT
        records.setdefault(table, []).append((dataset_id, path, formatter, storage_class, part, *measure))
    for name in sorted(records):
        registry.db.insert_rows(connection, registry.records(name), file_records.COLUMNS, records[name])
