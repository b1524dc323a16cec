"""How tables are defined: the names and rules that all of a repository's tables share.

Implements the rules of butler-repository.md section 3, down to the names of constraints and indices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy
from aggregator.butler.databases import database
from aggregator.butler.dimensions import elements, universe
from aggregator.storage import errors

LONGEST_VARCHAR: Final = 32
"""Strings that may be longer are stored as TEXT, without a length check."""

CASCADE: Final = "CASCADE"
"""Rule for rows that go when the row is deleted that they refer to."""

_TYPES: Final[dict[str, type[sqlalchemy.types.TypeEngine[Any]]]] = {
    "int": sqlalchemy.BigInteger,
    "float": sqlalchemy.Float,
    "bool": sqlalchemy.Boolean,
    "hash": sqlalchemy.Text,
    "region": sqlalchemy.Text,
}
"""Column types of the values of dimension records, other than strings and timespans."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key."""

    source: tuple[str, ...]
    """Columns that refer."""

    target: sqlalchemy.Table
    """Table that they refer to."""

    columns: tuple[str, ...] = ()
    """The target's columns; by default they are called like those that refer."""

    on_delete: str | None = None
    """What happens when the row referred to is deleted; by default the database refuses that."""


class Definitions:
    """Tables of one repository, each defined once, when it is needed.

    Parameters
    ----------
    db
        Database that holds them.
    dimensions
        The repository's dimension universe.
    """

    def __init__(self, db: database.Database, dimensions: universe.Universe) -> None:
        self.db = db
        self.universe = dimensions
        self.metadata = sqlalchemy.MetaData(schema=db.namespace)

    def get(self, name: str) -> sqlalchemy.Table | None:
        """Return a table that has been defined before."""
        schema = self.db.namespace
        return self.metadata.tables.get(name if schema is None else f"{schema}.{name}")

    def define(
        self,
        name: str,
        columns: Sequence[sqlalchemy.Column[Any]],
        *,
        unique: Iterable[tuple[str, ...]] = (),
        lookup: Iterable[tuple[str, ...]] = (),
        references: Iterable[Reference] = (),
    ) -> sqlalchemy.Table:
        """Define a table.

        Parameters
        ----------
        name
            Its name.
        columns
            Its columns; strings of limited length get a constraint if the database needs one.
        unique
            Groups of columns whose values occur once.
        lookup
            Groups of columns to have an index on.
        references
            Foreign keys; each has an index, unless its columns have one already.
        """
        identifier = self.db.identifier
        indexed = {tuple(column.name for column in columns if column.primary_key)}
        # SQL lists constraints in the order in which they are made here.
        items: list[sqlalchemy.schema.SchemaItem] = list(columns)
        for column in columns:
            if type(column.type) is sqlalchemy.String and column.type.length is not None:
                items += self.db.length_checks(name, column.name, column.type.length)
        for group in unique:
            indexed.add(group)
            items.append(sqlalchemy.UniqueConstraint(*group, name=identifier(_join(name, "unq", *group))))
        for group in lookup:
            indexed.add(group)
            items.append(sqlalchemy.Index(identifier(_join(name, "idx", *group)), *group))
        for reference in references:
            items.append(self._foreign_key(name, reference))
            if reference.source not in indexed:
                index = identifier(_join(name, "fkidx", *reference.source))
                items.append(sqlalchemy.Index(index, *reference.source))
        return sqlalchemy.Table(name, self.metadata, *items)

    def _foreign_key(self, name: str, reference: Reference) -> sqlalchemy.ForeignKeyConstraint:
        columns = reference.columns or reference.source
        target = reference.target
        return sqlalchemy.ForeignKeyConstraint(
            reference.source,
            [target.columns[column] for column in columns],
            name=self.db.identifier(_join("fkey", name, target.name, *columns, *reference.source)),
            ondelete=reference.on_delete,
        )

    def counted(self, table: str, name: str) -> sqlalchemy.Column[Any]:
        """Make an integer key whose values the database provides (section 12)."""
        # Of the same metadata, since it is created together with the table.
        sequence: sqlalchemy.Sequence = sqlalchemy.Sequence(
            self.db.identifier(f"{table}_seq_{name}"), metadata=self.metadata, schema=self.db.namespace
        )
        return sqlalchemy.Column(name, self.db.key_type, sequence, primary_key=True)

    def uuid(self, name: str, *, primary_key: bool = False) -> sqlalchemy.Column[Any]:
        """Make a column of dataset ids."""
        return sqlalchemy.Column(name, self.db.uuid_type, primary_key=primary_key, nullable=False)

    def key_column(self, dimension: str, name: str, *, primary_key: bool = False) -> sqlalchemy.Column[Any]:
        """Make a column that holds values of a dimension.

        Raises
        ------
        RefusedError
            Raised if the values are neither integers nor strings.
        """
        key = self.universe.key(dimension)
        if key.type not in ("int", "string"):
            raise errors.RefusedError(
                f"{self.db.place}: the key of dimension {dimension} is of type {key.type!r}; "
                "this version knows integers and strings only."
            )
        return self.column(key, name, primary_key=primary_key, nullable=False)

    def column(
        self,
        column: elements.Column,
        name: str | None = None,
        *,
        primary_key: bool = False,
        nullable: bool = True,
    ) -> sqlalchemy.Column[Any]:
        """Make the column of a dimension record's value other than a timespan.

        Raises
        ------
        RefusedError
            Raised if values of this type can't be stored.
        """
        kind: sqlalchemy.types.TypeEngine[Any]
        if column.type == "string":
            short = column.length is not None and column.length <= LONGEST_VARCHAR
            kind = sqlalchemy.String(column.length) if short else sqlalchemy.Text()
        elif column.type in _TYPES:
            kind = _TYPES[column.type]()
        else:
            raise errors.RefusedError(
                f"{self.db.place}: dimension column {column.name} is of type {column.type!r}, "
                "which this version does not know."
            )
        return sqlalchemy.Column(
            name or column.name, kind, primary_key=primary_key, nullable=nullable, autoincrement=False
        )


def integer(name: str, *, primary_key: bool = False, nullable: bool = False) -> sqlalchemy.Column[Any]:
    """Make a column of 64-bit integers."""
    return sqlalchemy.Column(
        name, sqlalchemy.BigInteger(), nullable=nullable, primary_key=primary_key, autoincrement=False
    )


def small_integer(name: str, *, primary_key: bool = False) -> sqlalchemy.Column[Any]:
    """Make a column of 16-bit integers."""
    return sqlalchemy.Column(
        name, sqlalchemy.SmallInteger(), nullable=False, primary_key=primary_key, autoincrement=False
    )


def text(name: str, *, primary_key: bool = False, nullable: bool = False) -> sqlalchemy.Column[Any]:
    """Make a column of strings of any length."""
    return sqlalchemy.Column(name, sqlalchemy.Text(), nullable=nullable, primary_key=primary_key)


def _join(*parts: str) -> str:
    return "_".join(parts)
