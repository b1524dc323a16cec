"""Tables of dimension records and of their overlaps on the sky (butler-repository.md sections 3 and 11)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy
from aggregator.butler.registry import definitions
from aggregator.storage import errors

SYSTEM_LENGTH: Final = 16
"""Longest name of a system of sky pixels."""


def element(tables: definitions.Definitions, name: str) -> sqlalchemy.Table:
    """Return the table of a dimension's or other element's records.

    Its primary key are the required dimensions, in the order of `Universe.required`.

    Parameters
    ----------
    tables
        The repository's tables.
    name
        Name of the element.
    """
    table = tables.get(name)
    if table is not None:
        return table
    entry = tables.universe.element(name)
    others = [n for n in entry.required if n != name]
    columns = [tables.key_column(n, n, primary_key=True) for n in others]
    rest = entry.columns[len(others) :]
    if entry.key is not None:
        columns.append(tables.key_column(name, entry.key.name, primary_key=True))
        rest = rest[1:]
    columns += [tables.key_column(n, n) for n in entry.implied]
    for column in rest[len(entry.implied) :]:
        if column.type == "timespan":
            columns += tables.db.timespan_columns(nullable=True)
        else:
            columns.append(tables.column(column))
    unique = [(*others, alternate) for alternate in entry.alternates]
    return tables.define(name, columns, unique=unique, references=_to(tables, [*others, *entry.implied]))


def references(tables: definitions.Definitions, dimension: str) -> list[definitions.Reference]:
    """Return the foreign key of columns that hold a dimension's values; none if it has no table."""
    return _to(tables, [dimension])


def governor_summary(tables: definitions.Definitions, governor: str) -> sqlalchemy.Table:
    """Return the table of the values of a governor dimension that occur in a collection."""
    name = f"collection_summary_{governor}"
    table = tables.get(name)
    if table is not None:
        return table
    collection = tables.get("collection")
    assert collection is not None  # it is among the first to be defined
    to_collection = definitions.Reference(("collection_id",), collection, on_delete=definitions.CASCADE)
    return tables.define(
        name,
        [
            definitions.integer("collection_id", primary_key=True),
            tables.key_column(governor, governor, primary_key=True),
        ],
        references=[to_collection, *_to(tables, [governor])],
    )


def overlap_summary(tables: definitions.Definitions, name: str) -> sqlalchemy.Table:
    """Return the table that says which systems of sky pixels a spatial element is related to."""
    table_name = f"{name}_skypix_overlap_summary"
    table = tables.get(table_name)
    if table is not None:
        return table
    governor = tables.universe.governor(name)
    columns = [*_pixel_columns(), tables.key_column(governor, governor, primary_key=True)]
    return tables.define(table_name, columns, references=_to(tables, [governor]))


def overlap(tables: definitions.Definitions, name: str) -> sqlalchemy.Table:
    """Return the table of the sky pixels that the records of a spatial element overlap."""
    table_name = f"{name}_skypix_overlap"
    table = tables.get(table_name)
    if table is not None:
        return table
    required = tables.universe.required(name)
    pixel = ("skypix_system", "skypix_level")
    summary = definitions.Reference(
        (*pixel, tables.universe.governor(name)),
        overlap_summary(tables, name),
        on_delete=definitions.CASCADE,
    )
    return tables.define(
        table_name,
        [
            *_pixel_columns(),
            *(tables.key_column(n, n, primary_key=True) for n in required),
            definitions.integer("skypix_index", primary_key=True),
        ],
        lookup=[(*pixel, "skypix_index", *required)],
        references=[summary, *_to(tables, required)],
    )


def define_all(tables: definitions.Definitions) -> None:
    """Define the tables of all elements, and those of their overlaps."""
    universe = tables.universe
    names = [name for name in universe.elements if universe.has_table(name)]
    if taken := [name for name in names if tables.get(name) is not None]:
        raise errors.RefusedError(
            f"{tables.db.place}: no dimension can be called {', '.join(taken)}, "
            "since every repository has a table of this name for something else."
        )
    families: dict[str, list[str]] = {}
    for name in names:
        element(tables, name)
        family = universe.element(name).spatial
        if family is not None:
            families.setdefault(family, []).append(name)
            overlap(tables, name)
    for governor in universe.governors:
        governor_summary(tables, governor)
    for these, those in itertools.combinations(families.values(), 2):
        for pair in itertools.product(these, those):
            _define_pair(tables, *sorted(pair, key=universe.elements.index))


def _define_pair(tables: definitions.Definitions, first: str, second: str) -> None:
    """Define the tables of overlaps between two elements; nobody fills them, but they have to exist."""
    universe = tables.universe
    governors = [universe.governor(first), universe.governor(second)]
    required = [n for name in (first, second) for n in universe.required(name) if n not in governors]
    for suffix, keys in (("overlap_summary", governors), ("overlap", governors + required)):
        columns = [tables.key_column(n, n, primary_key=True) for n in dict.fromkeys(keys)]
        tables.define(f"{first}_{second}_{suffix}", columns, references=_to(tables, dict.fromkeys(keys)))


def _pixel_columns() -> list[sqlalchemy.Column[Any]]:
    system = sqlalchemy.Column("skypix_system", sqlalchemy.String(SYSTEM_LENGTH), primary_key=True)
    return [system, definitions.small_integer("skypix_level", primary_key=True)]


def _to(tables: definitions.Definitions, names: Iterable[str]) -> list[definitions.Reference]:
    references = []
    for name in names:
        if tables.universe.has_table(name):
            target = element(tables, name)
            keys = tuple(column.name for column in target.primary_key.columns)
            references.append(definitions.Reference(tables.universe.required(name), target, keys))
    return references
