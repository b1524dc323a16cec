"""The ingester: brings accepted outputs into the database (aggregate-and-ingest.md section 3)."""

import numpy as np
import numpy.typing as npt

from butler import batch, config, dataset_types, registry, universe
from schemas import addresses, checkpoint, digest, messages, predicted, verdicts
from workers import catalog

_PROMISED = (digest.LOG, digest.METADATA, digest.CONFIG)
"""Roles that a later ingestion of the graph brings in."""


class Ingester:
    """Ingests digests.

    Parameters
    ----------
    setup
        Where everything is.
    """

    def __init__(self, setup: messages.Setup) -> None:
        self._setup = setup
        self._layout = checkpoint.Layout(setup.checkpoint)
        with predicted.PredictedGraph(setup.graph_path) as graph:
            self._header = graph.header
            self._pipeline = graph.pipeline
        repository = config.load(setup.butler_path)
        self._stores = [(s.records_table, s.name) for s in repository.datastores]
        self._registry = registry.open_registry(
            repository.database, repository.namespace, writeable=not setup.dry_run
        )
        self._universe = universe.Universe.from_config(self._pipeline.universe)
        self._types: dict[int, tuple[dataset_types.DatasetTypeRow, list[int]]] = {}
        self._defensive = setup.defensive_ingest
        self._datasets: list[batch.Dataset] = []
        self._files: list[batch.File] = []
        self._shards: list[int] = []
        self._n_datasets = 0
        if not setup.dry_run:
            try:
                self._prepare()
            except BaseException:
                self._registry.close()
                raise

    def handle(self, request: messages.Request) -> messages.Reply:
        """Answer a request."""
        match request:
            case messages.CommitShard():
                return self.take(request)
            case messages.Flush():
                return self._ingest()
        raise TypeError(f"not for the ingester: {request!r}")

    def close(self) -> None:
        """Close the database."""
        self._registry.close()

    def _prepare(self) -> None:
        """Register dataset types and collections; all of it can be repeated."""
        if self._setup.register_dataset_types:
            for kind in self._pipeline.dataset_types:
                if kind.is_produced:
                    self._registry.register_dataset_type(
                        kind.name, kind.storage_class, kind.dimensions, is_calibration=kind.is_calibration
                    )
        self._registry.register_run(self._header.output_run)
        if self._setup.update_output_chain and self._header.output is not None:
            self._registry.update_output_chain(
                self._header.output, self._header.output_run, self._header.inputs
            )

    def take(self, request: messages.CommitShard) -> messages.Ingested:
        """Add a shard's datasets; write a batch if there are enough."""
        self._shards.append(request.shard)
        with digest.Digest(self._layout.digest(request.shard), self._setup.identity) as opened:
            self._gather(opened, np.frombuffer(request.verdicts, dtype="i1"))
        if self._n_datasets > self._setup.ingest_batch_size:
            return self._ingest()
        return messages.Ingested([], 0, 0, [])

    def _gather(self, opened: digest.Digest, verdict: npt.NDArray[np.int8]) -> None:
        """Add the produced datasets of accepted quanta."""
        flags = opened.column("dataset.flags")
        keep = (flags & digest.PRODUCED).astype(bool)
        keep &= verdict[opened.column("dataset.quantum")] == verdicts.ACCEPTED
        if self._setup.promise_ingest_graph:
            keep &= ~np.isin(flags >> digest.ROLE_SHIFT, _PROMISED)
        rows = np.flatnonzero(keep)
        self._n_datasets += len(rows)
        if self._setup.dry_run or not len(rows):
            return
        ids = addresses.hex_digits(opened.column("dataset.id")[rows])
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
        datasets, files, shards, n_datasets = self._datasets, self._files, self._shards, self._n_datasets
        self._datasets, self._files, self._shards, self._n_datasets = [], [], [], 0
        if self._setup.dry_run:
            return messages.Ingested(shards, n_datasets, 0, [])
        result = self._registry.ingest(
            self._header.output_run, batch.Batch(datasets, files), defensive=self._defensive
        )
        # What was there once will be there again: no use in trying without looking.
        self._defensive = self._defensive or result.n_skipped > 0
        conflicts = [messages.Conflict(str(c)) for c in result.conflicts]
        return messages.Ingested(shards, result.n_ingested, result.n_skipped, conflicts)
