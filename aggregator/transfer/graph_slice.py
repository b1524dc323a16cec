"""A part of a predicted graph, written as a graph of its own (transfer.md section 9).

Ids, blocks and the compression dictionary are those of the whole graph. What the part reads and does not make
is an overall input of it, so records are added to the blocks of quanta that read such datasets.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from aggregator.butler.datastores import catalog
from aggregator.butler.dimensions import universe
from aggregator.schemas.graphs import addresses, pipeline, predicted, predicted_writer

PART_OF: Final = "part_of"
"""Key in the metadata of the header: identity of the whole graph."""

_LEVEL: Final = 3

Records = Callable[[predicted.Quantum], dict[str, Any]]
"""Gives the datastore records that a quantum, regular or init, is to have in the part."""


@dataclasses.dataclass(slots=True)
class _Content:
    """What is gathered while blocks of quanta are written, for all that comes after them."""

    ids: list[str] = dataclasses.field(default_factory=list)
    """Ids of the quanta in the order of their blocks."""

    sizes: list[int] = dataclasses.field(default_factory=list)
    """Sizes of their blocks in bytes."""

    tasks: dict[str, tuple[list[str], list[str]]] = dataclasses.field(default_factory=dict)
    """Ids and data coordinates of the quanta of each task."""

    datasets: set[str] = dataclasses.field(default_factory=set)
    """Ids of all datasets."""

    outputs: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    """Outputs, each with the position of its quantum."""

    inputs: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    """Inputs in the output run, each with the position of its quantum."""

    data_ids: set[tuple[tuple[str, ...], bytes]] = dataclasses.field(default_factory=set)
    """Dimensions and data coordinates that occur."""


class GraphSlice:
    """A part of a graph.

    Parameters
    ----------
    graph
        The whole graph.
    table
        Its address table.
    rows
        Rows of the quanta of the part, shape (n,).
    records
        Gives the datastore records of quanta.
    """

    def __init__(
        self,
        graph: predicted.PredictedGraph,
        table: addresses.AddressTable,
        rows: npt.NDArray[np.int64],
        records: Records,
    ) -> None:
        self._graph = graph
        self._identity = graph.identity(table)
        order = rows[np.argsort(table.offsets[rows, 0], kind="stable")]
        self._places = table.offsets[order, 0], table.sizes[order, 0]
        self._records = records
        self._kinds = {kind.name: kind.dimensions for kind in graph.pipeline.dataset_types}
        self._task_dimensions = {task.label: task.dimensions for task in graph.pipeline.tasks}
        self._content = _Content(tasks={task.label: ([], []) for task in graph.pipeline.tasks})

    def write(self, path: str) -> None:
        """Write it, with all init quanta; it appears complete, or not at all.

        Parameters
        ----------
        path
            Local path of the new graph.

        Raises
        ------
        FormatError
            If the whole graph is damaged.
        """
        graph, content = self._graph, self._content
        dictionary = graph.dictionary
        int_size = graph.header.int_size
        with predicted_writer.PredictedWriter(path, dictionary, _LEVEL, int_size) as out:
            out.quanta(self._blocks(predicted_writer.Frames(dictionary, _LEVEL, int_size)))
            out.addresses(addresses.parse_ids(content.ids), np.array(content.sizes, dtype=np.int64))
            out.single("init_quanta", self._init_quanta())
            out.single("header", self._header())
            out.single("pipeline_graph", graph.pipeline_json)
            edges = self._edges()
            out.thin_graph(self._thin_quanta, lambda: iter([edges]))
            needed = self._needed_records()
            out.dimension_data(lambda: self._dimension_rows(needed))

    def _blocks(self, frames: predicted_writer.Frames) -> Iterator[bytes]:
        for quantum, document in self._graph.read_quanta(*self._places):
            block = frames(self._completed(quantum, document))
            self._note(quantum)
            self._content.sizes.append(len(block))
            yield block

    def _completed(self, quantum: predicted.Quantum, document: bytes) -> bytes:
        records = self._records(quantum)
        if records == quantum.datastore_records:
            return document
        whole = msgspec.json.decode(document)
        whole["datastore_records"] = records
        return msgspec.json.encode(whole)

    def _note(self, quantum: predicted.Quantum) -> None:
        content, position = self._content, len(self._content.ids)
        content.ids.append(quantum.quantum_id)
        ids, coordinates = content.tasks[quantum.task_label]
        ids.append(quantum.quantum_id)
        coordinates.append(bytes(quantum.data_coordinate).decode())
        dimensions = self._task_dimensions[quantum.task_label]
        content.data_ids.add((dimensions, bytes(quantum.data_coordinate)))
        for dataset in _all(quantum.outputs):
            content.outputs.append((dataset.dataset_id, position))
        run = self._graph.header.output_run
        for dataset in _all(quantum.inputs):
            if dataset.run == run:
                content.inputs.append((dataset.dataset_id, position))
        self._note_datasets(quantum)

    def _note_datasets(self, quantum: predicted.Quantum) -> None:
        for dataset in itertools.chain(_all(quantum.inputs), _all(quantum.outputs)):
            self._content.datasets.add(dataset.dataset_id)
            dimensions = self._kinds[dataset.dataset_type_name]
            self._content.data_ids.add((dimensions, bytes(dataset.data_coordinate)))

    def _init_quanta(self) -> bytes:
        documents = msgspec.json.decode(self._graph.init_quanta_json)
        for document, quantum in zip(documents, self._graph.init_quanta(), strict=True):
            document["datastore_records"] = self._records(quantum)
            self._note_datasets(quantum)
        return msgspec.json.encode(documents)

    def _header(self) -> bytes:
        header = msgspec.json.decode(self._graph.header_json)
        header["version"] = pipeline.FORMAT_VERSION
        header["n_quanta"] = len(self._content.ids)
        header["n_datasets"] = len(self._content.datasets)
        header["n_task_quanta"] = {label: len(ids) for label, (ids, _) in self._content.tasks.items()}
        header["metadata"] = {**(header.get("metadata") or {}), PART_OF: self._identity}
        return msgspec.json.encode(header)

    def _thin_quanta(self) -> Iterator[tuple[str, addresses.Ids, list[str]]]:
        for label, (ids, coordinates) in self._content.tasks.items():
            yield label, addresses.parse_ids(ids), coordinates

    def _edges(self) -> tuple[addresses.Ids, addresses.Ids]:
        """Return producers and consumers: a quantum reads what another one of the part writes."""
        ids = addresses.parse_ids(self._content.ids)
        producers = dict(self._content.outputs)
        pairs = {
            (producers[dataset], consumer)
            for dataset, consumer in self._content.inputs
            if dataset in producers
        }
        rows = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
        return ids[rows[:, 0]], ids[rows[:, 1]]

    def _needed_records(self) -> dict[str, set[catalog.Values]]:
        """Return the keys of the dimension records that data IDs refer to, by element."""
        dimensions = universe.Universe.from_config(self._graph.pipeline.universe)
        needed: dict[str, set[catalog.Values]] = collections.defaultdict(set)
        for names, coordinate in self._content.data_ids:
            group = dimensions.group(names)
            values = dict(zip(group.keys, catalog.decode_values(coordinate), strict=True))
            for element in group.elements:
                needed[element].add(tuple([values[name] for name in dimensions.required(element)]))
        return needed

    def _dimension_rows(self, needed: dict[str, set[catalog.Values]]) -> Iterable[tuple[str, list[Any]]]:
        dimensions = universe.Universe.from_config(self._graph.pipeline.universe)
        for element, row in self._graph.dimension_rows(set(needed)):
            if tuple(row[: len(dimensions.required(element))]) in needed[element]:
                yield element, row


def _all(datasets: dict[str, list[predicted.Dataset]]) -> Iterable[predicted.Dataset]:
    return itertools.chain.from_iterable(datasets.values())
