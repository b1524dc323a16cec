"""Which quanta the next job can execute: those of a cluster, when all clusters before it have ended."""

from __future__ import annotations

import collections
import dataclasses
import uuid
from collections.abc import Collection, Iterable, Mapping

from aggregator.execution import readiness
from aggregator.execution.workflows import clusters as clusters_module


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Portion:
    """The quanta of one job."""

    cluster: int
    """Position of their cluster."""

    quanta: tuple[readiness.QuantumData, ...]
    """Quanta, none before its prerequisites."""

    n_tries: int = 0
    """Jobs before it that had these and have ended without telling what became of them."""


class ClusterSchedule:
    """Clusters of quanta, and what can be done with each.

    A cluster is one job. What that leaves undone, others do one by one: what has ended a job may be one
    quantum, and it shall not take the others along again and again.

    Parameters
    ----------
    quanta
        Quanta, none before its prerequisites.
    definitions
        Which of them share a job; all others have one of their own.
    executed
        Quanta that have succeeded before.

    Raises
    ------
    RefusedError
        If definitions do not fit to the quanta.
    """

    def __init__(
        self,
        quanta: Iterable[readiness.QuantumData],
        definitions: Iterable[clusters_module.Definition],
        executed: Collection[uuid.UUID] = (),
    ) -> None:
        data = {each.id: each for each in quanta}
        clusters = clusters_module.make(data.values(), list(definitions))
        self.ready: collections.deque[Portion] = collections.deque()
        """What can be executed now, the first ones first."""
        self._left: list[collections.deque[readiness.QuantumData]] = [
            collections.deque(data[quantum_id] for quantum_id in each.quanta if quantum_id not in executed)
            for each in clusters
        ]
        self._n_before = [len(each.parents) for each in clusters]
        self._after: list[list[int]] = [[] for _ in clusters]
        for position, each in enumerate(clusters):
            for parent in each.parents:
                self._after[parent].append(position)
        self._has_succeeded: dict[int, bool] = dict.fromkeys((each.int for each in executed), True)
        """By id of each quantum that has ended."""

    def begin(self) -> list[readiness.QuantumData]:
        """Make ready what needs nothing; return quanta that are blocked already."""
        return self._open([position for position, n_before in enumerate(self._n_before) if not n_before])

    def is_blocked(self, data: readiness.QuantumData, ends: Mapping[uuid.UUID, bool]) -> bool:
        """Return whether a quantum before one has failed.

        Parameters
        ----------
        data
            The quantum.
        ends
            What is known besides: whether quanta have succeeded, by id.
        """
        return data.is_blocked or any(
            ends.get(each, self._has_succeeded.get(each.int)) is False for each in data.prerequisites
        )

    def settle(self, portion: Portion, ends: Mapping[uuid.UUID, bool]) -> list[readiness.QuantumData]:
        """Note what came of a job; return quanta that are blocked by it.

        Parameters
        ----------
        portion
            What it was to execute.
        ends
            Whether each quantum has succeeded, by id; what is missing is executed once more, alone.
        """
        self._has_succeeded |= {quantum_id.int: succeeded for quantum_id, succeeded in ends.items()}
        undone = [data for data in portion.quanta if data.id not in ends]
        self._left[portion.cluster].extendleft(reversed(undone))
        if undone:
            return self._next(portion.cluster, portion.n_tries + 1 if len(portion.quanta) == 1 else 1)
        return self._next(portion.cluster, 1) if self._left[portion.cluster] else self._end(portion.cluster)

    def _next(self, position: int, n_tries: int) -> list[readiness.QuantumData]:
        """Make the next quantum of a cluster ready that is not blocked; return those that are."""
        blocked: list[readiness.QuantumData] = []
        left = self._left[position]
        while left:
            data = left.popleft()
            if not self.is_blocked(data, {}):
                self.ready.append(Portion(position, (data,), n_tries))
                return blocked
            blocked.append(data)
            self._has_succeeded[data.id.int] = False
        return blocked + self._end(position)

    def _end(self, position: int) -> list[readiness.QuantumData]:
        """Open the clusters after one that has ended; return quanta that are blocked."""
        return self._open(self._opened_by(position))

    def _opened_by(self, position: int) -> list[int]:
        opened = []
        for after in self._after[position]:
            self._n_before[after] -= 1
            if not self._n_before[after]:
                opened.append(after)
        return opened

    def _open(self, positions: list[int]) -> list[readiness.QuantumData]:
        """Make clusters ready; return quanta that are blocked."""
        blocked: list[readiness.QuantumData] = []
        opened = collections.deque(positions)
        while opened:
            position = opened.popleft()
            chosen = []
            for data in self._left[position]:
                if self.is_blocked(data, {}):
                    blocked.append(data)
                    self._has_succeeded[data.id.int] = False
                else:
                    chosen.append(data)
            self._left[position].clear()
            if chosen:
                self.ready.append(Portion(position, tuple(chosen)))
            else:
                opened.extend(self._opened_by(position))
        return blocked
