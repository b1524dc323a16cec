"""Builds the dataset section of a provenance graph, one range of ids at a time.

A dataset's block needs its consumers, which only all digests together know; so it can't be made when the
dataset's producer is scanned (quantum-graph-format.md section 7.1).
"""

import dataclasses
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from schemas import (
    addresses,
    blocks,
    checkpoint,
    dataset_range,
    digest,
    fault_points,
    messages,
    predicted,
    verdicts,
)

_TABLES = ("dataset.id", "edge.id", "input.id")
_QUOTED_SIZE = addresses.TEXT_SIZE + len('"",')


@dataclasses.dataclass(slots=True)
class _Gathered:
    """Everything about one range, from all digests."""

    rows: list[npt.NDArray[Any]] = dataclasses.field(default_factory=list)
    documents: list[bytes] = dataclasses.field(default_factory=list)
    edge_ids: list[npt.NDArray[Any]] = dataclasses.field(default_factory=list)
    consumers: list[npt.NDArray[Any]] = dataclasses.field(default_factory=list)
    outside: dict[bytes, bytes] = dataclasses.field(default_factory=dict)


class RangeBuilder:
    """Builds ranges of the dataset section.

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
    request
        Verdicts and bounds.
    """

    def __init__(
        self,
        graph: predicted.PredictedGraph,
        layout: checkpoint.Layout,
        identity: digest.Identity,
        codec: blocks.Codec,
        request: messages.PrepareRanges,
    ) -> None:
        self._graph = graph
        self._layout = layout
        self._identity = identity
        self._codec = codec
        self._verdicts = [np.frombuffer(v, dtype="i1") for v in request.verdicts]
        self._names = [
            b'","dataset_type_name":' + msgspec.json.encode(t.name) + b',"data_coordinate":'
            for t in graph.pipeline.dataset_types
        ]
        self._packages = len(self._names) - 1
        bounds = np.frombuffer(b"".join(request.bounds), dtype=addresses.ID_TYPE)
        self._slices = [self._find_slices(shard, bounds) for shard in range(len(self._verdicts))]

    def _find_slices(self, shard: int, bounds: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return where each range begins and ends in the sorted tables of a digest."""
        places = np.zeros((len(_TABLES), len(bounds) + 2), dtype=np.int64)
        with digest.Digest(self._layout.digest(shard), self._identity) as opened:
            for table, name in enumerate(_TABLES):
                ids = opened.column(name)
                places[table, 1:-1] = np.searchsorted(ids, bounds)
                places[table, -1] = len(ids)
        return places

    def build(self, request: messages.BuildRange) -> messages.RangeBuilt:
        """Write one range to its file."""
        fault_points.reached("range")
        gathered = _Gathered()
        for shard, places in enumerate(self._slices):
            spans = [(int(p[request.number]), int(p[request.number + 1])) for p in places]
            if any(end > begin for begin, end in spans):
                with digest.Digest(self._layout.digest(shard), self._identity) as opened:
                    self._gather(gathered, shard, opened, spans)
        table, documents = self._assemble(gathered)
        framed = self._compress(table, documents)
        dataset_range.write(self._layout.dataset_range(request.number), table, framed)
        return messages.RangeBuilt(request.number, len(table))

    def _gather(
        self, gathered: _Gathered, shard: int, opened: digest.Digest, spans: list[tuple[int, int]]
    ) -> None:
        coordinates = opened.values("coordinates")
        quanta = opened.column("quantum.id")
        self._gather_outputs(gathered, shard, opened, spans[0], coordinates, quanta)
        begin, end = spans[1]
        gathered.edge_ids.append(opened.part("edge.id", begin, end))
        gathered.consumers.append(quanta[opened.part("edge.quantum", begin, end)])
        begin, end = spans[2]
        if end > begin:
            runs = [msgspec.json.encode(run) for run in opened.values("runs")]
            ids = opened.part("input.id", begin, end)
            columns = [opened.part(f"input.{c}", begin, end).tolist() for c in ("type", "coordinate", "run")]
            for i, (kind, coordinate, run) in enumerate(zip(*columns, strict=True)):
                document = self._names[kind] + coordinates[coordinate] + b',"run":' + runs[run]
                gathered.outside[addresses.id_at(ids, i)] = document

    def _gather_outputs(
        self,
        gathered: _Gathered,
        shard: int,
        opened: digest.Digest,
        span: tuple[int, int],
        coordinates: list[bytes],
        quanta: npt.NDArray[Any],
    ) -> None:
        """Add the outputs of a shard: their rows of the table, and their blocks up to the producer."""
        ids = opened.part("dataset.id", *span)
        kinds = opened.part("dataset.type", *span)
        keep = kinds != self._packages
        quantum_rows = opened.part("dataset.quantum", *span)[keep]
        flags = opened.part("dataset.flags", *span)[keep]
        table = np.zeros(int(keep.sum()), dtype=dataset_range.ROW)
        table["id"] = ids[keep]
        table["shard"] = shard
        table["row"] = quantum_rows
        table["role"] = flags >> digest.ROLE_SHIFT
        accepted = self._verdicts[shard][quantum_rows] == verdicts.ACCEPTED
        produced = (flags & digest.PRODUCED).astype(bool) & accepted
        run = b',"run":' + msgspec.json.encode(self._graph.header.output_run)
        ends = (
            run + b',"produced":false,"producer":"',
            run + b',"produced":true,"producer":"',
        )
        producers = addresses.text_list(quanta)
        gathered.rows.append(table)
        gathered.documents.extend(
            b'%b%b%b%b"' % (self._names[kind], coordinates[c], ends[p], producers[q])
            for kind, c, p, q in zip(
                kinds[keep].tolist(),
                opened.part("dataset.coordinate", *span)[keep].tolist(),
                produced.tolist(),
                quantum_rows.tolist(),
                strict=True,
            )
        )

    def _assemble(self, gathered: _Gathered) -> tuple[npt.NDArray[Any], list[bytes]]:
        """Return the table, sorted by id, and the documents of its datasets."""
        outputs = np.concatenate([*gathered.rows, np.zeros(0, dtype=dataset_range.ROW)])
        edge_ids = np.concatenate([*gathered.edge_ids, np.zeros(0, dtype="S16")])
        consumers = np.concatenate([*gathered.consumers, np.zeros(0, dtype="S16")])
        outside_ids = _distinct(edge_ids)
        own = np.sort(outputs["id"])
        outside_ids = outside_ids[
            np.searchsorted(own, outside_ids) == np.searchsorted(own, outside_ids, "right")
        ]
        outside = np.zeros(len(outside_ids), dtype=dataset_range.ROW)
        outside["id"] = outside_ids
        outside["shard"] = -1
        documents = gathered.documents + [
            self._outside_document(gathered, addresses.id_at(outside_ids, i), edge_ids, consumers)
            for i in range(len(outside_ids))
        ]
        table = np.concatenate([outputs, outside])
        order = np.argsort(table["id"], kind="stable")
        table = table[order]
        edge_order = np.argsort(edge_ids, kind="stable")
        edge_ids = edge_ids[edge_order]
        texts = _quoted(consumers[edge_order])
        starts = np.searchsorted(edge_ids, table["id"], "left").tolist()
        ends = np.searchsorted(edge_ids, table["id"], "right").tolist()
        return table, [
            b'{"dataset_id":"%b%b,"consumers":[%b]}'
            % (text, documents[i], texts[a * _QUOTED_SIZE : b * _QUOTED_SIZE - 1])
            for text, i, a, b in zip(
                addresses.text_list(table["id"]), order.tolist(), starts, ends, strict=True
            )
        ]

    def _outside_document(
        self,
        gathered: _Gathered,
        dataset_id: bytes,
        edge_ids: npt.NDArray[Any],
        consumers: npt.NDArray[Any],
    ) -> bytes:
        """Return the middle of the block of an overall input."""
        document = gathered.outside.get(dataset_id)
        if document is None:
            # It looked like an output of this graph to the scanner: same run, a type that is produced here.
            row = int(np.argmax(edge_ids == np.frombuffer(dataset_id, dtype="S16")[0]))
            document = self._look_up(dataset_id, consumers[row : row + 1])
        return document + b',"produced":true,"producer":null'

    def _look_up(self, dataset_id: bytes, consumer: npt.NDArray[Any]) -> bytes:
        """Return what the predicted graph says of an input of a quantum."""
        text = addresses.dashed(dataset_id.hex())
        table = self._graph.address_table()
        row = int(np.searchsorted(table.ids, consumer)[0])
        if row < len(table.ids) and table.ids[row] == consumer[0]:
            places = table.offsets[row], table.sizes[row]
            quanta = [quantum for quantum, _ in self._graph.read_quanta(*places)]
        else:
            quanta = self._graph.init_quanta()
        for quantum in quanta:
            for datasets in quantum.inputs.values():
                for dataset in datasets:
                    if dataset.dataset_id.lower() == text:
                        kinds = [t.name for t in self._graph.pipeline.dataset_types]
                        kind = self._names[kinds.index(dataset.dataset_type_name)]
                        coordinate = bytes(dataset.data_coordinate)
                        return kind + coordinate + b',"run":' + msgspec.json.encode(dataset.run)
        raise LookupError(text)

    def _compress(self, table: npt.NDArray[Any], documents: list[bytes]) -> list[bytes]:
        """Return the blocks, and set their sizes in the table."""
        int_size = self._graph.header.int_size
        framed = [blocks.frame(self._codec.compress(d), int_size) for d in documents]
        table["size"] = [len(block) for block in framed]
        return framed


def _quoted(ids: addresses.Ids) -> bytes:
    """Return ids as the elements of a JSON array, with a comma after each."""
    result = np.empty((len(ids), _QUOTED_SIZE), dtype=np.uint8)
    result[:, 0] = result[:, -2] = ord('"')
    result[:, -1] = ord(",")
    result[:, 1:-2] = addresses.texts(ids)
    return result.tobytes()


def _distinct(ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the different ids, sorted; numpy's own function imports a large library for it."""
    ordered = np.sort(ids)
    keep = np.ones(len(ordered), dtype=bool)
    keep[1:] = ordered[1:] != ordered[:-1]
    return ordered[keep]


def plan_bounds(ids: npt.NDArray[Any], n_datasets: int) -> list[bytes]:
    """Return the first id of each range but the first.

    Parameters
    ----------
    ids
        A sample of all dataset ids.
    n_datasets
        How many there are in all.
    """
    # Large enough that opening every digest for every range does not count, small enough for memory;
    # small graphs still give every scanner a few.
    per_range = min(50_000, max(1_000, n_datasets // 8))
    n_ranges = max(1, -(-n_datasets // per_range))
    ordered = _distinct(ids)
    if len(ordered) < n_ranges:
        return []
    return [addresses.id_at(ordered, len(ordered) * i // n_ranges) for i in range(1, n_ranges)]
