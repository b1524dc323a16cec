"""Schema versions of a repository that this code can use (butler-repository.md section 11)."""

from collections.abc import Mapping
from typing import Final

import sqlalchemy
from aggregator.butler.databases import database
from aggregator.storage import errors

_REGISTRY: Final = "lsst.daf.butler.registry."

KNOWN: Final = {
    "attributes": (_REGISTRY + "attributes.DefaultButlerAttributeManager", (1, 0, 1)),
    "dimensions": (_REGISTRY + "dimensions.static.StaticDimensionRecordStorageManager", (6, 0, 2)),
    "collections": (_REGISTRY + "collections.synthIntKey.SynthIntKeyCollectionManager", (2, 0, 0)),
    "datasets": (
        _REGISTRY + "datasets.byDimensions._manager.ByDimensionsDatasetRecordStorageManagerUUID",
        (2, 0, 0),
    ),
    "opaque": (_REGISTRY + "opaque.ByNameOpaqueTableStorageManager", (0, 2, 0)),
    "datastores": (_REGISTRY + "bridge.monolithic.MonolithicDatastoreRegistryBridgeManager", (0, 2, 1)),
}
"""Class that names each part of the schema, and the version of it that this code is written for."""

_PREFIX: Final = "config:registry.managers."

_OBSCORE: Final = "obscore"
"""Part of the schema that the reference fills with ObsCore records as datasets are ingested."""

_OBSCORE_CONFIG: Final = "config:obscore.json"
"""Attribute without which that part is not in use."""


def attribute_table(metadata: sqlalchemy.MetaData) -> sqlalchemy.Table:
    """Define the table ``butler_attributes``."""
    return sqlalchemy.Table(
        "butler_attributes",
        metadata,
        sqlalchemy.Column("name", sqlalchemy.Text(), primary_key=True),
        sqlalchemy.Column("value", sqlalchemy.Text(), nullable=False),
    )


def attributes() -> dict[str, str]:
    """Return the rows of this table that say which schema a new repository has."""
    rows = {}
    for part, (cls, version) in KNOWN.items():
        rows[_PREFIX + part] = cls
        rows[f"version:{cls}"] = ".".join(map(str, version))
    return rows


def read_attributes(db: database.Database) -> dict[str, str]:
    """Read the table ``butler_attributes``.

    Raises
    ------
    RefusedError
        Raised if there is no such table.
    AggregatorError
        Raised if the database fails.
    """
    table = attribute_table(sqlalchemy.MetaData(schema=db.namespace))

    def read(connection: sqlalchemy.Connection) -> dict[str, str]:
        if not sqlalchemy.inspect(connection).has_table(table.name, schema=db.namespace):
            raise errors.RefusedError(
                f"{db.place}: is not the database of a Butler repository; it has no table {table.name}."
            )
        rows = connection.execute(table.select())
        return {row.name: row.value for row in rows}

    return db.read(read)


def check(attributes: Mapping[str, str], place: str, *, writeable: bool) -> None:
    """Refuse a repository whose schema is not known well enough.

    Parameters
    ----------
    attributes
        The table ``butler_attributes``.
    place
        The database, for messages.
    writeable
        Whether the repository is going to be written to.

    Raises
    ------
    RefusedError
        Raised if a part of the schema is missing, of another kind or of an incompatible version.
    """
    classes = {
        name.removeprefix(_PREFIX): cls for name, cls in attributes.items() if name.startswith(_PREFIX)
    }
    problems = [
        problem
        for part in KNOWN
        if (problem := _problem(part, classes.get(part), attributes, writeable=writeable)) is not None
    ]
    if writeable:
        # What is ingested would silently be missing in a part that is not known.
        if _OBSCORE in classes or _OBSCORE_CONFIG in attributes:
            problems.append("it has live ObsCore tables, which this version does not fill")
        unknown = sorted(classes.keys() - KNOWN - {_OBSCORE})
        problems += [f"{part} is {classes[part]}, which is not known" for part in unknown]
    if problems:
        purpose = "write to" if writeable else "read"
        raise errors.RefusedError(
            f"{place}: this version can't {purpose} a repository of this kind: {'; '.join(problems)}. "
            "Use a version that knows this schema, or migrate the repository."
        )


def _problem(part: str, cls: str | None, attributes: Mapping[str, str], *, writeable: bool) -> str | None:
    expected, code = KNOWN[part]
    if cls is None:
        return f"{part} is missing, known is {expected}"
    if cls != expected:
        return f"{part} is {cls}, known is {expected}"
    text = attributes.get(f"version:{cls}", "")
    numbers = text.split(".")
    if len(numbers) == 3 and all(number.isdecimal() for number in numbers):
        major, minor, _ = map(int, numbers)
        older = minor < code[1] and not writeable
        if major == code[0] and (minor == code[1] or older):
            return None
    return f"{part} ({cls}) has version {text or 'none'}, known is {code[0]}.{code[1]}.{code[2]}"
