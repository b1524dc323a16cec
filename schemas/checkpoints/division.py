"""Where shards begin: two numbers tell it for good, since digests and the ledger name shards."""

import numpy as np
import numpy.typing as npt

SMALLEST = 50
"""Quanta of a shard, unless a graph has fewer. Each shard costs a file that is synced."""

_TAIL_PART = 4
"""The last one of so many parts has smaller shards."""

_TAIL_SHARDS = 16
"""Of a large graph, no more than this part, in shards of full size."""


def bounds(n_quanta: int, size: int) -> npt.NDArray[np.int64]:
    """Return where shards 1, 2, ... begin, and where the last one ends, as positions in scanning order.

    The last shards are smaller, so that all scanners have something to do until the end.

    Parameters
    ----------
    n_quanta
        Quanta of the graph, but for init quanta, which are shard 0.
    size
        Quanta of the largest shards.

    Returns
    -------
    bounds
        Ascending, shape (n_shards,), that of the init quanta counted.
    """
    tail = min(n_quanta // _TAIL_PART, _TAIL_SHARDS * size) if size > SMALLEST else 0
    last = tail // 2
    parts, begin = [], 0
    for n, each in ((n_quanta - tail, size), (tail - last, size // 2), (last, size // 4)):
        parts.append(np.arange(begin, begin + n, min(size, max(SMALLEST, each)), dtype=np.int64))
        begin += n
    return np.concatenate([*parts, [n_quanta]])
