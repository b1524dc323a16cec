"""The scanner: turns shards of quanta into digests, a pure function of graph and files."""

import contextlib
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
from aggregator.schemas.jobs import stories
from aggregator.storage import errors, fault_points, in_flight, locks
from aggregator.workers.roles import given_graph
from aggregator.workers.roles.scanning import execution_files, previous_digest, quantum_reader, shard_builder
from aggregator.workers.roles.writing import input_datasets, output_datasets

_ROLES = {
    pipeline.LOG_CONNECTION: digest.LOG,
    pipeline.METADATA_CONNECTION: digest.METADATA,
    pipeline.CONFIG_CONNECTION: digest.CONFIG,
}

LOGIC_VERSION = 3
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
        self.graph = given_graph.open_graph(setup)
        self.layout = checkpoint.Layout(setup.checkpoint)
        table = records.RecordTable.unpack(self.layout.read_records())
        self.catalog = open_catalog(self.graph, setup.butler_path, setup.mock_storage_classes, table)
        self.codec = blocks.Codec(self.layout.read_dictionary(), setup.zstd_level)
        self._stories = stories.Stories.unpack(setup.stories)
        self._requests = in_flight.Requests(setup.requests)
        self._files = execution_files.ExecutionFiles(self.catalog, self._requests)
        self._tasks = {task.label: i for i, task in enumerate(self.graph.pipeline.tasks)}
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
            case messages.LookAgain():
                return self.look_again(request)
            case messages.FindFile():
                return self.find(request.request)
            case messages.BuildOutputs():
                return self._outputs.build(request)
            case messages.BuildInputs():
                return self._inputs.build(request)
        raise TypeError(f"not for a scanner: {request!r}")

    def close(self) -> None:
        """Close the graph, and end all threads."""
        self._requests.close()
        self.graph.close()

    def scan(self, request: messages.ScanShard) -> messages.ShardScanned:
        """Write the digest of a shard; what an earlier digest tells of is only looked at again."""
        fault_points.reached("shard")
        path = self.layout.digest(request.shard)
        with self._open_previous(path, request) as (earlier, discarded):
            keep = np.zeros(0, dtype=bool)
            if earlier is not None:
                keep = earlier.unchanged(self._files, self._files.tags(earlier.unsettled()))
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

    def look_again(self, request: messages.LookAgain) -> messages.LookedAgain:
        """Report on shards of which nothing has changed; their files are looked at together."""
        with contextlib.ExitStack() as stack:
            digests: dict[int, previous_digest.PreviousDigest] = {}
            for shard in request.shards:
                fault_points.reached("shard")
                path = self.layout.digest(shard.shard)
                earlier, _ = stack.enter_context(self._open_previous(path, shard))
                # What has to be said of the others is said when they are scanned.
                if earlier is not None and not earlier.is_from_elsewhere:
                    digests[shard.shard] = earlier
            names = {number: earlier.unsettled() for number, earlier in digests.items()}
            tags = self._files.tags([*itertools.chain.from_iterable(names.values())])
            unchanged = [
                earlier.report(number)
                for number, earlier in digests.items()
                if earlier.unchanged(self._files, itertools.islice(tags, len(names[number]))).all()
            ]
        reported = {scanned.shard for scanned in unchanged}
        return messages.LookedAgain(
            unchanged, [shard.shard for shard in request.shards if shard.shard not in reported]
        )

    def _open_previous(
        self, path: str, request: messages.ScanShard
    ) -> contextlib.AbstractContextManager[tuple[previous_digest.PreviousDigest | None, str]]:
        verify, identity = self._setup.verify_checkpoint, self._setup.identity
        return previous_digest.open_previous(
            path, identity, request.shard, request.ids, verify, self._stories
        )

    def find(self, request: messages.ScanShard) -> messages.FileFound:
        """Look for anything that a shard was to write, as long as nothing is found."""
        troubles: list[str] = []
        n_expected = 0

        def expected() -> Iterator[predicted.Dataset]:
            nonlocal n_expected
            for quantum in self._quanta(request):
                for dataset in itertools.chain.from_iterable(quantum.outputs.values()):
                    n_expected += 1
                    yield dataset

        self._files.forget()
        path = self._files.first(expected(), troubles.append)
        return messages.FileFound(path, n_expected, troubles[0] if troubles else "")

    def _build(
        self, request: messages.ScanShard, earlier: previous_digest.PreviousDigest | None, keep: _Flags
    ) -> shard_builder.ShardBuilder:
        """Return the content of a shard's digest: quanta to keep from the earlier one, the others scanned."""
        path = self.layout.digest(request.shard)
        builder = shard_builder.ShardBuilder(self.codec, self.graph.header.int_size, path)
        if earlier is not None:
            earlier.load()
            earlier.copy_inputs(builder)
        self._files.forget()
        self._requests.measure()
        reader = quantum_reader.QuantumReader(self._files, self._requests, builder.frame, self._stories)

        def is_kept(row: int) -> bool:
            return earlier is not None and bool(keep[row])

        def begin(numbered: tuple[int, predicted.Quantum]) -> None:
            if request.shard and not is_kept(numbered[0]):
                reader.begin(numbered[1])

        def readings() -> Iterator[quantum_reader.Reading | int]:
            for row, quantum in self._requests.ahead(enumerate(self._quanta(request)), begin):
                fault_points.reached("quantum")
                if is_kept(row):
                    yield row
                else:
                    yield reader.read(quantum) if request.shard else reader.init(quantum)

        for reading in reader.complete(readings()):
            if isinstance(reading, quantum_reader.Reading):
                self._add(builder, reading)
            elif earlier is not None:
                earlier.copy(reading, builder)
        return builder

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

    def _add(self, builder: shard_builder.ShardBuilder, reading: quantum_reader.Reading) -> None:
        """Add a quantum with its outputs, inputs and files."""
        quantum = reading.quantum
        if reading.problem is not None:
            builder.problems.append(reading.problem)
        for connection, datasets in quantum.outputs.items():
            role = _ROLES.get(connection, digest.REGULAR)
            for dataset in datasets:
                self._add_output(builder, dataset, role, dataset.dataset_id in reading.produced)
        self._add_inputs(builder, quantum)
        for path, tag in reading.looked:
            builder.add_looked(path, tag)
        # An init quantum may be of no task.
        task = self._tasks.get(quantum.task_label, 0)
        builder.add_quantum(quantum.quantum_id, task, reading.status, reading.framed, reading.is_settled)
        self._log.debug("quantum %s of %s: status %d", quantum.quantum_id, quantum.task_label, reading.status)

    def _add_output(
        self, builder: shard_builder.ShardBuilder, dataset: predicted.Dataset, role: int, produced: bool
    ) -> None:
        entry = self.catalog.entry(dataset)
        coordinate = bytes(dataset.data_coordinate)
        flags = role << digest.ROLE_SHIFT | (digest.PRODUCED if produced else 0)
        builder.add_dataset(dataset.dataset_id, entry.index, builder.coordinate(coordinate), flags)
        if produced:
            for file, path in self._files.places(dataset):
                builder.add_file(file.store, file.formatter, file.storage_class, file.component, path)

    def _add_inputs(self, builder: shard_builder.ShardBuilder, quantum: predicted.Quantum) -> None:
        """Add the edges from inputs, and what is known of those that may come from outside."""
        output_run = self.graph.header.output_run
        outside = {i for store in quantum.datastore_records.values() for i in store.get("dataset_ids", ())}
        seen: dict[str, None] = {}
        for datasets in quantum.inputs.values():
            for dataset in datasets:
                dataset_id = dataset.dataset_id
                if dataset_id in seen:
                    continue
                seen[dataset_id] = None
                entry = self.catalog.entry(dataset)
                if not entry.definition.is_produced or dataset.run != output_run or dataset_id in outside:
                    builder.add_input(dataset_id, entry.index, bytes(dataset.data_coordinate), dataset.run)
        builder.add_edges(seen)
