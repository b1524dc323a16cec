"""Quanta of a graph that is being executed, while an aggregation follows."""

import uuid

import numpy as np

from aggregator.aggregation import shards
from aggregator.schemas.graphs import addresses


class ExecutedQuanta:
    """Quanta to whose files nothing more happens, as whoever executes them tells."""

    def __init__(self) -> None:
        self.new: list[bytes] = []
        """Ids of those that nobody has taken yet."""
        self.is_over = False
        """Whether no more will come."""

    def add(self, quantum_id: uuid.UUID) -> None:
        """Tell of a quantum."""
        self.new.append(quantum_id.bytes)


class ExecutedShards:
    """Shards all of whose quanta are executed.

    Parameters
    ----------
    quanta
        The quanta.
    division
        How they are divided into shards.
    """

    def __init__(self, quanta: ExecutedQuanta, division: shards.Shards) -> None:
        self._quanta = quanta
        self._division = division
        self._order = np.argsort(division.ids)
        self._ids = division.ids[self._order]
        self._left = np.array([division.n_quanta(shard) for shard in range(division.n_shards)])
        self._n_left = division.n_shards

    @property
    def is_executing(self) -> bool:
        """Whether there may be more."""
        return not self._quanta.is_over

    @property
    def is_cut_short(self) -> bool:
        """Whether some will never come."""
        return self._quanta.is_over and not self._quanta.new and self._n_left > 0

    def take(self) -> list[int]:
        """Return those that have come to their end since the call before; at first that of init quanta."""
        new = np.array(self._quanta.new, dtype=addresses.ID_TYPE)
        self._quanta.new.clear()
        numbers = self._division.of(self._order[np.searchsorted(self._ids, new)])
        np.subtract.at(self._left, numbers, 1)
        executed: list[int] = np.flatnonzero(self._left == 0).tolist()
        self._left[executed] = -1
        self._n_left -= len(executed)
        return executed
