"""Divides a graph into shards: runs of consecutive quanta in an order that respects the edges."""

import dataclasses

import numpy as np
import numpy.typing as npt

from schemas import addresses, errors, messages

_LARGEST = 1000
_SMALLEST = 50
_SHARDS_WANTED = 64
_EDGES_AT_ONCE = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Shards:
    """A graph's quanta in scanning order; shard 0 is the init quanta, shard 1 the first `size` quanta."""

    size: int
    """Quanta of each shard but the last."""

    ids: addresses.Ids
    """Ids in scanning order, shape (n,)."""

    offsets: addresses.Integers
    """Offsets of the predicted blocks in bytes, shape (n,)."""

    sizes: addresses.Integers
    """Sizes of the predicted blocks in bytes, shape (n,)."""

    edges: npt.NDArray[np.int32]
    """Positions of (producer, consumer), shape (n_edges, 2)."""

    @property
    def n_shards(self) -> int:
        """Number of shards, the one of init quanta included."""
        return 1 + -(-len(self.ids) // self.size)

    def begin(self, shard: int) -> int:
        """Return the position of a shard's first quantum."""
        return (shard - 1) * self.size

    def consumers(self) -> list[list[int]]:
        """Return, for each shard, itself and those with quanta that directly follow its own, ascending.

        The outputs of init quanta may be read anywhere.
        """
        n_shards = self.n_shards
        follows = np.eye(n_shards, dtype=bool)
        follows[0] = True
        for begin in range(0, len(self.edges), _EDGES_AT_ONCE):
            pairs = self.edges[begin : begin + _EDGES_AT_ONCE] // self.size + 1
            follows[pairs[:, 0], pairs[:, 1]] = True
        return [np.flatnonzero(row).tolist() for row in follows]

    def request(self, shard: int) -> messages.ScanShard:
        """Return the message that makes a scanner scan a shard."""
        if shard == 0:
            return messages.ScanShard(0, b"", b"", b"")
        rows = slice(self.begin(shard), self.begin(shard) + self.size)
        return messages.ScanShard(
            shard, self.ids[rows].tobytes(), self.offsets[rows].tobytes(), self.sizes[rows].tobytes()
        )


def divide(table: addresses.AddressTable, edges: npt.NDArray[np.int32], size: int | None = None) -> Shards:
    """Return the shards of a graph.

    Parameters
    ----------
    table
        Its address table.
    edges
        Rows of `table` of (producer, consumer), shape (n, 2).
    size
        Quanta of a shard; chosen from the size of the graph by default.

    Raises
    ------
    AggregatorError
        If the edges have a cycle.
    """
    n = len(table.ids)
    order = np.argsort(table.offsets[:, 0], kind="stable")
    position = _invert(order)
    if (position[edges[:, 0]] >= position[edges[:, 1]]).any():
        order = _sort(order, position[edges])
        position = _invert(order)
    return Shards(
        size=size or min(_LARGEST, max(_SMALLEST, n // _SHARDS_WANTED)),
        ids=table.ids[order],
        offsets=table.offsets[order, 0],
        sizes=table.sizes[order, 0],
        edges=position[edges],
    )


def _invert(order: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    position = np.empty(len(order), dtype=np.int32)
    position[order] = np.arange(len(order), dtype=np.int32)
    return position


def _sort(order: npt.NDArray[np.int64], edges: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Return an order that respects the edges and keeps the file's where it can."""
    n = len(order)
    level = np.zeros(n, dtype=np.int64)
    for _ in range(n):
        raised = level.copy()
        np.maximum.at(raised, edges[:, 1], level[edges[:, 0]] + 1)
        if (raised == level).all():
            return order[np.argsort(level, kind="stable")]
        level = raised
    raise errors.AggregatorError("the quanta of the graph depend on each other in a cycle; build it again")
