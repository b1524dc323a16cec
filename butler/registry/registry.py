"""A repository's database: what is registered in it, and how datasets get into it.

Implements butler-repository.md sections 5 to 8 and the checks of section 11.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import sqlalchemy
from aggregator.butler.configuration import repository_config, type_overrides
from aggregator.butler.databases import connections, database, sqlite
from aggregator.butler.dimensions import universe
from aggregator.butler.registry import (
    batch,
    collections,
    dataset_files,
    dataset_ids,
    dataset_types,
    dimension_records,
    forgetting,
    insertion,
    managers,
    obstacles,
    recorded_graphs,
    run_provenance,
    tables,
)
from aggregator.schemas.graphs import addresses
from aggregator.storage import errors

_DatasetTypeRow = dataset_types.DatasetTypeRow

_Result = TypeVar("_Result")


def open_repository(
    repository: repository_config.RepositoryConfig,
    *,
    writeable: bool,
    rehearsed: bool = False,
    warn: Callable[[str], object] | None = None,
) -> Registry:
    """Open the database that a repository's configuration names; see `open_registry`.

    Raises
    ------
    RefusedError
        Raised, besides, if the configuration hides where ingested graphs are recorded.
    """
    if repository.overrides.concern(run_provenance.DATASET_TYPE):
        raise errors.RefusedError(
            f"{repository.path}: 'overrides' concern {run_provenance.DATASET_TYPE}, whose datasets say that "
            "a run's logs and metadata are in a graph and not in files. Take them out."
        )
    return open_registry(
        repository.database,
        repository.namespace,
        writeable=writeable,
        rehearsed=rehearsed,
        warn=warn,
        overrides=repository.overrides,
    )


def open_registry(
    url: str,
    namespace: str | None,
    *,
    writeable: bool,
    rehearsed: bool = False,
    busy_timeout_ms: int = sqlite.BUSY_TIMEOUT_MS,
    warn: Callable[[str], object] | None = None,
    overrides: type_overrides.Overrides = type_overrides.NONE,
) -> Registry:
    """Open the database of an existing repository.

    Parameters
    ----------
    url
        SQLAlchemy URL: ``registry.db`` of the configuration, with the root filled in.
    namespace
        Schema that holds the tables: ``registry.namespace`` of the configuration.
    writeable
        Whether to open it for writing. Otherwise nothing in or beside the database is changed.
    rehearsed
        Whether to refuse what can't be written to, though nothing is written now.
    busy_timeout_ms
        How long to wait for another process's lock, milliseconds.
    warn
        Told about each transaction that has to be repeated, and why; by default the log.
    overrides
        How names and storage classes of dataset types here differ from those in the database.

    Raises
    ------
    RefusedError
        Raised if there is no Butler database at the URL, or none of a kind that this version knows.
    AggregatorError
        Raised if the database can't be read at the moment.
    """
    db = connections.connect(url, namespace, writeable=writeable, busy_timeout_ms=busy_timeout_ms, warn=warn)
    try:
        attributes = managers.read_attributes(db)
        managers.check(attributes, db.place, writeable=writeable or rehearsed)
        return Registry(db, _read_universe(db, attributes), overrides)
    except BaseException:
        db.close()
        raise


def _read_universe(db: database.Database, attributes: dict[str, str]) -> universe.Universe:
    text = attributes.get("config:dimensions.json")
    if text is None:
        raise errors.RefusedError(f"{db.place}: the repository does not say which dimensions it has.")
    try:
        return universe.Universe.from_config(json.loads(text))
    except (ValueError, errors.AggregatorError) as error:
        raise errors.RefusedError(
            f"{db.place}: the repository's dimensions can't be used: {error}"
        ) from error


class Registry:
    """The database of one repository; made by `open_registry`.

    Parameters
    ----------
    db
        The open database.
    dimensions
        The repository's dimension universe.
    overrides
        How its dataset types are called here.
    """

    def __init__(
        self, db: database.Database, dimensions: universe.Universe, overrides: type_overrides.Overrides
    ) -> None:
        self._db = db
        self._tables = tables.Tables(db, dimensions, overrides)
        self.universe = dimensions

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @property
    def n_connections(self) -> int:
        """Connections made so far: after another one, what was committed has to be looked for."""
        return self._db.n_connections

    def register_dataset_type(
        self, name: str, storage_class: str, dimensions: Iterable[str], *, is_calibration: bool = False
    ) -> _DatasetTypeRow:
        """Make sure that a dataset type exists (section 5); can be repeated, and run beside others.

        Parameters
        ----------
        name
            Its name.
        storage_class
            Name of its storage class.
        dimensions
            Its dimensions, in any order; they are completed for this repository's universe.
        is_calibration
            Whether its datasets can have validity ranges.

        Raises
        ------
        AggregatorError
            Raised if it is registered with another definition, or a dimension does not exist here.
        """
        wanted = self.definition(name, storage_class, dimensions, is_calibration)
        return self.register_dataset_types([wanted])[name]

    def obstacles(self, outputs: obstacles.Outputs) -> list[str]:
        """Return what keeps the outputs of a run out of here; see `obstacles.find`."""
        return self._db.read(lambda connection: obstacles.find(self._tables, connection, outputs))

    def has_records(self, element: str) -> bool:
        """Return whether there is any record of a dimension that has a table."""
        query = sqlalchemy.select(sqlalchemy.literal(1)).select_from(self._tables.dimension(element)).limit(1)
        return self._db.read(lambda connection: connection.execute(query).first() is not None)

    def definition(
        self, name: str, storage_class: str, dimensions: Iterable[str], is_calibration: bool
    ) -> dataset_types.Definition:
        """Return a dataset type's definition in this repository (see `register_dataset_type`)."""
        required = self.universe.group(dimensions).required
        return dataset_types.Definition(name, storage_class, required, is_calibration)

    def register_dataset_types(
        self, wanted: Sequence[dataset_types.Definition]
    ) -> dict[str, dataset_types.DatasetTypeRow]:
        """Make sure that dataset types exist; those that don't are added in one transaction, in order.

        Raises
        ------
        AggregatorError
            Raised if one is registered with another definition; none is added then.
        """
        found = self._find_dataset_types([each.name for each in wanted])
        missing = [each for each in wanted if each.name not in found]
        if problems := dataset_types.problems(self._tables.overrides, wanted, found):
            raise errors.AggregatorError(f"{self._db.place}: {'; '.join(problems)}.")

        def add(connection: sqlalchemy.Connection) -> dict[str, _DatasetTypeRow]:
            added = dataset_types.register(self._tables, connection, missing)
            if problems := dataset_types.problems(self._tables.overrides, missing, added):
                raise errors.AggregatorError(f"{self._db.place}: {'; '.join(problems)}.")
            return added

        return {**found, **self._register(add)} if missing else found

    def _find_dataset_types(self, names: Sequence[str]) -> dict[str, _DatasetTypeRow]:
        return self._db.read(lambda connection: dataset_types.find_all(self._tables, connection, names))

    def dataset_types(self, names: Iterable[str]) -> dict[str, _DatasetTypeRow]:
        """Look dataset types up.

        Raises
        ------
        AggregatorError
            Raised if some are not registered; names all of them.
        """
        wanted = list(names)
        found = self._find_dataset_types(wanted)
        if missing := sorted(set(wanted) - found.keys()):
            raise errors.AggregatorError(
                f"{self._db.place}: not registered: dataset type {', '.join(missing)}. Register them first."
            )
        return found

    def known_dataset_types(self, names: Iterable[str]) -> dict[str, _DatasetTypeRow]:
        """Return those dataset types that are registered."""
        return self._find_dataset_types(list(names))

    def dataset_type(self, name: str) -> _DatasetTypeRow:
        """Look one dataset type up; like `dataset_types`."""
        return self.dataset_types([name])[name]

    def collection(self, name: str) -> collections.CollectionRow | None:
        """Look a collection up."""
        return self._db.read(lambda connection: self._collections(connection).find(name))

    def runs(self) -> list[str]:
        """Return the names of all RUN collections, sorted."""
        kind = collections.CollectionType.RUN
        return self._db.read(lambda connection: self._collections(connection).names(kind))

    def children(self, chain: str) -> list[str]:
        """Return the names of a chain's children in search order.

        Raises
        ------
        AggregatorError
            Raised if there is no such collection.
        """

        def look(connection: sqlalchemy.Connection) -> list[str]:
            rows = self._collections(connection)
            return [row.name for row in rows.children(rows.find_all([chain])[0])]

        return self._db.read(look)

    def flatten(self, names: Iterable[str]) -> list[str]:
        """Return collections with chains replaced by their members, each collection once (section 6).

        Raises
        ------
        AggregatorError
            Raised if some do not exist.
        """
        wanted = list(names)
        return self._db.read(lambda connection: self._collections(connection).flatten(wanted))

    def register_run(self, name: str) -> None:
        """Make sure that a RUN collection exists (section 6).

        Raises
        ------
        AggregatorError
            Raised if the name is taken by a collection of another type.
        """
        kind = collections.CollectionType.RUN
        if not self._db.read(lambda connection: self._collections(connection).is_complete_run(name)):
            self._register(lambda connection: self._collections(connection).register(name, kind))

    def register_chain(self, name: str) -> bool:
        """Make sure that a CHAINED collection exists (section 6).

        Returns
        -------
        is_new
            Whether it did not exist before.

        Raises
        ------
        AggregatorError
            Raised if the name is taken by a collection of another type.
        """
        kind = collections.CollectionType.CHAINED
        return self._register(lambda connection: self._collections(connection).register(name, kind)[1])

    def update_output_chain(self, chain: str, run: str, inputs: Sequence[str]) -> None:
        """Put a run in front of an output chain (section 6).

        If the chain is new, the flattened inputs follow the run. All of it is one transaction, since a
        chain left behind without its inputs would never get them.

        Parameters
        ----------
        chain
            CHAINED collection, created if need be.
        run
            The output run, registered already.
        inputs
            Input collections.

        Raises
        ------
        AggregatorError
            Raised if a collection does not exist or is of the wrong type.
        """

        def update(connection: sqlalchemy.Connection) -> None:
            rows = self._collections(connection)
            _, is_new = rows.register(chain, collections.CollectionType.CHAINED)
            if is_new:
                rows.extend(chain, rows.flatten(inputs))
            rows.prepend(chain, [run])

        self._register(update)

    def insert_dimension_records(self, element: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Insert dimension records in one transaction; see `dimension_records.insert`."""
        dimension_records.insert(self._tables, element, records)

    def dimension_records(self, element: str, **data_id: batch.Value) -> Iterator[dict[str, Any]]:
        """Iterate over dimension records; see `dimension_records.find`."""
        return dimension_records.find(self._tables, element, data_id)

    def ingest(
        self,
        run: str,
        offered: batch.Batch,
        *,
        graphs: frozenset[str] = frozenset(),
        backed: bool = False,
        defensive: bool = False,
    ) -> batch.IngestResult:
        """Write a batch of datasets and their files in one transaction; see `insertion.ingest`."""
        return insertion.ingest(self._tables, run, offered, graphs=graphs, backed=backed, defensive=defensive)

    def rehearse(self, run: str, offered: batch.Batch) -> batch.IngestResult:
        """Return what would come of a batch, which is not written; see `insertion.rehearse`."""
        return insertion.rehearse(self._tables, run, offered)

    def has_datasets(self, run: str) -> bool:
        """Return whether a run holds anything."""
        query = self._of_run(run, self._tables.dataset.c.id).limit(1)
        return self._db.read(lambda connection: connection.execute(query).first() is not None)

    def graphs(self, run: str) -> frozenset[str]:
        """Return the ids of the provenance graphs that a run holds; none if there is no such run."""

        def look(connection: sqlalchemy.Connection) -> frozenset[str]:
            row = self._collections(connection).find(run)
            return frozenset() if row is None else recorded_graphs.ids(self._tables, connection, row.id)

        return self._db.read(look)

    def forget(
        self,
        run: str,
        ids: Iterable[str],
        kept: Mapping[str, Collection[str]],
        is_changed: forgetting.Judgement | None = None,
    ) -> int:
        """Take datasets out of a run while their files stay; see `forgetting.forget`."""
        return forgetting.forget(self._tables, run, ids, kept, is_changed)

    def files_of_type(
        self, dataset_type: str, datastore: str, records_table: str
    ) -> list[tuple[str, str, int]]:
        """Return run, path and size of all files of a dataset type; see `dataset_files.of_type`."""

        def look(connection: sqlalchemy.Connection) -> list[tuple[str, str, int]]:
            return dataset_files.of_type(self._tables, connection, dataset_type, datastore, records_table)

        return self._db.read(look)

    def run_ids(self, run: str) -> addresses.Ids:
        """Return the ids of all datasets in a run, sorted; see `dataset_ids.of_run`."""
        return self._db.read(lambda connection: dataset_ids.of_run(self._tables, connection, run))

    def backed_ids(self, run: str, records_table: str, path: str) -> addresses.Ids:
        """Return those whose file has a given path, sorted; see `dataset_ids.backed_by`."""
        return self._db.read(
            lambda connection: dataset_ids.backed_by(self._tables, connection, run, records_table, path)
        )

    def some_backed_ids(self, ids: Collection[str], records_table: str, path: str) -> set[str]:
        """Return those of some ids whose file has a given path; see `dataset_ids.some_backed_by`."""
        return self._db.write(
            lambda connection: dataset_ids.some_backed_by(self._tables, connection, ids, records_table, path)
        )

    def _of_run(self, run: str, column: sqlalchemy.ColumnElement[Any]) -> sqlalchemy.Select[Any]:
        dataset, collection = self._tables.dataset, self._tables.collection
        return (
            sqlalchemy.select(column)
            .select_from(dataset)
            .join(collection, collection.c.collection_id == dataset.c.run_id)
            .where(collection.c.name == run)
        )

    def _register(self, work: Callable[[sqlalchemy.Connection], _Result]) -> _Result:
        """Write a registration; one that another process is just making is not to be refused but met."""
        return self._db.write(work, attempts=insertion.ATTEMPTS)

    def _collections(self, connection: sqlalchemy.Connection) -> collections.Collections:
        return collections.Collections(self._tables, connection)
