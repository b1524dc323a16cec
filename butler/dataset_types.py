"""Dataset types: looking them up and registering them (butler-repository.md section 5)."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import sqlalchemy

from butler import associations, tables
from schemas import errors


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
        Names of dataset types.
    """
    wanted = set(names)
    # A repository has few enough types to read all of them: no statement grows with the names.
    rows = _load(registry, connection, registry.dataset_type.select())
    return {row.name: row for row in rows if row.name in wanted}


def find(registry: tables.Tables, connection: sqlalchemy.Connection, name: str) -> DatasetTypeRow | None:
    """Look one dataset type up."""
    table = registry.dataset_type
    rows = _load(registry, connection, table.select().where(table.c.name == name))
    return rows[0] if rows else None


def register(
    registry: tables.Tables, connection: sqlalchemy.Connection, wanted: Definition
) -> DatasetTypeRow:
    """Add a dataset type, with the tables and the dimension group that it needs.

    Parameters
    ----------
    registry
        The repository's tables.
    connection
        Connection in a writing transaction.
    wanted
        The definition.

    Returns
    -------
    row
        The dataset type of this name, which may be another process's with another definition.
    """
    registry.db.lock(connection, registry.graph_key, registry.graph_definition)
    key = _group_key(registry, connection, wanted.required)
    tag_table = associations.tags(registry, f"dataset_tags_{key:08d}", wanted.required)
    tag_table.create(connection, checkfirst=True)
    calib_table = None
    if wanted.is_calibration:
        calib_table = associations.calibs(registry, f"dataset_calibs_{key:08d}", wanted.required)
        calib_table.create(connection, checkfirst=True)
    connection.execute(
        registry.db.insert_or_ignore(registry.dataset_type).values(
            name=wanted.name,
            storage_class=wanted.storage_class,
            dimensions_key=key,
            tag_association_table=tag_table.name,
            calibration_association_table=None if calib_table is None else calib_table.name,
        )
    )
    row = find(registry, connection, wanted.name)
    assert row is not None  # the locks keep it from being removed
    return row


def check(place: str, registered: DatasetTypeRow, wanted: Definition) -> None:
    """Compare a registered dataset type with the definition that is needed.

    Raises
    ------
    AggregatorError
        Raised if they differ; names both definitions.
    """
    if registered.definition != wanted:
        raise errors.AggregatorError(
            f"{place}: dataset type {wanted.name!r} is registered with another definition: "
            f"{registered.definition}; needed is: {wanted}. Rename the one or remove the other."
        )


def _load(
    registry: tables.Tables, connection: sqlalchemy.Connection, query: sqlalchemy.Select[Any]
) -> list[DatasetTypeRow]:
    rows = connection.execute(query).all()
    groups = _groups(registry, connection) if rows else {}
    return [
        DatasetTypeRow(
            row.id,
            row.name,
            row.storage_class,
            groups[row.dimensions_key],
            row.calibration_association_table is not None,
            row.tag_association_table,
        )
        for row in rows
    ]


def _groups(registry: tables.Tables, connection: sqlalchemy.Connection) -> dict[int, tuple[str, ...]]:
    """Return the required dimensions of each dimension group; the empty group has key 0 and no rows."""
    names: dict[int, list[str]] = {0: []}
    for key, name in connection.execute(registry.graph_definition.select()):
        names.setdefault(key, []).append(name)
    return {key: registry.dimensions.group(group).required for key, group in names.items()}


def _group_key(registry: tables.Tables, connection: sqlalchemy.Connection, required: tuple[str, ...]) -> int:
    """Return the key of a dimension group, adding the group if it is new."""
    for key, group in _groups(registry, connection).items():
        if group == required:
            return key
    table = registry.graph_key
    created: int = connection.execute(table.insert().returning(table.c.id)).scalar_one()
    rows = [{"dimension_graph_id": created, "dimension_name": name} for name in required]
    connection.execute(registry.graph_definition.insert(), rows)
    return created
