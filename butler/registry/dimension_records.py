"""Records of dimensions and of relations between them: inserting and finding them.

Implements butler-repository.md sections 3 and 4: element tables, and what goes with a governor's records.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy
from aggregator.butler.databases import database
from aggregator.butler.dimensions import elements
from aggregator.butler.registry import batch, definitions, element_tables, tables
from aggregator.storage import errors

_FETCH: Final = 10_000
"""Rows fetched at once from a streaming query."""

_PYTHON_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "int": (int,),
    "string": (str,),
    "float": (float, int),
    "bool": (bool,),
    "hash": (bytes,),
}


def insert(registry: tables.Tables, element: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Insert records of one element, all of them or none.

    Parameters
    ----------
    registry
        The repository's tables.
    element
        Name of the element.
    records
        Values by column name (`Universe.record_columns`): the element's own key is ``id`` or ``name``, other
        dimensions have their own names. Columns other than keys and dimensions can be left out or `None`.
        A hash is `bytes`; a timespan is its begin and end in nanoseconds TAI.

    Raises
    ------
    RefusedError
        Raised if the element has no records of its own, a record does not fit the element, or it has a
        region: its overlaps with sky pixels can't be computed.
    ConstraintError
        Raised if a record exists already, or refers to one that does not exist.
    """
    entry = _own(registry, element)
    columns, values = _columns(registry, entry, records)
    if not records:
        return
    table = element_tables.element(registry, element)
    rows = list(zip(*values, strict=True))

    def write(connection: sqlalchemy.Connection) -> None:
        registry.db.insert_rows(connection, table, columns, rows)
        if entry.governor:
            _summarize(registry, connection, element, values[0])

    registry.db.write(write)


def find(
    registry: tables.Tables, element: str, data_id: Mapping[str, batch.Value]
) -> Iterator[dict[str, Any]]:
    """Iterate over the records of one element, ordered by their keys.

    They are streamed. Nothing can be committed until the iterator is exhausted or closed.

    Parameters
    ----------
    registry
        The repository's tables.
    element
        Name of the element.
    data_id
        Values of some of the dimensions that the element requires or implies, or of itself.

    Returns
    -------
    records
        Records as `insert` takes them, with all columns.

    Raises
    ------
    RefusedError
        Raised if the element has no records in the database, or does not depend on one of the dimensions.
    """
    entry = _known(registry, element)
    if entry.skypix:
        raise errors.RefusedError(f"{registry.db.place}: {element} is a pixelization; it has no records.")
    if entry.union_of is not None:
        return _find_union(registry, entry, entry.union_of, data_id)
    return _find(registry, entry, data_id)


def _known(registry: tables.Tables, element: str) -> elements.Element:
    if element not in registry.dimensions:
        universe = registry.dimensions
        raise errors.RefusedError(
            f"{registry.db.place}: there is no {element!r} in dimension universe {universe.namespace} "
            f"version {universe.version}."
        )
    return registry.dimensions.element(element)


def _own(registry: tables.Tables, element: str) -> elements.Element:
    entry = _known(registry, element)
    if not entry.has_table:
        reason = f"insert records of {entry.union_of}" if entry.union_of else "it is a pixelization"
        raise errors.RefusedError(f"{registry.db.place}: {element} has no records of its own; {reason}.")
    return entry


def _columns(
    registry: tables.Tables, entry: elements.Element, records: Sequence[Mapping[str, Any]]
) -> tuple[list[str], list[Sequence[Any]]]:
    """Return the names of the table's columns, and the values of each."""
    column_names = {column.name for column in entry.columns}
    for record in records:
        if not column_names.issuperset(record):
            unknown = ", ".join(sorted(record.keys() - column_names))
            raise errors.RefusedError(
                f"{entry.name} records have no {unknown}; they have {sorted(column_names)}."
            )
    names: list[str] = []
    values: list[Sequence[Any]] = []
    n_keys = len(entry.required) + len(entry.implied)
    for place, column in enumerate(entry.columns):
        given = [record.get(column.name) for record in records]
        if place < n_keys and None in given:
            raise errors.RefusedError(
                f"A record of {entry.name} has no {column.name}: {records[given.index(None)]}."
            )
        if column.type == "timespan":
            names += [each.name for each in registry.db.timespan_columns(nullable=True)]
            values += zip(
                *(registry.db.timespan_values(_timespan(entry, value)) for value in given), strict=True
            )
        else:
            names.append(column.name)
            values.append(_checked(entry, column, given))
    return names, values


