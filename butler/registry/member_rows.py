"""Members of TAGGED and CALIBRATION collections, within a transaction: compared, and added."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import sqlalchemy
from aggregator.butler.registry import (
    associations,
    collection_rows,
    dataset_type_rows,
    definitions,
    insertion,
    tables,
)
from aggregator.schemas import bundle
from aggregator.storage import fault_points

_Kind = dataset_type_rows.DatasetTypeRow
_CALIBRATION = collection_rows.CollectionType.CALIBRATION


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """Members that are offered, compared with those that are there."""

    new: tuple[bundle.Association, ...]
    """Those that can be added."""

    n_present: int
    """Number of those that are there."""

    contradicted: tuple[tuple[bundle.Association, str], ...]
    """Those that can't be there beside another one, with the id of that."""

    replacing: tuple[tuple[bundle.Association, str], ...] = ()
    """Those that take the place of another one, with the id of that."""


def compare(
    registry: tables.Tables,
    connection: sqlalchemy.Connection,
    collection: str,
    kind: _Kind,
    rows: Sequence[bundle.Association],
    *,
    newest: bool,
) -> Comparison:
    """Compare members with those that are there.

    Parameters
    ----------
    registry
        The repository's tables.
    connection
        Connection in a writing transaction, which keeps others from adding members on SQLite only.
    collection
        Name of the collection; it need not exist.
    kind
        Type of all the datasets.
    rows
        Members with different data IDs or times of validity.
    newest
        As for `additions.Additions.associate`.
    """
    row = collection_rows.CollectionRows(registry, connection).find(collection)
    if row is None:
        return Comparison(tuple(rows), 0, ())
    is_calibration = row.type is _CALIBRATION
    there: dict[tuple[Any, ...], list[tuple[str, tuple[int, int] | None]]] = {}
    for dataset_id, values, timespan in _members(registry, connection, row, kind, rows):
        there.setdefault(values, []).append((dataset_id, timespan))
    new, contradicted, n_present = [], [], 0
    for each in rows:
        present = there.get(each.values, [])
        if (each.dataset_id, each.timespan) in present:
            n_present += 1
        elif other := next(
            (d for d, span in present if not is_calibration or _overlap(span, each.timespan)), None
        ):
            contradicted.append((each, other))
        else:
            new.append(each)
    older: set[str] = set()
    if newest and not is_calibration and contradicted:
        older = _older(registry, connection, contradicted)
    return Comparison(
        tuple(new),
        n_present,
        tuple(pair for pair in contradicted if pair[1] not in older),
        tuple(pair for pair in contradicted if pair[1] in older),
    )


def _older(
    registry: tables.Tables,
    connection: sqlalchemy.Connection,
    contradicted: Sequence[tuple[bundle.Association, str]],
) -> set[str]:
    """Return the ids of those datasets that were ingested before what would take their place."""
    dataset = registry.dataset
    query = sqlalchemy.select(dataset.c.id, dataset.c.ingest_date)
    query = query.where(registry.db.among(dataset.c.id, [other for _, other in contradicted]))
    dates: dict[str, int] = {row[0]: row[1] for row in connection.execute(query)}
    return {other for each, other in contradicted if (each.ingest_date or 0) > dates.get(other, 0)}


def _overlap(first: tuple[int, int] | None, second: tuple[int, int] | None) -> bool:
    assert first is not None
    assert second is not None
    return first[0] < second[1] and second[0] < first[1]


