"""What became of quanta that have left no files, as records of their jobs tell it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Self

import msgpack
import msgspec
import numpy as np
from aggregator.schemas.execution import task_metadata
from aggregator.schemas.graphs import addresses


class Stories:
    """An exception for each of some quanta.

    Parameters
    ----------
    ids
        Ids of the quanta, shape (n,), ascending.
    numbers
        Positions of their exceptions, shape (n,): quanta of one job share one.
    exceptions
        The exceptions.
    """

    def __init__(
        self, ids: addresses.Ids, numbers: np.typing.NDArray[np.int32], exceptions: list[dict[str, Any]]
    ) -> None:
        self._ids = ids
        self._numbers = numbers
        self._exceptions = exceptions

    def __len__(self) -> int:
        return len(self._ids)

    @classmethod
    def make(cls, by_job: Mapping[uuid.UUID, int], exceptions: list[task_metadata.ExceptionInfo]) -> Self:
        """Return the stories of quanta, given the position of each one's exception."""
        ids = np.frombuffer(b"".join(each.bytes for each in by_job), dtype=addresses.ID_TYPE)
        order = np.argsort(ids, kind="stable")
        numbers = np.array(list(by_job.values()), dtype=np.int32)
        return cls(ids[order], numbers[order], [msgspec.to_builtins(each) for each in exceptions])

    def pack(self) -> bytes:
        """Return them as bytes; none if there are none."""
        if not len(self):
            return b""
        packed: bytes = msgpack.packb((self._ids.tobytes(), self._numbers.tobytes(), self._exceptions))
        return packed

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """Return what was packed."""
        ids, numbers, exceptions = msgpack.unpackb(packed) if packed else (b"", b"", [])
        return cls(np.frombuffer(ids, dtype=addresses.ID_TYPE), np.frombuffer(numbers, np.int32), exceptions)

    def _story(self, quantum_id: str) -> dict[str, Any] | None:
        target = addresses.parse_ids([quantum_id])
        row = int(np.searchsorted(self._ids, target)[0])
        if row == len(self._ids) or self._ids[row] != target[0]:
            return None
        return self._exceptions[int(self._numbers[row])]

    def of(self, quantum_id: str) -> task_metadata.ExceptionInfo | None:
        """Return the exception of a quantum, if there is one."""
        story = self._story(quantum_id) if len(self) else None
        return None if story is None else msgspec.convert(story, task_metadata.ExceptionInfo)

    def tag(self, quantum_id: str) -> bytes:
        """Return what differs if the story of a quantum does; nothing if it has none."""
        story = self._story(quantum_id) if len(self) else None
        return b"" if story is None else msgspec.json.encode(story, order="sorted")
