"""Tables of the registry (butler-repository.md section 3)."""

from __future__ import annotations

from typing import Final

import sqlalchemy
from aggregator.butler.configuration import type_overrides
from aggregator.butler.databases import database
from aggregator.butler.dimensions import universe
from aggregator.butler.registry import definitions, element_tables, file_records, managers

RECORDS: Final = "file_datastore_records"
"""Table of file records of a repository with a single file datastore, by default."""


class Tables(definitions.Definitions):
    """The tables of one repository.

    Those that every operation needs are defined at once, the others on demand.

    Parameters
    ----------
    db
        Database that holds them.
    dimensions
        The repository's dimension universe.
    overrides
        How its dataset types are called here.
    """

    overrides: type_overrides.Overrides
    """How its dataset types are called here."""

    attributes: sqlalchemy.Table
    """What the repository says of itself."""

    collection: sqlalchemy.Table
    """All collections; type 1 is a RUN, 3 a CHAINED collection."""

    run: sqlalchemy.Table
    """One row per RUN collection."""

    collection_chain: sqlalchemy.Table
    """Children of CHAINED collections."""

    graph_key: sqlalchemy.Table
    """One row per dimension group other than the empty one."""

    graph_definition: sqlalchemy.Table
    """Required dimensions of each group."""

    dataset_type: sqlalchemy.Table
    """All dataset types."""

    dataset: sqlalchemy.Table
    """All datasets."""

    summary: sqlalchemy.Table
    """Which dataset types a collection may contain."""

    location: sqlalchemy.Table
    """Which datastore has which dataset."""

    def __init__(
        self,
        db: database.Database,
        dimensions: universe.Universe,
        overrides: type_overrides.Overrides = type_overrides.NONE,
    ) -> None:
        super().__init__(db, dimensions)
        self.overrides = overrides
        self.attributes = managers.attribute_table(self.metadata)
        self._add_collections()
        self._add_groups()
        self._add_datasets()

    def _add_collections(self) -> None:
        self.collection = self.define(
            "collection",
            [
                self.counted("collection", "collection_id"),
                definitions.text("name"),
                definitions.small_integer("type"),
                definitions.text("doc", nullable=True),
            ],
            unique=[("name",)],
        )
        self.run = self.define(
            "run",
            [
                definitions.integer("collection_id", primary_key=True),
                definitions.text("host", nullable=True),
                *self.db.timespan_columns(nullable=True),
            ],
            references=[self._to_collection("collection_id")],
        )
        self.collection_chain = self.define(
            "collection_chain",
            [
                definitions.integer("parent", primary_key=True),
                definitions.small_integer("position", primary_key=True),
                definitions.integer("child"),
            ],
            references=[self._to_collection("parent"), self._to_collection("child", None)],
        )

    def _add_groups(self) -> None:
        self.graph_key = self.define("dimension_graph_key", [self.counted("dimension_graph_key", "id")])
        cascade = definitions.CASCADE
        self.graph_definition = self.define(
            "dimension_graph_definition",
            [
                definitions.integer("dimension_graph_id", primary_key=True),
                definitions.text("dimension_name", primary_key=True),
            ],
            references=[
                definitions.Reference(("dimension_graph_id",), self.graph_key, ("id",), cascade),
            ],
        )
        self.dataset_type = self.define(
            "dataset_type",
            [
                self.counted("dataset_type", "id"),
                definitions.text("name"),
                definitions.text("storage_class"),
                definitions.integer("dimensions_key"),
                definitions.text("tag_association_table"),
                definitions.text("calibration_association_table", nullable=True),
            ],
            unique=[("name",)],
        )

    def _add_datasets(self) -> None:
        cascade = definitions.CASCADE
        to_type = definitions.Reference(("dataset_type_id",), self.dataset_type, ("id",))
        self.dataset = self.define(
            "dataset",
            [
                self.uuid("id", primary_key=True),
                definitions.integer("dataset_type_id"),
                definitions.integer("ingest_date"),
                definitions.integer("run_id"),
            ],
            references=[
                to_type,
                definitions.Reference(("run_id",), self.run, ("collection_id",), cascade),
            ],
        )
        self.summary = self.define(
            "collection_summary_dataset_type",
            [
                definitions.integer("collection_id", primary_key=True),
                definitions.integer("dataset_type_id", primary_key=True),
            ],
            references=[
                self._to_collection("collection_id"),
                definitions.Reference(("dataset_type_id",), self.dataset_type, ("id",), cascade),
            ],
        )
        self.location = self.define(
            "dataset_location",
            [
                definitions.text("datastore_name", primary_key=True),
                self.uuid("dataset_id", primary_key=True),
            ],
            references=[definitions.Reference(("dataset_id",), self.dataset, ("id",))],
        )

    def _to_collection(
        self, column: str, on_delete: str | None = definitions.CASCADE
    ) -> definitions.Reference:
        return definitions.Reference((column,), self.collection, ("collection_id",), on_delete)

    def define_all(self) -> None:
        """Define all tables that exist in every repository, also those that are not used here."""
        self.opaque()
        self.define(
            "dataset_location_trash",
            [self.uuid("dataset_id", primary_key=True), definitions.text("datastore_name", primary_key=True)],
        )
        self.records(RECORDS)
        element_tables.define_all(self)

    def opaque(self) -> sqlalchemy.Table:
        """Return the table of the names of all tables of file records."""
        name = "opaque_meta"
        table = self.get(name)
        return (
            table
            if table is not None
            else self.define(name, [definitions.text("table_name", primary_key=True)])
        )

    def records(self, name: str) -> sqlalchemy.Table:
        """Return a datastore's table of file records."""
        return file_records.table(self, name)

    def governor_summary(self, governor: str) -> sqlalchemy.Table:
        """Return the table of the values of a governor dimension that occur in a collection."""
        return element_tables.governor_summary(self, governor)

    def dimension(self, name: str) -> sqlalchemy.Table:
        """Return an element's own table; its primary key is in the order of `Universe.required`."""
        return element_tables.element(self, name)
