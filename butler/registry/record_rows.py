"""Rows of dimension records with their overlaps on the sky, within a transaction: read by key, and added."""

from __future__ import annotations

import dataclasses
import itertools
import operator
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import sqlalchemy
from aggregator.butler.dimensions import elements
from aggregator.butler.registry import batch, dimension_records, element_tables, record_columns, tables

Key = tuple[batch.Value, ...]
"""Values of the dimensions that an element requires, or of some of them."""

Row = tuple[Any, ...]
"""Values of a record, in the order of the element's columns."""


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """Records that are offered, compared with those that are there."""

    new: tuple[Row, ...]
    """Those that are not there."""

    differing: tuple[tuple[Key, str], ...]
    """Key of each that is there with other values, and the first column that differs."""

    n_present: int
    """Number of those that are there, differing or not."""


def read(
    registry: tables.Tables, connection: sqlalchemy.Connection, element: str, keys: Collection[Key]
) -> Iterator[Row]:
    """Iterate over the records of an element that have some of the keys, sorted by key.

    Parameters
    ----------
    registry
        The repository's tables.
    connection
        Connection in a transaction.
    element
        Name of the element.
    keys
        Values of all dimensions that it requires.
    """
    entry, table = registry.universe.element(element), element_tables.element(registry, element)
    query = table.select().order_by(*table.primary_key.columns)
    query = _matching(registry, query, list(table.primary_key.columns), keys)
    get = key_getter(entry, entry.required)
    for row in record_columns.loaded(registry.db, entry, connection.execute(query)):
        if get(row) in keys:
            yield row


def related(
    registry: tables.Tables,
    connection: sqlalchemy.Connection,
    element: str,
    dimensions: Sequence[str],
    keys: Collection[Key],
) -> Iterator[Key]:
    """Iterate over the keys of all records of an element that belong to some data IDs.

    Parameters
    ----------
    registry
        The repository's tables.
    connection
        Connection in a transaction.
    element
        Name of the element.
    dimensions
        Dimensions of the data IDs, all of which it requires.
    keys
        Their values.
    """
    table = element_tables.element(registry, element)
    columns = dict(zip(registry.universe.required(element), table.primary_key.columns, strict=True))
    query: sqlalchemy.Select[Any] = sqlalchemy.select(*columns.values())
    query = _matching(registry, query, [columns[name] for name in dimensions], keys)
    places = [list(columns).index(name) for name in dimensions]
    for row in connection.execute(query):
        if tuple([row[place] for place in places]) in keys:
            yield tuple(row)


def overlaps(
    registry: tables.Tables, connection: sqlalchemy.Connection, element: str, keys: Collection[Key]
) -> list[Row]:
    """Return system, level, key and index of all sky pixels that records of an element overlap."""
    table, required = element_tables.overlap(registry, element), registry.universe.required(element)
    columns = [table.c[name] for name in required]
    query = _matching(registry, table.select(), columns, keys)
    return sorted(tuple(row) for row in connection.execute(query) if tuple(row[2:-1]) in keys)


def compare(
    registry: tables.Tables, connection: sqlalchemy.Connection, element: str, rows: Sequence[Row]
) -> Comparison:
    """Compare records with those that are there, column by column; parameters are as for `add`."""
    entry = registry.universe.element(element)
    get = key_getter(entry, entry.required)
    offered = {get(row): row for row in rows}
    there = {get(row): row for row in read(registry, connection, element, offered.keys())}
    differing = []
    for key, row in there.items():
        pairs = zip(entry.columns, offered[key], row, strict=True)
        if column := next((c.name for c, mine, other in pairs if mine != other), None):
            differing.append((key, column))
    new = tuple(row for key, row in offered.items() if key not in there)
    return Comparison(new, tuple(differing), len(there))


def add(
    registry: tables.Tables,
    connection: sqlalchemy.Connection,
    element: str,
    rows: Sequence[Row],
    pixels: Sequence[Row],
) -> Comparison:
    """Insert those records that are not there, with the sky pixels that they overlap.

    Parameters
    ----------
    registry
        The repository's tables.
    connection
        Connection in a writing transaction.
    element
        Name of the element.
    rows
        Values of the records.
    pixels
        System, level, key and index of the sky pixels that they overlap.

    Raises
    ------
    RefusedError
        If a record does not fit the element.
    ConstraintError
        If another process has added one of them meanwhile, or one refers to a record that does not exist.
    """
    entry = registry.universe.element(element)
    comparison = compare(registry, connection, element, rows)
    if not comparison.new:
        return comparison
    names = [column.name for column in entry.columns]
    records = [dict(zip(names, row, strict=True)) for row in comparison.new]
    columns, values = record_columns.stored(registry.db, entry, records, takes_regions=True)
    table = element_tables.element(registry, element)
    registry.db.insert_rows(connection, table, columns, list(zip(*values, strict=True)))
    if entry.governor:
        dimension_records.summarize(registry, connection, element, values[0])
    if pixels:
        get = key_getter(entry, entry.required)
        added = set(map(get, comparison.new))
        _add_overlaps(
            registry, connection, element, [pixel for pixel in pixels if tuple(pixel[2:-1]) in added]
        )
    return comparison


def _add_overlaps(
    registry: tables.Tables, connection: sqlalchemy.Connection, element: str, pixels: Sequence[Row]
) -> None:
    table, required = element_tables.overlap(registry, element), registry.universe.required(element)
    columns = ("skypix_system", "skypix_level", *required, "skypix_index")
    summary, governor = element_tables.overlap_summary(registry, element), registry.universe.governor(element)
    place = 2 + required.index(governor)
    kept = sorted({(pixel[0], pixel[1], pixel[place]) for pixel in pixels})
    rows = [dict(zip(("skypix_system", "skypix_level", governor), each, strict=True)) for each in kept]
    if rows:
        connection.execute(registry.db.insert_or_ignore(summary), rows)
    registry.db.insert_rows(connection, table, columns, [tuple(pixel) for pixel in pixels])


def key_getter(entry: elements.Element, dimensions: Sequence[str]) -> Callable[[Row], Key]:
    """Return the function from a record to its values of some dimensions, required or implied."""
    names = [column.name for column in entry.columns]
    own = entry.key.name if entry.key is not None else ""
    places = [names.index(own if name == entry.name else name) for name in dimensions]
    if len(places) == 1:
        (place,) = places
        return lambda row: (row[place],)
    return operator.itemgetter(*places)


def _matching(
    registry: tables.Tables,
    query: sqlalchemy.Select[*tuple[Any, ...]],
    columns: Sequence[sqlalchemy.ColumnElement[Any]],
    keys: Collection[Key],
) -> sqlalchemy.Select[*tuple[Any, ...]]:
    """Select rows each of whose columns has a value that some key has: few more than those with a key."""
    for column, values in zip(columns, itertools.zip_longest(*keys), strict=False):
        query = query.where(registry.db.among(column, sorted(set(values))))
    return query
