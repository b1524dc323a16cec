"""Association tables: which dataset is which data ID of which collection (butler-repository.md section 3).

They are created on demand, one per group of dimensions.
"""

from collections.abc import Sequence

import sqlalchemy
from aggregator.butler.registry import definitions, element_tables, tables


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
    table = registry.get(name)
    if table is not None:
        return table
    return registry.define(
        name,
        [
            definitions.integer("dataset_type_id"),
            registry.uuid("dataset_id", primary_key=True),
            definitions.integer("collection_id", primary_key=True),
            *(registry.key_column(dimension, dimension) for dimension in required),
        ],
        unique=[("dataset_type_id", "collection_id", *required)],
        references=_references(registry, required),
    )


def calibs(registry: tables.Tables, name: str, required: Sequence[str]) -> sqlalchemy.Table:
    """Return the table for CALIBRATION collections; parameters are as for `tags`."""
    table = registry.get(name)
    if table is not None:
        return table
    timespan = registry.db.timespan_columns(nullable=False)
    return registry.define(
        name,
        [
            registry.counted(name, "id"),
            definitions.integer("dataset_type_id"),
            registry.uuid("dataset_id"),
            definitions.integer("collection_id"),
            *(registry.key_column(dimension, dimension) for dimension in required),
            *timespan,
        ],
        lookup=[
            ("dataset_type_id", "collection_id", *required, *(column.name for column in timespan)),
        ],
        references=_references(registry, required),
    )


def _references(registry: tables.Tables, required: Sequence[str]) -> list[definitions.Reference]:
    cascade = definitions.CASCADE
    references = [
        definitions.Reference(("dataset_type_id",), registry.dataset_type, ("id",)),
        definitions.Reference(("dataset_id",), registry.dataset, ("id",), cascade),
        definitions.Reference(("collection_id",), registry.collection, on_delete=cascade),
        definitions.Reference(("collection_id", "dataset_type_id"), registry.summary),
    ]
    for dimension in required:
        references += element_tables.references(registry, dimension)
        if dimension in registry.universe.governors:
            summary = registry.governor_summary(dimension)
            references.append(definitions.Reference(("collection_id", dimension), summary))
    return references
