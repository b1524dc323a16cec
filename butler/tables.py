"""Tables of the registry, as far as they are used (butler-repository.md section 3)."""

from typing import Any

import sqlalchemy

from butler import database, universe
from schemas import errors

LONGEST_VARCHAR = 32
"""Strings that may be longer are stored as TEXT, without a length check."""


class Tables:
    """The tables of one repository.

    Parameters
    ----------
    db
        Database that holds them.
    dimensions
        The repository's dimension universe.
    """

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

    def __init__(self, db: database.Database, dimensions: universe.Universe) -> None:
        self.db = db
        self.dimensions = dimensions
        self._metadata = sqlalchemy.MetaData(schema=db.namespace)
        self._add_collections()
        self._add_datasets()

    def _add_collections(self) -> None:
        self.collection = self.add(
            "collection",
            self.counted("collection", "collection_id"),
            sqlalchemy.Column("name", sqlalchemy.Text()),
            sqlalchemy.Column("type", sqlalchemy.SmallInteger()),
        )
        self.run = self.add("run", integer("collection_id", primary_key=True))
        self.collection_chain = self.add(
            "collection_chain",
            integer("parent", primary_key=True),
            sqlalchemy.Column("position", sqlalchemy.SmallInteger(), primary_key=True),
            integer("child"),
        )

    def _add_datasets(self) -> None:
        self.graph_key = self.add("dimension_graph_key", self.counted("dimension_graph_key", "id"))
        self.graph_definition = self.add(
            "dimension_graph_definition",
            integer("dimension_graph_id", primary_key=True),
            sqlalchemy.Column("dimension_name", sqlalchemy.Text(), primary_key=True),
        )
        self.dataset_type = self.add(
            "dataset_type",
            self.counted("dataset_type", "id"),
            sqlalchemy.Column("name", sqlalchemy.Text()),
            sqlalchemy.Column("storage_class", sqlalchemy.Text()),
            integer("dimensions_key"),
            sqlalchemy.Column("tag_association_table", sqlalchemy.Text()),
            sqlalchemy.Column("calibration_association_table", sqlalchemy.Text()),
        )
        self.dataset = self.add(
            "dataset",
            sqlalchemy.Column("id", self.db.uuid_type, primary_key=True),
            integer("dataset_type_id"),
            integer("ingest_date"),
            integer("run_id"),
        )
        self.summary = self.add(
            "collection_summary_dataset_type",
            integer("collection_id", primary_key=True),
            integer("dataset_type_id", primary_key=True),
        )
        self.location = self.add(
            "dataset_location",
            sqlalchemy.Column("datastore_name", sqlalchemy.Text(), primary_key=True),
            sqlalchemy.Column("dataset_id", self.db.uuid_type, primary_key=True),
        )

    def add(self, name: str, *items: sqlalchemy.schema.SchemaItem) -> sqlalchemy.Table:
        """Define a table."""
        return sqlalchemy.Table(name, self._metadata, *items)

    def get(self, name: str) -> sqlalchemy.Table | None:
        """Return a table that has been defined before."""
        schema = self.db.namespace
        return self._metadata.tables.get(name if schema is None else f"{schema}.{name}")

    def counted(self, table: str, name: str) -> sqlalchemy.Column[Any]:
        """Make an integer key whose values the database provides (section 12)."""
        sequence: sqlalchemy.Sequence = sqlalchemy.Sequence(
            self.db.identifier(f"{table}_seq_{name}"), schema=self.db.namespace
        )
        return sqlalchemy.Column(name, self.db.key_type, sequence, primary_key=True)

    def records(self, name: str) -> sqlalchemy.Table:
        """Return a datastore's table of file records."""
        table = self.get(name)
        if table is None:
            table = self.add(
                name,
                sqlalchemy.Column("dataset_id", self.db.uuid_type, primary_key=True),
                sqlalchemy.Column("component", sqlalchemy.Text(), primary_key=True),
            )
        return table

    def governor_summary(self, governor: str) -> sqlalchemy.Table:
        """Return the table of the values of a governor dimension that occur in a collection."""
        name = f"collection_summary_{governor}"
        table = self.get(name)
        if table is None:
            key = integer("collection_id", primary_key=True)
            table = self.add(name, key, self.key_column(governor, governor))
        return table

    def dimension(self, name: str) -> sqlalchemy.Table:
        """Return a dimension's own table: its key columns, in the order of `Universe.required`."""
        table = self.get(name)
        if table is None:
            *others, own = self.dimensions.required(name)
            columns = [self.key_column(other, other) for other in others]
            columns.append(self.key_column(own, self.dimensions.primary_key(own)))
            table = self.add(name, *columns)
        return table

    def key_column(self, dimension: str, name: str) -> sqlalchemy.Column[Any]:
        """Make a column that holds values of a dimension.

        Raises
        ------
        RefusedError
            Raised if the values are neither integers nor strings.
        """
        kind, length = self.dimensions.column_type(dimension)
        if kind == "int":
            return integer(name)
        if kind == "string":
            short = length is not None and length <= LONGEST_VARCHAR
            return sqlalchemy.Column(
                name, sqlalchemy.String(length) if short else sqlalchemy.Text(), nullable=False
            )
        raise errors.RefusedError(
            f"{self.db.place}: the key of dimension {dimension} is of type {kind!r}; "
            "this version knows integers and strings only."
        )


def integer(name: str, *, primary_key: bool = False) -> sqlalchemy.Column[Any]:
    """Make a column of 64-bit integers."""
    return sqlalchemy.Column(
        name, sqlalchemy.BigInteger(), nullable=False, primary_key=primary_key, autoincrement=False
    )
