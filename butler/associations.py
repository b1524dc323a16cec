"""Association tables: which dataset is which data ID of which collection (butler-repository.md section 3).

They are created on demand, one per group of dimensions, so their definitions are complete and equal to
the reference's, down to the names of constraints and indices.
"""

from collections.abc import Sequence

import sqlalchemy

from butler import tables

CASCADE = "CASCADE"
"""Rule for rows whose dataset or collection is deleted."""


def tags(registry: tables.Tables, name: str, required: Sequence[str]) -> sqlalchemy.Table:
    """Return the table for RUN and TAGGED collections.

    Parameters
    ----------
    registry
        The repository's tables.
    name
        Name of the table; that of an existing dataset type is in its row.
    required
        Required dimensions in universe order.
    """
    known = registry.get(name)
    if known is not None:
        return known
    db = registry.db
    unique = ("dataset_type_id", "collection_id", *required)
    # SQL lists constraints in the order in which they are made here.
    return registry.add(
        name,
        tables.integer("dataset_type_id"),
        sqlalchemy.Column("dataset_id", db.uuid_type, primary_key=True),
        tables.integer("collection_id", primary_key=True),
        *(registry.key_column(dimension, dimension) for dimension in required),
        *_length_checks(registry, name, required),
        sqlalchemy.UniqueConstraint(*unique, name=db.identifier(f"{name}_unq_{'_'.join(unique)}")),
        *_references(registry, name, required),
    )


def calibs(registry: tables.Tables, name: str, required: Sequence[str]) -> sqlalchemy.Table:
    """Return the table for CALIBRATION collections; parameters are as for `tags`."""
    known = registry.get(name)
    if known is not None:
        return known
    db = registry.db
    timespan = db.timespan_columns()
    lookup = ("dataset_type_id", "collection_id", *required, *(column.name for column in timespan))
    return registry.add(
        name,
        registry.counted(name, "id"),
        tables.integer("dataset_type_id"),
        sqlalchemy.Column("dataset_id", db.uuid_type, nullable=False),
        tables.integer("collection_id"),
        *(registry.key_column(dimension, dimension) for dimension in required),
        *timespan,
        *_length_checks(registry, name, required),
        sqlalchemy.Index(db.identifier(f"{name}_idx_{'_'.join(lookup)}"), *lookup),
        *_references(registry, name, required),
    )


def _length_checks(
    registry: tables.Tables, name: str, required: Sequence[str]
) -> list[sqlalchemy.CheckConstraint]:
    checks = []
    for dimension in required:
        _, length = registry.dimensions.column_type(dimension)
        if length is not None and length <= tables.LONGEST_VARCHAR:
            checks += registry.db.length_checks(name, dimension, length)
    return checks


def _references(
    registry: tables.Tables, name: str, required: Sequence[str]
) -> list[sqlalchemy.schema.SchemaItem]:
    """Make all foreign keys, and an index for each of their columns or groups of columns."""
    collection, summary = registry.collection, registry.summary
    items = [
        *_reference(registry, name, ("dataset_type_id",), registry.dataset_type, ("id",)),
        *_reference(registry, name, ("dataset_id",), registry.dataset, ("id",), CASCADE),
        *_reference(registry, name, ("collection_id",), collection, ("collection_id",), CASCADE),
        *_reference(registry, name, ("collection_id", "dataset_type_id"), summary),
    ]
    for dimension in required:
        if registry.dimensions.has_table(dimension):
            table = registry.dimension(dimension)
            keys = registry.dimensions.required(dimension)
            items += _reference(registry, name, keys, table, tuple(table.columns.keys()))
        if dimension in registry.dimensions.governors:
            summary = registry.governor_summary(dimension)
            items += _reference(registry, name, ("collection_id", dimension), summary)
    return items


def _reference(
    registry: tables.Tables,
    name: str,
    source: tuple[str, ...],
    target: sqlalchemy.Table,
    columns: tuple[str, ...] = (),
    on_delete: str | None = None,
) -> list[sqlalchemy.schema.SchemaItem]:
    """Make one foreign key and its index; the target's columns are called like the source's by default."""
    columns = columns or source
    identifier = registry.db.identifier
    return [
        sqlalchemy.ForeignKeyConstraint(
            source,
            [target.columns[column] for column in columns],
            name=identifier("_".join(("fkey", name, target.name, *columns, *source))),
            ondelete=on_delete,
        ),
        sqlalchemy.Index(identifier("_".join((name, "fkidx", *source))), *source),
    ]
