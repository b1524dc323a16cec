"""Divides a graph into shards: runs of consecutive quanta in an order that respects the edges."""

import dataclasses

import numpy as np
import numpy.typing as npt

from aggregator.schemas import messages
from aggregator.schemas.graphs import addresses
from aggregator.storage import errors

_LARGEST = 1000
_SMALLEST = 50
_SHARDS_WANTED = 64
_EDGES_AT_ONCE = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Consumers:
    """Shards that may read the outputs of each shard, as ranges: mostly they lie together."""

    ranges: npt.NDArray[np.int32]
    """Ranges of shards (first, first after), ascending for each shard, shape (n, 2)."""

    starts: npt.NDArray[np.int64]
    """Row of the first range of each shard, and the number of all, shape (n_shards + 1,)."""

    def of(self, shard: int) -> npt.NDArray[np.int32]:
        """Return the ranges of one shard, shape (n, 2)."""
        return self.ranges[self.starts[shard] : self.starts[shard + 1]]

    def last(self) -> npt.NDArray[np.int32]:
        """Return the last shard that may read the outputs of each shard, shape (n_shards,)."""
        last: npt.NDArray[np.int32] = self.ranges[self.starts[1:] - 1, 1] - 1
        return last


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

    def n_quanta(self, shard: int) -> int:
        """Return the number of a shard's quanta; init quanta do not count."""
        return min(self.size, len(self.ids) - self.begin(shard)) if shard else 0

    def consumers(self) -> Consumers:
        """Return, for each shard, itself and those with quanta that directly follow its own.

        The outputs of init quanta may be read anywhere.
        """
        n_shards = self.n_shards
        # A pair of shards is one number, so that pairs with the same producer are consecutive.
        pairs = np.arange(1, n_shards, dtype=np.int64) * (n_shards + 1)
        for begin in range(0, len(self.edges), _EDGES_AT_ONCE):
            ends = self.edges[begin : begin + _EDGES_AT_ONCE].astype(np.int64) // self.size + 1
            pairs = _distinct(np.concatenate([pairs, _distinct(ends[:, 0] * n_shards + ends[:, 1])]))
        producers, consumers = np.divmod(pairs, n_shards)
        is_first = np.ones(len(pairs), dtype=bool)
        is_first[1:] = (np.diff(consumers) != 1) | (np.diff(producers) != 0)
        first = np.flatnonzero(is_first)
        last = np.append(first[1:], len(pairs))[: len(first)] - 1
        ranges = np.stack([consumers[first], consumers[last] + 1], axis=1).astype(np.int32)
        starts = np.searchsorted(producers[first], np.arange(1, n_shards + 1)) + 1
        everything = np.array([[0, n_shards]], dtype=np.int32)
        return Consumers(np.concatenate([everything, ranges]), np.concatenate([[0], starts]))

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


def _distinct(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the different values, sorted; numpy's own function imports a large library for it."""
    ordered = np.sort(values)
    distinct: npt.NDArray[np.int64] = ordered[np.diff(ordered, prepend=-1) != 0]
    return distinct


def _sort(order: npt.NDArray[np.int64], edges: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Return an order that respects the edges: by the longest way to a quantum, then as in the file."""
    n = len(order)
    consumers = np.ascontiguousarray(edges[np.argsort(edges[:, 0], kind="stable"), 1]).data
    starts = np.concatenate([[0], np.cumsum(np.bincount(edges[:, 0], minlength=n))]).data
    n_producers = np.bincount(edges[:, 1], minlength=n)
    level = np.zeros(n, dtype=np.int64)
    # Calls of numpy for each level would take seconds for a chain; this takes about a second for a million
    # quanta, whatever their shape.
    waits, levels = n_producers.data, level.data
    ready = np.flatnonzero(n_producers == 0).tolist()
    n_done = number = 0
    while ready:
        n_done, number, released = n_done + len(ready), number + 1, []
        for producer in ready:
            for consumer in consumers[starts[producer] : starts[producer + 1]]:
                waits[consumer] -= 1
                if not waits[consumer]:
                    levels[consumer] = number
                    released.append(consumer)
        ready = released
    if n_done < n:
        raise errors.AggregatorError(
            "the quanta of the graph depend on each other in a cycle; build it again"
        )
    return order[np.argsort(level, kind="stable")]
