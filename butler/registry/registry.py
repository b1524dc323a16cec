"""A repository's database, opened: its dataset types, collections, datasets and dimension records.

Implements the checks of butler-repository.md section 11; the parts implement sections 4 to 8.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from aggregator.butler.configuration import repository_config, type_overrides
from aggregator.butler.databases import connections, database, sqlite
from aggregator.butler.dimensions import universe
from aggregator.butler.registry import (
    collections,
    dataset_types,
    dimension_records,
    ingested_datasets,
    managers,
    obstacles,
    run_provenance,
    tables,
)
from aggregator.storage import errors

if TYPE_CHECKING:
    # Whoever aggregates has no use for them; what they load is a twentieth of a small run.
    from aggregator.butler.registry import additions as additions_module
    from aggregator.butler.registry import holdings as holdings_module
    from aggregator.butler.registry import searches as searches_module


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
        return Registry(db, *_read_universe(db, attributes), overrides)
    except BaseException:
        db.close()
        raise


def _read_universe(
    db: database.Database, attributes: dict[str, str]
) -> tuple[universe.Universe, dict[str, Any]]:
    """Return the dimension universe, and its configuration."""
    text = attributes.get("config:dimensions.json")
    if text is None:
        raise errors.RefusedError(f"{db.place}: the repository does not say which dimensions it has.")
    try:
        config: dict[str, Any] = json.loads(text)
        return universe.Universe.from_config(config), config
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
    dimension_config
        Its configuration.
    overrides
        How its dataset types are called here.
    """

    def __init__(
        self,
        db: database.Database,
        dimensions: universe.Universe,
        dimension_config: dict[str, Any],
        overrides: type_overrides.Overrides,
    ) -> None:
        self._db = db
        self._tables = tables.Tables(db, dimensions, overrides)
        self.universe = dimensions
        """The repository's dimension universe."""
        self.dimension_config = dimension_config
        """Its configuration."""
        self.dataset_types = dataset_types.DatasetTypes(self._tables)
        """Its dataset types."""
        self.collections = collections.Collections(self._tables)
        """Its collections."""
        self.datasets = ingested_datasets.Datasets(self._tables)
        """Its datasets."""
        self.dimensions = dimension_records.DimensionRecords(self._tables)
        """Records of its dimensions."""

    @functools.cached_property
    def additions(self) -> additions_module.Additions:
        """Adds to it what a bundle brings."""
        from aggregator.butler.registry import additions

        return additions.Additions(self._tables)

    @functools.cached_property
    def holdings(self) -> holdings_module.Holdings:
        """What it holds, read in bulk."""
        from aggregator.butler.registry import holdings

        return holdings.Holdings(self._tables)

    @functools.cached_property
    def searches(self) -> searches_module.Searches:
        """Which data IDs and datasets there are."""
        from aggregator.butler.registry import searches

        return searches.Searches(self._tables)

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

    def obstacles(self, outputs: obstacles.Outputs) -> list[str]:
        """Return what keeps the outputs of a run out of here; see `obstacles.find`."""
        return self._db.read(lambda connection: obstacles.find(self._tables, connection, outputs))
