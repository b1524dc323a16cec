"""Builds the part of the dataset section that no quantum of the graph produced, one range of ids at a time.

What an overall input is, the digests of its consumers say. Now and then a graph reads a dataset that looks
like an output of its own, but that none of its quanta produces (the quantum that did was dropped when the
graph was built), or that a quantum produces although the graph has records of it. The numbers of edges tell;
then all edges are compared with all outputs, and the predicted graph is asked.
"""

import dataclasses
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from aggregator.schemas import messages
from aggregator.schemas.checkpoints import checkpoint, dataset_part, digest
from aggregator.schemas.graphs import addresses, blocks, predicted
from aggregator.storage import fault_points
from aggregator.workers.roles.writing import dataset_blocks

_END = b',"produced":true,"producer":null'
_EDGES_A_RANGE = 200_000
ID_WEIGHT = 4
"""How many edges cost as much as a dataset: its block has to be made, whoever reads it."""
_NO_IDS = np.zeros(0, dtype=addresses.ID_TYPE)


@dataclasses.dataclass(slots=True)
class _Gathered:
    """Everything about one range, from all digests."""

    descriptions: dict[bytes, bytes] = dataclasses.field(default_factory=dict)
    edges: list[npt.NDArray[Any]] = dataclasses.field(default_factory=lambda: [_NO_IDS])
    consumers: list[npt.NDArray[Any]] = dataclasses.field(default_factory=lambda: [_NO_IDS])
    outputs: list[npt.NDArray[Any]] = dataclasses.field(default_factory=lambda: [_NO_IDS])


class InputDatasets:
    """Builds ranges of overall inputs.

    Parameters
    ----------
    graph
        The predicted graph.
    layout
        Checkpoint with the digests of all shards.
    identity
        What the digests belong to.
    codec
        Compresses blocks.
    """

    def __init__(
        self,
        graph: predicted.PredictedGraph,
        layout: checkpoint.Layout,
        identity: digest.Identity,
        codec: blocks.Codec,
    ) -> None:
        self._graph = graph
        self._layout = layout
        self._identity = identity
        self._blocks = dataset_blocks.DatasetBlocks(graph, codec)

    def build(self, request: messages.BuildInputs) -> messages.InputsBuilt:
        """Write one range to its file."""
        fault_points.reached("inputs")
        gathered = _Gathered()
        for shard in range(request.n_shards):
            with digest.Digest(self._layout.digest(shard), self._identity, shard) as opened:
                self._gather(gathered, opened, request)
        edges, consumers = np.concatenate(gathered.edges), np.concatenate(gathered.consumers)
        ids = _distinct(edges)
        outputs = np.sort(np.concatenate(gathered.outputs))
        ids = ids[np.searchsorted(outputs, ids) == np.searchsorted(outputs, ids, "right")]
        rows = np.searchsorted(ids, edges)
        if request.careful:
            is_input = np.append(ids, b"")[rows] == edges
            rows, consumers = rows[is_input], consumers[is_input]
        table = np.zeros(len(ids), dtype=dataset_part.ROW)
        table["id"] = ids
        first = np.searchsorted(np.sort(rows), np.arange(len(ids)))
        readers = consumers[np.argsort(rows, kind="stable")][first]
        descriptions = [
            gathered.descriptions.get(addresses.id_at(ids, i)) or self._look_up(ids, i, readers)
            for i in range(len(ids))
        ]
        framed = self._blocks.encode(ids, descriptions, rows, consumers)
        table["size"] = [len(block) for block in framed]
        path = self._layout.input_datasets(request.number)
        dataset_part.write(path, dataset_part.NO_KEY, table, framed, n_edges=len(rows))
        return messages.InputsBuilt(request.number, len(rows))

    def _gather(self, gathered: _Gathered, opened: digest.Digest, request: messages.BuildInputs) -> None:
        inputs, edges = opened.column("input.id"), opened.column("edge.id")
        begin, end = _span(inputs, request)
        if end > begin:
            runs = [b',"run":' + msgspec.json.encode(run) + _END for run in opened.values("runs")]
            coordinates = opened.values("coordinates")
            columns = [opened.part(f"input.{c}", begin, end).tolist() for c in ("type", "coordinate", "run")]
            for row, (kind, coordinate, run) in enumerate(zip(*columns, strict=True), begin):
                gathered.descriptions[addresses.id_at(inputs, row)] = self._blocks.description(
                    kind, coordinates[coordinate], runs[run]
                )
        if request.careful:
            first, last = _span(edges, request)
            chosen = np.arange(first, last)
            outputs = opened.column("dataset.id")
            gathered.outputs.append(outputs[slice(*_span(outputs, request))])
        else:
            chosen = edges_from(edges, inputs[begin:end])
        gathered.edges.append(edges[chosen])
        gathered.consumers.append(opened.column("quantum.id")[opened.column("edge.quantum")[chosen]])

    def _look_up(self, ids: addresses.Ids, row: int, readers: addresses.Ids) -> bytes:
        """Return what the predicted graph says of an input of a quantum."""
        text = addresses.dashed(addresses.id_at(ids, row).hex())
        table = self._graph.address_table()
        place = int(np.searchsorted(table.ids, readers[row : row + 1])[0])
        if place < len(table.ids) and table.ids[place] == readers[row]:
            pairs = self._graph.read_quanta(table.offsets[place], table.sizes[place])
            quanta = [quantum for quantum, _ in pairs]
        else:
            quanta = self._graph.init_quanta()
        for quantum in quanta:
            for datasets in quantum.inputs.values():
                for dataset in datasets:
                    if dataset.dataset_id.lower() == text:
                        rest = b',"run":' + msgspec.json.encode(dataset.run) + _END
                        kind = self._blocks.index(dataset.dataset_type_name)
                        return self._blocks.description(kind, bytes(dataset.data_coordinate), rest)
        raise LookupError(text)


def edges_from(edges: addresses.Ids, inputs: addresses.Ids) -> npt.NDArray[np.int64]:
    """Return the rows of edges that come from some inputs; both are sorted."""
    begin, end = np.searchsorted(edges, inputs), np.searchsorted(edges, inputs, "right")
    counts = end - begin
    return np.repeat(begin - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())


def _span(ids: addresses.Ids, request: messages.BuildInputs) -> tuple[int, int]:
    """Return where a range begins and ends in sorted ids."""
    begin = np.searchsorted(ids, np.frombuffer(request.begin, dtype=addresses.ID_TYPE))
    end = np.searchsorted(ids, np.frombuffer(request.end, dtype=addresses.ID_TYPE))
    return int(begin[0]) if request.begin else 0, int(end[0]) if request.end else len(ids)


def _distinct(ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the different ids, sorted; numpy's own function imports a large library for it."""
    ordered = np.sort(ids)
    keep = np.ones(len(ordered), dtype=bool)
    keep[1:] = ordered[1:] != ordered[:-1]
    return ordered[keep]


def plan_bounds(sample: addresses.Ids, weight: int) -> list[bytes]:
    """Return the first id of each range but the first.

    Parameters
    ----------
    sample
        Datasets of a sample of the edges; those with many consumers, or that weigh more, are in there more
        than once.
    weight
        How many edges there are in all, and what the datasets weigh.
    """
    n_ranges = max(1, -(-weight // _EDGES_A_RANGE))
    ordered = np.sort(sample)
    if not len(ordered):
        return []
    bounds = _distinct(ordered[[len(ordered) * i // n_ranges for i in range(1, n_ranges)]])
    return [addresses.id_at(bounds, i) for i in range(len(bounds))]
