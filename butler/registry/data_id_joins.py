"""The query for all data IDs of some dimensions: joins of dimension records and of dataset searches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy
from aggregator.butler.dimensions import elements, expressions, universe
from aggregator.butler.registry import associations, batch, dataset_type_rows, element_tables, tables
from aggregator.storage import errors

Source = tuple[sqlalchemy.FromClause, Mapping[str, sqlalchemy.ColumnElement[Any]]]
"""A table, with its columns that hold values of dimensions."""

_OPERATORS: Final = {
    "=": "__eq__",
    "!=": "__ne__",
    "<": "__lt__",
    "<=": "__le__",
    ">": "__gt__",
    ">=": "__ge__",
}

_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "int": (int, float),
    "float": (int, float),
    "string": (str,),
    "bool": (bool,),
}
"""Literals that values of a column may be compared with."""


@dataclasses.dataclass(frozen=True, slots=True)
class Search:
    """Datasets of a type that have to exist."""

    dataset_type: dataset_type_rows.DatasetTypeRow
    """The dataset type."""

    collections: Sequence[int]
    """Keys of the collections that may have them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """Which data IDs are asked for."""

    dimensions: universe.Group
    """Their dimensions."""

    condition: expressions.Term | None
    """An expression about them."""

    data_id: Mapping[str, batch.Value]
    """Values that are given."""

    searches: Sequence[Search]
    """Datasets that have to exist for each."""


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """Some values of some dimensions."""

    dimensions: Sequence[str]
    """The dimensions."""

    rows: Sequence[tuple[batch.Value, ...]]
    """Their values."""

    def among(self, columns: Mapping[str, sqlalchemy.ColumnElement[Any]]) -> sqlalchemy.ColumnElement[bool]:
        """Return whether columns have such values."""
        if len(self.dimensions) == 1:
            return columns[self.dimensions[0]].in_([value for (value,) in self.rows])
        return sqlalchemy.tuple_(*(columns[name] for name in self.dimensions)).in_(self.rows)


def select(
    registry: tables.Tables, request: Request, choice: Choice | None
) -> sqlalchemy.Select[*tuple[Any, ...]]:
    """Return the query, with a column for each dimension.

    Parameters
    ----------
    registry
        The repository's tables.
    request
        Which data IDs are asked for.
    choice
        Values that some dimensions may have together.

    Raises
    ------
    RefusedError
        If nothing says which values a dimension has, or the expression does not fit the dimensions.
    """
    columns: dict[str, sqlalchemy.ColumnElement[Any]] = {}
    joined: sqlalchemy.FromClause | None = None
    for source, values in _sources(registry, request):
        conditions = [columns[name] == value for name, value in values.items() if name in columns]
        on = sqlalchemy.and_(sqlalchemy.true(), *conditions)
        joined = source if joined is None else joined.join(source, on)
        columns = {**values, **columns}
    if missing := [name for name in request.dimensions.names if name not in columns]:
        raise errors.RefusedError(
            f"Dimension {missing[0]!r}: sky pixels can't be joined with other dimensions by this version."
        )
    selected: list[sqlalchemy.ColumnElement[Any]] = [
        columns[name].label(name) for name in request.dimensions.names
    ]
    query: sqlalchemy.Select[*tuple[Any, ...]] = sqlalchemy.select(*(selected or [sqlalchemy.literal(1)]))
    if joined is not None:
        query = query.select_from(joined)
    for name, value in request.data_id.items():
        query = query.where(columns[name] == value)
    if choice is not None:
        query = query.where(choice.among(columns))
    if request.condition is not None:
        query = query.where(_Translation(registry, columns).term(request.condition))
    return query


def _sources(registry: tables.Tables, request: Request) -> Iterator[Source]:
    """Yield all tables that are joined."""
    given: set[str] = set()
    for name in request.dimensions.elements:
        entry = registry.universe.element(name)
        if not entry.has_table or (entry.key is None and not entry.always_joined):
            continue
        table = element_tables.element(registry, name)
        values = {n: table.c[n if n != name else registry.universe.primary_key(n)] for n in entry.required}
        values |= {n: table.c[n] for n in entry.implied}
        given |= values.keys()
        yield table, values
    for name in request.dimensions.names:
        target = registry.universe.element(name).union_of
        if target is not None and name not in given:
            table = element_tables.element(registry, target)
            values_of = sqlalchemy.select(table.c[name]).distinct().subquery(f"all_{name}")
            yield values_of, {name: values_of.c[name]}
    for number, search in enumerate(request.searches):
        found = _found(registry, search).subquery(f"search_{number}")
        yield found, {name: found.c[name] for name in search.dataset_type.required}


