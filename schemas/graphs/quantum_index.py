"""Side index of a provenance graph: where its quanta lie, by task, data ID and status (docs/formats.md).

The graph itself finds nodes by id only. The index has a few columns of numbers for each quantum, in the order
of the graph, in groups of rows; a search reads the columns that it needs, group by group.
"""

import dataclasses
import os
from collections.abc import Collection, Iterator
from typing import IO, Any, Self

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash
import zstandard
from aggregator.schemas.execution import statuses
from aggregator.schemas.graphs import nodes, provenance_graph
from aggregator.storage import durable_files, errors

FORMAT_VERSION = 1
_MAGIC = b"QGINDEX1"
_TAIL_SIZE = 8 + 16
"""Bytes after the footer: its size and its checksum."""

_GROUP_ROWS = 1 << 15
"""Quanta in a group of rows; all memory that is needed is a multiple of it."""

_COLUMNS = {"task": "<u2", "status": "i1", "caveats": "<i2", "offset": "<i8", "size": "<i8"}
"""Columns before those of the data ID's values, which are int64."""

_NO_CAVEATS = -1

Columns = dict[str, npt.NDArray[Any]]


class _Attempt(msgspec.Struct, gc=False):
    status: nodes.Status = statuses.UNKNOWN
    caveats: nodes.Caveats | None = None


class _Quantum(msgspec.Struct, gc=False):
    """What the index takes from a quantum's block."""

    task_label: str
    data_coordinate: tuple[int | str, ...] = ()
    attempts: list[_Attempt] = []


class _Group(msgspec.Struct, frozen=True):
    n_rows: int
    places: dict[str, tuple[int, int]]
    ranges: dict[str, tuple[int, int]]


class _Footer(msgspec.Struct, frozen=True):
    version: int
    graph: str
    groups: list[_Group]


