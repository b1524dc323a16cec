"""What reports need of every quantum, as columns of numbers (quantum-graph-format.md section 7.2)."""

from __future__ import annotations

import dataclasses
import datetime
import math
import re
import uuid
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from aggregator.reading import causes
from aggregator.schemas.execution import attempt_metadata, statuses
from aggregator.schemas.graphs import addresses, nodes, provenance_graph
from aggregator.storage import errors

NO_CAVEATS = -1
"""Stands for caveats that are not on record."""

NO_EXCEPTION = -1
"""Stands for no exception."""

_ROW = np.dtype(
    [
        ("offset", "i8"), ("size", "i8"), ("task", "u2"), ("status", "i1"), ("caveats", "i2"),
        ("exception", "i4"), ("n_attempts", "u4"), ("start", "f8"), ("prep_time", "f8"), ("init_time", "f8"),
        ("run_time", "f8"), ("cpu_time", "f8"), ("memory", "f8"),
    ]
)  # fmt: skip
_ATTEMPT = np.dtype([("row", "i4"), ("status", "i1"), ("start", "f8"), ("end", "f8")])

_CHUNK_ROWS = 1 << 13
"""Quanta that are held as objects at once."""

_ID = re.compile(rb'"([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12})"')
_KEY_COLUMNS = np.r_[19:23, 24:36]
"""Digits of an id, in its usual form, of which 62 bits are random: they are taken for the whole."""

_UNKNOWN_USAGE = (math.nan,) * 6

Rows = npt.NDArray[np.void]
Keys = npt.NDArray[np.uint64]


class _Usage(msgspec.Struct, gc=False):
    memory: float
    start: datetime.datetime
    prep_time: float
    init_time: float
    run_time: float
    run_time_cpu: float

    def columns(self) -> tuple[float, ...]:
        """Return the columns from `start` on."""
        start = self.start if self.start.tzinfo else self.start.replace(tzinfo=datetime.UTC)
        return (
            start.timestamp(),
            self.prep_time,
            self.init_time,
            self.run_time,
            self.run_time_cpu,
            self.memory,
        )


class _Exception(msgspec.Struct, gc=False):
    type_name: str


class _Attempt(msgspec.Struct, gc=False):
    status: nodes.Status = statuses.UNKNOWN
    caveats: nodes.Caveats | None = None
    exception: _Exception | None = None
    resource_usage: _Usage | None = None


class _Quantum(msgspec.Struct, gc=False):
    """What reports take from a quantum's block; ids are looked for in the JSON as it is."""

    task_label: str
    quantum_id: str = ""
    inputs: msgspec.Raw = msgspec.Raw(b"{}")
    outputs: msgspec.Raw = msgspec.Raw(b"{}")
    attempts: list[_Attempt] = []


_decoder = msgspec.json.Decoder(_Quantum)
_BLOCKED = _Attempt(statuses.BLOCKED)


@dataclasses.dataclass(frozen=True, slots=True)
class Links:
    """Datasets of consecutive quanta, by keys made from their ids."""

    keys: Keys
    """Keys of the datasets of all these quanta, one after another, shape (n,)."""

    counts: npt.NDArray[np.int32]
    """How many of them each quantum has, shape (m,)."""


@dataclasses.dataclass(frozen=True, slots=True)
class QuantumTable:
    """All regular quanta of a graph, in file order."""

    rows: Rows
    """One row for each quantum, shape (n,).

    Fields: `offset` and `size` of its block in bytes; `task`, its position in the pipeline; `status` and
    `caveats` of the last attempt; `exception`, a position in `exceptions`; `n_attempts`; and of the last
    attempt `start` (POSIX seconds), `prep_time`, `init_time`, `run_time`, `cpu_time` (seconds) and `memory`
    (bytes), NaN where they are not on record.
    """

    earlier: Rows
    """One row for each attempt but the last of a quantum that is on record with its times, shape (m,).

    Fields: `row` of the quantum, `status`, `start` and `end` (POSIX seconds).
    """

    exceptions: tuple[str, ...]
    """Types of exceptions."""

    outputs: list[Links]
    """Datasets that quanta were to write, in parts."""

    inputs: list[Links]
    """Datasets that quanta were to read, in parts."""

    failed: npt.NDArray[np.int64]
    """Rows of the quanta whose status blocks others (`causes.BLOCKING`), ascending, shape (f,)."""

    failed_ids: addresses.Ids
    """Their ids, shape (f,)."""

    @property
    def end(self) -> npt.NDArray[np.float64]:
        """When the last attempt of each quantum ended, POSIX seconds or NaN, shape (n,)."""
        rows = self.rows
        result: npt.NDArray[np.float64] = (
            rows["start"] + rows["prep_time"] + rows["init_time"] + rows["run_time"]
        )
        return result

    def exception(self, number: int) -> str | None:
        """Return the name of a type of exceptions; nothing for `NO_EXCEPTION`."""
        return None if number == NO_EXCEPTION else self.exceptions[number]

    def failed_id(self, row: int) -> str:
        """Return the id of the quantum in a row of `failed`."""
        place = int(np.searchsorted(self.failed, row))
        return str(uuid.UUID(bytes=addresses.id_at(self.failed_ids, place)))


def read(graph: provenance_graph.ProvenanceGraph) -> QuantumTable:
    """Read all quanta of a graph, in one pass.

    About 250 bytes of memory are needed for a quantum with a dozen inputs and outputs.

    Raises
    ------
    FormatError
        If a quantum's block is damaged, or of a task that is not in the pipeline.
    """
    builder = _Builder(graph)
    for offset, size, quantum in graph.placed_quanta(_decode):
        builder.add(offset, size, quantum)
    return builder.finish()


