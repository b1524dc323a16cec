"""The writer: puts the provenance graph together from digests and verdicts (quantum-graph-format.md 7, 9)."""

import logging
import os
import shutil
import zipfile
from typing import IO, Any

import msgspec
import numpy as np
import numpy.typing as npt

from schemas import (
    addresses,
    blocks,
    checkpoint,
    container,
    dataset_range,
    digest,
    errors,
    fault_points,
    files,
    messages,
    nodes,
    predicted,
    verdicts,
)
from workers import dataset_section, environment

_MAX_SAMPLE = 1_000_000
_COLUMNS = dict(zip(("quanta", "logs", "metadata"), digest.BLOCK_SIZES, strict=True))


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
        self._path = container.local_path(setup.output_path)
        self._partial = f"{self._path}.partial"
        self._layout = checkpoint.Layout(setup.checkpoint)
        self._graph = predicted.PredictedGraph(setup.graph_path)
        self._codec = blocks.Codec(self._layout.read_dictionary(), setup.zstd_level)
        self._shards: dict[int, npt.NDArray[Any]] = {}
        self._ids: dict[int, npt.NDArray[Any]] = {}
        self._sizes: dict[str, dict[int, npt.NDArray[Any]]] = {name: {} for name in _COLUMNS}
        try:
            self._archive = zipfile.ZipFile(self._partial, "w", zipfile.ZIP_STORED)
        except OSError as exc:
            raise errors.RefusedError(f"{self._partial}: can't write it ({exc.strerror})") from exc
        # Logs are most of the file: they are copied while scanning goes on, the rest at the end.
        self._logs: IO[bytes] | None = self._archive.open("logs.mb", "w", force_zip64=True)
        self._finished = False

    def close(self) -> None:
        """Close everything; remove what is not complete."""
        self._graph.close()
        if not self._finished:
            if self._logs is not None:
                self._logs.close()
            self._archive.close()
            if os.path.exists(self._partial):
                os.unlink(self._partial)

    def handle(self, request: messages.Request) -> messages.Reply:
        """Answer a request."""
        match request:
            case messages.CommitShard():
                return self.take(request)
            case messages.PlanDatasets():
                return self.plan()
            case messages.CopyBlocks():
                return self.copy_blocks()
            case messages.FinishGraph():
                return self.finish(request)
        raise TypeError(f"not for the writer: {request!r}")

    def take(self, request: messages.CommitShard) -> messages.ShardTaken:
        """Copy the logs of a shard's accepted quanta; remember its verdicts."""
        fault_points.reached("logs")
        shard = request.shard
        self._shards[shard] = np.frombuffer(request.verdicts, dtype="i1")
        if shard > 0 and self._logs is not None:
            with digest.Digest(self._layout.digest(shard), self._setup.identity) as opened:
                self._ids[shard] = opened.column("quantum.id")
                self._copy(opened, "logs", self._logs)
        return messages.ShardTaken(shard)

    def _copy(self, opened: digest.Digest, name: str, out: IO[bytes]) -> None:
        """Copy the blocks of a section, without those of quanta that are not accepted."""
        shard = opened.shard
        sizes = opened.column(_COLUMNS[name])
        data = opened.blocks(f"blocks.{name}")
        accepted = self._shards[shard] == verdicts.ACCEPTED
        as_it_is = accepted & (opened.column("quantum.status") != digest.UNREADABLE)
        if as_it_is.all():
            out.write(data)
            self._sizes[name][shard] = sizes
            return
        problems = {quantum: f"{path}: {reason}" for quantum, path, reason in opened.values("problems")}
        view = memoryview(data)
        pieces: list[bytes | memoryview] = []
        for begin, size, same, judged in zip(
            blocks.offsets(sizes).tolist(), sizes.tolist(), as_it_is.tolist(), accepted.tolist(), strict=True
        ):
            block = view[begin : begin + size]
            pieces.append(block if same else self._changed(name, bytes(block), problems if judged else None))
        out.write(b"".join(pieces))
        self._sizes[name][shard] = np.array([len(piece) for piece in pieces], dtype=sizes.dtype)

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

    def plan(self) -> messages.DatasetRanges:
        """Divide all datasets into ranges of ids."""
        samples, total = [], 0
        for shard in self._shards:
            with digest.Digest(self._layout.digest(shard), self._setup.identity) as opened:
                ids = opened.column("dataset.id")
            total += len(ids)
            step = max(1, len(ids) * len(self._shards) // _MAX_SAMPLE)
            samples.append(ids[::step])
        sample = np.concatenate(samples) if samples else np.zeros(0, dtype=addresses.ID_TYPE)
        return messages.DatasetRanges(dataset_section.plan_bounds(sample, total))

    def copy_blocks(self) -> messages.Ready:
        """Copy quanta and metadata of all shards."""
        fault_points.reached("copy")
        if self._logs is not None:
            self._logs.close()
            self._logs = None
        for name in ("metadata", "quanta"):
            with self._archive.open(f"{name}.mb", "w", force_zip64=True) as out:
                for shard in sorted(self._ids):
                    with digest.Digest(self._layout.digest(shard), self._setup.identity) as opened:
                        self._copy(opened, name, out)
        return messages.Ready()

    def finish(self, request: messages.FinishGraph) -> messages.GraphWritten:
        """Complete the file, sync it and move it to its place."""
        fault_points.reached("assembly")
        tables = self._copy_datasets(request.n_ranges)
        self._write_single_blocks()
        self._write_addresses(tables)
        self._archive.close()
        fd = os.open(self._partial, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        fault_points.reached("output")
        os.rename(self._partial, self._path)
        fault_points.reached("renamed")
        self._finished = True
        files.sync_directory(os.path.dirname(self._path) or ".")
        for number in range(request.n_ranges):
            os.unlink(self._layout.dataset_range(number))
        return messages.GraphWritten(os.path.getsize(self._path))

    def _copy_datasets(self, n_ranges: int) -> list[str]:
        """Copy the parts of the dataset section; return their paths."""
        paths = [self._layout.dataset_range(number) for number in range(n_ranges)]
        with self._archive.open("datasets.mb", "w", force_zip64=True) as out:
            for path in paths:
                with open(path, "rb") as stream:
                    dataset_range.read_table(stream, path)
                    shutil.copyfileobj(stream, out, 1 << 20)
        return paths

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
            "packages": msgspec.json.encode(environment.packages()),
            "init_quanta": msgspec.json.encode(init_quanta),
        }
        for name, document in documents.items():
            self._archive.writestr(container.single(name), self._codec.compress(document))
        self._archive.writestr(container.DICTIONARY, self._codec.dictionary)

    def _write_addresses(self, paths: list[str]) -> None:
        """Write `nodes.addr`, range by range, so that memory stays bounded."""
        quanta, places = self._quantum_places()
        order = np.argsort(quanta, kind="stable")
        quanta, places = quanta[order], places[order]
        at = np.empty(len(order), dtype=np.int64)
        at[order] = np.arange(len(order))
        first_row = self._first_rows()
        int_size = self._graph.header.int_size
        n_rows = len(quanta) + sum(self._n_rows(path) for path in paths)
        with self._archive.open(nodes.ADDRESSES, "w", force_zip64=True) as out:
            out.write(addresses.encode_header(int_size, n_rows, len(nodes.COMPONENTS)))
            begin, index, offset = 0, 0, 0
            for number, path in enumerate(paths):
                with open(path, "rb") as stream:
                    table = dataset_range.read_table(stream, path)
                end = len(quanta)
                if number < len(paths) - 1:
                    end = int(np.searchsorted(quanta, table["id"][-1:], "right")[0]) if len(table) else begin
                rows = _dataset_places(table, offset, first_row, at, places)
                ids = np.concatenate([np.ascontiguousarray(table["id"]), quanta[begin:end]])
                merged = np.argsort(ids, kind="stable")
                rows = np.concatenate([rows, places[begin:end]])[merged]
                out.write(addresses.encode_rows(ids[merged], index, rows, int_size))
                begin, index, offset = end, index + len(ids), offset + int(table["size"].sum())

    def _n_rows(self, path: str) -> int:
        with open(path, "rb") as stream:
            return len(dataset_range.read_table(stream, path))

    def _first_rows(self) -> npt.NDArray[np.int64]:
        """Return the position of each shard's first quantum among all; shard 0 has none of them."""
        counts = np.zeros(max(self._ids, default=0) + 2, dtype=np.int64)
        for shard, ids in self._ids.items():
            counts[shard + 1] = len(ids)
        return np.cumsum(counts)

    def _quantum_places(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """Return ids and addresses of all quanta, in shard order."""
        shards = sorted(self._ids)
        n = sum(map(len, self._ids.values()))
        places = np.zeros((n, 2 * len(nodes.COMPONENTS)), dtype=np.int64)
        for name in _COLUMNS:
            column = 2 * nodes.COMPONENTS.index(name)
            sizes = np.concatenate([*(self._sizes[name][s] for s in shards), np.zeros(0, dtype=np.int64)])
            places[:, column] = np.where(sizes > 0, blocks.offsets(sizes), 0)
            places[:, column + 1] = sizes
        return np.concatenate([*(self._ids[s] for s in shards), np.zeros(0, dtype="S16")]), places


def _dataset_places(
    table: npt.NDArray[Any],
    offset: int,
    first_row: npt.NDArray[np.int64],
    at: npt.NDArray[np.int64],
    places: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Return the addresses of datasets; logs and metadata share the blocks of their quanta."""
    rows = np.zeros((len(table), 2 * len(nodes.COMPONENTS)), dtype=np.int64)
    rows[:, 0] = offset + blocks.offsets(table["size"])
    rows[:, 1] = table["size"]
    for role, column in ((digest.LOG, 2 * nodes.LOGS), (digest.METADATA, 2 * nodes.METADATA)):
        chosen = np.flatnonzero((table["role"] == role) & (table["shard"] > 0))
        quantum = at[first_row[table["shard"][chosen]] + table["row"][chosen]]
        rows[chosen, column : column + 2] = places[quantum, column : column + 2]
    return rows
