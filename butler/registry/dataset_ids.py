"""Which datasets the database holds: the ids of a whole run, streamed and compared as arrays."""

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
import sqlalchemy
from aggregator.butler.registry import tables
from aggregator.schemas.graphs import addresses
from aggregator.storage import errors

LOOKS: Final = 5
"""How often datasets are committed that were and are not there, before that is an error."""


def of_run(registry: tables.Tables, connection: sqlalchemy.Connection, run: str) -> addresses.Ids:
    """Return the ids of all datasets in a run, sorted, shape (n,); they take 16 bytes of memory each."""
    return _read(registry, connection, _of_run(registry, run))


def has_any(registry: tables.Tables, connection: sqlalchemy.Connection, run: str) -> bool:
    """Return whether a run holds any dataset."""
    return connection.execute(_of_run(registry, run).limit(1)).first() is not None


def backed_by(
    registry: tables.Tables, connection: sqlalchemy.Connection, run: str, records_table: str, path: str
) -> addresses.Ids:
    """Return those datasets of a run whose file record has a given path; otherwise like `of_run`.

    A dataset is there once for each of its components, if these have records.
    """
    records = registry.records(records_table)
    query = _of_run(registry, run).join(records, records.c.dataset_id == registry.dataset.c.id)
    return _read(registry, connection, query.where(records.c.path == path))


def some_backed_by(
    registry: tables.Tables,
    connection: sqlalchemy.Connection,
    ids: Iterable[str],
    records_table: str,
    path: str,
) -> set[str]:
    """Return those of some ids whose datasets have a file record with a given path."""
    records, dataset = registry.records(records_table), registry.dataset
    column = sqlalchemy.Column("dataset_id", registry.db.uuid_type)
    with registry.db.staged(connection, [column], [(each,) for each in sorted(ids)]) as stage:
        query = (
            sqlalchemy.select(stage.c.dataset_id, records.c.path)
            .join(dataset, dataset.c.id == stage.c.dataset_id)
            .join(records, records.c.dataset_id == stage.c.dataset_id)
        )
        # The path is not for the database to compare: for each id it would look through the index of paths,
        # where nearly all are that of the graph.
        return {dataset_id for dataset_id, backing in connection.execute(query) if backing == path}


def complete(offer_missing: Callable[[], int], place: str, run: str, warn: Callable[[str], object]) -> None:
    """Commit what a fail-over, or a database restored from a backup, has lost.

    Parameters
    ----------
    offer_missing
        Commits again what was committed and is missing; returns how many datasets that were.
    place, run
        The database and the run, for messages.
    warn
        Is told what was missing.

    Raises
    ------
    AggregatorError
        If something is missing however often it is committed.
    """
    for _ in range(LOOKS):
        if not (n_missing := offer_missing()):
            return
        warn(f"{n_missing} datasets were not in the database, and were offered again")
    raise errors.AggregatorError(
        f"{place}: {n_missing} datasets of run {run!r} are not in the database though they were committed "
        f"to it {LOOKS} times. Look whether it is replaced or restored meanwhile, or somebody removes them, "
        "and run the same command again."
    )


def _of_run(registry: tables.Tables, run: str) -> sqlalchemy.Select[tuple[str]]:
    dataset, collection = registry.dataset, registry.collection
    return (
        sqlalchemy.select(dataset.c.id)
        .join(collection, collection.c.collection_id == dataset.c.run_id)
        .where(collection.c.name == run)
    )


def _read(
    registry: tables.Tables, connection: sqlalchemy.Connection, query: sqlalchemy.Select[tuple[str]]
) -> addresses.Ids:
    data = bytearray()
    for piece in registry.db.id_pieces(connection, query):
        data += piece
    ids = np.frombuffer(data, dtype=addresses.ID_TYPE)
    ids.sort()
    return ids
