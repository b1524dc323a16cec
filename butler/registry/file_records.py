"""The table of a datastore's file records (butler-repository.md section 3)."""

from typing import Final

import sqlalchemy
from aggregator.butler.registry import definitions

COLUMNS: Final = ("dataset_id", "path", "formatter", "storage_class", "component", "checksum", "file_size")
"""Names of its columns."""

_COMPONENT_LENGTH: Final = 32


def table(owner: definitions.Definitions, name: str) -> sqlalchemy.Table:
    """Return the table of a name, which is defined at the first time."""
    earlier = owner.get(name)
    if earlier is not None:
        return earlier
    component = sqlalchemy.Column("component", sqlalchemy.String(_COMPONENT_LENGTH), primary_key=True)
    return owner.define(
        name,
        [
            owner.uuid("dataset_id", primary_key=True),
            definitions.text("path"),
            definitions.text("formatter"),
            definitions.text("storage_class"),
            component,
            definitions.text("checksum", nullable=True),
            definitions.integer("file_size", nullable=True),
        ],
        lookup=[("path",)],
    )