def _found(registry: tables.Tables, search: Search) -> sqlalchemy.Select[*tuple[Any, ...]]:
    kind = search.dataset_type
    tags = associations.tags(registry, kind.tag_table, kind.required)
    # Without dimensions there is nothing to select but that there is one.
    columns: list[sqlalchemy.ColumnElement[Any]] = [tags.c[name] for name in kind.required]
    columns = columns or [sqlalchemy.literal(1).label("any")]
    return (
        sqlalchemy.select(*columns)
        .where(tags.c.dataset_type_id == kind.id, tags.c.collection_id.in_(search.collections))
        .distinct()
    )


class _Translation:
    """From expressions to SQL.

    Parameters
    ----------
    registry
        The repository's tables.
    columns
        Columns with the values of dimensions.
    """

    def __init__(self, registry: tables.Tables, columns: Mapping[str, sqlalchemy.ColumnElement[Any]]) -> None:
        self._registry = registry
        self._columns = columns

    def term(self, term: expressions.Term) -> sqlalchemy.ColumnElement[bool]:
        """Return an expression, or a part of one."""
        match term:
            case expressions.Comparison(left=left, operator=operator, right=right):
                column, kind = self._column(left)
                if isinstance(right, expressions.Column):
                    other, other_kind = self._column(right)
                    if _KINDS[kind] != _KINDS[other_kind]:
                        raise _mismatch(left, kind, str(right))
                else:
                    _check(left, kind, right)
                    other = sqlalchemy.literal(right)
                result: sqlalchemy.ColumnElement[bool] = getattr(column, _OPERATORS[operator])(other)
                return result
            case expressions.Membership():
                return self._membership(term)
            case expressions.Negation(term=inner):
                return sqlalchemy.not_(self.term(inner))
            case expressions.Combination(operator=operator, terms=terms):
                combine = sqlalchemy.and_ if operator == "AND" else sqlalchemy.or_
                return combine(*map(self.term, terms))

    def _membership(self, term: expressions.Membership) -> sqlalchemy.ColumnElement[bool]:
        column, kind = self._column(term.column)
        for value in (*term.values, *(first for first, _, _ in term.ranges)):
            _check(term.column, kind, value)
        parts: list[sqlalchemy.ColumnElement[bool]] = [column.in_(term.values)] if term.values else []
        for first, last, step in term.ranges:
            part = column.between(first, last)
            parts.append(part if step == 1 else sqlalchemy.and_(part, (column - first) % step == 0))
        return sqlalchemy.or_(*parts)

    def _column(self, column: expressions.Column) -> tuple[sqlalchemy.ColumnElement[Any], str]:
        """Return a column, and the type of its values."""
        entry = self._registry.universe.element(column.element)
        if column.attribute is None or (entry.key is not None and column.attribute == entry.key.name):
            assert entry.key is not None
            return self._columns[column.element], entry.key.type
        kind = _attribute(entry, column).type
        if column.attribute in self._columns:
            return self._columns[column.attribute], kind
        return element_tables.element(self._registry, column.element).c[column.attribute], kind


def check_columns(dimensions: universe.Universe, condition: expressions.Term | None) -> set[str]:
    """Return the dimensions that an expression is about.

    Raises
    ------
    RefusedError
        If it names something that does not exist, or can't be compared.
    """
    names: set[str] = set()
    for column in expressions.columns(condition) if condition is not None else ():
        if column.element not in dimensions:
            raise errors.RefusedError(
                f"The data query names {column}, but there is no dimension {column.element!r}; attributes of "
                "records "
                "are written with it, like visit.exposure_time."
            )
        entry = dimensions.element(column.element)
        if column.attribute is not None:
            _attribute(entry, column)
        elif entry.key is None:
            raise errors.RefusedError(f"The data query names {column}, which is no dimension.")
        names.update(entry.required if entry.key is None else (column.element,))
    return names


def _attribute(entry: elements.Element, column: expressions.Column) -> elements.Column:
    by_name = {each.name: each for each in entry.columns}
    attribute = by_name.get(column.attribute or "")
    if attribute is None or attribute.type not in _KINDS:
        usable = [name for name, each in by_name.items() if each.type in _KINDS]
        raise errors.RefusedError(
            f"The data query names {column}; what can be compared of {entry.name} are: {', '.join(usable)}."
        )
    if not entry.has_table or (entry.key is None and not entry.always_joined):
        raise errors.RefusedError(f"The data query names {column}, which this version does not join.")
    return attribute


def _check(column: expressions.Column, kind: str, value: expressions.Literal) -> None:
    if not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "bool"):
        raise _mismatch(column, kind, repr(value))


def _mismatch(column: expressions.Column, kind: str, other: str) -> errors.RefusedError:
    return errors.RefusedError(f"The data query compares {column}, of type {kind}, with {other}.")
