"""Rows of the database that an ingestion writes: those of the graph, and of the datasets that it backs."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from aggregator.butler.registry import batch, graph_places, ingested_graphs, run_provenance
from aggregator.graph_ingestion import ingestion_request, ingestion_summary, resized_files
from aggregator.schemas.graphs import addresses, backed_datasets
from aggregator.storage import errors, fault_points, leases


class BackedRows:
    """The rows of a run's graph and of its datasets.

    Parameters
    ----------
    request
        The request.
    summary
        Where datasets are counted.
    where
        Where the graph is, with its size.
    """

    def __init__(
        self,
        request: ingestion_request.Request,
        summary: ingestion_summary.IngestionSummary,
        where: ingested_graphs.Places,
    ) -> None:
        self._request, self._summary, self._where = request, summary, where
        self._datasets = request.registry.datasets
        self._kept: dict[str, list[str]] = {s.records_table: [] for s in request.repository.datastores}
        for place in where:
            self._kept[place.store.records_table].append(place.recorded)
        # Datasets that the repository contradicts.
        self._refused: set[str] = set()
        # All that were offered.
        self._ids: list[addresses.Ids] = [np.zeros(0, addresses.ID_TYPE)]
        self.resized = resized_files.ResizedFiles(request.repository.datastores)
        """Files that are left alone, with their datasets."""
        self.is_careful = request.is_ingested
        """Whether some datasets may be there already, backed by the graph or by files of their own."""

    def forget(self, ids: list[str]) -> None:
        """Take datasets that are backed by files of their own out of the database."""
        self._summary.n_forgotten += self._datasets.forget(
            self._request.run, ids, self._kept, self.resized.among
        )

    def record_graph(self, claim: leases.Claim | None) -> None:
        """Record the graph itself, as long as the lease is held, if there has to be one.

        Raises
        ------
        AggregatorError
            If the run has another one by now.
        """
        run, dataset_id = self._request.run, self._request.dataset_id
        storage_class = run_provenance.STORAGE_CLASS
        kind = self._request.registry.dataset_types.register(run_provenance.DATASET_TYPE, storage_class, ())
        rest = graph_places.FORMATTER, storage_class, None
        files = [(p.store.records_table, p.store.name, dataset_id, p.recorded, *rest) for p in self._where]
        offered = batch.Batch([(dataset_id, kind, ())], files, self._where[0].size)
        fault_points.reached("graph")
        leases.check(claim)
        # After a lost connection it may be there already.
        done = self._datasets.ingest(run, offered, graphs=frozenset({dataset_id}))
        if done.conflicts:
            raise errors.AggregatorError(
                f"{self._request.repository.path}: {done.conflicts[0]}. Run the same command again."
            )
        fault_points.reached("graph-ingested")

    def is_recorded(self) -> bool:
        """Return whether the database knows the graph, where it is."""
        graphs = ingested_graphs.places(self._request.repository, self._request.registry)
        recorded = [place.recorded for place in graphs.get(self._request.run, ())]
        return recorded == [place.recorded for place in self._where]

    def expect(self, some: Sequence[backed_datasets.Backed]) -> None:
        """Note datasets that the database has to have in the end."""
        self._ids.append(addresses.parse_ids([each.dataset_id for each in some]))

    def commit(self, offered: batch.Batch) -> set[str]:
        """Commit a batch; return the ids of datasets whose rows and files stay as they are."""
        ids = [dataset_id for dataset_id, _, _ in offered.datasets]
        resized = self.resized.files
        if self.is_careful:
            self.forget(ids)
            offered = dataclasses.replace(
                offered,
                datasets=[dataset for dataset in offered.datasets if dataset[0] not in resized],
                files=[file for file in offered.files if file[2] not in resized],
            )
        graphs = frozenset({self._request.dataset_id})
        done = self._datasets.ingest(
            self._request.run, offered, graphs=graphs, backed=True, defensive=self.is_careful
        )
        if done.n_skipped and not self.is_careful:
            # Somebody has ingested them in the meantime, maybe with files of their own.
            self.is_careful = True
            self._summary.n_ingested += done.n_ingested
            self._summary.n_present -= done.n_ingested
            return self.commit(offered)
        self._summary.n_ingested += done.n_ingested
        self._summary.n_present += done.n_skipped
        self._summary.n_conflicts += len(done.conflicts)
        self._summary.conflicts += map(str, done.conflicts[: 10 - len(self._summary.conflicts)])
        self._refused.update(conflict.dataset_id for conflict in done.conflicts)
        return self._refused.union(resized).intersection(ids)

    def present(self, ids: set[str]) -> set[str]:
        """Return those of the datasets of a batch that the database has, backed by the graph."""
        if not self.is_careful:
            # They were brought by one transaction: all are there, or none.
            one = set(itertools.islice(ids, 1))
            if self._present(one) == one:
                return ids
        return self._present(ids)

    def missing(
        self, batches: Iterator[list[backed_datasets.Backed]]
    ) -> Iterator[list[backed_datasets.Backed]]:
        """Yield datasets that the database should have, backed by the graph, and has not.

        Parameters
        ----------
        batches
            All datasets; they are not gone through if nothing is missing.
        """
        run = self._request.run
        backed = [self._datasets.backed_ids(run, p.store.records_table, p.recorded) for p in self._where]

        def are_there(ids: addresses.Ids) -> npt.NDArray[np.bool_]:
            # One of several datastores may not take all.
            is_there: npt.NDArray[np.bool_] = np.any([addresses.are_in(ids, each) for each in backed], axis=0)
            return is_there

        left_alone = self._refused | self.resized.files.keys()
        ids = np.concatenate(self._ids)
        if left_alone.issuperset(addresses.hex_digits(ids[~are_there(ids)])):
            return
        for some in batches:
            there = are_there(addresses.parse_ids([each.dataset_id for each in some]))
            missing = [each for each, is_there in zip(some, there.tolist(), strict=True) if not is_there]
            if missing := [each for each in missing if each.dataset_id not in left_alone]:
                yield missing

    def _present(self, ids: set[str]) -> set[str]:
        present: set[str] = set()
        for place in self._where:
            if left := ids - present:
                present |= self._datasets.some_backed_ids(left, place.store.records_table, place.recorded)
        return present
