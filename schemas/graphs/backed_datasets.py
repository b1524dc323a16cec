"""Datasets that a provenance graph can stand in for: metadata, logs and configs.

Implements which of them there are after aggregate-and-ingest.md section 6, except that one counts only if the
graph holds its content.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from aggregator.schemas.execution import statuses
from aggregator.schemas.graphs import addresses, nodes, pipeline, provenance_graph
from aggregator.storage import errors

_CHUNK = 4096
"""Quanta that are looked at together."""

LOG, METADATA = 0, 1
"""Columns of the table of contents."""

_COMPONENTS = {LOG: nodes.LOGS, METADATA: nodes.METADATA}

_PRODUCED = {
    LOG: (statuses.SUCCESSFUL, statuses.FAILED),
    METADATA: (statuses.SUCCESSFUL, statuses.ABORTED_SUCCESS),
}
"""Statuses of the last attempt with which the reference takes a log or metadata for written (7.6)."""

READABLE = frozenset({"TaskMetadata", "PropertySet", "ButlerLogRecords", "Config"})
"""Storage classes that the reference's formatter reads from a graph."""


class _Attempt(msgspec.Struct, gc=False):
    status: int = statuses.UNKNOWN


class _Outputs(msgspec.Struct, gc=False):
    metadata: list[str] = msgspec.field(name=pipeline.METADATA_CONNECTION, default_factory=list)
    log: list[str] = msgspec.field(name=pipeline.LOG_CONNECTION, default_factory=list)


class _Quantum(msgspec.Struct, gc=False):
    task_label: str
    outputs: _Outputs
    data_coordinate: msgspec.Raw = msgspec.Raw(b"[]")
    attempts: list[_Attempt] = []


class _Dataset(msgspec.Struct, gc=False):
    produced: bool


class _Task(msgspec.Struct):
    config_str: str = ""


class _Configs(msgspec.Struct):
    tasks: dict[str, _Task]


_quantum_decoder = msgspec.json.Decoder(_Quantum)
_produced_decoder = msgspec.json.Decoder(_Dataset)


