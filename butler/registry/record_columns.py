"""Dimension records as columns of a table: checked, and written as the database has them."""

import base64
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy
from aggregator.butler.databases import database
from aggregator.butler.dimensions import elements
from aggregator.butler.registry import definitions
from aggregator.storage import errors

_PYTHON_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "int": (int,),
    "string": (str,),
    "float": (float, int),
    "bool": (bool,),
    "hash": (bytes,),
    "region": (bytes,),
}

_ENCODED: Final = ("hash", "region")
"""Types of bytes, which are stored in base64."""


def loaded(
    db: database.Database, entry: elements.Element, rows: Iterable[sqlalchemy.Row[*tuple[Any, ...]]]
) -> Iterator[tuple[Any, ...]]:
    """Yield the values of records in the order of the element's columns: the inverse of `stored`.

    Parameters
    ----------
    db
        The database that has the table.
    entry
        The element.
    rows
        Rows with all columns of its table.
    """
    spans = operator.itemgetter(*(column.name for column in db.timespan_columns(nullable=True)))
    getters: list[Callable[[Any], Any]] = []
    for column in entry.columns:
        if column.type == "timespan":
            getters.append(lambda row: db.timespan_of(*_values(spans(row))))
        elif column.type in _ENCODED:
            getters.append(_decoder(column.name))
        else:
            getters.append(operator.itemgetter(column.name))
    for row in rows:
        mapping = row._mapping
        yield tuple([get(mapping) for get in getters])


def _values(chosen: Any) -> tuple[Any, ...]:
    return chosen if isinstance(chosen, tuple) else (chosen,)


def _decoder(name: str) -> Callable[[Any], bytes | None]:
    def decode(row: Mapping[str, Any]) -> bytes | None:
        text = row[name]
        return None if text is None else base64.b64decode(text)

    return decode


def stored(
    db: database.Database,
    entry: elements.Element,
    records: Sequence[Mapping[str, Any]],
    *,
    takes_regions: bool = False,
) -> tuple[list[str], list[Sequence[Any]]]:
    """Return the columns of an element's table, and the values of each.

    Parameters
    ----------
    db
        The database that has the table.
    entry
        The element.
    records
        Its records.
    takes_regions
        Whether records may have regions, since what these overlap is known.

    Returns
    -------
    names, values
        Names of the columns, and for each of them the values of all records.

    Raises
    ------
    RefusedError
        Raised if a record does not fit the element, or has a region.
    """
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
            names += [each.name for each in db.timespan_columns(nullable=True)]
            values += zip(*(db.timespan_values(_timespan(entry, value)) for value in given), strict=True)
        else:
            names.append(column.name)
            values.append(_checked(entry, column, given, takes_regions))
    return names, values


def _checked(
    entry: elements.Element, column: elements.Column, values: list[Any], takes_regions: bool
) -> list[Any]:
    """Return the values of a column as they are stored."""
    present = [value for value in values if value is not None]
    if column.type == "region" and not takes_regions:
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
    if column.type in _ENCODED:
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
