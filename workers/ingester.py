"""The ingester: brings accepted outputs into the database (aggregate-and-ingest.md section 3)."""

import contextlib
import logging

import msgspec
import numpy as np
import numpy.typing as npt

from butler import batch, config, dataset_types, recorded_graphs, registry, universe
from schemas import addresses, checkpoint, digest, errors, fault_points, ledger, messages, predicted, verdicts
from workers import catalog, closed_quanta, foreign_graphs, log_levels


class Ingester:
    """Ingests digests.

    Parameters
    ----------
    setup
        Where everything is.
    log
        Log of this worker.
    """

    def __init__(self, setup: messages.Setup, log: logging.Logger) -> None:
        self._setup = setup
        self._log = log
        self._layout = checkpoint.Layout(setup.checkpoint)
        with predicted.PredictedGraph(setup.graph_path) as graph:
            self._header = graph.header
            self._pipeline = graph.pipeline
        repository = config.load(setup.butler_path)
        self._place = ledger.place(repository.database, repository.namespace)
        self._stores = [(s.records_table, s.name) for s in repository.datastores]
        self._registry = registry.open_registry(
            repository.database, repository.namespace, writeable=not setup.dry_run, warn=log.warning
        )
        self._closed = closed_quanta.ClosedQuanta(
            setup.graph_path, self._header.output_run, repository, self._registry
        )
        self._universe = universe.Universe.from_config(self._pipeline.universe)
        self._types: dict[int, tuple[dataset_types.DatasetTypeRow, list[int]]] = {}
        self._defensive = setup.defensive_ingest
        self._datasets: list[batch.Dataset] = []
        self._files: list[batch.File] = []
        self._lines: list[ledger.Line] = []
        self._left_out: list[addresses.Ids] = []
        self._n_datasets = self._n_known = self._n_offered = 0
        self._known: dict[int, ledger.Line] = {}
        try:
            self._check_run(repository.path)
            if not setup.dry_run:
                foreign_graphs.refuse(
                    setup.graph_path, self._header.output_run, repository.path, self._registry
                )
        except BaseException:
            self._registry.close()
            raise

    def _read_ledger(self) -> dict[int, ledger.Line]:
        """Return what the ledger says, unless the database says that it can't be so."""
        run = self._header.output_run
        lines = ledger.read(self._layout.ledger, self._place, run)
        expected = sum(line.n_datasets for line in lines.values())
        found = self._registry.count_run_datasets(run)
        if found < expected:
            self._log.warning(
                "the run holds %d datasets, fewer than the %d of the ledger: all are offered again",
                found,
                expected,
            )
            return {}
        return lines

    def handle(self, request: messages.Request) -> messages.Reply:
        """Answer a request."""
        match request:
            case messages.Begin():
                if not self._setup.dry_run:
                    self._prepare()
                return messages.Ready()
            case messages.CommitShard():
                return self.take(request)
            case messages.Flush():
                return self.flush()
            case messages.Confirm():
                return self.confirm()
        raise TypeError(f"not for the ingester: {request!r}")

    def close(self) -> None:
        """Close the database."""
        self._registry.close()

    def _check_run(self, repository: str) -> None:
        """Refuse quanta that are closed."""
        if path := self._closed.find():
            raise errors.RefusedError(
                f"{repository}: run {self._header.output_run!r} holds its provenance graph already ({path}). "
                "Logs and metadata of these quanta are in there, not in files of their own; aggregation "
                "would take them for missing."
            )

    def confirm(self) -> messages.Ready:
        """Make sure that what was found out is still true.

        Raises
        ------
        AggregatorError
            If it is not.
        """
        if path := self._closed.find():
            raise errors.AggregatorError(
                f"{path}: another process has ingested this provenance graph of run "
                f"{self._header.output_run!r} while its quanta were aggregated here. That may have deleted "
                "files before they were looked at, so no graph is written; datasets that were committed by "
                "then stay. Nothing is left to be done if that graph is complete."
            )
        return messages.Ready()

    def _prepare(self) -> None:
        """Register dataset types and collections; all of it can be repeated."""
        with contextlib.ExitStack() as begun:
            if self._setup.register_dataset_types:
                self._registry.register_dataset_types(
                    [
                        self._registry.definition(t.name, t.storage_class, t.dimensions, t.is_calibration)
                        for t in self._pipeline.dataset_types
                        if t.is_produced
                    ]
                )
                begun.enter_context(errors.after_changes())
            self._registry.register_run(self._header.output_run)
            begun.enter_context(errors.after_changes())
            self._known = self._read_ledger()
            if self._setup.update_output_chain and self._header.output is not None:
                self._registry.update_output_chain(
                    self._header.output, self._header.output_run, self._header.inputs
                )

    def take(self, request: messages.CommitShard) -> messages.Ingested:
        """Add a shard's datasets; write a batch if there are enough."""
        shard = request.shard
        with digest.Digest(self._layout.digest(shard), self._setup.identity, shard) as opened:
            self._gather(opened, np.frombuffer(request.verdicts, dtype="i1"))
        if self._n_datasets > self._setup.ingest_batch_size:
            return self._ingest()
        return messages.Ingested([], 0, 0, [])

    def _gather(self, opened: digest.Digest, verdict: npt.NDArray[np.int8]) -> None:
        """Add the produced datasets of accepted quanta, unless the ledger says that they are there."""
        flags = opened.column("dataset.flags")
        keep = (flags & digest.PRODUCED).astype(bool)
        keep &= verdict[opened.column("dataset.quantum")] == verdicts.ACCEPTED
        ids = opened.column("dataset.id")
        self._left_out.append(ids[~keep])
        if self._setup.promise_ingest_graph:
            # All others are for a later ingestion of the graph.
            keep &= flags >> digest.ROLE_SHIFT == digest.REGULAR
        rows = np.flatnonzero(keep)
        line = ledger.Line(
            repository=self._place,
            run=self._header.output_run,
            shard=opened.shard,
            digest=opened.checksum,
            offered=ledger.hash_ids(ids[rows]),
            n_datasets=len(rows),
        )
        self._n_offered += len(rows)
        self._lines.append(line)
        if self._known.get(opened.shard) == line:
            self._n_known += len(rows)
            return
        self._n_datasets += len(rows)
        if not self._setup.dry_run and len(rows):
            self._gather_datasets(opened, rows, addresses.hex_digits(ids[rows]))

    def _gather_datasets(self, opened: digest.Digest, rows: npt.NDArray[np.intp], ids: list[str]) -> None:
        kinds = opened.column("dataset.type")[rows].tolist()
        coordinates = opened.column("dataset.coordinate")[rows].tolist()
        values = [catalog.decode_values(text) for text in opened.values("coordinates")]
        types = {kind: self._type(kind) for kind in set(kinds)}
        for dataset_id, kind, coordinate in zip(ids, kinds, coordinates, strict=True):
            row, required = types[kind]
            full = values[coordinate]
            self._datasets.append((dataset_id, row, tuple([full[at] for at in required])))
        self._gather_files(opened, dict(zip(rows.tolist(), ids, strict=True)))

    def _gather_files(self, opened: digest.Digest, ids: dict[int, str]) -> None:
        kinds = [
            (*self._stores[store], formatter, storage_class, component)
            for store, formatter, storage_class, component in opened.values("file.kinds")
        ]
        owners = opened.column("file.dataset").tolist()
        which = opened.column("file.kind").tolist()
        for owner, kind, path in zip(owners, which, opened.values("file.paths"), strict=True):
            dataset_id = ids.get(owner)
            if dataset_id is not None:
                table, store, formatter, storage_class, component = kinds[kind]
                self._files.append((table, store, dataset_id, path, formatter, storage_class, component))

    def _type(self, index: int) -> tuple[dataset_types.DatasetTypeRow, list[int]]:
        """Return a registered dataset type, and where its required values stand in the graph's data IDs."""
        if index not in self._types:
            kind = self._pipeline.dataset_types[index]
            row = self._registry.dataset_types([kind.name])[kind.name]
            keys = self._universe.group(kind.dimensions).keys
            self._types[index] = row, [keys.index(name) for name in row.required]
        return self._types[index]

    def _ingest(self) -> messages.Ingested:
        """Write what was gathered in one transaction."""
        datasets, files, lines = self._datasets, self._files, self._lines
        n_datasets, n_known = self._n_datasets, self._n_known
        self._datasets, self._files, self._lines, self._n_datasets, self._n_known = [], [], [], 0, 0
        if self._setup.dry_run:
            return messages.Ingested(lines, n_datasets, n_known, [])
        result = self._write(batch.Batch(datasets, files))
        fault_points.reached("committed")
        # What was there once will be there again: no use in trying without looking.
        self._defensive = self._defensive or result.n_skipped > 0
        conflicts = [messages.Conflict(str(c)) for c in result.conflicts]
        self._log.log(
            log_levels.VERBOSE,
            "ingested %d datasets, %d were there already",
            result.n_ingested,
            result.n_skipped,
        )
        # With conflicts, all of the batch is offered again by the next run.
        return messages.Ingested(
            [] if conflicts else lines, result.n_ingested, result.n_skipped + n_known, conflicts
        )

    def _write(self, offered: batch.Batch) -> batch.IngestResult:
        """Commit a batch, unless its quanta are closed by then."""
        run = self._header.output_run
        while True:
            graphs = self._closed.others
            try:
                return self._registry.ingest(run, offered, graphs=graphs, defensive=self._defensive)
            except recorded_graphs.UnknownGraphError:
                self.confirm()

    def flush(self) -> messages.Ingested:
        """Write what is left, and look for what is in the database against the present judgement."""
        done = self._ingest()
        if self._setup.dry_run or self._setup.incomplete:
            return done
        if self._registry.count_run_datasets(self._header.output_run) <= self._n_offered:
            return done
        left_out = set(addresses.hex_digits(np.concatenate(self._left_out)))
        stale = self._registry.existing_ids(self._header.output_run, left_out)
        return msgspec.structs.replace(done, n_stale=len(stale), stale=stale[:10])