_quantum_decoder = msgspec.json.Decoder(_Quantum)
_BLOCKED = _Attempt(statuses.BLOCKED)


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A quantum in the index."""

    task: int
    """Position of its task in the pipeline."""
    status: int
    """Status of its last attempt, or `statuses.BLOCKED`."""
    offset: int
    """Where its block begins in the graph."""
    size: int
    """Size of the block in bytes."""


def code(value: int | str) -> int:
    """Return the number that stands for a value of a data ID; different strings hardly ever share one."""
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return value
    return xxhash.xxh3_64_intdigest(str(value).encode()) - (1 << 63)


def build(graph: provenance_graph.ProvenanceGraph, stream: IO[bytes]) -> None:
    """Write the index of a graph, in one pass over its quanta.

    Raises
    ------
    FormatError
        If a quantum's block is damaged, or of a task that is not in the pipeline.
    """
    builder = _Builder(graph, stream)
    for offset, size, quantum in graph.placed_quanta(_decode):
        builder.add(offset, size, quantum)
    builder.finish()


def _decode(document: bytes) -> _Quantum:
    try:
        return _quantum_decoder.decode(document)
    except msgspec.DecodeError:
        # Numbers may be written in other ways.
        quantum = nodes.decode_quantum(document)
        values = nodes.coordinate_values(quantum.data_coordinate)
        attempts = [_Attempt(a.status, a.caveats) for a in quantum.attempts]
        return _Quantum(quantum.task_label, values, attempts)


class _Builder:
    def __init__(self, graph: provenance_graph.ProvenanceGraph, stream: IO[bytes]) -> None:
        self._graph = graph
        self._stream = stream
        self._tasks = {t.label: (i, len(t.dimensions)) for i, t in enumerate(graph.pipeline.tasks)}
        self._n_values = max((n for _, n in self._tasks.values()), default=0)
        self._rows: list[tuple[int, ...]] = []
        self._padding = [(0,) * (self._n_values - n) for n in range(self._n_values + 1)]
        self._codes: dict[int | str, int] = {}
        self._groups: list[_Group] = []
        self._offset = stream.write(_MAGIC)
        self._compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)

    def add(self, offset: int, size: int, quantum: _Quantum) -> None:
        values = quantum.data_coordinate
        task, n_values = self._tasks.get(quantum.task_label, (-1, -1))
        if len(values) != n_values:
            problem = f"block at offset {offset}: a quantum with {len(values)} values in its data ID that"
            problem += f" does not fit task {quantum.task_label!r}; copy or write the graph again"
            raise errors.FormatError(self._graph.path, "quanta.mb", problem)
        last = quantum.attempts[-1] if quantum.attempts else _BLOCKED
        caveats = _NO_CAVEATS if last.caveats is None else last.caveats
        row = (task, last.status, caveats, offset, size, *map(self._code, values), *self._padding[n_values])
        self._rows.append(row)
        if len(self._rows) == _GROUP_ROWS:
            self._write_group()

    def _code(self, value: int | str) -> int:
        if value not in self._codes:
            if len(self._codes) == _GROUP_ROWS:
                self._codes.clear()
            self._codes[value] = code(value)
        return self._codes[value]

    def _write_group(self) -> None:
        table = np.array(self._rows, dtype=np.int64)
        kinds = dict(_COLUMNS, **{value_column(i): "<i8" for i in range(self._n_values)})
        places, ranges = {}, {}
        for (name, kind), column in zip(kinds.items(), table.T, strict=True):
            ranges[name] = (int(column.min()), int(column.max()))
            frame = self._compressor.compress(np.ascontiguousarray(column, dtype=kind).tobytes())
            places[name] = (self._offset, len(frame))
            self._offset += self._stream.write(frame)
        self._groups.append(_Group(len(table), places, ranges))
        self._rows.clear()

    def finish(self) -> None:
        if self._rows:
            self._write_group()
        footer = msgspec.json.encode(_Footer(FORMAT_VERSION, self._graph.fingerprint, self._groups))
        self._stream.write(footer + len(footer).to_bytes(8, "big") + xxhash.xxh3_128_digest(footer))
        self._stream.flush()


def value_column(position: int) -> str:
    """Return the name of the column with the codes of a value of the data ID."""
    return f"value{position}"


class Index:
    """The index of a graph, opened.

    Parameters
    ----------
    stream
        The file, which the index closes.
    path
        Its name for messages.
    fingerprint
        Fingerprint of the graph.

    Raises
    ------
    FormatError
        If it is damaged, of another version, or of another graph; of all methods.
    """

    def __init__(self, stream: IO[bytes], path: str, fingerprint: str) -> None:
        self._stream = stream
        self.path = path
        self._decompressor = zstandard.ZstdDecompressor()
        try:
            footer = self._read_footer()
            if (footer.version, footer.graph) != (FORMAT_VERSION, fingerprint):
                raise errors.FormatError(path, "", "index of another graph, or of another version")
        except BaseException:
            stream.close()
            raise
        self._groups = footer.groups

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _read_footer(self) -> _Footer:
        fd = self._stream.fileno()
        end = os.fstat(fd).st_size - _TAIL_SIZE
        tail = durable_files.read_range(fd, max(end, 0), _TAIL_SIZE)
        size = int.from_bytes(tail[:8], "big")
        footer = durable_files.read_range(fd, end - size, size) if 0 <= size <= end else b""
        if not footer or xxhash.xxh3_128_digest(footer) != tail[8:]:
            raise errors.FormatError(self.path, "", "not an index, or a damaged one")
        try:
            return msgspec.json.decode(footer, type=_Footer)
        except msgspec.DecodeError as exc:
            raise errors.FormatError(self.path, "", f"index of another version ({exc})") from exc

    def search(
        self, task: int | None, values: dict[int, int], codes: frozenset[int] | None
    ) -> Iterator[Entry]:
        """Yield quanta in the order of the graph; see `columns`."""
        names = ("task", "status", "offset", "size")
        for columns in self.columns(task, values, codes, names):
            yield from map(Entry, *(columns[name].tolist() for name in names))

    def columns(
        self,
        task: int | None,
        values: dict[int, int],
        codes: frozenset[int] | None,
        names: Collection[str] | None = None,
    ) -> Iterator[Columns]:
        """Yield columns of quanta in parts, in the order of the graph.

        Parameters
        ----------
        task
            Position of the task in the pipeline; of all tasks by default.
        values
            Codes of some of the data ID's values, by position; see `code`.
        codes
            Statuses; all by default.
        names
            Names of columns; all by default. See `value_column` for those of the data ID's values.
        """
        equal = {value_column(position): value for position, value in values.items()}
        if task is not None:
            equal["task"] = task
        for group in self._groups:
            chosen = self._choose(group, equal, codes)
            if chosen is not None:
                rows = np.flatnonzero(chosen)
                yield {name: self._column(group, name)[rows] for name in names or group.places}

    def _choose(
        self, group: _Group, equal: dict[str, int], codes: frozenset[int] | None
    ) -> npt.NDArray[np.bool_] | None:
        """Return which rows of a group fit, or nothing if their ranges tell that none does."""
        ends = {name: group.ranges.get(name, (0, -1)) for name in equal}
        if not all(low <= equal[name] <= high for name, (low, high) in ends.items()):
            return None
        chosen = np.full(group.n_rows, True)
        for name, (low, high) in ends.items():
            if low < high:
                chosen &= self._column(group, name) == equal[name]
                if not chosen.any():
                    return None
        if codes is not None:
            chosen &= np.isin(self._column(group, "status"), list(codes))
        return chosen

    def counts(self, n_tasks: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Count quanta.

        Returns
        -------
        by_status
            Numbers by task and by status minus `statuses.ABORTED`, shape (n_tasks, 6).
        by_caveats
            Numbers of successes by task and caveat bits, shape (n_tasks, 128).
        """
        by_status = np.zeros((n_tasks, len(statuses.NAMES)), dtype=np.int64)
        by_caveats = np.zeros((n_tasks, 128), dtype=np.int64)
        for group in self._groups:
            task, status = self._column(group, "task"), self._column(group, "status")
            caveats = self._column(group, "caveats")
            np.add.at(by_status, (task, status - statuses.ABORTED), 1)
            has_caveats = (status == statuses.SUCCESSFUL) & (caveats != _NO_CAVEATS)
            np.add.at(by_caveats, (task[has_caveats], caveats[has_caveats]), 1)
        return by_status, by_caveats

    def _column(self, group: _Group, name: str) -> npt.NDArray[Any]:
        kind = np.dtype(_COLUMNS.get(name, "<i8"))
        try:
            offset, size = group.places[name]
            frame = durable_files.read_range(self._stream.fileno(), offset, size)
            data = self._decompressor.decompress(frame, max_output_size=group.n_rows * kind.itemsize)
            return np.frombuffer(data, dtype=kind, count=group.n_rows)
        except (KeyError, ValueError, zstandard.ZstdError) as exc:
            raise errors.FormatError(
                self.path, name, f"the index is damaged ({exc}); delete it, it will be made again"
            ) from exc