def _checked(entry: elements.Element, column: elements.Column, values: list[Any]) -> list[Any]:
    """Return the values of a column as they are stored."""
    present = [value for value in values if value is not None]
    if column.type == "region":
        if present:
            raise errors.RefusedError(
                f"A record of {entry.name} has a region. This version can't find the sky pixels that it "
                "overlaps, without which no query would see it; leave it out."
            )
        return values
    allowed = _PYTHON_TYPES[column.type]
    for kind in set(map(type, present)):
        if not issubclass(kind, allowed) or (kind is bool and bool not in allowed):
            raise errors.RefusedError(
                f"A record of {entry.name} has {column.name} of type {kind.__name__}; "
                f"it has to be {allowed[0].__name__}."
            )
    if column.type == "string" and column.length is not None and column.length <= definitions.LONGEST_VARCHAR:
        # Longer ones are stored as texts of any length.
        for value in present:
            if len(value) > column.length:
                raise errors.RefusedError(
                    f"A record of {entry.name} has {column.name} {value!r}; it has to have at most "
                    f"{column.length} characters."
                )
    if column.type == "hash":
        return [None if value is None else base64.b64encode(value).decode() for value in values]
    return values


def _timespan(entry: elements.Element, value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    try:
        begin, end = value
        if isinstance(begin, int) and isinstance(end, int) and 0 <= begin < end <= database.MAX_TIMESPAN:
            return begin, end
    except (TypeError, ValueError):
        pass
    raise errors.RefusedError(
        f"A record of {entry.name} has the timespan {value!r}; it has to be its begin and its end, later, "
        f"as integers: nanoseconds TAI, from 0 to {database.MAX_TIMESPAN}."
    )


def _summarize(
    registry: tables.Tables, connection: sqlalchemy.Connection, governor: str, values: Sequence[Any]
) -> None:
    """Note that overlaps with the common pixelization are kept for everything of a governor's records."""
    common = re.fullmatch(r"(.*?)([0-9]+)", registry.dimensions.common_skypix or "")
    for name in registry.dimensions.elements:
        if common is None or not registry.dimensions.element(name).spatial:
            continue
        if registry.dimensions.governor(name) == governor:
            rows = [
                {"skypix_system": common[1], "skypix_level": int(common[2]), governor: value}
                for value in values
            ]
            table = element_tables.overlap_summary(registry, name)
            connection.execute(registry.db.insert_or_ignore(table), rows)


def _find_union(
    registry: tables.Tables, entry: elements.Element, target: str, data_id: Mapping[str, batch.Value]
) -> Iterator[dict[str, Any]]:
    """Iterate over the values that occur in another element's records."""
    assert entry.key is not None
    column = element_tables.element(registry, target).c[entry.name]
    query = sqlalchemy.select(column).distinct().order_by(column)
    for name, value in data_id.items():
        _check_dimension(registry, entry, name)
        query = query.where(column == value)
    with registry.db.reading() as connection, connection.execute(query) as result:
        for value in result.scalars():
            yield {entry.key.name: value}


def _find(
    registry: tables.Tables, entry: elements.Element, data_id: Mapping[str, batch.Value]
) -> Iterator[dict[str, Any]]:
    table = element_tables.element(registry, entry.name)
    query = table.select().order_by(*table.primary_key.columns).execution_options(yield_per=_FETCH)
    for name, value in data_id.items():
        _check_dimension(registry, entry, name)
        own = entry.key is not None and name == entry.name
        query = query.where(table.c[registry.dimensions.primary_key(name) if own else name] == value)
    spans = [column.name for column in registry.db.timespan_columns(nullable=True)]
    names = [column.name for column in entry.columns if column.type != "timespan"]
    encoded = [column.name for column in entry.columns if column.type in ("hash", "region")]
    temporal = len(names) < len(entry.columns)
    with registry.db.reading() as connection, connection.execute(query) as result:
        for row in result.mappings():
            record = {name: row[name] for name in names}
            for name in encoded:
                if record[name] is not None:
                    record[name] = base64.b64decode(record[name])
            if temporal:
                record["timespan"] = registry.db.timespan_of(*(row[name] for name in spans))
            yield record


def _check_dimension(registry: tables.Tables, entry: elements.Element, name: str) -> None:
    if name not in (*entry.required, *entry.implied):
        raise errors.RefusedError(
            f"{registry.db.place}: {entry.name} does not depend on {name!r}, but on "
            f"{', '.join((*entry.required, *entry.implied))}."
        )
