"""The scanner: turns shards of quanta into digests, a pure function of graph and files."""

import collections
import itertools
import logging
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
from aggregator.butler.configuration import repository_config
from aggregator.butler.datastores import catalog, datastore
from aggregator.butler.dimensions import records, universe
from aggregator.schemas import messages
from aggregator.schemas.checkpoints import checkpoint, digest
from aggregator.schemas.graphs import addresses, blocks, pipeline, predicted
from aggregator.storage import errors, fault_points, locks
from aggregator.workers.roles.scanning import execution_files, outcome, previous_digest, shard_builder
from aggregator.workers.roles.writing import input_datasets, output_datasets

_ROLES = {
    pipeline.LOG_CONNECTION: digest.LOG,
    pipeline.METADATA_CONNECTION: digest.METADATA,
    pipeline.CONFIG_CONNECTION: digest.CONFIG,
}

LOGIC_VERSION = 2
"""To be raised whenever the same files give another digest than before, whatever the reason: what an earlier
version has found out is then not used any more."""

_Flags = npt.NDArray[np.bool_]


def open_catalog(
    graph: predicted.PredictedGraph, butler_path: str, mock_storage_classes: bool, table: records.RecordTable
) -> catalog.Catalog:
    """Return the dataset types of a graph, as a repository stores them."""
    graph_universe = universe.Universe.from_config(graph.pipeline.universe)
    store = datastore.Datastore(
        repository_config.load(butler_path), graph_universe, mock_storage_classes=mock_storage_classes
    )
    store.set_records(table)
    return catalog.Catalog(graph.pipeline, graph_universe, store)


