"""Rows of datasets, deleted within a transaction while their files stay (butler-repository.md section 8)."""

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy
from aggregator.butler.registry import collection_rows, tables
from aggregator.storage import fault_points

Judgement = Callable[[str, Sequence[tuple[str, str, int]]], Collection[str]]
"""Is given the name of a table of file records, with dataset id, path and recorded bytes of some files;
returns the ids of those that are changed."""


def forget(
    registry: tables.Tables,
    connection: sqlalchemy.Connection,
    run: str,
    ids: Iterable[str],
    kept: Mapping[str, Collection[str]],
    is_changed: Judgement | None,
) -> int:
    """Delete all rows of some datasets, as `ingested_datasets.Datasets.forget` tells.

    Parameters
    ----------
    registry
        The repository's tables.
    connection
        Connection in a writing transaction.
    run, ids, kept, is_changed
        As there.

    Returns
    -------
    count
        Number of datasets that were there, and are not any more.
    """
    run_id = collection_rows.CollectionRows(registry, connection).find_run(run).id
    with _staged(registry, connection, ids) as stage:
        doomed = _existing(registry, connection, stage, run_id)
        for name, paths in kept.items():
            files = [tuple(row) for row in _with_paths(registry, connection, stage, name, paths)]
            doomed.difference_update(dataset_id for dataset_id, path, _ in files if path in paths)
            if is_changed is not None:
                doomed.difference_update(is_changed(name, [file for file in files if file[1] not in paths]))
    if not doomed:
        return 0
    with _staged(registry, connection, doomed) as stage:
        staged = sqlalchemy.select(stage.c.dataset_id)
        # Tags go with the dataset; locations would keep it.
        for table in (registry.location, *map(registry.records, sorted(kept))):
            connection.execute(table.delete().where(table.c.dataset_id.in_(staged)))
        connection.execute(registry.dataset.delete().where(registry.dataset.c.id.in_(staged)))
    fault_points.reached("forget")
    return len(doomed)


def _staged(
    registry: tables.Tables, connection: sqlalchemy.Connection, ids: Iterable[str]
) -> contextlib.AbstractContextManager[sqlalchemy.Table]:
    column = sqlalchemy.Column("dataset_id", registry.db.uuid_type)
    return registry.db.staged(connection, [column], [(dataset_id,) for dataset_id in sorted(ids)])


def _existing(
    registry: tables.Tables, connection: sqlalchemy.Connection, stage: sqlalchemy.Table, run_id: int
) -> set[str]:
    dataset = registry.dataset
    query = (
        sqlalchemy.select(stage.c.dataset_id)
        .join(dataset, dataset.c.id == stage.c.dataset_id)
        .where(dataset.c.run_id == run_id)
    )
    return set(connection.execute(query).scalars())


def _with_paths(
    registry: tables.Tables,
    connection: sqlalchemy.Connection,
    stage: sqlalchemy.Table,
    records_table: str,
    paths: Collection[str],
) -> Iterable[sqlalchemy.Row[*tuple[Any, ...]]]:
    """Return id, path and size of records that have some path, or a size."""
    records = registry.records(records_table)
    query = (
        sqlalchemy.select(stage.c.dataset_id, records.c.path, records.c.file_size)
        .join(records, records.c.dataset_id == stage.c.dataset_id)
        .where(records.c.path.in_(paths) | (records.c.file_size >= 0))
    )
    return connection.execute(query)
