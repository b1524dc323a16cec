"""Quanta that an ingested provenance graph holds: what their files told may be nowhere else any more."""

import shlex

from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import graph_places, ingested_graphs, registry
from aggregator.schemas import messages
from aggregator.storage import errors
from aggregator.workers.roles import given_graph


class ClosedQuanta:
    """Looks whether quanta of a predicted graph are in a provenance graph that is ingested into their run.

    Another graph of the run may be there: the one that made what this one goes on with.

    A graph can also be in its place without being recorded. Mostly its ingestion has just begun, and all
    files are there. But if the database is older than the datastore (a backup that was put back), or another
    one for the same datastore, files that the graph replaces are gone, and must not be taken for missing.

    Parameters
    ----------
    setup
        Names the predicted graph.
    run
        Its run.
    repository
        Configuration of the repository.
    source
        Its database.
    """

    def __init__(
        self,
        setup: messages.Setup,
        run: str,
        repository: repository_config.RepositoryConfig,
        source: registry.Registry,
    ) -> None:
        self._setup = setup
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
        there = self._registry.datasets.graphs(self._run)
        if there <= self.others:
            return None
        places = ingested_graphs.places(self._repository, self._registry).get(self._run, ())
        path = ingested_graphs.file_of(self._repository, self._run, places)
        if self._shares_quanta(path):
            return path
        self.others = there
        return None

    def refuse(self) -> None:
        """Raise RefusedError if an ingested graph holds some of these quanta, be it recorded or not."""
        self.refuse_recorded()
        if lost := self._find_lost():
            raise errors.RefusedError(f"{lost} {self._advice()}")

    def refuse_recorded(self) -> None:
        """Raise RefusedError if a graph that is recorded holds some of these quanta."""
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
        if lost := self._find_lost():
            raise errors.AggregatorError(f"{lost} No graph is written. {self._advice()}")

    def _find_lost(self) -> str:
        """Return what is wrong if a graph that is not recorded is all that is left of some files."""
        if self._registry.datasets.graphs(self._run):
            return ""
        path = ingested_graphs.present(self._possible_places())
        if path is None or not self._shares_quanta(path):
            return ""
        # Rarely needed, and not fast to import.
        from aggregator.workers.roles.ingesting import replaced_files

        missing = replaced_files.first_missing(self._setup, path)
        if missing is None:
            return ""
        return (
            f"{self._repository.path}: in the place of the provenance graph of run {self._run!r} is one with "
            f"these quanta ({path}) that the database does not know, and files whose content it holds are "
            f"gone ({missing}): the database is older than the datastore, or another one has ingested the "
            "graph. Aggregation would take these files for missing."
        )

    def _possible_places(self) -> ingested_graphs.Places:
        """Return where the graph of the run may be, whatever the database knows."""
        pointed = self._pointed_places()
        try:
            return *pointed, *graph_places.predicted(self._repository, self._registry, self._run)
        except errors.RefusedError:
            # No graph can be ingested there, but one may have been before.
            return pointed

    def _pointed_places(self) -> ingested_graphs.Places:
        return tuple(filter(None, ingested_graphs.pointed(self._repository, self._run)))

    def _advice(self) -> str:
        if self._registry.collections.find(self._run) is None:
            return "Put back a backup of the database that has the run in it, and ingest the graph then."
        pointed = ingested_graphs.present(self._pointed_places())
        graph = ["--output-run", self._run] if pointed is None else [pointed, "-t", "auto"]
        command = shlex.join(["ingest-graph", self._setup.butler_path, *graph])
        return f"Ingest the graph that is there: {command}"

    def _shares_quanta(self, path: str) -> bool:
        with given_graph.open_graph(self._setup) as graph:
            quanta = graph.address_table().ids
        return ingested_graphs.shares_quanta(path, quanta)
