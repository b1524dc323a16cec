"""Whether the run that a provenance graph names is the one that it tells of."""

import logging
from collections.abc import Iterator

from aggregator.graph_ingestion import absent_datasets, ingestion_request
from aggregator.schemas.graphs import backed_datasets, provenance_graph
from aggregator.storage import errors
from aggregator.workers.roles.ingesting import foreign_graphs

_log = logging.getLogger(__name__)


def check(request: ingestion_request.Request, graph: provenance_graph.ProvenanceGraph) -> None:
    """Refuse a graph that would close a run whose outputs are others than it tells of.

    Mostly the first outputs that are looked up are in the database. In a run in which everything failed, and
    whose logs were promised to the graph, there may be none.

    Parameters
    ----------
    request
        The request.
    graph
        The graph.

    Raises
    ------
    RefusedError
        If the run has none of the graph's outputs, but some of their data IDs under other ids; or none of
        either, though the graph tells that some were produced; or lacks some whose files are there.
    """
    outputs = _Outputs(request.run, graph)
    finding = foreign_graphs.Comparison(request.registry, request.run, graph.pipeline).find(outputs)
    if finding.is_held:
        _check_complete(request, graph, outputs.promised)
        return
    place = f"{graph.path}: run {request.run!r} of {request.repository.path}"
    if finding.taken is not None:
        raise errors.RefusedError(
            f"{place} holds nothing of this graph, but of another one, as {finding.taken}. Give the graph "
            "that aggregation wrote for this run."
        )
    if outputs.n_produced:
        raise errors.RefusedError(
            f"{place} holds none of the datasets that were produced by this graph. Aggregate it into the run "
            "first; that can't be done any more once its provenance graph is ingested."
        )


def _check_complete(
    request: ingestion_request.Request, graph: provenance_graph.ProvenanceGraph, promised: set[str]
) -> None:
    """Refuse a graph that would keep outputs out of the database for good."""
    absent = absent_datasets.find(request, graph, promised)
    if not absent.n_datasets:
        return
    problem = (
        f"{graph.path}: run {request.run!r} of {request.repository.path} lacks {absent.n_datasets} of the "
        f"datasets that were produced by this graph, and whose files are there ({absent.path})."
    )
    if request.mode is None:
        # Files that it replaces may be gone, so that only this way leads on.
        _log.warning("%s Nobody can aggregate them once this is complete.", problem)
        return
    raise errors.RefusedError(
        f"{problem} Aggregate it into the run first; that can't be done any more once its provenance graph "
        "is ingested."
    )


class _Outputs:
    """All outputs of a graph's quanta but packages, in file order; counts what the database should have."""

    def __init__(self, run: str, graph: provenance_graph.ProvenanceGraph) -> None:
        self._run = run
        self._graph = graph
        self.promised = set(backed_datasets.BackedDatasets(graph, verify=False).dataset_types())
        """Dataset types that may be left out of the database until the graph is ingested."""
        self.n_produced = 0
        """Outputs so far that were produced and could not be promised."""

    def __iter__(self) -> Iterator[foreign_graphs.Output]:
        for each in self._graph.datasets():
            if each.producer is not None and each.run == self._run:
                self.n_produced += each.produced and each.dataset_type_name not in self.promised
                coordinate = bytes(each.data_coordinate)
                yield foreign_graphs.Output(each.dataset_id, each.dataset_type_name, coordinate)
