"""The address file of a provenance graph: where the blocks of each quantum and dataset lie.

Quanta are known from the digests, datasets from the parts of the dataset section
(quantum-graph-format.md sections 4 and 7).
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from aggregator.schemas.checkpoints import dataset_part, digest
from aggregator.schemas.graphs import addresses, blocks, nodes

_ROWS_AT_ONCE = 100_000
_SAMPLE_STEP = 64
_WIDTH = 2 * len(nodes.COMPONENTS)
_DATASETS = 2 * nodes.DATASETS
COMPONENTS = ("quanta", "logs", "metadata")
"""Components of which each quantum has a block, or none."""

_NO_IDS = np.zeros(0, dtype=addresses.ID_TYPE)


class QuantumAddresses:
    """Ids and places of all quanta: of each shard, in their order, first the ids, then sizes of blocks.

    Parameters
    ----------
    n_quanta
        Number of quanta.
    """

    def __init__(self, n_quanta: int) -> None:
        # Arrays of shards would leave gaps in memory that nothing else fits into.
        self._in_order = np.empty(n_quanta, dtype=addresses.ID_TYPE)
        self._offsets = {name: np.zeros(n_quanta + 1, dtype=np.int64) for name in COMPONENTS}
        self._first = [0, 0]
        self._order = np.zeros(0, dtype=np.int64)
        self.ids = _NO_IDS
        """Ids of all quanta, sorted, shape (n,); known when all is complete."""

    def add(self, ids: addresses.Ids) -> None:
        """Add the quanta of the next shard; the first of them is shard 1."""
        begin = self._first[-1]
        self._in_order[begin : begin + len(ids)] = ids
        self._first.append(begin + len(ids))

    def set_sizes(self, name: str, shard: int, sizes: npt.NDArray[np.int64]) -> None:
        """Tell the sizes of the blocks of a component that are of a shard's quanta."""
        self._offsets[name][self._first[shard] + 1 : self._first[shard + 1] + 1] = sizes

    @property
    def n_shards(self) -> int:
        """Number of shards so far, the one of init quanta included."""
        return len(self._first) - 1

    def complete(self) -> None:
        """Find out all places, now that everything is told."""
        for offsets in self._offsets.values():
            np.cumsum(offsets, out=offsets)
        self._order = np.argsort(self._in_order, kind="stable")
        self.ids = self._in_order[self._order]
        self._in_order = _NO_IDS

    def between(self, begin: int, end: int) -> npt.NDArray[np.int64]:
        """Return the places of some quanta in the order of ids: offsets and sizes by turns."""
        return self._places(self._order[begin:end])

    def of(self, shard: int, rows: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Return the places of some quanta of a shard."""
        return self._places(self._first[shard] + rows.astype(np.int64))

    def _places(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        places = np.zeros((len(rows), _WIDTH), dtype=np.int64)
        for name, offsets in self._offsets.items():
            column, size = 2 * nodes.COMPONENTS.index(name), offsets[rows + 1] - offsets[rows]
            places[:, column] = np.where(size > 0, offsets[rows], 0)
            places[:, column + 1] = size
        return places


@dataclasses.dataclass(frozen=True, slots=True)
class _Slices:
    """How a part is cut into ranges of ids."""

    path: str
    """The part's file."""

    rows: npt.NDArray[np.int64]
    """First row of each range, and the number of rows, shape (n_ranges + 1,)."""

    offsets: npt.NDArray[np.int64]
    """Where the blocks of these rows begin in the graph, shape (n_ranges + 1,)."""


class DatasetAddresses:
    """Ids and places of all datasets, read from their parts when they are wanted.

    Parameters
    ----------
    paths
        Parts in the order in which their blocks are in the graph; those of shards come first.
    n_shards
        How many of them belong to shards.
    """

    def __init__(self, paths: list[str], n_shards: int) -> None:
        self._paths = paths
        self._n_shards = n_shards
        self.n_rows = 0
        """Number of datasets."""
        self._samples = [_NO_IDS]
        for path in paths:
            with dataset_part.Part(path) as part:
                self.n_rows += part.n_rows
                self._samples.append(np.ascontiguousarray(part.rows(0, part.n_rows)["id"][::_SAMPLE_STEP]))

    def sample(self) -> addresses.Ids:
        """Return some of the ids, at least one of each part, sorted."""
        return np.sort(np.concatenate(self._samples))

    def slices(self, bounds: addresses.Ids) -> list[_Slices]:
        """Return how each part is cut at some ids."""
        result, offset = [], 0
        for path in self._paths:
            with dataset_part.Part(path) as part:
                table = part.rows(0, part.n_rows)
            at = np.concatenate([[0], np.searchsorted(table["id"], bounds), [len(table)]])
            starts = np.concatenate([[0], np.cumsum(table["size"])])
            result.append(_Slices(path, at, offset + starts[at]))
            offset += int(starts[-1])
        return result

    def rows(
        self, slices: list[_Slices], number: int, quanta: QuantumAddresses
    ) -> Iterator[tuple[addresses.Ids, npt.NDArray[np.int64]]]:
        """Yield ids and places of the datasets of one range, part by part."""
        for shard, cut in enumerate(slices):
            begin, end = int(cut.rows[number]), int(cut.rows[number + 1])
            if end > begin:
                with dataset_part.Part(cut.path) as part:
                    table = part.rows(begin, end)
                places = np.zeros((len(table), _WIDTH), dtype=np.int64)
                places[:, _DATASETS] = cut.offsets[number] + blocks.offsets(table["size"])
                places[:, _DATASETS + 1] = table["size"]
                if 0 < shard < self._n_shards:
                    _share_blocks(places, table, shard, quanta)
                yield np.ascontiguousarray(table["id"]), places


def _share_blocks(
    places: npt.NDArray[np.int64], table: npt.NDArray[Any], shard: int, quanta: QuantumAddresses
) -> None:
    """Give logs and metadata the blocks of their quanta."""
    for role, column in ((digest.LOG, 2 * nodes.LOGS), (digest.METADATA, 2 * nodes.METADATA)):
        chosen = np.flatnonzero(table["role"] == role)
        of_quanta = quanta.of(shard, table["row"][chosen])
        places[chosen, column : column + 2] = of_quanta[:, column : column + 2]


def write(out: IO[bytes], quanta: QuantumAddresses, datasets: DatasetAddresses, int_size: int) -> None:
    """Write the address file, range by range, so that memory stays bounded.

    Parameters
    ----------
    out
        Where to write.
    quanta, datasets
        All nodes.
    int_size
        Bytes per integer.
    """
    n_rows = len(quanta.ids) + datasets.n_rows
    out.write(addresses.encode_header(int_size, n_rows, len(nodes.COMPONENTS)))
    sample = np.sort(np.concatenate([datasets.sample(), quanta.ids[::_SAMPLE_STEP]]))
    n_ranges = max(1, -(-n_rows // _ROWS_AT_ONCE))
    bounds = sample[[len(sample) * i // n_ranges for i in range(1, n_ranges)]]
    slices = datasets.slices(bounds)
    cuts = [0, *np.searchsorted(quanta.ids, bounds).tolist(), len(quanta.ids)]
    index = 0
    for number, (begin, end) in enumerate(itertools.pairwise(cuts)):
        ids, places = [quanta.ids[begin:end]], [quanta.between(begin, end)]
        for part_ids, part_places in datasets.rows(slices, number, quanta):
            ids.append(part_ids)
            places.append(part_places)
        joined = np.concatenate(ids)
        order = np.argsort(joined, kind="stable")
        out.write(addresses.encode_rows(joined[order], index, np.concatenate(places)[order], int_size))
        index += len(joined)
