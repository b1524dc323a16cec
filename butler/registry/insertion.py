"""Writing a batch of datasets in one transaction (butler-repository.md section 7)."""

import operator
import time
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy
from aggregator.butler.databases import database
from aggregator.butler.registry import associations, batch, collections, conflicts, recorded_graphs, tables
from aggregator.storage import errors, fault_points

ATTEMPTS: Final = 10
"""How often a batch is tried while other processes write conflicting rows between our look and our rows."""

TAI_OFFSET_NS: Final = 37_000_000_000
"""TAI minus UTC in nanoseconds, since 2017."""


class UnregisteredError(errors.AggregatorError):
    """The run or a dataset type is not registered as it was: the database holds less than it did."""


NO_COMPONENT: Final = "__NULL_STRING__"
"""How an absent component is stored, being part of a key."""


def ingest(
    registry: tables.Tables,
    run: str,
    offered: batch.Batch,
    *,
    graphs: frozenset[str],
    backed: bool = False,
    defensive: bool = False,
) -> batch.IngestResult:
    """Write datasets and their files, all rows in one transaction or none.

    Datasets that are in the run already are skipped, with their files. Those that contradict the
    repository are left out and reported; the others are committed.

    Parameters
    ----------
    registry
        The repository's tables.
    run
        RUN collection, registered already.
    offered
        The datasets and their files.
    graphs
        Ids of the provenance graphs that the run may hold; none if that is to be the first.
    backed
        Whether these graphs back the datasets, so that the run has to hold them.
    defensive
        Whether to look for existing rows first. Without it plain inserts are tried first, which saves
        a quarter to a third of the time as long as everything is new.

    Raises
    ------
    UnknownGraphError
        Raised if the run holds another provenance graph; nothing is written then.
    UnrecordedGraphError
        Raised if it does not hold a graph that backs the datasets; nothing is written then.
    UnregisteredError
        Raised if the run does not exist, or a dataset type has another key; nothing is written then.
    AggregatorError
        Raised if the database fails; nothing is written then.
    """
    ids = {dataset_id for dataset_id, _, _ in offered.datasets}
    if not ids.issuperset(map(operator.itemgetter(2), offered.files)):
        raise ValueError("a file in the batch belongs to no dataset of the batch")
    if not offered.datasets:
        return batch.IngestResult(0, 0, ())

    def run_id(connection: sqlalchemy.Connection) -> int:
        return _run_id(registry, connection, run, offered, graphs, backed=backed)

    def at_once(connection: sqlalchemy.Connection) -> batch.IngestResult:
        return _ingest_at_once(registry, connection, run_id(connection), offered)

    def carefully(connection: sqlalchemy.Connection) -> batch.IngestResult:
        return _ingest_carefully(registry, connection, run_id(connection), offered)

    if not defensive:
        try:
            return registry.db.write(at_once)
        except database.ConstraintError:
            pass  # The careful way finds out what exists.
    return registry.db.write(carefully, attempts=ATTEMPTS)


def rehearse(registry: tables.Tables, run: str, offered: batch.Batch) -> batch.IngestResult:
    """Return what would come of a batch if it were ingested; nothing is written.

    Parameters
    ----------
    registry
        The repository's tables.
    run
        RUN collection; it need not exist.
    offered
        The datasets and their files.
    """

    def look(connection: sqlalchemy.Connection) -> batch.IngestResult:
        row = collections.Collections(registry, connection).find(run)
        if row is None:
            return batch.IngestResult(len(offered.datasets), 0, ())
        findings = conflicts.examine(registry, connection, row.id, offered)
        return batch.IngestResult(len(findings.new.datasets), findings.n_skipped, findings.conflicts)

    # As a writer, since it takes temporary tables.
    return registry.db.write(look)


def _ingest_at_once(
    registry: tables.Tables, connection: sqlalchemy.Connection, run_id: int, offered: batch.Batch
) -> batch.IngestResult:
    _insert(registry, connection, run_id, offered)
    fault_points.reached("insert")
    return batch.IngestResult(len(offered.datasets), 0, ())


def _ingest_carefully(
    registry: tables.Tables, connection: sqlalchemy.Connection, run_id: int, offered: batch.Batch
) -> batch.IngestResult:
    findings = conflicts.examine(registry, connection, run_id, offered)
    _insert(registry, connection, run_id, findings.new)
    fault_points.reached("insert")
    return batch.IngestResult(len(findings.new.datasets), findings.n_skipped, findings.conflicts)


def _run_id(
    registry: tables.Tables,
    connection: sqlalchemy.Connection,
    run: str,
    offered: batch.Batch,
    graphs: frozenset[str],
    *,
    backed: bool = False,
) -> int:
    """Return the key of a run that holds no other provenance graphs, and will not before we are through.

    All keys of which the batch is made are looked at: after a fail-over they may not be there, or be others'.
    """
    rows = collections.Collections(registry, connection)
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
    recorded_graphs.check(registry, connection, run, run_id, graphs, required=backed)
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
    _insert_files(registry, connection, new.files, new.file_size)


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
            if dimension in registry.dimensions.governors:
                governors.setdefault(dimension, set()).update(map(operator.itemgetter(column), rows))
    _summarize(registry, connection, run_id, sorted(types), governors)
    for name in sorted(groups):
        columns = ("dataset_type_id", "dataset_id", "collection_id", *required[name])
        registry.db.insert_rows(
            connection, associations.tags(registry, name, required[name]), columns, groups[name]
        )


def _summarize(
    registry: tables.Tables,
    connection: sqlalchemy.Connection,
    run_id: int,
    type_ids: list[int],
    governors: dict[str, set[Any]],
) -> None:
    """Note which dataset types and governor values the run contains."""
    insert = registry.db.insert_or_ignore
    rows = [{"collection_id": run_id, "dataset_type_id": type_id} for type_id in type_ids]
    if rows:
        connection.execute(insert(registry.summary), rows)
    for governor in sorted(governors):
        values = [{"collection_id": run_id, governor: value} for value in sorted(governors[governor])]
        connection.execute(insert(registry.governor_summary(governor)), values)


def _insert_files(
    registry: tables.Tables, connection: sqlalchemy.Connection, files: Sequence[batch.File], size: int
) -> None:
    ordered = sorted(files, key=operator.itemgetter(2))
    # A dataset with several components in a datastore is in one location.
    locations = dict.fromkeys(map(operator.itemgetter(1, 2), ordered))
    registry.db.insert_rows(connection, registry.location, ("datastore_name", "dataset_id"), list(locations))
    records: dict[str, list[tuple[Any, ...]]] = {}
    for table, _, dataset_id, path, formatter, storage_class, component in ordered:
        row = (dataset_id, path, formatter, storage_class, component or NO_COMPONENT, None, size)
        records.setdefault(table, []).append(row)
    columns = ("dataset_id", "path", "formatter", "storage_class", "component", "checksum", "file_size")
    for name in sorted(records):
        registry.db.insert_rows(connection, registry.records(name), columns, records[name])
