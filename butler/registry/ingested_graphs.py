"""Provenance graphs that are part of a repository (aggregate-and-ingest.md section 6)."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aggregator.butler.configuration import repository_config
from aggregator.butler.datastores import paths
from aggregator.butler.registry import run_provenance
from aggregator.schemas.graphs import container, graph_pointer
from aggregator.storage import errors, local_files, opening, stores

if TYPE_CHECKING:
    from aggregator.butler.registry import registry as registries
    from aggregator.schemas.graphs import addresses


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """The file of a graph in one datastore."""

    store: repository_config.FileDatastore
    """The datastore."""

    recorded: str
    """Path as file records have it: relative to the datastore's root, or a URI."""

    size: int = -1
    """Size in bytes that the database knows; negative if it knows none."""

    @property
    def address(self) -> tuple[stores.Store, str]:
        """The store that has it, and its key there."""
        if "://" in self.recorded:
            # It was ingested where it was.
            return opening.locate(container.graph_path(self.recorded))
        return self.store.files, self.recorded

    @property
    def file(self) -> str:
        """Its path or URI."""
        files, key = self.address
        return files.location(key)

    def mark(self) -> stores.Mark | None:
        """Return what the store tells of it; nothing if it is certainly not there.

        Raises
        ------
        UnusableError
            If it can't be used.
        MachineError
            If the machine is in trouble.
        """
        files, key = self.address
        return files.mark(key)

    @property
    def is_there(self) -> bool:
        """Whether it is there, and can be used; raises MachineError if nobody knows."""
        files, key = self.address
        return files.is_there(key)


Places = tuple[Place, ...]
"""The places of one graph, in the order of the datastores; there is one, unless datastores are chained."""


def places(
    repository: repository_config.RepositoryConfig, registry: "registries.Registry"
) -> dict[str, Places]:
    """Return where the graph of each run is that has one."""
    places_of: dict[str, Places] = {}
    for store in repository.datastores:
        for run, path, size in registry.datasets.files(
            run_provenance.DATASET_TYPE, store.name, store.records_table
        ):
            places_of[run] = (*places_of.get(run, ()), Place(store, path, size))
    return places_of


def described(
    repository: repository_config.RepositoryConfig, registry: "registries.Registry"
) -> dict[str, str]:
    """Return the files of all graphs, which must not be replaced, and what each is."""
    return {
        place.file: f"the ingested graph of run {run}"
        for run, where in places(repository, registry).items()
        for place in where
    }


def present(places: Places) -> str | None:
    """Return the file of a graph in the first datastore that has it."""
    return next((place.file for place in places if place.is_there), None)


def absence(run: str, places: Places) -> str:
    """Return what is wrong if the file of a recorded graph is not in its place; empty if it is there."""
    missing = [place.file for place in places if not place.is_there]
    if not missing:
        return ""
    return (
        f"{missing[0]}: is recorded as the provenance graph of run {run!r}, but is not there. Logs and "
        "metadata of the run are in it. Look whether the file system is mounted and the repository is the "
        "right one; or put the graph back from a copy or a backup, with its time (cp -p). Then run the same "
        "command again."
    )


def pointed(repository: repository_config.RepositoryConfig, run: str) -> Iterator[Place | None]:
    """Yield where pointers in the directories of a run tell that its graph is; nothing if one does not tell.

    Parameters
    ----------
    repository
        Configuration of the repository.
    run
        The run.
    """
    try:
        key = graph_pointer.key(paths.directory_of_run(run))
    except errors.RefusedError:
        # None can be there.
        return
    for store in repository.datastores:
        try:
            content = store.files.read(key)
        except local_files.UnusableError:
            yield None
            continue
        if content is not None:
            graph = graph_pointer.decode(content.data)
            yield None if graph is None else Place(store, graph)


def file_of(repository: repository_config.RepositoryConfig, run: str, places: Places) -> str:
    """Return the file of a graph that a run is known to hold.

    Parameters
    ----------
    repository
        Configuration of the repository.
    run
        The run.
    places
        Where the database has it; empty if it does not tell.

    Raises
    ------
    AggregatorError
        If it is not there, or nothing tells where it is.
    """
    if not places:
        raise errors.AggregatorError(
            f"{repository.path}: run {run!r} holds a provenance graph, but the database does not know where "
            "its file is. Without it nobody can tell which quanta are in there."
        )
    if path := present(places):
        return path
    raise errors.AggregatorError(absence(run, places))


def holding(
    repository: repository_config.RepositoryConfig,
    registry: "registries.Registry",
    run: str,
    ids: "addresses.Ids",
) -> str | None:
    """Return the file of the graph that a run holds, if some quanta are in it.

    Parameters
    ----------
    repository
        Configuration of the repository.
    registry
        Its database.
    run
        The run.
    ids
        Ids of the quanta.

    Raises
    ------
    AggregatorError
        If the file can't be found, or read.
    """
    if not registry.datasets.graphs(run):
        return None
    path = file_of(repository, run, places(repository, registry).get(run, ()))
    return path if shares_quanta(path, ids) else None


def shares_quanta(path: str, ids: "addresses.Ids") -> bool:
    """Return whether some quanta are in the graph in a file.

    Raises
    ------
    AggregatorError
        If it can't be read.
    """
    # Rarely needed, and not fast to import.
    from aggregator.schemas.graphs import provenance_graph

    try:
        with provenance_graph.ProvenanceGraph(path) as ingested:
            return ingested.holds_some(ids)
    except errors.RefusedError as exc:
        # To put the file back is all that can help, and then the same command does.
        raise errors.AggregatorError(str(exc)) from exc


def find(
    repository: repository_config.RepositoryConfig,
    collection: str | None = None,
    registry: "registries.Registry | None" = None,
) -> str:
    """Return the path or URI of the provenance graph of a run.

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
    from aggregator.butler.registry import registry as registries

    with registries.open_repository(repository, writeable=False) as opened:
        return _find(repository, collection, opened)


def _find(
    repository: repository_config.RepositoryConfig, collection: str | None, registry: "registries.Registry"
) -> str:
    paths = places(repository, registry)
    advice = "; give the path of its provenance graph, or ingest that first"
    if not paths:
        raise errors.RefusedError(f"{repository.path}: no run has an ingested provenance graph{advice}")
    names = f"{', '.join(sorted(paths)[:10])}{', ...' if len(paths) > 10 else ''}"
    if collection is None:
        if len(paths) > 1:
            raise errors.RefusedError(
                f"{repository.path}: several runs have a graph, name one of them: {names}"
            )
        return _file(*next(iter(paths.items())))
    if registry.collections.find(collection) is None:
        raise errors.RefusedError(
            f"{repository.path}: there is no collection {collection!r}; these runs have a graph: {names}"
        )
    for run in registry.collections.flatten([collection]):
        if run in paths:
            return _file(run, paths[run])
    raise errors.RefusedError(
        f"{repository.path}: {collection} has no ingested provenance graph{advice}; "
        f"these runs have one: {names}"
    )


def _file(run: str, where: Places) -> str:
    if path := present(where):
        return path
    raise errors.RefusedError(absence(run, where))
