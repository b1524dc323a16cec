"""Divides a graph into shards: runs of consecutive quanta in an order that respects the edges."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from aggregator.schemas import messages
from aggregator.schemas.checkpoints import division
from aggregator.schemas.graphs import addresses
from aggregator.storage import errors

_LARGEST = 1000
_SIZES = 44
"""Shards of full size that would make a graph. As the last ones are smaller, there are about 64."""
_EDGES_AT_ONCE = 1_000_000
_PRODUCER_BITS = 32
_PRODUCER = (1 << _PRODUCER_BITS) - 1


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
    """Quanta of the largest shards."""

    ids: addresses.Ids
    """Ids in scanning order, shape (n,)."""

    offsets: addresses.Integers
    """Offsets of the predicted blocks in bytes, shape (n,)."""

    sizes: addresses.Integers
    """Sizes of the predicted blocks in bytes, shape (n,)."""

    producers: npt.NDArray[np.int32]
    """Position of the producer of each edge; edges are in the order of consumers, shape (n_edges,)."""

    starts: npt.NDArray[np.int64]
    """First edge of each consumer, and the number of edges, shape (n + 1,)."""

    bounds: npt.NDArray[np.int64] = dataclasses.field(init=False)
    """Where shards 1, 2, ... begin, and where the last one ends, shape (n_shards,)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "bounds", division.bounds(len(self.ids), self.size))

    @property
    def n_shards(self) -> int:
        """Number of shards, the one of init quanta included."""
        return len(self.bounds)

    def edges(self, begin: int, end: int) -> npt.NDArray[np.int32]:
        """Return some edges: positions of (producer, consumer), shape (n, 2)."""
        end = min(end, len(self.producers))
        consumers = np.searchsorted(self.starts, np.arange(begin, end), side="right") - 1
        return np.stack([self.producers[begin:end], consumers], axis=1).astype(np.int32)

    def begin(self, shard: int) -> int:
        """Return the position of the first quantum of a shard, which is not that of the init quanta."""
        return int(self.bounds[shard - 1])

    def n_quanta(self, shard: int) -> int:
        """Return the number of a shard's quanta; init quanta do not count."""
        return int(self.bounds[shard] - self.bounds[shard - 1]) if shard else 0

    def of(self, positions: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the shards of some quanta, which are given by their positions, in the same shape."""
        return np.searchsorted(self.bounds, positions, side="right")

    def consumers(self) -> Consumers:
        """Return, for each shard, itself and those with quanta that directly follow its own.

        The outputs of init quanta may be read anywhere.
        """
        n_shards = self.n_shards
        # A pair of shards is one number, so that pairs with the same producer are consecutive.
        pairs = np.arange(1, n_shards, dtype=np.int64) * (n_shards + 1)
        for begin in range(0, len(self.producers), _EDGES_AT_ONCE):
            ends = self.of(self.edges(begin, begin + _EDGES_AT_ONCE))
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
        rows = slice(*self.bounds[shard - 1 : shard + 1])
        return messages.ScanShard(
            shard, self.ids[rows].tobytes(), self.offsets[rows].tobytes(), self.sizes[rows].tobytes()
        )


def divide(
    table: addresses.AddressTable, edges: Iterable[npt.NDArray[np.int32]], size: int | None = None
) -> Shards:
    """Return the shards of a graph.

    Parameters
    ----------
    table
        Its address table.
    edges
        Rows of `table` of (producer, consumer), in pieces of shape (n, 2).
    size
        Quanta of the largest shards; chosen from the size of the graph by default.

    Raises
    ------
    AggregatorError
        If the edges have a cycle.
    """
    n = len(table.ids)
    order = np.argsort(table.offsets[:, 0], kind="stable").astype(np.int32)
    position = _invert(order)
    pieces = [position[piece] for piece in edges]
    if any((piece[:, 0] >= piece[:, 1]).any() for piece in pieces):
        by_level = _sort(np.concatenate(pieces), n)
        order, position = order[by_level], _invert(by_level)
        pieces = [position[piece] for piece in pieces]
    del position
    producers, starts = by_consumer(pieces, n)
    return Shards(
        size=size or min(_LARGEST, max(division.SMALLEST, n // _SIZES)),
        ids=table.ids[order],
        offsets=table.offsets[order, 0],
        sizes=table.sizes[order, 0],
        producers=producers,
        starts=starts,
    )


def by_consumer(
    pieces: list[npt.NDArray[np.int32]], n: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return the producers of edges in the order of consumers, and where those of each consumer begin.

    Parameters
    ----------
    pieces
        Positions of (producer, consumer), in pieces of shape (n_edges, 2), which are taken away bit by bit.
    n
        Number of quanta.
    """
    keys = np.empty(sum(map(len, pieces)), dtype=np.int64)
    starts = np.zeros(n + 1, dtype=np.int64)
    begin = 0
    pieces.reverse()
    while pieces:
        piece = pieces.pop()
        keys[begin : begin + len(piece)] = piece[:, 1].astype(np.int64) << _PRODUCER_BITS | piece[:, 0]
        begin += len(piece)
    keys.sort()
    for begin in range(0, len(keys), _EDGES_AT_ONCE):
        consumers = keys[begin : begin + _EDGES_AT_ONCE] >> _PRODUCER_BITS
        first = int(consumers[0])
        counts = np.bincount(consumers - first)
        starts[first + 1 : first + 1 + len(counts)] += counts
    np.cumsum(starts, out=starts)
    producers = np.empty(len(keys), dtype=np.int32)
    for begin in range(0, len(keys), _EDGES_AT_ONCE):
        part = slice(begin, begin + _EDGES_AT_ONCE)
        producers[part] = keys[part] & _PRODUCER
    return producers, starts


def _invert(order: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int32]:
    position = np.empty(len(order), dtype=np.int32)
    position[order] = np.arange(len(order), dtype=np.int32)
    return position


def _distinct(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the different values, sorted; numpy's own function imports a large library for it."""
    ordered = np.sort(values)
    distinct: npt.NDArray[np.int64] = ordered[np.diff(ordered, prepend=-1) != 0]
    return distinct


def _sort(edges: npt.NDArray[np.int32], n: int) -> npt.NDArray[np.int64]:
    """Return an order that respects the edges: by the longest way to a quantum, then as they are."""
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
    return np.argsort(level, kind="stable")
