"""Which quanta can be executed: those whose prerequisites have succeeded."""

from __future__ import annotations

import collections
import dataclasses
import uuid
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class QuantumData:
    """A quantum that is to be executed."""

    quantum: Any
    """What is sent to whoever executes it; it can be pickled."""

    task: str
    """Label of its task."""

    id: uuid.UUID
    """Its id."""

    prerequisites: frozenset[uuid.UUID] = frozenset()
    """Quanta that have to succeed before it."""

    data_id: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Values of its required dimensions, for people."""

    is_blocked: bool = False
    """Whether it can't be executed because of a quantum that is not to be executed with it."""


class Readiness:
    """The quanta that were given, and what can be done with each.

    Of those that have ended it keeps nothing but id and end: runs have millions of them.
    """

    def __init__(self) -> None:
        self.ready: collections.deque[QuantumData] = collections.deque()
        """Quanta that can be executed, the first ones first."""
        self._has_succeeded: dict[int, bool | None] = {}
        """By id of each that was given; nothing of those that have not ended."""
        self._waiting: dict[int, tuple[QuantumData, set[int]]] = {}
        self._dependants: dict[int, list[int]] = {}

    @property
    def n_waiting(self) -> int:
        """Number of quanta that wait for others."""
        return len(self._waiting)

    def add(self, data: QuantumData) -> list[QuantumData]:
        """Take a quantum; return it if it is blocked.

        Raises
        ------
        ValueError
            If a prerequisite comes later, or never.
        """
        key, left, is_blocked = data.id.int, set(), data.is_blocked
        for each in data.prerequisites:
            if each.int not in self._has_succeeded:
                raise ValueError(f"quantum {data.id} comes before its prerequisite {each}")
            has_succeeded = self._has_succeeded[each.int]
            if has_succeeded is None:
                left.add(each.int)
            elif not has_succeeded:
                is_blocked = True
        self._has_succeeded[key] = False if is_blocked else None
        if is_blocked:
            return [data]
        if not left:
            self.ready.append(data)
            return []
        self._waiting[key] = data, left
        for before in left:
            self._dependants.setdefault(before, []).append(key)
        return []

    def finish(self, quantum_id: uuid.UUID, succeeded: bool) -> list[QuantumData]:
        """Note the end of a quantum; return those that are blocked by it, each once."""
        blocked, ended = [], [(quantum_id.int, succeeded)]
        while ended:
            each, is_success = ended.pop()
            self._has_succeeded[each] = is_success
            for dependant in self._dependants.pop(each, ()):
                if dependant not in self._waiting:
                    continue
                data, left = self._waiting[dependant]
                left.discard(each)
                if not is_success:
                    del self._waiting[dependant]
                    blocked.append(data)
                    ended.append((dependant, False))
                elif not left:
                    del self._waiting[dependant]
                    self.ready.append(data)
        return blocked
