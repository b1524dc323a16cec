"""Which provenance graphs a run holds, looked up in the transaction that depends on it (docs/ordering.md)."""

import sqlalchemy
from aggregator.butler.registry import associations, run_provenance, tables
from aggregator.storage import errors


class UnknownGraphError(errors.AggregatorError):
    """A run holds a provenance graph that the writer did not count on; nothing was written.

    Parameters
    ----------
    run
        RUN collection.
    ids
        Ids of all provenance graphs that it holds, 32 hexadecimal digits each.
    """

    def __init__(self, run: str, ids: frozenset[str]) -> None:
        self.run = run
        self.ids = ids
        super().__init__(
            f"Another process has ingested a provenance graph of run {run!r} in the meantime. "
            "Run the same command again."
        )


class UnrecordedGraphError(errors.AggregatorError):
    """A run does not hold the provenance graph that is to back datasets; nothing was written."""


def ids(registry: tables.Tables, connection: sqlalchemy.Connection, run_id: int) -> frozenset[str]:
    """Return the ids of the provenance graphs in a run: none, or one.

    Parameters
    ----------
    registry
        The repository's tables.
    connection
        Connection in a transaction.
    run_id
        Key of the RUN collection.
    """
    kind = registry.dataset_type
    query = sqlalchemy.select(kind.c.id, kind.c.tag_association_table)
    row = connection.execute(query.where(kind.c.name == run_provenance.DATASET_TYPE)).one_or_none()
    if row is None:
        return frozenset()
    # By its tags, since their constraint is an index on just these columns: a run may have millions of rows.
    tags = associations.tags(registry, row.tag_association_table, ())
    query = sqlalchemy.select(tags.c.dataset_id)
    query = query.where(tags.c.dataset_type_id == row.id, tags.c.collection_id == run_id)
    return frozenset(connection.execute(query).scalars())


def check(
    registry: tables.Tables,
    connection: sqlalchemy.Connection,
    run: str,
    run_id: int,
    expected: frozenset[str],
    *,
    required: bool,
) -> None:
    """Make sure that a run holds no provenance graph but known ones, until the transaction ends.

    Whoever records one has to refer to the run's row, and so has to wait, also if it is the reference.

    Parameters
    ----------
    registry
        The repository's tables.
    connection
        Connection in a writing transaction that has written nothing yet.
    run, run_id
        Name and key of the RUN collection.
    expected
        Ids of provenance graphs that the run may hold.
    required
        Whether it has to hold them.

    Raises
    ------
    UnknownGraphError
        If it holds another one.
    UnrecordedGraphError
        If it does not hold one that it has to hold.
    """
    table = registry.run
    lock = sqlalchemy.select(table.c.collection_id).where(table.c.collection_id == run_id)
    connection.execute(lock.with_for_update()).all()
    there = ids(registry, connection, run_id)
    if not there <= expected:
        raise UnknownGraphError(run, there)
    if required and there != expected:
        raise UnrecordedGraphError(
            f"The provenance graph of run {run!r} is not recorded any more. Run the same command again."
        )
