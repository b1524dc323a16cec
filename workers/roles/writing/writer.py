"""The writer: puts the provenance graph together from digests and verdicts (quantum-graph-format.md 7, 9)."""

import contextlib
import logging
import os
import zipfile
from typing import IO, Any

import msgspec
import numpy as np
import numpy.typing as npt
from aggregator.schemas import messages, output_kinds, output_paths, verdicts
from aggregator.schemas.checkpoints import checkpoint, dataset_part, digest
from aggregator.schemas.graphs import addresses, blocks, container, nodes, reading_time
from aggregator.storage import durable_files, fault_points, locks, machine_trouble, opening, partial_files
from aggregator.workers.roles import given_graph
from aggregator.workers.roles.writing import input_datasets, node_addresses, software_environment

_SAMPLE_STEP = 64
_NO_IDS = np.zeros(0, dtype=addresses.ID_TYPE)
_Flags = npt.NDArray[np.bool_]
_COLUMNS = dict(zip(node_addresses.COMPONENTS, digest.BLOCK_SIZES, strict=True))


class Writer:
    """Writes one provenance graph.

    Parameters
    ----------
    setup
        Where everything is; `output_path` must be given.
    log
        Log of this worker.
    """

    def __init__(self, setup: messages.Setup, log: logging.Logger) -> None:
        if setup.output_path is None:
            raise ValueError("no output path")
        self._setup = setup
        self._log = log
        self._path = setup.output_path
        self._store, self._key = opening.locate(self._path)
        self._layout = checkpoint.Layout(setup.checkpoint)
        self._graph = given_graph.open_graph(setup)
        self._codec = blocks.Codec(self._layout.read_dictionary(), setup.zstd_level)
        self._shards: dict[int, npt.NDArray[Any]] = {}
        self._n_edges = self._n_from_inputs = self._n_inputs = 0
        self._edge_samples: list[addresses.Ids] = []
        self._input_samples: list[addresses.Ids] = []
        self._quanta = node_addresses.QuantumAddresses(self._graph.header.n_quanta)
        try:
            workplace = self._store.workplace(self._key, setup.checkpoint)
            self._stream = partial_files.create(self._layout.partial_files, workplace)
        except OSError as exc:
            text = f"{self._path}: can't write it ({exc.strerror})"
            raise machine_trouble.refusal(self._path, exc, text) from exc
        self._partial = self._stream.name
        self._archive = zipfile.ZipFile(self._stream, "w", zipfile.ZIP_STORED)
        # Logs are most of the file: they are copied while scanning goes on, the rest at the end.
        self._logs: IO[bytes] | None = self._archive.open("logs.mb", "w", force_zip64=True)
        self._published = False

    def close(self) -> None:
        """Close everything; remove what is not complete."""
        self._graph.close()
        if not self._published:
            # Whatever is still open wants to write when it is destroyed, and complains about it.
            if self._logs is not None:
                with contextlib.suppress(OSError):
                    self._logs.close()
            self._archive.fp = None
            with contextlib.suppress(OSError):
                self._stream.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._partial)

    def handle(self, request: messages.Request) -> messages.Reply:
        """Answer a request."""
        with durable_files.writing(self._partial):
            return self._answer(request)

    def _answer(self, request: messages.Request) -> messages.Reply:
        match request:
            case messages.CommitShard():
                return self.take(request)
            case messages.PlanInputs():
                return self.plan(request)
            case messages.CopyBlocks():
                return self.copy_blocks()
            case messages.FinishGraph():
                return self.finish(request)
            case messages.PublishGraph():
                return self.publish()
        raise TypeError(f"not for the writer: {request!r}")

    def take(self, request: messages.CommitShard) -> messages.ShardTaken:
        """Copy the logs of a shard's accepted quanta; remember its verdicts."""
        fault_points.reached("logs")
        shard = request.shard
        self._shards[shard] = np.frombuffer(request.verdicts, dtype="i1")
        with self._open(shard) as opened:
            self._count_edges(opened)
            if shard > 0 and self._logs is not None:
                self._quanta.add(opened.column("quantum.id"))
                self._copy(opened, "logs", self._logs)
        return messages.ShardTaken(shard)

    def _open(self, shard: int) -> digest.Digest:
        return digest.Digest(self._layout.digest(shard), self._setup.identity, shard)

    def _count_edges(self, opened: digest.Digest) -> None:
        """Count what is read by a shard, in all and from outside, and keep samples."""
        edges, inputs = opened.column("edge.id"), opened.column("input.id")
        from_inputs = input_datasets.edges_from(edges, inputs)
        self._n_edges += len(edges)
        self._n_from_inputs += len(from_inputs)
        self._n_inputs += len(inputs)
        # Copies, since a slice would keep all of the column in memory.
        self._edge_samples.append(edges[::_SAMPLE_STEP].copy())
        self._input_samples.append(edges[from_inputs[::_SAMPLE_STEP]])
        self._input_samples.append(inputs[:: _SAMPLE_STEP // input_datasets.ID_WEIGHT].copy())

    def _copy(self, opened: digest.Digest, name: str, out: IO[bytes]) -> None:
        """Copy the blocks of a section, without those of quanta that are not accepted."""
        shard = opened.shard
        sizes = opened.column(_COLUMNS[name])
        accepted = self._shards[shard] == verdicts.ACCEPTED
        as_it_is = accepted & (opened.column("quantum.status") != digest.UNREADABLE)
        if as_it_is.all():
            for piece in opened.blocks(f"blocks.{name}"):
                out.write(piece)
            self._quanta.set_sizes(name, shard, sizes)
            return
        opened.verify_blocks(f"blocks.{name}")
        self._quanta.set_sizes(name, shard, self._copy_changed(opened, name, out, accepted, as_it_is))

    def _copy_changed(
        self, opened: digest.Digest, name: str, out: IO[bytes], accepted: _Flags, as_it_is: _Flags
    ) -> npt.NDArray[Any]:
        """Copy the blocks of a section, some of them changed; return the sizes of all."""
        problems = {quantum: f"{path}: {reason}" for quantum, path, reason in opened.values("problems")}
        sizes = opened.column(_COLUMNS[name])
        begins, result = blocks.offsets(sizes), sizes.copy()
        for first, end in blocks.groups(sizes):
            data = opened.block(f"blocks.{name}", int(begins[first]), int(sizes[first:end].sum()))
            view, copied = memoryview(data), 0
            for row in (first + np.flatnonzero(~as_it_is[first:end])).tolist():
                begin = int(begins[row] - begins[first])
                out.write(view[copied:begin])
                copied = begin + int(sizes[row])
                block = self._changed(name, data[begin:copied], problems if accepted[row] else None)
                out.write(block)
                result[row] = len(block)
            out.write(view[copied:])
        return result

    def _changed(self, name: str, block: bytes, problems: dict[str, str] | None) -> bytes:
        """Return a block of a quantum that is blocked, or whose files can't be read.

        Parameters
        ----------
        name
            Section: quanta, logs or metadata.
        block
            The quantum's block in the digest.
        problems
            What is wrong with the files of each unreadable quantum; nothing for a blocked one.
        """
        int_size = self._graph.header.int_size
        if name != "quanta":
            if problems is None:
                return b""
            document = nodes.encode_attempts([None])
        else:
            document = nodes.without_attempts(self._codec.decompress(block[int_size:]))
            if problems is not None:
                document = nodes.with_failure(document, problems)
        return blocks.frame(self._codec.compress(document), int_size)

    def plan(self, request: messages.PlanInputs) -> messages.InputRanges:
        """Divide what is read but no output into ranges of ids.

        Every edge should be from an output, or from what a scanner took for an overall input, not both.
        """
        careful = request.n_shared > 0 or request.n_edges + self._n_from_inputs != self._n_edges
        samples, weight = self._edge_samples, self._n_edges
        if not careful:
            samples = self._input_samples
            weight = self._n_from_inputs + self._n_inputs * input_datasets.ID_WEIGHT
        bounds = input_datasets.plan_bounds(np.concatenate([*samples, _NO_IDS]), weight)
        return messages.InputRanges(bounds, careful, self._n_edges - request.n_edges)

    def copy_blocks(self) -> messages.Ready:
        """Copy quanta and metadata of all shards."""
        fault_points.reached("copy")
        if self._logs is not None:
            self._logs.close()
            self._logs = None
        for name in ("metadata", "quanta"):
            with self._archive.open(f"{name}.mb", "w", force_zip64=True) as out:
                for shard in range(1, self._quanta.n_shards):
                    with self._open(shard) as opened:
                        self._copy(opened, name, out)
        return messages.Ready()

    def finish(self, request: messages.FinishGraph) -> messages.Ready:
        """Complete the file and sync it."""
        fault_points.reached("assembly")
        inputs = [self._layout.input_datasets(number) for number in range(request.n_ranges)]
        parts = [self._layout.output_datasets(shard) for shard in sorted(self._shards)] + inputs
        with self._archive.open("datasets.mb", "w", force_zip64=True) as out:
            for path in parts:
                with dataset_part.Part(path) as part:
                    part.copy_blocks(out)
        self._write_single_blocks()
        self._write_addresses(parts)
        self._archive.comment = reading_time.encode(self._setup.begun)
        self._archive.close()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        for path in inputs:
            os.unlink(path)
        return messages.Ready()

    def publish(self) -> messages.GraphWritten:
        """Move the file to its place."""
        fault_points.reached("output")
        size = os.path.getsize(self._partial)
        with durable_files.writing(self._path):
            self._store.publish(self._partial, self._key, self._check_output)
        self._published = True
        return messages.GraphWritten(size)

    def _check_output(self) -> None:
        locks.check(self._setup.ownership)
        output_paths.check_again(self._path, output_kinds.Kind.GRAPH, self._setup.protection)

    def _write_single_blocks(self) -> None:
        header = msgspec.json.decode(self._graph.header_json)
        header["graph_type"] = "provenance"
        init_quanta = [
            nodes.InitQuantum(
                q.quantum_id,
                q.task_label,
                {name: datasets[0].dataset_id for name, datasets in q.inputs.items()},
                {name: datasets[0].dataset_id for name, datasets in q.outputs.items()},
            )
            for q in self._graph.init_quanta()
            if q.task_label
        ]
        documents = {
            "header": msgspec.json.encode(header),
            "pipeline_graph": self._graph.pipeline_json,
            "packages": msgspec.json.encode(software_environment.packages()),
            "init_quanta": msgspec.json.encode(init_quanta),
        }
        for name, document in documents.items():
            self._archive.writestr(container.single(name), self._codec.compress(document))
        self._archive.writestr(container.DICTIONARY, self._codec.dictionary)

    def _write_addresses(self, parts: list[str]) -> None:
        self._quanta.complete()
        datasets = node_addresses.DatasetAddresses(parts, len(self._shards))
        with self._archive.open(nodes.ADDRESSES, "w", force_zip64=True) as out:
            node_addresses.write(out, self._quanta, datasets, self._graph.header.int_size)
