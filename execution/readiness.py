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
    """The quanta that were given, and what can be done with each."""

    def __init__(self) -> None:
        self.ready: collections.deque[QuantumData] = collections.deque()
        """Quanta that can be executed, the first ones first."""
        self._has_succeeded: dict[uuid.UUID, bool] = {}
        self._waiting: dict[uuid.UUID, tuple[QuantumData, set[uuid.UUID]]] = {}
        self._dependants: dict[uuid.UUID, list[uuid.UUID]] = {}
        self._given: set[uuid.UUID] = set()

    def add(self, data: QuantumData) -> list[QuantumData]:
        """Take a quantum; return it if it is blocked.

        Raises
        ------
        ValueError
            If a prerequisite comes later, or never.
        """
        if unknown := data.prerequisites - self._given:
            raise ValueError(f"quantum {data.id} comes before its prerequisite {min(unknown)}")
        self._given.add(data.id)
        if data.is_blocked or any(self._has_succeeded.get(each) is False for each in data.prerequisites):
            self._has_succeeded[data.id] = False
            return [data]
        left = {each for each in data.prerequisites if each not in self._has_succeeded}
        if not left:
            self.ready.append(data)
            return []
        self._waiting[data.id] = data, left
        for each in left:
            self._dependants.setdefault(each, []).append(data.id)
        return []

    def finish(self, quantum_id: uuid.UUID, succeeded: bool) -> list[QuantumData]:
        """Note the end of a quantum; return those that are blocked by it, each once."""
        blocked, ended = [], [(quantum_id, succeeded)]
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
