"""The steps of an ingestion: a graph takes the place of files (aggregate-and-ingest.md section 6)."""

import contextlib
import dataclasses
import itertools
import logging
import os
from collections.abc import Iterator, Sequence

import numpy as np

from aggregator.butler.registry import (
    batch,
    dataset_ids,
    graph_places,
    ingested_graphs,
    insertion,
    recorded_graphs,
    run_provenance,
)
from aggregator.console import interruption, progress
from aggregator.graph_ingestion import (
    contents,
    graph_datasets,
    ingestion_request,
    ingestion_summary,
    originals,
    placement,
    places,
)
from aggregator.schemas import datastore_records
from aggregator.schemas.graphs import addresses, backed_datasets, provenance_graph
from aggregator.storage import errors, fault_points, leases, local_files, opening, stores
from aggregator.workers.engines import memory

_log = logging.getLogger(__name__)


class Replacement:
    """Everything between the checks and the summary.

    Parameters
    ----------
    asked
        The request.
    stopping
        Tells whether to stop.
    batch_size
        Datasets in a transaction.
    verify
        Whether to read every block.
    """

    def __init__(
        self,
        asked: ingestion_request.Request,
        stopping: interruption.Interruption,
        batch_size: int,
        verify: bool,
    ) -> None:
        self._asked = asked
        self._registry = asked.registry
        self._stopping = stopping
        self._batch_size = batch_size
        self._verify = verify
        self._careful = asked.is_ingested
        self._kept: dict[str, list[str]] = {s.records_table: [] for s in asked.repository.datastores}
        self._stores = {store.records_table: store for store in asked.repository.datastores}
        # Datasets whose files have another size than is recorded, with these files: both are left alone.
        self._resized: dict[str, str] = {}
        # Datasets that the repository contradicts.
        self._refused: set[str] = set()
        # All that were committed.
        self._ids: list[addresses.Ids] = [np.zeros(0, addresses.ID_TYPE)]
        for place in asked.where:
            self._kept[place.store.records_table].append(place.recorded)
        self.summary = ingestion_summary.IngestionSummary(
            asked.run, places.shown(asked.where), asked.repository.path
        )
        """What was done so far."""

    def translator(
        self, graph: provenance_graph.ProvenanceGraph, where: ingested_graphs.Places
    ) -> graph_datasets.DatasetRows:
        """Return what knows the rows of the graph's datasets; refuses what can't be done."""
        if graph.header.output_run != self._asked.run:
            raise errors.RefusedError(
                f"{graph.path}: is the graph of run {graph.header.output_run!r}, not of {self._asked.run!r}."
            )
        names = backed_datasets.BackedDatasets(graph, self._verify).dataset_types()
        return graph_datasets.DatasetRows(self._asked.repository, self._registry, graph, names, where)

    def run(self, report: progress.Progress, transfer: str | None, claim: leases.Claim | None) -> None:
        """Do it all, as long as the lease is held, if there has to be one."""
        self._report, self._claim = report, claim
        where = self._place()
        with contextlib.ExitStack() as stack:
            self._examined = []
            for place in where:
                # Each of them is going to be all that is left.
                graph = stack.enter_context(provenance_graph.ProvenanceGraph(place.file))
                translator, backed = self._examine(graph, where)
                self._examined.append(graph.file.tag)
            if not self._asked.is_ingested:
                self._forget(backed)
                self._ingest_graph(where)
            roots = [store.files for store in self._asked.repository.datastores]
            held, since = contents.Contents(graph), graph.read_since
            files = stack.enter_context(originals.Originals(self._asked.run, roots, where, held, since))
            try:
                self._back(translator, backed, files, where)
                self._complete(translator, backed, files, where)
                self._clean(files)
            finally:
                self._count(files)
        if not (self.summary.n_failed or self.summary.n_changed or self.summary.n_conflicts):
            self._finish_move(where[-1], transfer)
        fault_points.reached("complete")

    def _tick(self) -> None:
        self._stopping.check()
        self._report.beat(lambda: f"{memory.resident(os.getpid()) / 1e6:.0f} MB in use")

    def _place(self) -> ingested_graphs.Places:
        """Bring the graph to its place and make it durable; return the place with its size."""
        asked = self._asked
        self._report.phase("placing")
        where = []
        for place in asked.where:
            if asked.mode is not None and asked.given is not None:
                # Only the last datastore of a chain can have the file itself.
                mode = "copy" if asked.mode == "move" and place is not asked.where[-1] else asked.mode
                placement.put(asked.given, place, mode, self._tick, asked.protection)
            placement.make_durable(place)
            size = originals.written(place).size
            if asked.is_ingested and place.size not in (datastore_records.UNKNOWN_SIZE, size):
                raise errors.FormatError(
                    place.file,
                    "",
                    f"has {size} bytes, {place.size} were ingested; put back what was there",
                )
            where.append(dataclasses.replace(place, size=size))
        fault_points.reached("placed")
        return tuple(where)

    def _examine(
        self, graph: provenance_graph.ProvenanceGraph, where: ingested_graphs.Places
    ) -> tuple[graph_datasets.DatasetRows, backed_datasets.BackedDatasets]:
        """Find out what the graph holds."""
        self._report.phase("examining")
        translator = self.translator(graph, where)
        backed = backed_datasets.BackedDatasets(graph, self._verify)
        for quanta in backed.examine():
            translator.note(quanta)
            self._report.advance("examined", 2 * len(quanta))
            self._tick()
        translator.read_records()
        fault_points.reached("examined")
        return translator, backed

    def _batches(
        self, backed: backed_datasets.BackedDatasets, counted: str | None = None
    ) -> Iterator[list[backed_datasets.Backed]]:
        """Yield all datasets in batches, and count them, if that is wanted."""
        pending: list[backed_datasets.Backed] = []
        for some in itertools.chain(backed.regular(), [backed.configs()]):
            pending += some
            while len(pending) >= self._batch_size:
                yield pending[: self._batch_size]
                if counted is not None:
                    self._report.advance(counted, self._batch_size)
                del pending[: self._batch_size]
        if pending:
            yield pending
            if counted is not None:
                self._report.advance(counted, len(pending))

    def _forget(self, backed: backed_datasets.BackedDatasets) -> None:
        """Take datasets that are backed by files of their own out of the database."""
        self._report.phase("forgetting")
        for some in self._batches(backed, "forgotten"):
            ids = [each.dataset_id for each in some]
            self.summary.n_forgotten += self._registry.datasets.forget(
                self._asked.run, ids, self._kept, self._resized_among
            )
            fault_points.reached("forgotten")
            self._tick()

    def _ingest_graph(self, where: ingested_graphs.Places) -> None:
        """Record the graph itself."""
        run, dataset_id = self._asked.run, self._asked.dataset_id
        storage_class = graph_places.STORAGE_CLASS
        kind = self._registry.dataset_types.register(run_provenance.DATASET_TYPE, storage_class, ())
        rest = graph_places.FORMATTER, storage_class, None
        files = [(p.store.records_table, p.store.name, dataset_id, p.recorded, *rest) for p in where]
        fault_points.reached("graph")
        leases.check(self._claim)
        offered = batch.Batch([(dataset_id, kind, ())], files, where[0].size)
        # After a lost connection it may be there already.
        done = self._registry.datasets.ingest(run, offered, graphs=frozenset({dataset_id}))
        if done.conflicts:
            raise errors.AggregatorError(
                f"{self._asked.repository.path}: {done.conflicts[0]}. Run the same command again."
            )
        fault_points.reached("graph-ingested")

    def _back(
        self,
        translator: graph_datasets.DatasetRows,
        backed: backed_datasets.BackedDatasets,
        files: originals.Originals,
        where: ingested_graphs.Places,
    ) -> None:
        """Let the graph back the datasets, and delete their own files, batch by batch."""
        self._report.phase("ingesting")
        for some in self._batches(backed, "ingested"):
            self._ids.append(addresses.parse_ids([each.dataset_id for each in some]))
            self._back_some(translator, some, files, where)
        files.wait()

    def _back_some(
        self,
        translator: graph_datasets.DatasetRows,
        some: list[backed_datasets.Backed],
        files: originals.Originals,
        where: ingested_graphs.Places,
    ) -> None:
        """Commit a batch, and begin to delete the files of those of its datasets that are there then."""
        for last in (*[False] * (dataset_ids.LOOKS - 1), True):
            backable = (each for each in some if each.dataset_id not in self._resized)
            offered, paths = translator.translate(backable)
            try:
                refused = self._ingest(offered)
                break
            except (insertion.UnregisteredError, recorded_graphs.UnrecordedGraphError):
                if last:
                    raise
                self._record_again(translator, where)
        fault_points.reached("committed")
        ids = {dataset_id for dataset_id, _, _ in offered.datasets} - refused
        # A server that has taken the place of another one may never have seen the commit.
        present = self._look_for(ids, where)
        if len(present) < len(offered.datasets):
            _, paths = translator.translate(each for each in some if each.dataset_id in present)
        self._check_unchanged(where)
        files.delete(paths)
        self._tick()

    def _look_for(self, ids: set[str], where: ingested_graphs.Places) -> set[str]:
        """Return those of the datasets of a batch that the database has, backed by the graph."""
        if not self._careful:
            # They were brought by one transaction: all are there, or none.
            one = set(itertools.islice(ids, 1))
            if self._present(one, where) == one:
                return ids
        return self._present(ids, where)

    def _present(self, ids: set[str], where: ingested_graphs.Places) -> set[str]:
        """Return those of some datasets that the database has, backed by the graph."""
        present: set[str] = set()
        for place in where:
            if left := ids - present:
                present |= self._registry.datasets.some_backed_ids(
                    left, place.store.records_table, place.recorded
                )
        return present

    def _complete(
        self,
        translator: graph_datasets.DatasetRows,
        backed: backed_datasets.BackedDatasets,
        files: originals.Originals,
        where: ingested_graphs.Places,
    ) -> None:
        """Look whether everything is there, and commit again what is not."""

        def offer_missing() -> int:
            if not self._is_recorded(where):
                self._record_again(translator, where)
            n_missing = 0
            for missing in self._missing(backed, where):
                n_missing += len(missing)
                self._careful = True
                self._back_some(translator, missing, files, where)
            files.wait()
            return n_missing

        dataset_ids.complete(offer_missing, self._asked.repository.path, self._asked.run, _log.warning)

    def _record_again(self, translator: graph_datasets.DatasetRows, where: ingested_graphs.Places) -> None:
        """Record the graph again, which a server that has taken over does not know."""
        _log.warning("%s: the graph was not recorded any more, and is recorded again", places.shown(where))
        self._ingest_graph(where)
        translator.find_types()
        # Datasets may be backed by files of their own again.
        self._careful = True

    def _is_recorded(self, where: ingested_graphs.Places) -> bool:
        recorded = ingested_graphs.places(self._asked.repository, self._registry).get(self._asked.run, ())
        return [place.recorded for place in recorded] == [place.recorded for place in where]

    def _missing(
        self, backed: backed_datasets.BackedDatasets, where: ingested_graphs.Places
    ) -> Iterator[list[backed_datasets.Backed]]:
        """Yield datasets that the database should have, backed by the graph, and has not."""
        present = np.unique(
            np.concatenate(
                [
                    self._registry.datasets.backed_ids(
                        self._asked.run, place.store.records_table, place.recorded
                    )
                    for place in where
                ]
            )
        )
        left_alone = self._refused | self._resized.keys()
        ids = np.concatenate(self._ids)
        if left_alone.issuperset(addresses.hex_digits(ids[~dataset_ids.are_in(ids, present)])):
            return
        for some in self._batches(backed):
            there = dataset_ids.are_in(addresses.parse_ids([each.dataset_id for each in some]), present)
            missing = [each for each, is_there in zip(some, there.tolist(), strict=True) if not is_there]
            if missing := [each for each in missing if each.dataset_id not in left_alone]:
                yield missing

    def _ingest(self, offered: batch.Batch) -> set[str]:
        """Commit a batch; return the ids of datasets whose rows and files stay as they are."""
        ids = [dataset_id for dataset_id, _, _ in offered.datasets]
        if self._careful:
            self.summary.n_forgotten += self._registry.datasets.forget(
                self._asked.run, ids, self._kept, self._resized_among
            )
            offered = dataclasses.replace(
                offered,
                datasets=[dataset for dataset in offered.datasets if dataset[0] not in self._resized],
                files=[file for file in offered.files if file[2] not in self._resized],
            )
        graphs = frozenset({self._asked.dataset_id})
        done = self._registry.datasets.ingest(
            self._asked.run, offered, graphs=graphs, backed=True, defensive=self._careful
        )
        if done.n_skipped and not self._careful:
            # Somebody has ingested them in the meantime, maybe with files of their own.
            self._careful = True
            self.summary.n_ingested += done.n_ingested
            self.summary.n_present -= done.n_ingested
            return self._ingest(offered)
        self.summary.n_ingested += done.n_ingested
        self.summary.n_present += done.n_skipped
        self.summary.n_conflicts += len(done.conflicts)
        self.summary.conflicts += map(str, done.conflicts[: 10 - len(self.summary.conflicts)])
        self._refused.update(conflict.dataset_id for conflict in done.conflicts)
        return self._refused.union(self._resized).intersection(ids)

    def _resized_among(self, records_table: str, files: Sequence[tuple[str, str, int]]) -> set[str]:
        """Return the datasets whose files have another size than is recorded; they are left alone."""
        resized = set()
        by_store: dict[str, list[tuple[str, str, int]]] = {}
        for dataset_id, path, size in files:
            store, key = ingested_graphs.Place(self._stores[records_table], path).address
            by_store.setdefault(store.root, []).append((dataset_id, key, size))
        for root, some in by_store.items():
            store = opening.open_store(root)
            for (dataset_id, key, size), look in zip(
                some, store.marks([key for _, key, _ in some]), strict=True
            ):
                # A link that leads nowhere has nothing to lose.
                if isinstance(look, stores.Mark) and look.size != size:
                    self._resized[dataset_id] = store.location(key)
                    resized.add(dataset_id)
        return resized

    def _check_unchanged(self, where: ingested_graphs.Places) -> None:
        """Raise an error if the graph is not the one that was examined any more, or another process's."""
        leases.check(self._claim)
        for place, tag in zip(where, self._examined, strict=True):
            try:
                mark = place.mark()
            except local_files.UnusableError:
                mark = None
            if mark is None or mark.tag != tag:
                raise errors.AggregatorError(
                    f"{place.file}: was changed by somebody else. No more files are deleted; put back the "
                    "graph that was ingested, and run the same command again."
                )

    def _clean(self, files: originals.Originals) -> None:
        """Remove directories."""
        self._report.phase("cleaning")
        self.summary.n_directories, self.summary.left = files.remove_directories(self._tick)
        fault_points.reached("cleaned")

    def _count(self, files: originals.Originals) -> None:
        """Note what became of the original files."""
        files.wait()
        done = self.summary
        done.n_deleted, done.n_missing = files.n_deleted, files.n_missing
        done.n_failed, done.failures = files.n_failed, files.failures
        done.n_changed = files.n_changed + len(self._resized)
        done.changed = [*files.changed, *list(self._resized.values())[:10]]

    def _finish_move(self, place: ingested_graphs.Place, transfer: str | None) -> None:
        """Remove the graph from where it was, if it was to be moved."""
        moved = placement.origin(place)
        given = self._asked.given
        if moved is None and transfer == "move" and given is not None and opening.is_there(given):
            moved = given
        if moved is not None and placement.finish_move(moved, place.file):
            _log.info("%s: is now %s", moved, place.file)