class Scanner:
    """Scans shards.

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
        self.graph = predicted.PredictedGraph(setup.graph_path)
        self.layout = checkpoint.Layout(setup.checkpoint)
        table = records.RecordTable.unpack(self.layout.read_records())
        self.catalog = open_catalog(self.graph, setup.butler_path, setup.mock_storage_classes, table)
        self.codec = blocks.Codec(self.layout.read_dictionary(), setup.zstd_level)
        self._files = execution_files.ExecutionFiles(self.catalog)
        self._tasks = {task.label: i for i, task in enumerate(self.graph.pipeline.tasks)}
        self._values: dict[bytes, catalog.Values] = {}
        graph_parts = (self.graph, self.layout, setup.identity, self.codec)
        self._outputs = output_datasets.OutputDatasets(*graph_parts)
        self._inputs = input_datasets.InputDatasets(*graph_parts)

    def handle(self, request: messages.Request) -> messages.Reply:
        """Answer a request."""
        if not isinstance(request, messages.FindFile):
            locks.check(self._setup.ownership)
        match request:
            case messages.ScanShard():
                return self.scan(request)
            case messages.FindFile():
                return self.find(request.request)
            case messages.BuildOutputs():
                return self._outputs.build(request)
            case messages.BuildInputs():
                return self._inputs.build(request)
        raise TypeError(f"not for a scanner: {request!r}")

    def close(self) -> None:
        """Close the graph, and end threads."""
        self._files.close()
        self.graph.close()

    def scan(self, request: messages.ScanShard) -> messages.ShardScanned:
        """Write the digest of a shard; what an earlier digest tells of is only looked at again."""
        fault_points.reached("shard")
        path = self.layout.digest(request.shard)
        with previous_digest.open_previous(
            path, self._setup.identity, request.shard, request.ids, self._setup.verify_checkpoint
        ) as (earlier, discarded):
            keep = np.zeros(0, dtype=bool) if earlier is None else earlier.unchanged(self._files)
            if earlier is not None and keep.all() and not earlier.is_from_elsewhere:
                return earlier.report(request.shard)
            with self._build(request, earlier, keep) as builder:
                head, sections = builder.encode(self._setup.identity, request.shard)
                locks.check(self._setup.ownership)
                checksum = digest.write(path, head, sections)
        fault_points.reached("digest")
        return messages.ShardScanned(
            shard=request.shard,
            checksum=checksum,
            statuses=builder.statuses(),
            tasks=builder.tasks(),
            problems=builder.problems,
            n_reused=int(keep.sum()) if request.shard else 0,
            discarded=discarded,
            absent=builder.absent(),
        )

    def find(self, request: messages.ScanShard) -> messages.FileFound:
        """Look for anything that a shard was to write, as long as nothing is found."""
        trouble, n_expected = "", 0
        self._files.forget()
        for quantum in self._quanta(request):
            for dataset in itertools.chain.from_iterable(quantum.outputs.values()):
                n_expected += 1
                try:
                    if self._exists(dataset):
                        return messages.FileFound(self._files.take_looked()[-1][0], n_expected, trouble)
                except execution_files.UnreadableError as exc:
                    trouble = trouble or str(exc)
            self._files.take_looked()
        return messages.FileFound("", n_expected, trouble)

    def _build(
        self, request: messages.ScanShard, earlier: previous_digest.PreviousDigest | None, keep: _Flags
    ) -> shard_builder.ShardBuilder:
        """Return the content of a shard's digest: quanta to keep from the earlier one, the others scanned."""
        path = self.layout.digest(request.shard)
        builder = shard_builder.ShardBuilder(self.codec, self.graph.header.int_size, path)
        if earlier is not None:
            earlier.load()
            earlier.copy_inputs(builder)
        self._values.clear()
        self._files.forget()
        for row, quantum in self._read_ahead(request, keep):
            fault_points.reached("quantum")
            if earlier is not None and keep[row]:
                earlier.copy(row, builder)
            elif request.shard == 0:
                self._scan_init(builder, quantum)
            else:
                self._scan_quantum(builder, quantum)
        return builder

    def _read_ahead(
        self, request: messages.ScanShard, keep: _Flags
    ) -> Iterator[tuple[int, predicted.Quantum]]:
        """Yield the quanta of a shard; where storage is slow, the files of later ones are read meanwhile."""
        waiting: collections.deque[tuple[int, predicted.Quantum]] = collections.deque()
        for row, quantum in enumerate(self._quanta(request)):
            n_ahead = self._files.n_ahead
            if n_ahead and request.shard and not (len(keep) and keep[row]):
                for dataset in outcome.special_outputs(quantum):
                    self._files.begin(dataset, self._decode(bytes(dataset.data_coordinate)))
            waiting.append((row, quantum))
            while len(waiting) > n_ahead:
                yield waiting.popleft()
        yield from waiting

    def _quanta(self, request: messages.ScanShard) -> Iterable[predicted.Quantum]:
        """Return the quanta of a shard.

        Raises
        ------
        FormatError
            If a block is damaged, or is not that of the quantum whose address it has.
        """
        if request.shard == 0:
            return self.graph.init_quanta()
        return self._regular_quanta(request)

    def _regular_quanta(self, request: messages.ScanShard) -> Iterator[predicted.Quantum]:
        offsets = np.frombuffer(request.offsets, dtype=np.int64)
        sizes = np.frombuffer(request.sizes, dtype=np.int64)
        expected = addresses.hex_digits(np.frombuffer(request.ids, dtype=addresses.ID_TYPE))
        quanta = self.graph.read_quanta(offsets, sizes)
        for digits, (quantum, _) in zip(expected, quanta, strict=True):
            if quantum.quantum_id.replace("-", "").lower() != digits:
                raise errors.FormatError(
                    self.graph.path, "quanta.addr", f"{digits} has the address of {quantum.quantum_id}"
                )
            yield quantum

    def _decode(self, coordinate: bytes) -> catalog.Values:
        values = self._values.get(coordinate)
        if values is None:
            values = self._values[coordinate] = catalog.decode_values(coordinate)
        return values

    def _scan_quantum(self, builder: shard_builder.ShardBuilder, quantum: predicted.Quantum) -> None:
        """Add a regular quantum."""
        produced: set[str] = set()
        try:
            found, produced = self._look(quantum)
        except execution_files.UnreadableError as exc:
            builder.problems.append(messages.Problem(quantum.quantum_id, exc.path, exc.reason))
            status = digest.UNREADABLE
            framed = (builder.frame([outcome.quantum_block(quantum, [])]), b"", b"")
        else:
            status = found.status
            framed = (
                builder.frame([outcome.quantum_block(quantum, found.attempts)]),
                builder.frame(found.logs_block()),
                builder.frame(found.metadata_block()),
            )
        self._add_nodes(builder, quantum, produced)
        builder.add_quantum(quantum.quantum_id, self._tasks[quantum.task_label], status, framed)
        self._log.debug("quantum %s of %s: status %d", quantum.quantum_id, quantum.task_label, status)

    def _look(self, quantum: predicted.Quantum) -> tuple[outcome.Outcome, set[str]]:
        """Return what happened to a quantum, and the ids of the outputs that it produced.

        Raises
        ------
        UnreadableError
            If a file of it can't be read or is invalid.
        """
        log_dataset, metadata_dataset = outcome.special_outputs(quantum)
        log = self._files.read(log_dataset, self._decode(bytes(log_dataset.data_coordinate)))
        metadata = self._files.read(metadata_dataset, self._decode(bytes(metadata_dataset.data_coordinate)))
        try:
            found = outcome.judge(quantum, log.data, metadata.data)
        except outcome.LogError as exc:
            raise execution_files.UnreadableError(log.path, str(exc)) from exc
        except outcome.MetadataError as exc:
            raise execution_files.UnreadableError(metadata.path, str(exc)) from exc
        known = {log_dataset.dataset_id: log.data is not None}
        known[metadata_dataset.dataset_id] = metadata.data is not None
        if found.listed is not None:
            predicted_ids = {d.dataset_id for datasets in quantum.outputs.values() for d in datasets}
            strange = [i for i in found.listed if i not in predicted_ids]
            if strange:
                path = log.path if metadata.data is None else metadata.path
                raise execution_files.UnreadableError(path, f"lists output {strange[0]}, not predicted")
            return found, {i for i, exists in known.items() if exists}.union(found.listed)
        return found, {
            d.dataset_id
            for datasets in quantum.outputs.values()
            for d in datasets
            if (known[d.dataset_id] if d.dataset_id in known else self._exists(d))
        }

    def _exists(self, dataset: predicted.Dataset) -> bool:
        return self._files.exists(dataset, self._decode(bytes(dataset.data_coordinate)))

    def _scan_init(self, builder: shard_builder.ShardBuilder, quantum: predicted.Quantum) -> None:
        """Add an init quantum; it has no files of its own, just outputs."""
        produced: set[str] = set()
        try:
            produced = {d.dataset_id for ds in quantum.outputs.values() for d in ds if self._exists(d)}
            status = digest.INIT
        except execution_files.UnreadableError as exc:
            builder.problems.append(messages.Problem(quantum.quantum_id, exc.path, exc.reason))
            status = digest.UNREADABLE
        self._add_nodes(builder, quantum, produced)
        builder.add_quantum(quantum.quantum_id, self._tasks.get(quantum.task_label, 0), status, (b"",) * 3)

    def _add_nodes(
        self, builder: shard_builder.ShardBuilder, quantum: predicted.Quantum, produced: set[str]
    ) -> None:
        """Add outputs, inputs and files of a quantum that is added next."""
        for connection, datasets in quantum.outputs.items():
            role = _ROLES.get(connection, digest.REGULAR)
            for dataset in datasets:
                self._add_output(builder, dataset, role, dataset.dataset_id in produced)
        self._add_inputs(builder, quantum)
        for path, tag in self._files.take_looked():
            builder.add_looked(path, tag)

    def _add_output(
        self, builder: shard_builder.ShardBuilder, dataset: predicted.Dataset, role: int, produced: bool
    ) -> None:
        entry = self.catalog.entry(dataset)
        coordinate = bytes(dataset.data_coordinate)
        flags = role << digest.ROLE_SHIFT | (digest.PRODUCED if produced else 0)
        builder.add_dataset(dataset.dataset_id, entry.index, builder.coordinate(coordinate), flags)
        if produced:
            for file, path in self._files.places(dataset, self._decode(coordinate)):
                builder.add_file(file.store, file.formatter, file.storage_class, file.component, path)

    def _add_inputs(self, builder: shard_builder.ShardBuilder, quantum: predicted.Quantum) -> None:
        """Add the edges from inputs, and what is known of those that may come from outside."""
        output_run = self.graph.header.output_run
        outside = {i for store in quantum.datastore_records.values() for i in store.get("dataset_ids", ())}
        seen: set[str] = set()
        for datasets in quantum.inputs.values():
            for dataset in datasets:
                dataset_id = dataset.dataset_id
                if dataset_id in seen:
                    continue
                seen.add(dataset_id)
                builder.add_edge(dataset_id)
                entry = self.catalog.entry(dataset)
                if not entry.definition.is_produced or dataset.run != output_run or dataset_id in outside:
                    builder.add_input(dataset_id, entry.index, bytes(dataset.data_coordinate), dataset.run)