def _decode(document: bytes) -> _Quantum:
    try:
        return _decoder.decode(document)
    except msgspec.DecodeError:
        # Numbers and times may be written in other ways.
        quantum = nodes.decode_quantum(document)
        return _Quantum(
            quantum.task_label,
            quantum.quantum_id,
            msgspec.Raw(msgspec.json.encode(quantum.inputs)),
            msgspec.Raw(msgspec.json.encode(quantum.outputs)),
            [_convert(attempt) for attempt in quantum.attempts],
        )


def _convert(attempt: nodes.Attempt) -> _Attempt:
    exception = None if attempt.exception is None else _Exception(attempt.exception.type_name)
    usage = None if attempt.resource_usage is None else _convert_usage(attempt.resource_usage)
    return _Attempt(attempt.status, attempt.caveats, exception, usage)


def _convert_usage(usage: attempt_metadata.ResourceUsage) -> _Usage | None:
    try:
        start = datetime.datetime.fromisoformat(usage.start)
    except ValueError:
        return None
    times = (usage.prep_time, usage.init_time, usage.run_time, usage.run_time_cpu)
    return _Usage(usage.memory, start, *times)


class _Builder:
    def __init__(self, graph: provenance_graph.ProvenanceGraph) -> None:
        self._path = graph.path
        self._tasks = {task.label: i for i, task in enumerate(graph.pipeline.tasks)}
        self._exceptions: dict[str, int] = {}
        self._pending: list[tuple[Any, ...]] = []
        self._pending_ids: tuple[list[list[bytes]], list[list[bytes]]] = ([], [])
        self._earlier: list[tuple[int, int, float, float]] = []
        self._pending_failed: list[tuple[int, str]] = []
        self._failed: list[npt.NDArray[np.int64]] = []
        self._failed_ids: list[addresses.Ids] = []
        self._n_rows = 0
        self._rows: list[Rows] = []
        self._links: tuple[list[Links], list[Links]] = ([], [])

    def add(self, offset: int, size: int, quantum: _Quantum) -> None:
        task = self._tasks.get(quantum.task_label)
        if task is None:
            problem = f"block at offset {offset}: task {quantum.task_label!r} is not in the pipeline graph"
            raise errors.FormatError(self._path, "quanta.mb", f"{problem}; copy or write the graph again")
        attempts = quantum.attempts
        last = attempts[-1] if attempts else _BLOCKED
        usage = last.resource_usage
        self._pending.append(
            (
                offset,
                size,
                task,
                last.status,
                NO_CAVEATS if last.caveats is None else last.caveats,
                self._exception(last),
                len(attempts),
                *(_UNKNOWN_USAGE if usage is None else usage.columns()),
            )
        )
        row = self._n_rows + len(self._pending) - 1
        if last.status in causes.BLOCKING:
            self._pending_failed.append((row, quantum.quantum_id))
        if len(attempts) > 1:
            self._add_earlier(row, attempts[:-1])
        self._pending_ids[0].append(_ID.findall(quantum.outputs))
        self._pending_ids[1].append(_ID.findall(quantum.inputs))
        if len(self._pending) == _CHUNK_ROWS:
            self._flush()

    def _exception(self, attempt: _Attempt) -> int:
        if attempt.exception is None:
            return NO_EXCEPTION
        return self._exceptions.setdefault(attempt.exception.type_name, len(self._exceptions))

    def _add_earlier(self, row: int, attempts: list[_Attempt]) -> None:
        for attempt in attempts:
            if attempt.resource_usage is not None:
                start, *times = attempt.resource_usage.columns()
                self._earlier.append((row, attempt.status, start, start + sum(times[:3])))

    def _flush(self) -> None:
        self._rows.append(np.array(self._pending, dtype=_ROW))
        for ids, links in zip(self._pending_ids, self._links, strict=True):
            counts = np.array([len(ids_of_one) for ids_of_one in ids], dtype=np.int32)
            links.append(Links(_keys(b"".join(b"".join(ids_of_one) for ids_of_one in ids)), counts))
            ids.clear()
        self._failed.append(np.array([row for row, _ in self._pending_failed], dtype=np.int64))
        self._failed_ids.append(self._parse_ids([quantum_id for _, quantum_id in self._pending_failed]))
        self._pending_failed.clear()
        self._n_rows += len(self._pending)
        self._pending.clear()

    def _parse_ids(self, texts: list[str]) -> addresses.Ids:
        try:
            return addresses.parse_ids(texts)
        except ValueError as exc:
            problem = f"ids of quanta: {exc}; copy or write the graph again"
            raise errors.FormatError(self._path, "quanta.mb", problem) from exc

    def finish(self) -> QuantumTable:
        self._flush()
        outputs, inputs = self._links
        return QuantumTable(
            rows=np.concatenate(self._rows),
            earlier=np.array(self._earlier, dtype=_ATTEMPT),
            exceptions=tuple(self._exceptions),
            outputs=outputs,
            inputs=inputs,
            failed=np.concatenate(self._failed),
            failed_ids=np.concatenate(self._failed_ids),
        )


def _keys(texts: bytes) -> Keys:
    """Return the keys of ids, given one after another in their usual form."""
    digits = np.frombuffer(texts, dtype=np.uint8).reshape(-1, 36)[:, _KEY_COLUMNS]
    return np.frombuffer(bytes.fromhex(digits.tobytes().decode()), dtype=">u8").astype(np.uint64)