class Backed(NamedTuple):
    """A dataset that the graph holds the content of."""

    dataset_id: str
    """Id, 32 lowercase hexadecimal digits."""

    dataset_type: str
    """Name of its type."""

    coordinate: bytes
    """JSON list of the full data ID's values."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Places:
    """Where the blocks of all logs, or of all metadata, lie."""

    ids: addresses.Ids
    """Sorted ids of the datasets, shape (n,)."""

    offsets: addresses.Integers
    """Offsets of the blocks in bytes, shape (n,)."""

    sizes: addresses.Integers
    """Sizes of the blocks in bytes, shape (n,)."""

    def find(self, ids: addresses.Ids) -> npt.NDArray[np.int64]:
        """Return the row of each id, -1 for those that have none."""
        if not len(self.ids):
            return np.full(len(ids), -1, dtype=np.int64)
        rows = np.searchsorted(self.ids, ids)
        rows[rows == len(self.ids)] = 0
        return np.where(self.ids[rows] == ids, rows, -1)


@dataclasses.dataclass(frozen=True, slots=True)
class _Chunk:
    """What is kept of some quanta: millions of them shall fit into memory."""

    tasks: npt.NDArray[np.int32]
    """Number of the task of each quantum, shape (n,)."""

    contents: npt.NDArray[np.bool_]
    """Whether the graph holds log and metadata of each, shape (n, 2)."""

    ids: addresses.Ids
    """Ids of those that it holds, the metadata of each quantum before its log."""

    coordinates: bytes
    """Data coordinates of all quanta, with NUL in between, which no JSON has in it."""


class BackedDatasets:
    """The datasets of one graph.

    Parameters
    ----------
    graph
        The graph, open.
    verify
        Whether to read all blocks. Otherwise the graph's word is taken for what they hold.
    """

    def __init__(self, graph: provenance_graph.ProvenanceGraph, verify: bool) -> None:
        self._graph = graph
        self._verify = verify
        self._types = {
            task.label: (
                task.outputs.get(pipeline.LOG_CONNECTION),
                task.outputs[pipeline.METADATA_CONNECTION],
            )
            for task in graph.pipeline.tasks
        }
        self._numbers = {label: number for number, label in enumerate(self._types)}
        self._held: list[_Chunk] = []

    def dataset_types(self) -> list[str]:
        """Return the names of all types of logs, metadata and configs."""
        configs = [task.init_outputs[pipeline.CONFIG_CONNECTION] for task in self._graph.pipeline.tasks]
        regular = [name for names in self._types.values() for name in names if name is not None]
        return [*regular, *configs]

    def examine(self) -> Iterator[list[tuple[str, bytes]]]:
        """Find out which logs and metadata the graph holds.

        Yields
        ------
        quanta
            Task label and data coordinate of some quanta, as it goes on.

        Raises
        ------
        FormatError
            If a block that replaces a file can't be read.
        """
        self.configs()
        places = [self._places(LOG), self._places(METADATA)]
        for chunk in self._chunks():
            contents = np.zeros((len(chunk), 2), dtype=bool)
            ids = np.zeros((len(chunk), 2), addresses.ID_TYPE)
            for kind in (LOG, METADATA):
                rows = [row for row, quantum in enumerate(chunk) if self._can_hold(quantum, kind)]
                ids[rows, kind] = some = addresses.parse_ids([_output(chunk[row], kind) for row in rows])
                contents[rows, kind] = self._hold_something(kind, places[kind], some)
            coordinates = [bytes(quantum.data_coordinate) for quantum in chunk]
            tasks = np.array([self._numbers[quantum.task_label] for quantum in chunk], np.int32)
            # Columns in the order of datasets.
            held = ids[:, [METADATA, LOG]][contents[:, [METADATA, LOG]]]
            self._held.append(_Chunk(tasks, contents, held, b"\0".join(coordinates)))
            yield [(quantum.task_label, each) for quantum, each in zip(chunk, coordinates, strict=True)]

    def regular(self) -> Iterator[list[Backed]]:
        """Yield logs and metadata that the graph holds in lists, in the graph's order; after `examine`."""
        names = list(self._types.values())
        for chunk in self._held:
            digits = iter(addresses.hex_digits(chunk.ids))
            datasets = []
            for task, contents, coordinate in zip(
                chunk.tasks.tolist(), chunk.contents.tolist(), chunk.coordinates.split(b"\0"), strict=True
            ):
                for kind in (METADATA, LOG):
                    name = names[task][kind]
                    if contents[kind] and name is not None:
                        datasets.append(Backed(next(digits), name, coordinate))
            yield datasets

    def configs(self) -> list[Backed]:
        """Return the configs; the text of each is in the pipeline graph.

        Raises
        ------
        FormatError
            If a task has none.
        """
        texts = msgspec.json.decode(self._graph.pipeline_json, type=_Configs).tasks
        names = {t.label: t.init_outputs[pipeline.CONFIG_CONNECTION] for t in self._graph.pipeline.tasks}
        datasets = []
        for quantum in self._graph.init_quanta():
            label, dataset_id = quantum.task_label, quantum.outputs.get(pipeline.CONFIG_CONNECTION)
            if dataset_id is None:
                continue
            if label not in texts or not texts[label].config_str:
                problem = f"there is no configuration of task {label!r} in it; write the graph again"
                raise errors.FormatError(self._graph.path, "pipeline_graph", problem)
            datasets.append(Backed(dataset_id.replace("-", "").lower(), names[label], b"[]"))
        return datasets

    def _chunks(self) -> Iterator[list[_Quantum]]:
        chunk = []
        for _, _, quantum in self._graph.placed_quanta(self._decode):
            chunk.append(quantum)
            if len(chunk) == _CHUNK:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def _decode(self, document: bytes) -> _Quantum:
        try:
            quantum = _quantum_decoder.decode(document)
        except msgspec.DecodeError:
            # Numbers may be written in other ways.
            full = nodes.decode_quantum(document)
            outputs = _Outputs(
                full.outputs.get(pipeline.METADATA_CONNECTION, []),
                full.outputs.get(pipeline.LOG_CONNECTION, []),
            )
            attempts = [_Attempt(attempt.status) for attempt in full.attempts]
            quantum = _Quantum(full.task_label, outputs, full.data_coordinate, attempts)
        if quantum.task_label not in self._types:
            raise ValueError(f"its task {quantum.task_label!r} is not in the pipeline graph")
        return quantum

    def _can_hold(self, quantum: _Quantum, kind: int) -> bool:
        return bool(
            quantum.attempts
            and quantum.attempts[-1].status in _PRODUCED[kind]
            and (quantum.outputs.log if kind == LOG else quantum.outputs.metadata)
            and self._types[quantum.task_label][kind] is not None
        )

    def _places(self, kind: int) -> _Places:
        """Read where the blocks are that tell of all datasets of a kind."""
        component = _COMPONENTS[kind]
        told_by = component if self._verify else nodes.DATASETS
        ids: list[addresses.Ids] = [np.zeros(0, addresses.ID_TYPE)]
        offsets, sizes = [np.zeros(0, "i8")], [np.zeros(0, "i8")]
        for table in self._graph.address_rows():
            # Quanta have the same addresses as their datasets; readers go by the latter.
            rows = (table.sizes[:, component] > 0) & (table.sizes[:, nodes.QUANTA] == 0)
            ids.append(table.ids[rows])
            offsets.append(table.offsets[rows, told_by])
            sizes.append(table.sizes[rows, told_by])
        return _Places(*map(_joined, (ids, offsets, sizes)))

    def _hold_something(self, kind: int, places: _Places, ids: addresses.Ids) -> npt.NDArray[np.bool_]:
        """Return which datasets have a block with something in it."""
        row_of_id = places.find(ids)
        result = row_of_id >= 0
        rows = row_of_id[result]
        order = np.argsort(places.offsets[rows], kind="stable")
        component, decode = (_COMPONENTS[kind], _LAST[kind]) if self._verify else (nodes.DATASETS, _told)
        told = self._graph.read_blocks(
            component, places.offsets[rows[order]], places.sizes[rows[order]], decode
        )
        result[np.flatnonzero(result)[order]] = np.fromiter(told, dtype=bool, count=len(order))
        return result


def _joined(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return one array of many, which are not needed any more."""
    whole = np.concatenate(parts)
    parts.clear()
    return whole


def _output(quantum: _Quantum, kind: int) -> str:
    return (quantum.outputs.log if kind == LOG else quantum.outputs.metadata)[0]


def _holds_last(decode: Callable[[bytes], list[Any]]) -> Callable[[bytes], bool]:
    """Return a function that tells whether a block has something of the last attempt."""

    def holds(document: bytes) -> bool:
        attempts = decode(document)
        return bool(attempts) and attempts[-1] is not None

    return holds


_LAST = {LOG: _holds_last(nodes.decode_logs), METADATA: _holds_last(nodes.decode_metadata)}


def _told(document: bytes) -> bool:
    return _produced_decoder.decode(document).produced
