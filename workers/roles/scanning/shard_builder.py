"""Gathers what is found out about the quanta of one shard into a digest."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Self

import numpy as np
from aggregator.schemas import messages
from aggregator.schemas.checkpoints import digest
from aggregator.schemas.graphs import addresses, blocks
from aggregator.storage import spools

_LARGE = 1 << 22
"""Bytes."""


class ShardBuilder:
    """The digest of one shard in the making.

    Parameters
    ----------
    codec
        Compresses blocks.
    int_size
        Bytes per integer in the graph.
    path
        Where the digest will be; beside it are the blocks until then, if they are large.
    """

    def __init__(self, codec: blocks.Codec, int_size: int, path: str) -> None:
        self._codec = codec
        self._int_size = int_size
        self._ids: dict[str, list[str]] = {"quantum": [], "dataset": [], "edge": [], "input": []}
        self._numbers: dict[str, list[int]] = {
            name: [] for name, kind in digest.COLUMNS.items() if kind.kind in "iu"
        }
        self._blocks = {name: spools.Spool(path) for name in digest.BLOCKS}
        self._coordinates: dict[bytes, int] = {}
        self._runs: dict[str, int] = {}
        self._kinds: dict[tuple[Any, ...], int] = {}
        self._inputs: set[str] = set()
        self._file_paths: list[str] = []
        self._looked_paths: list[str] = []
        self._looked_tags: list[bytes] = []
        self.problems: list[messages.Problem] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for spool in self._blocks.values():
            spool.close()

    @property
    def n_quanta(self) -> int:
        """Number of quanta so far; the row of the next one."""
        return len(self._ids["quantum"])

    def frame(self, pieces: Sequence[bytes | memoryview]) -> bytes:
        """Return the block of a JSON document given in pieces, as it goes into the graph."""
        size = sum(map(len, pieces))
        if size <= _LARGE:
            return blocks.frame(self._codec.compress(b"".join(pieces)), self._int_size)
        # It is not to be in memory twice.
        portions = (
            memoryview(piece)[begin : begin + _LARGE]
            for piece in pieces
            for begin in range(0, len(piece), _LARGE)
        )
        return blocks.frame(b"".join(self._codec.compress_stream(size, portions)), self._int_size)

    def add_quantum(
        self,
        quantum_id: str,
        task: int,
        status: int,
        framed: tuple[bytes, bytes, bytes],
        is_settled: bool = False,
    ) -> None:
        """Add a quantum, after its datasets, edges and files.

        Parameters
        ----------
        quantum_id
            Its id.
        task
            Index of its task.
        status
            What became of it.
        framed
            Its quantum, log and metadata blocks; empty where there is none.
        is_settled
            Whether its files need not be looked at again.
        """
        numbers = self._numbers
        self._ids["quantum"].append(quantum_id)
        numbers["quantum.task"].append(task)
        numbers["quantum.status"].append(status)
        numbers["quantum.settled"].append(is_settled)
        for section, column, block in zip(digest.BLOCKS, digest.BLOCK_SIZES, framed, strict=True):
            self._blocks[section].append(block)
            numbers[column].append(len(block))

    def coordinate(self, text: bytes) -> int:
        """Return the index of a data coordinate."""
        return self._coordinates.setdefault(text, len(self._coordinates))

    def add_dataset(self, dataset_id: str, kind: int, coordinate: int, flags: int) -> None:
        """Add an output of the quantum that is added next."""
        numbers = self._numbers
        self._ids["dataset"].append(dataset_id)
        numbers["dataset.quantum"].append(self.n_quanta)
        numbers["dataset.type"].append(kind)
        numbers["dataset.flags"].append(flags)
        numbers["dataset.coordinate"].append(coordinate)

    def add_file(self, store: int, formatter: str, storage_class: str, component: str, path: str) -> None:
        """Add a file of the dataset added last."""
        kind = (store, formatter, storage_class, component)
        self._numbers["file.dataset"].append(len(self._ids["dataset"]) - 1)
        self._numbers["file.kind"].append(self._kinds.setdefault(kind, len(self._kinds)))
        self._file_paths.append(path)

    def add_edges(self, dataset_ids: Collection[str]) -> None:
        """Add the inputs of the quantum that is added next."""
        self._ids["edge"] += dataset_ids
        self._numbers["edge.quantum"] += [self.n_quanta] * len(dataset_ids)

    def add_input(self, dataset_id: str, kind: int, coordinate: bytes, run: str) -> None:
        """Add what is known of an input that may come from outside the graph; once is enough."""
        if dataset_id in self._inputs:
            return
        self._inputs.add(dataset_id)
        numbers = self._numbers
        self._ids["input"].append(dataset_id)
        numbers["input.type"].append(kind)
        numbers["input.coordinate"].append(self.coordinate(coordinate))
        numbers["input.run"].append(self._runs.setdefault(run, len(self._runs)))

    def add_looked(self, path: str, tag: bytes) -> None:
        """Add a file that was looked at for the quantum that is added next."""
        self._numbers["looked.quantum"].append(self.n_quanta)
        self._looked_paths.append(path)
        self._looked_tags.append(tag)

    def encode(self, identity: digest.Identity, shard: int) -> tuple[bytes, Iterator[bytes | memoryview]]:
        """Return the head of the digest, and its sections in pieces."""
        columns: dict[str, Any] = {
            name: np.array(values, dtype=digest.COLUMNS[name]) for name, values in self._numbers.items()
        }
        columns["quantum.id"] = addresses.parse_ids(self._ids["quantum"])
        for table in ("dataset", "edge", "input"):
            ids = addresses.parse_ids(self._ids[table])
            order = np.argsort(ids, kind="stable")
            columns[f"{table}.id"] = ids[order]
            for name in self._numbers:
                if name.startswith(table):
                    columns[name] = columns[name][order]
            if table == "dataset":
                place = np.empty(len(order), dtype=np.int64)
                place[order] = np.arange(len(order))
                columns["file.dataset"] = place[columns["file.dataset"]]
        lists: dict[str, list[Any]] = {
            "coordinates": list(self._coordinates),
            "runs": list(self._runs),
            "file.paths": self._file_paths,
            "file.kinds": list(self._kinds),
            "looked.paths": self._looked_paths,
            "looked.tags": self._looked_tags,
            "problems": [(p.quantum_id, p.path, p.reason) for p in self.problems],
        }
        return digest.encode(identity, shard, columns, lists, self._blocks)

    def statuses(self) -> bytes:
        """Return the status of each quantum, int8."""
        return np.array(self._numbers["quantum.status"], dtype="i1").tobytes()

    def absent(self) -> bytes:
        """Return whether neither log nor metadata of each quantum exist, bool."""
        columns = (
            np.array(self._numbers[name], dtype=digest.COLUMNS[name])
            for name in ("quantum.status", "dataset.flags", "dataset.quantum")
        )
        return digest.absent(*columns).tobytes()

    def tasks(self) -> bytes:
        """Return the task of each quantum, uint16."""
        return np.array(self._numbers["quantum.task"], dtype="<u2").tobytes()
