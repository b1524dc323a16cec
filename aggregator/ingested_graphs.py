"""Provenance graphs that are part of a repository (aggregate-and-ingest.md section 6)."""

import os
from typing import TYPE_CHECKING

from butler import config
from schemas import container, errors

if TYPE_CHECKING:
    from butler import registry as registries

DATASET_TYPE = "run_provenance"


def find(
    repository: config.RepositoryConfig,
    collection: str | None = None,
    registry: "registries.Registry | None" = None,
) -> str:
    """Return the path of the provenance graph of a run.

    Parameters
    ----------
    repository
        Configuration of the repository.
    collection
        The run, or a chain: then the first of its runs that has a graph. Can be left out if just one run
        of the repository has one.
    registry
        The repository's open database; otherwise it is opened for reading.

    Raises
    ------
    RefusedError
        If there is none, or more than one to choose from.
    """
    if registry is not None:
        return _find(repository, collection, registry)
    # Not needed for graphs given by their path, which should open fast.
    from butler import registry as registries

    with registries.open_registry(repository.database, repository.namespace, writeable=False) as opened:
        return _find(repository, collection, opened)


def _find(
    repository: config.RepositoryConfig, collection: str | None, registry: "registries.Registry"
) -> str:
    paths: dict[str, str] = {}
    for store in repository.datastores:
        for run, path in registry.files_of_type(DATASET_TYPE, store.name, store.records_table):
            paths.setdefault(run, _absolute(store.root, path))
    advice = "; give the path of its provenance graph, or ingest that first"
    if not paths:
        raise errors.RefusedError(f"{repository.path}: no run has an ingested provenance graph{advice}")
    known = f"{', '.join(sorted(paths)[:10])}{', ...' if len(paths) > 10 else ''}"
    if collection is None:
        if len(paths) > 1:
            raise errors.RefusedError(
                f"{repository.path}: several runs have a graph, name one of them: {known}"
            )
        return next(iter(paths.values()))
    if registry.collection(collection) is None:
        raise errors.RefusedError(
            f"{repository.path}: there is no collection {collection!r}; these runs have a graph: {known}"
        )
    for run in registry.flatten([collection]):
        if run in paths:
            return paths[run]
    raise errors.RefusedError(
        f"{repository.path}: {collection} has no ingested provenance graph{advice}; "
        f"these runs have one: {known}"
    )


def _absolute(root: str, path: str) -> str:
    """Return the local path of a file: those ingested where they were are recorded as URIs."""
    return container.local_path(path) if "://" in path else os.path.join(root, path)
