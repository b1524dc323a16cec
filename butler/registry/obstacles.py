"""What keeps the outputs of a run out of a repository, looked for before anything is done.

Everything is found that can be told without a look at the datasets, so that one refusal names all of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import sqlalchemy
from aggregator.butler.registry import collection_rows, dataset_type_rows, tables
from aggregator.storage import errors


@dataclasses.dataclass(frozen=True, slots=True)
class OutputType:
    """A dataset type of the outputs."""

    name: str
    """Its name."""

    storage_class: str
    """Name of its storage class."""

    dimensions: tuple[str, ...]
    """Its dimensions, required and implied."""

    is_calibration: bool
    """Whether it is a calibration dataset type."""


@dataclasses.dataclass(frozen=True, slots=True)
class Outputs:
    """What a run is going to bring."""

    types: Sequence[OutputType]
    """Dataset types of the outputs."""

    registers: bool
    """Whether those that are missing are going to be registered."""

    run: str
    """RUN collection of the outputs, made if need be."""

    chain: str | None
    """CHAINED collection that the run goes into, made if need be."""

    inputs: Sequence[str]
    """What goes into the chain as well if that is new."""

    records_tables: frozenset[str]
    """Tables of the datastores' file records."""


def find(registry: tables.Tables, connection: sqlalchemy.Connection, outputs: Outputs) -> list[str]:
    """Return what keeps outputs out of a repository.

    Parameters
    ----------
    registry
        The repository's tables.
    connection
        Connection in a transaction.
    outputs
        What there will be.

    Returns
    -------
    obstacles
        What has to be mended, in words; none if all can go in.
    """
    definitions, obstacles = _definitions(registry, outputs.types)
    there = set(sqlalchemy.inspect(connection).get_table_names(schema=registry.db.namespace))
    if missing := sorted((_tables(registry, definitions) | outputs.records_tables) - there):
        # Nothing else can be looked at then.
        return [*obstacles, *(f"there is no table {name}" for name in missing)]
    registered = dataset_type_rows.find_all(registry, connection, [each.name for each in definitions])
    obstacles += dataset_type_rows.problems(registry.overrides, definitions, registered)
    if not outputs.registers:
        unknown = [each.name for each in definitions if each.name not in registered]
        obstacles += [f"dataset type {name!r} is not registered, and none is to be" for name in unknown]
    obstacles += _collections(collection_rows.CollectionRows(registry, connection), outputs)
    return obstacles


def _tables(registry: tables.Tables, definitions: Iterable[dataset_type_rows.Definition]) -> set[str]:
    """Return the names of the tables that datasets of some types go into, or refer to."""
    for name in {name for each in definitions for name in each.required if registry.universe.has_table(name)}:
        registry.dimension(name)
    return {table.name for table in registry.metadata.tables.values()}


def _definitions(
    registry: tables.Tables, types: Iterable[OutputType]
) -> tuple[list[dataset_type_rows.Definition], list[str]]:
    """Return the definitions of dataset types in this repository, and why others have none."""
    definitions: list[dataset_type_rows.Definition] = []
    problems: list[str] = []
    for kind in types:
        try:
            required = registry.universe.group(kind.dimensions).required
        except errors.AggregatorError as error:
            problems.append(f"dataset type {kind.name!r}: {error}")
            continue
        if other := [name for name in required if name not in kind.dimensions]:
            problems.append(
                f"dataset type {kind.name!r} needs dimension {', '.join(other)} here, but not in the graph"
            )
        definitions.append(
            dataset_type_rows.Definition(kind.name, kind.storage_class, required, kind.is_calibration)
        )
    return definitions, problems


def _collections(rows: collection_rows.CollectionRows, outputs: Outputs) -> Iterator[str]:
    """Yield what is wrong with the collections."""
    yield from _taken(rows, outputs.run, collection_rows.CollectionType.RUN)
    if outputs.chain is None:
        return
    if outputs.chain == outputs.run:
        yield f"collection {outputs.run!r} can't be both the run and the chain that it goes into"
        return
    yield from _taken(rows, outputs.chain, collection_rows.CollectionType.CHAINED)
    if rows.find(outputs.chain) is None:
        missing = [name for name in outputs.inputs if name != outputs.run and rows.find(name) is None]
        if missing:
            yield f"there is no collection {', '.join(map(repr, missing))}, an input of the new chain"


def _taken(
    rows: collection_rows.CollectionRows, name: str, kind: collection_rows.CollectionType
) -> Iterator[str]:
    row = rows.find(name)
    if row is not None and row.type is not kind:
        yield (
            f"collection {name!r} is a {row.type.name} collection, not a {kind.name} collection; choose "
            "another name"
        )
