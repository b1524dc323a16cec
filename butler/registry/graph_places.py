"""Where the provenance graph of a run goes in a repository (aggregate-and-ingest.md section 6)."""

from collections.abc import Collection

from aggregator.butler.configuration import repository_config
from aggregator.butler.datastores import datastore
from aggregator.butler.registry import ingested_graphs, registry, run_provenance
from aggregator.schemas.graphs import addresses
from aggregator.storage import errors

FORMATTER = "lsst.pipe.base.quantum_graph.formatter.ProvenanceFormatter"

_NO_ID = "0" * 32


def predicted(
    repository: repository_config.RepositoryConfig,
    source: registry.Registry,
    run: str,
    dataset_id: str = _NO_ID,
) -> ingested_graphs.Places:
    """Return where the graph of a run goes.

    Parameters
    ----------
    repository
        Configuration of the repository.
    source
        Its database.
    run
        The run.
    dataset_id
        Id that the graph is going to have, 32 hexadecimal digits. Without it a path that depends on the id is
        not found.

    Raises
    ------
    RefusedError
        If no datastore accepts it, or has a file template that suits it.
    """
    return _Rule(repository, source).places(run, dataset_id)


def begun(
    repository: repository_config.RepositoryConfig, source: registry.Registry, recorded_runs: Collection[str]
) -> dict[str, ingested_graphs.Places]:
    """Return the graphs that are in their places already, but not recorded.

    Parameters
    ----------
    repository
        Configuration of the repository.
    source
        Its database.
    recorded_runs
        Runs whose graphs are recorded; they are left out.

    Raises
    ------
    RefusedError
        If no datastore accepts graphs, or has a file template that suits them.
    """
    rule = _Rule(repository, source)
    # A path that depends on the id is not found again; then the graph has to be given.
    expected = {
        run: rule.places(run, _NO_ID) for run in source.collections.runs() if run not in recorded_runs
    }
    return {run: where for run, where in expected.items() if all(place.is_there for place in where)}


class _Rule:
    """Where graphs go in a repository."""

    def __init__(self, repository: repository_config.RepositoryConfig, source: registry.Registry) -> None:
        rules = datastore.Datastore(repository, source.universe)
        plan = rules.plan(
            run_provenance.DATASET_TYPE, run_provenance.STORAGE_CLASS, source.universe.group(()), None
        )
        if not plan.files:
            raise errors.RefusedError(
                f"{repository.path}: no datastore accepts {run_provenance.DATASET_TYPE}; see its constraints."
            )
        self._datastores = repository.datastores
        self._files = plan.files

    def places(self, run: str, dataset_id: str) -> ingested_graphs.Places:
        dashed = addresses.dashed(dataset_id)
        return tuple(
            ingested_graphs.Place(self._datastores[file.store], file.path((), run, dashed))
            for file in self._files
        )
