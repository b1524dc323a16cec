"""Rows of dataset types, within a transaction: looked up and added (butler-repository.md section 5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import sqlalchemy
from aggregator.butler.configuration import type_overrides
from aggregator.butler.registry import associations, tables
from aggregator.storage import errors

_Groups: TypeAlias = dict[int, tuple[str, ...]]
"""Required dimensions of each dimension group, by its key."""

_NAMES_AT_ONCE: Final = 500
"""Names in one statement."""


@dataclasses.dataclass(frozen=True, slots=True)
class Definition:
    """What makes two dataset types of one name the same."""

    name: str
    """Name of the dataset type."""

    storage_class: str
    """Name of the storage class."""

    required: tuple[str, ...]
    """Required dimensions, in the universe order of the repository."""

    is_calibration: bool
    """Whether its datasets can have validity ranges."""

    def __str__(self) -> str:
        kind = "a calibration" if self.is_calibration else "no calibration"
        return f"storage class {self.storage_class}, dimensions {{{', '.join(self.required)}}}, {kind}"


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetTypeRow:
    """A registered dataset type."""

    id: int
    """Its key in this repository."""

    name: str
    """Its name."""

    storage_class: str
    """Name of its storage class."""

    required: tuple[str, ...]
    """Required dimensions in universe order: the columns that its tag table has."""

    is_calibration: bool
    """Whether its datasets can have validity ranges."""

    tag_table: str
    """Table that associates its datasets with collections."""

    calibs_table: str = ""
    """Table of validity ranges of its datasets, if it is a calibration."""

    @property
    def definition(self) -> Definition:
        """The part that does not depend on the repository."""
        return Definition(self.name, self.storage_class, self.required, self.is_calibration)


def find_all(
    registry: tables.Tables, connection: sqlalchemy.Connection, names: Iterable[str]
) -> dict[str, DatasetTypeRow]:
    """Look dataset types up; those that do not exist are left out.

    Parameters
    ----------
    registry
        The repository's tables.
    connection
        Connection in a transaction.
    names
        Names of dataset types, as they are here.
    """
    return _find_all(registry, connection, names, None)


def everything(registry: tables.Tables, connection: sqlalchemy.Connection) -> dict[str, DatasetTypeRow]:
    """Return all dataset types by name, as they are called here."""
    renamed = {stored: name for name, stored in registry.overrides.stored.items()}
    stored = connection.execute(sqlalchemy.select(registry.dataset_type.c.name)).scalars()
    return find_all(registry, connection, sorted(renamed.get(name, name) for name in stored))


def _find_all(
    registry: tables.Tables,
    connection: sqlalchemy.Connection,
    names: Iterable[str],
    groups: _Groups | None,
) -> dict[str, DatasetTypeRow]:
    stored = {registry.overrides.stored_name(name): name for name in names}
    names_in_database = sorted(name for name in stored if name is not None)
    table = registry.dataset_type
    rows: list[sqlalchemy.Row[Any]] = []
    # A repository may have tens of thousands, and a statement may not grow with the names without limit.
    for start in range(0, len(names_in_database), _NAMES_AT_ONCE):
        query = table.select().where(table.c.name.in_(names_in_database[start : start + _NAMES_AT_ONCE]))
        rows += connection.execute(query).all()
    if groups is None:
        groups = _groups(registry, connection) if rows else {}
    return {
        stored[row.name]: DatasetTypeRow(
            row.id,
            stored[row.name],
            registry.overrides.storage_class(row.name, row.storage_class),
            groups[row.dimensions_key],
            row.calibration_association_table is not None,
            row.tag_association_table,
            row.calibration_association_table or "",
        )
        for row in rows
    }


def register(
    registry: tables.Tables, connection: sqlalchemy.Connection, definitions: Sequence[Definition]
) -> dict[str, DatasetTypeRow]:
    """Add dataset types in order, with the tables and the dimension groups that they need.

    Parameters
    ----------
    registry
        The repository's tables.
    connection
        Connection in a writing transaction.
    definitions
        The definitions.

    Returns
    -------
    rows
        The dataset types of these names, which may be another process's with another definition.
    """
    registry.db.lock(connection, registry.graph_key, registry.graph_definition)
    groups = _groups(registry, connection)
    keys = {required: key for key, required in groups.items()}
    tables_of: dict[tuple[tuple[str, ...], bool], tuple[str, str | None]] = {}
    rows = []
    for each in definitions:
        if each.required not in keys:
            keys[each.required] = _add_group(registry, connection, each.required)
            groups[keys[each.required]] = each.required
        kind = each.required, each.is_calibration
        if kind not in tables_of:
            tables_of[kind] = _make_tables(registry, connection, each, keys[each.required])
        tags, calibs = tables_of[kind]
        rows.append(
            {
                "name": registry.overrides.stored_name(each.name),
                "storage_class": each.storage_class,
                "dimensions_key": keys[each.required],
                "tag_association_table": tags,
                "calibration_association_table": calibs,
            }
        )
    if rows:
        connection.execute(registry.db.insert_or_ignore(registry.dataset_type), rows)
    # The locks keep them from being removed.
    return _find_all(registry, connection, [each.name for each in definitions], groups)


def _make_tables(
    registry: tables.Tables, connection: sqlalchemy.Connection, definition: Definition, key: int
) -> tuple[str, str | None]:
    """Make the tables of a dimension group unless they are there; return their names."""
    tags = associations.tags(registry, f"dataset_tags_{key:08d}", definition.required)
    tags.create(connection, checkfirst=True)
    if not definition.is_calibration:
        return tags.name, None
    calibs = associations.calibs(registry, f"dataset_calibs_{key:08d}", definition.required)
    calibs.create(connection, checkfirst=True)
    return tags.name, calibs.name


def problems(
    overrides: type_overrides.Overrides,
    definitions: Iterable[Definition],
    registered: Mapping[str, DatasetTypeRow],
) -> list[str]:
    """Return what is wrong with dataset types that are registered, or keeps others from being so.

    Parameters
    ----------
    overrides
        How dataset types are called here.
    definitions
        The definitions that are needed.
    registered
        Those that are registered, by name.
    """
    texts = []
    for each in definitions:
        if each.name in registered:
            problem = difference(registered[each.name], each)
        elif problem := overrides.obstacle(each.name):
            problem = f"dataset type {each.name!r} can't be registered: {problem}"
        if problem:
            texts.append(problem)
    return texts


def difference(registered: DatasetTypeRow, definition: Definition) -> str | None:
    """Return how a registered dataset type differs from the definition that is needed, if it does."""
    if registered.definition == definition:
        return None
    return (
        f"dataset type {definition.name!r} is registered with another definition: {registered.definition}; "
        f"needed is: {definition}. Rename the one or remove the other"
    )


def check(place: str, registered: DatasetTypeRow, definition: Definition) -> None:
    """Compare a registered dataset type with the definition that is needed.

    Raises
    ------
    AggregatorError
        Raised if they differ; names both definitions.
    """
    if problem := difference(registered, definition):
        raise errors.AggregatorError(f"{place}: {problem}.")


def _groups(registry: tables.Tables, connection: sqlalchemy.Connection) -> _Groups:
    """Return the required dimensions of each dimension group; the empty group has key 0 and no rows."""
    names: dict[int, list[str]] = {0: []}
    for key, name in connection.execute(registry.graph_definition.select()):
        names.setdefault(key, []).append(name)
    return {key: registry.universe.group(group).required for key, group in names.items()}


def _add_group(registry: tables.Tables, connection: sqlalchemy.Connection, required: tuple[str, ...]) -> int:
    """Add a dimension group; return its key."""
    table = registry.graph_key
    created: int = connection.execute(table.insert().returning(table.c.id)).scalar_one()
    rows = [{"dimension_graph_id": created, "dimension_name": name} for name in required]
    connection.execute(registry.graph_definition.insert(), rows)
    return created