def _members(
    registry: tables.Tables,
    connection: sqlalchemy.Connection,
    row: collection_rows.CollectionRow,
    kind: _Kind,
    rows: Sequence[bundle.Association],
) -> list[tuple[str, tuple[Any, ...], tuple[int, int] | None]]:
    """Return id, data ID and validity of the members that have a data ID of those that are offered."""
    is_calibration = row.type is _CALIBRATION
    table = _table(registry, kind, is_calibration=is_calibration)
    columns = [registry.key_column(name, name) for name in kind.required]
    stage_columns = [definitions.integer("number"), *columns]
    data_ids = sorted({each.values for each in rows})
    staged = [(number, *values) for number, values in enumerate(data_ids)]
    with registry.db.staged(connection, stage_columns, staged) as stage:
        query: sqlalchemy.Select[Any] = sqlalchemy.select(table).where(
            table.c.dataset_type_id == kind.id, table.c.collection_id == row.id
        )
        matches = [table.c[name] == stage.c[name] for name in kind.required]
        query = query.join(stage, sqlalchemy.and_(sqlalchemy.true(), *matches))
        spans = [column.name for column in registry.db.timespan_columns(nullable=False)]
        return [
            (
                each._mapping["dataset_id"],
                tuple([each._mapping[name] for name in kind.required]),
                registry.db.timespan_of(*(each._mapping[name] for name in spans)) if is_calibration else None,
            )
            for each in connection.execute(query)
        ]


def _table(registry: tables.Tables, kind: _Kind, *, is_calibration: bool) -> sqlalchemy.Table:
    if is_calibration:
        return associations.calibs(registry, kind.calibs_table, kind.required)
    return associations.tags(registry, kind.tag_table, kind.required)


def add(
    registry: tables.Tables,
    connection: sqlalchemy.Connection,
    collection: str,
    kind: _Kind,
    rows: Sequence[bundle.Association],
    *,
    newest: bool,
) -> Comparison:
    """Add members; parameters are as for `additions.Additions.associate`.

    Raises
    ------
    AggregatorError
        If the collection does not exist.
    """
    [row] = collection_rows.CollectionRows(registry, connection).find_all([collection])
    is_calibration = row.type is _CALIBRATION
    table = _table(registry, kind, is_calibration=is_calibration)
    if is_calibration:
        # No constraint keeps two times of validity from overlapping.
        registry.db.lock(connection, table)
    comparison = compare(registry, connection, collection, kind, rows, newest=newest)
    new = list(comparison.new)
    if comparison.replacing:
        _remove(registry, connection, table, row.id, [other for _, other in comparison.replacing])
        new += [each for each, _ in comparison.replacing]
    governors = {
        name: {each.values[place] for each in new}
        for place, name in enumerate(kind.required)
        if name in registry.universe.governors
    }
    if not new:
        return comparison
    insertion.summarize(registry, connection, row.id, [kind.id], governors)
    if is_calibration:
        _certify(registry, connection, table, row.id, kind, new)
    else:
        columns = ("dataset_type_id", "dataset_id", "collection_id", *kind.required)
        values = [(kind.id, each.dataset_id, row.id, *each.values) for each in new]
        registry.db.insert_rows(connection, table, columns, values)
    fault_points.reached("associated")
    return comparison


def _remove(
    registry: tables.Tables,
    connection: sqlalchemy.Connection,
    table: sqlalchemy.Table,
    collection_id: int,
    ids: Sequence[str],
) -> None:
    chosen = registry.db.among(table.c.dataset_id, ids)
    connection.execute(table.delete().where(table.c.collection_id == collection_id, chosen))


def _certify(
    registry: tables.Tables,
    connection: sqlalchemy.Connection,
    table: sqlalchemy.Table,
    collection_id: int,
    kind: _Kind,
    rows: Sequence[bundle.Association],
) -> None:
    # One by one with keys of the database: there are few, and bulk rows would need keys of ours.
    spans = [column.name for column in registry.db.timespan_columns(nullable=False)]
    values = [
        {
            "dataset_type_id": kind.id,
            "dataset_id": each.dataset_id,
            "collection_id": collection_id,
            **dict(zip(kind.required, each.values, strict=True)),
            **dict(zip(spans, registry.db.timespan_values(each.timespan), strict=True)),
        }
        for each in rows
    ]
    connection.execute(table.insert(), values)
