"""Ids of quanta and datasets: UUIDs of version 7 that depend on the seed and a node's number only."""

from typing import Final

import numpy as np
import numpy.typing as npt

from aggregator.schemas.graphs import addresses

EPOCH_MS: Final = 1_772_323_200_000
"""Time of the first id in milliseconds since 1970: midnight on 1 March 2026."""

PER_MS: Final = 50
"""Ids with the same time."""

_LAYOUT: Final = np.dtype([("high", ">u8"), ("low", ">u8")])
_U64 = np.uint64


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return a permutation of all 64-bit numbers under which neighbours have nothing in common."""
    values = values + _U64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> _U64(30))) * _U64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> _U64(27))) * _U64(0x94D049BB133111EB)
    return values ^ (values >> _U64(31))


def ids(seed: int, numbers: npt.NDArray[np.int64]) -> addresses.Ids:
    """Return the ids of nodes.

    Parameters
    ----------
    seed
        Seed of the run.
    numbers
        Numbers of the nodes, in the order in which they are said to have been made.
    """
    count = numbers.astype(np.uint64)
    key = _mixed(np.array([seed], dtype=np.uint64))
    low = _mixed(count ^ key)
    high = _mixed(low ^ key)
    time = _U64(EPOCH_MS) + count // _U64(PER_MS)
    result = np.empty(len(numbers), dtype=_LAYOUT)
    result["high"] = time << _U64(16) | _U64(0x7000) | high & _U64(0x0FFF)
    result["low"] = _U64(0x8000000000000000) | low >> _U64(2)
    return np.frombuffer(result.tobytes(), dtype=addresses.ID_TYPE)


def texts(seed: int, numbers: npt.NDArray[np.int64]) -> list[str]:
    """Return the ids of nodes in their usual form."""
    joined = addresses.texts(ids(seed, numbers)).tobytes().decode()
    size = addresses.TEXT_SIZE
    return [joined[i : i + size] for i in range(0, len(joined), size)]
