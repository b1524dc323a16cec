"""Quanta that an ingested provenance graph holds: what their files told is only in there."""

import numpy as np
from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import ingested_graphs, registry
from aggregator.schemas.graphs import addresses, nodes, predicted, provenance_graph
from aggregator.storage import errors


class ClosedQuanta:
    """Looks whether quanta of a predicted graph are in a provenance graph that is ingested into their run.

    Another graph of the run may be there: the one that made what this one goes on with.

    Parameters
    ----------
    graph_path
        The predicted graph.
    run
        Its run.
    repository
        Configuration of the repository.
    source
        Its database.
    """

    def __init__(
        self,
        graph_path: str,
        run: str,
        repository: repository_config.RepositoryConfig,
        source: registry.Registry,
    ) -> None:
        self._graph_path = graph_path
        self._run = run
        self._repository = repository
        self._registry = source
        self.others: frozenset[str] = frozenset()
        """Ids of ingested graphs without any of these quanta."""

    def find(self) -> str | None:
        """Return the path of an ingested graph that holds some of these quanta.

        Raises
        ------
        AggregatorError
            If there is a graph that can't be read.
        """
        there = self._registry.graphs(self._run)
        if there <= self.others:
            return None
        places = ingested_graphs.places(self._repository, self._registry).get(self._run, ())
        if not places:
            raise errors.AggregatorError(
                f"{self._repository.path}: run {self._run!r} holds a provenance graph, but the database does "
                "not know where its file is. Without it nobody can tell which quanta are in there."
            )
        path = places[0].file
        if self._shares_quanta(path):
            return path
        self.others = there
        return None

    def refuse(self) -> None:
        """Raise RefusedError if an ingested graph holds some of these quanta."""
        if path := self.find():
            raise errors.RefusedError(
                f"{self._repository.path}: run {self._run!r} holds its provenance graph already ({path}). "
                "Logs and metadata of these quanta are in there, not in files of their own; aggregation "
                "would take them for missing."
            )

    def check_again(self) -> None:
        """Raise AggregatorError if an ingested graph holds some of these quanta by now."""
        if path := self.find():
            raise errors.AggregatorError(
                f"{path}: another process has ingested this provenance graph of run {self._run!r} while its "
                "quanta were aggregated here. That may have deleted files before they were looked at, so no "
                "graph is written; datasets that were committed by then stay. Nothing is left to be done if "
                "that graph is complete."
            )

    def _shares_quanta(self, path: str) -> bool:
        with predicted.PredictedGraph(self._graph_path) as graph:
            wanted = graph.address_table().ids
        try:
            with provenance_graph.ProvenanceGraph(path) as ingested:
                for table in ingested.address_rows():
                    ids = table.ids[table.sizes[:, nodes.QUANTA] > 0]
                    if _are_common(wanted, ids):
                        return True
        except errors.RefusedError as exc:
            # To put the file back is all that can help, and then the same command does.
            raise errors.AggregatorError(str(exc)) from exc
        return False


def _are_common(ids: addresses.Ids, others: addresses.Ids) -> bool:
    """Return whether two sorted columns of ids have any in common."""
    if not len(ids):
        return False
    rows = np.minimum(np.searchsorted(ids, others), len(ids) - 1)
    return bool((ids[rows] == others).any())
