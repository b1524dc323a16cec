"""What the user asked for, checked: everything that is refused is refused here, before any work."""

import contextlib
import dataclasses
from typing import Self

from aggregator import ranges, repository_files
from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import collection_rows, graph_places, ingested_graphs, new_ids, registry
from aggregator.graph_ingestion import placement, places, transfers
from aggregator.schemas import output_paths
from aggregator.schemas.graphs import container, pipeline, provenance_graph
from aggregator.storage import errors, opening, uris


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A checked request; a context manager that closes what it opened."""

    repository: repository_config.RepositoryConfig
    """Configuration of the repository."""

    registry: registry.Registry
    """Its database, open for writing."""

    run: str
    """The run."""

    dataset_id: str
    """Id of the graph; a new one if it is not ingested yet."""

    where: ingested_graphs.Places
    """Where the graph is, or goes."""

    is_ingested: bool
    """Whether it is ingested already; then the rest only has to be finished."""

    given: str | None
    """Absolute path, or URI, of the graph as given; it need not exist."""

    mode: str | None
    """How the graph gets to its place; nothing if it is there."""

    open_things: contextlib.ExitStack
    """Closes the database."""

    @property
    def graph_path(self) -> str:
        """Where the graph is at the moment."""
        return self.given if self.mode is not None and self.given is not None else self.where[0].file

    @property
    def protection(self) -> output_paths.Protection:
        """What must not be written; among that are the ingested graphs, of which this is none yet."""
        return repository_files.protection(self.repository, outputs=[place.file for place in self.where])

    def check_again(self) -> None:
        """Make sure that nobody has ingested a graph of the run since the check; call it under the lock.

        Raises
        ------
        AggregatorError
            If somebody has. Bringing this one to its place could replace that one, which is all that is left.
        """
        if self.registry.datasets.graphs(self.run) != (
            frozenset({self.dataset_id}) if self.is_ingested else frozenset()
        ):
            raise errors.AggregatorError(
                f"{self.repository.path}: another process has just ingested the graph of run {self.run!r}. "
                "Run the same command again."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.open_things.close()


def check(
    butler_path: str, uri: str | None, transfer: str | None, batch_size: int, output_run: str | None
) -> Request:
    """Return a request that can be carried out.

    Raises
    ------
    RefusedError
        If it can't; the message says why.
    """
    if transfer is not None and transfer not in transfers.MODES:
        raise errors.RefusedError(f"transfer must be one of {', '.join(transfers.MODES)}, not {transfer!r}")
    if transfer == "direct":
        raise errors.RefusedError(
            "transfer 'direct' can't work: datasets can only share a graph that is inside the repository."
        )
    ranges.COUNT.check("batch_size", batch_size)
    given = None if uri is None else uris.absolute(container.graph_path(uri))
    header = _read_header(given)
    if header is not None and output_run not in (None, header.output_run):
        raise errors.RefusedError(
            f"{given}: is the graph of run {header.output_run!r}, not of {output_run!r}."
        )
    repository = repository_config.load(butler_path)
    repository.check_writeable()
    with contextlib.ExitStack() as open_things:
        source = open_things.enter_context(registry.open_repository(repository, writeable=True))
        graphs = ingested_graphs.places(repository, source)
        run = output_run if header is None else header.output_run
        if run is None:
            run = _find_run(repository, source, graphs, given)
        _check_run(repository, source, run)
        repository_files.check_logs(repository_files.protection(repository, run))
        dataset_id, mode = new_ids.new(), None
        if run in graphs:
            where = graphs[run]
            if problem := ingested_graphs.absence(run, where):
                raise errors.RefusedError(problem)
            [dataset_id] = source.datasets.graphs(run)
            _check_same(given, header, where)
        else:
            where, mode = _plan(repository, source, run, dataset_id, given if header else None, transfer)
        return Request(
            repository, source, run, dataset_id, where, run in graphs, given, mode, open_things.pop_all()
        )


def _read_header(path: str | None) -> pipeline.Header | None:
    """Return the header of a graph, nothing if it is not there."""
    if path is None or not opening.is_there(path):
        return None
    with provenance_graph.ProvenanceGraph(path) as graph:
        return graph.header


def _find_run(
    repository: repository_config.RepositoryConfig,
    source: registry.Registry,
    recorded: dict[str, ingested_graphs.Places],
    given: str | None,
) -> str:
    """Return the run that is meant without a graph, or with the path of one that was moved from there."""
    begun = graph_places.begun(repository, source, recorded)
    graphs = {**recorded, **begun}
    if given is None:
        # One that is not recorded yet is what was left unfinished.
        runs = list(begun if len(begun) == 1 else graphs)
    else:
        origins = {run: placement.origin(where[-1]) for run, where in graphs.items()}
        runs = [run for run, origin in origins.items() if origin == given]
        if not runs and list(origins.values()) == [None]:
            # Nothing tells where it was; but no other graph can be meant.
            runs = list(graphs)
    if len(runs) == 1:
        return runs[0]
    missing = "no provenance graph is given" if given is None else f"{given} does not exist"
    names = f"{', '.join(sorted(graphs)[:10])}{', ...' if len(graphs) > 10 else ''}"
    advice = f"To go on with one that is in the repository, give its --output-run: {names}." if graphs else ""
    raise errors.RefusedError(
        f"{repository.path}: {missing}, and nothing tells which run's graph is meant. {advice}".rstrip()
    )


def _check_run(repository: repository_config.RepositoryConfig, source: registry.Registry, run: str) -> None:
    row = source.collections.find(run)
    if row is None or row.type is not collection_rows.CollectionType.RUN:
        what = "there is no run" if row is None else "is no RUN collection:"
        raise errors.RefusedError(f"{repository.path}: {what} {run!r}. Aggregate its graph into it first.")


def _check_same(given: str | None, header: pipeline.Header | None, where: ingested_graphs.Places) -> None:
    """Refuse a graph if another one is ingested for its run."""
    if given is None or header is None:
        return
    if opening.is_same(given, where[0].file):
        return
    with container.Container(given) as first, container.Container(where[0].file) as second:
        if first.fingerprint != second.fingerprint:
            raise errors.RefusedError(
                f"{given}: is not the graph that is ingested for run {header.output_run!r}; that is "
                f"{where[0].file}. To go on with it, give --output-run {header.output_run} instead. A run "
                "has one provenance graph: what another one holds stays in files of its own. If aggregation "
                "left these out of the database (--promise-ingest-graph), aggregate again without that."
            )


def _plan(
    repository: repository_config.RepositoryConfig,
    source: registry.Registry,
    run: str,
    dataset_id: str,
    given: str | None,
    transfer: str | None,
) -> tuple[ingested_graphs.Places, str | None]:
    """Return where a graph goes that is not ingested yet, and how it gets there (nothing if it is there)."""
    if given is not None and transfer in (None, "auto"):
        where = places.in_place(repository, given)
        if where:
            return where, None
        if transfer is None:
            raise errors.RefusedError(
                f"{given}: without a transfer, the graph has to be inside a datastore of the repository."
            )
    where = graph_places.predicted(repository, source, run, dataset_id)
    if given is not None and transfer is not None:
        targets = [place.file for place in where]
        placement.check(transfer, given, where, repository_files.protection(repository, outputs=targets))
        return where, transfer
    if not all(place.is_there for place in where):
        raise errors.RefusedError(
            f"{repository.path}: run {run!r} has no ingested provenance graph, so one has to be given "
            "that exists."
        )
    # The process that brought it there did not come to record it.
    return where, None
