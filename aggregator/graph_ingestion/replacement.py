"""The steps of an ingestion: a graph takes the place of files (aggregate-and-ingest.md section 6)."""

import contextlib
import dataclasses
import itertools
import logging
import os
from collections.abc import Iterator

from aggregator.butler.registry import (
    dataset_ids,
    ingested_graphs,
    insertion,
    recorded_graphs,
)
from aggregator.console import interruption, progress
from aggregator.graph_ingestion import (
    backed_rows,
    contents,
    graph_datasets,
    ingestion_request,
    ingestion_summary,
    originals,
    placement,
    places,
    pointers,
)
from aggregator.schemas import datastore_records
from aggregator.schemas.graphs import backed_datasets, provenance_graph
from aggregator.storage import errors, fault_points, leases, local_files, opening
from aggregator.workers.engines import memory

_log = logging.getLogger(__name__)


class Replacement:
    """Everything between the checks and the summary.

    Parameters
    ----------
    request
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
        request: ingestion_request.Request,
        stopping: interruption.Interruption,
        batch_size: int,
        verify: bool,
    ) -> None:
        self._request = request
        self._registry = request.registry
        self._stopping = stopping
        self._batch_size = batch_size
        self._verify = verify
        self.summary = ingestion_summary.IngestionSummary(
            request.run, places.shown(request.where), request.repository.path
        )
        """What was done so far."""

    def translator(
        self, graph: provenance_graph.ProvenanceGraph, where: ingested_graphs.Places
    ) -> graph_datasets.DatasetRows:
        """Return what knows the rows of the graph's datasets; refuses what can't be done."""
        run = self._request.run
        if graph.header.output_run != run:
            raise errors.RefusedError(
                f"{graph.path}: is the graph of run {graph.header.output_run!r}, not of {run!r}."
            )
        names = backed_datasets.BackedDatasets(graph, self._verify).dataset_types()
        return graph_datasets.DatasetRows(self._request.repository, self._registry, graph, names, where)

    def run(self, report: progress.Progress, transfer: str | None, claim: leases.Claim | None) -> None:
        """Do it all, as long as the lease is held, if there has to be one."""
        self._report, self._claim = report, claim
        where = self._place()
        self._rows = backed_rows.BackedRows(self._request, self.summary, where)
        with contextlib.ExitStack() as stack:
            self._examined = []
            for place in where:
                # Each of them is going to be all that is left.
                graph = stack.enter_context(provenance_graph.ProvenanceGraph(place.file))
                translator, backed = self._examine(graph, where)
                self._examined.append(graph.file.tag)
            # Before anything is forgotten or deleted that executions would miss.
            pointers.write(self._request, where)
            if not self._request.is_ingested:
                self._forget(backed)
                self._rows.record_graph(self._claim)
            roots = [store.files for store in self._request.repository.datastores]
            held, since = contents.Contents(graph), graph.read_since
            files = stack.enter_context(originals.Originals(self._request.run, roots, where, held, since))
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
        request = self._request
        self._report.phase("placing")
        where = []
        for place in request.where:
            if request.mode is not None and request.given is not None:
                # Only the last datastore of a chain can have the file itself.
                mode = "copy" if request.mode == "move" and place is not request.where[-1] else request.mode
                placement.put(request.given, place, mode, self._tick, request.protection)
            placement.make_durable(place)
            size = originals.written(place).size
            if request.is_ingested and place.size not in (datastore_records.UNKNOWN_SIZE, size):
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
            self._rows.forget([each.dataset_id for each in some])
            fault_points.reached("forgotten")
            self._tick()

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
            self._rows.expect(some)
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
            backable = (each for each in some if each.dataset_id not in self._rows.resized.files)
            offered, paths = translator.translate(backable)
            try:
                refused = self._rows.commit(offered)
                break
            except (insertion.UnregisteredError, recorded_graphs.UnrecordedGraphError):
                if last:
                    raise
                self._record_again(translator, where)
        fault_points.reached("committed")
        ids = {dataset_id for dataset_id, _, _ in offered.datasets} - refused
        # A server that has taken the place of another one may never have seen the commit.
        present = self._rows.present(ids)
        if len(present) < len(offered.datasets):
            _, paths = translator.translate(each for each in some if each.dataset_id in present)
        self._check_unchanged(where)
        files.delete(paths)
        self._tick()

    def _complete(
        self,
        translator: graph_datasets.DatasetRows,
        backed: backed_datasets.BackedDatasets,
        files: originals.Originals,
        where: ingested_graphs.Places,
    ) -> None:
        """Look whether everything is there, and commit again what is not."""

        def offer_missing() -> int:
            if not self._rows.is_recorded():
                self._record_again(translator, where)
            n_missing = 0
            for missing in self._rows.missing(self._batches(backed)):
                n_missing += len(missing)
                self._rows.is_careful = True
                self._back_some(translator, missing, files, where)
            files.wait()
            return n_missing

        dataset_ids.complete(offer_missing, self._request.repository.path, self._request.run, _log.warning)

    def _record_again(self, translator: graph_datasets.DatasetRows, where: ingested_graphs.Places) -> None:
        """Record the graph again, which a server that has taken over does not know."""
        _log.warning("%s: the graph was not recorded any more, and is recorded again", places.shown(where))
        self._rows.record_graph(self._claim)
        translator.find_types()
        # Datasets may be backed by files of their own again.
        self._rows.is_careful = True

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
        resized = self._rows.resized.files.values()
        done.n_changed = files.n_changed + len(resized)
        done.changed = [*files.changed, *list(resized)[:10]]

    def _finish_move(self, place: ingested_graphs.Place, transfer: str | None) -> None:
        """Remove the graph from where it was, if it was to be moved."""
        moved = placement.origin(place)
        given = self._request.given
        if moved is None and transfer == "move" and given is not None and opening.is_there(given):
            moved = given
        if moved is not None and placement.finish_move(moved, place.file):
            _log.info("%s: is now %s", moved, place.file)
