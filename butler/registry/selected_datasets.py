"""Which datasets a selection chooses: queries for their ids, RUN by RUN (transfer.md section 7.2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy
from aggregator.butler.dimensions import expressions
from aggregator.butler.registry import (
    associations,
    collection_rows,
    data_id_joins,
    dataset_type_rows,
    tables,
)

_Query = sqlalchemy.Select[*tuple[Any, ...]]

Kind = dataset_type_rows.DatasetTypeRow


@dataclasses.dataclass(frozen=True, slots=True)
class Search:
    """A search for datasets of one type."""

    kind: Kind
    """The dataset type."""

    collections: Sequence[collection_rows.CollectionRow]
    """Collections that may have them, no chains, in search order."""

    condition: expressions.Term | None
    """What has to be true of their data IDs."""

    finds_first: bool
    """Whether only the first dataset of each data ID counts."""


def of_run(registry: tables.Tables, run_id: int, kinds: Collection[int]) -> sqlalchemy.Select[tuple[str]]:
    """Make the query for the ids of all datasets of some types in a RUN collection."""
    dataset = registry.dataset
    query = sqlalchemy.select(dataset.c.id).where(dataset.c.run_id == run_id)
    return query.where(registry.db.among(dataset.c.dataset_type_id, sorted(kinds)))


def of_search(registry: tables.Tables, search: Search) -> Iterator[_Query]:
    """Make the queries for id and key of the run of all datasets that a search finds."""
    is_calibration = collection_rows.CollectionType.CALIBRATION
    plain = [row.id for row in search.collections if row.type is not is_calibration]
    certified = [row.id for row in search.collections if row.type is is_calibration]
    if plain:
        tags = associations.tags(registry, search.kind.tag_table, search.kind.required)
        yield _found(registry, search, tags, plain)
    if certified and search.kind.is_calibration:
        calibs = associations.calibs(registry, search.kind.calibs_table, search.kind.required)
        yield _found(registry, search, calibs, certified)


def _found(
    registry: tables.Tables, search: Search, members: sqlalchemy.Table, collections: list[int]
) -> _Query:
    dataset, kind = registry.dataset, search.kind
    keys = [members.c[name] for name in kind.required]
    query: _Query = (
        sqlalchemy.select(dataset.c.id, dataset.c.run_id)
        .join(members, members.c.dataset_id == dataset.c.id)
        .where(members.c.dataset_type_id == kind.id, members.c.collection_id.in_(collections))
    )
    if search.condition is not None:
        request = data_id_joins.Request(registry.universe.group(kind.required), search.condition, {}, ())
        data_ids = data_id_joins.select(registry, request, None).subquery("data_ids")
        matches = [data_ids.c[name] == members.c[name] for name in kind.required]
        query = query.where(sqlalchemy.exists().where(*matches))
    if not search.finds_first:
        return query.distinct()
    rank = sqlalchemy.case(
        {key: place for place, key in enumerate(collections)}, value=members.c.collection_id
    )
    place = sqlalchemy.func.row_number().over(partition_by=keys, order_by=rank).label("place")
    ranked = query.add_columns(place).subquery("ranked")
    return sqlalchemy.select(ranked.c.id, ranked.c.run_id).where(ranked.c.place == 1)


def kinds_of(registry: tables.Tables, collections: Collection[int]) -> sqlalchemy.Select[tuple[int, int]]:
    """Make the query for the keys of collections and of the dataset types that they may have."""
    summary = registry.summary
    return sqlalchemy.select(summary.c.collection_id, summary.c.dataset_type_id).where(
        registry.db.among(summary.c.collection_id, sorted(collections))
    )


def runs_of(registry: tables.Tables, ids: Sequence[str]) -> _Query:
    """Make the query for id and key of the run of those of some ids that there are."""
    dataset = registry.dataset
    return sqlalchemy.select(dataset.c.id, dataset.c.run_id).where(registry.db.among(dataset.c.id, ids))


def by_id(kinds: Mapping[str, Kind]) -> dict[int, Kind]:
    """Return dataset types by key."""
    return {kind.id: kind for kind in kinds.values()}
