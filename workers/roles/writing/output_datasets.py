"""Builds the part of the dataset section that holds the outputs of one shard.

A dataset's block names its consumers, so this waits for the digests of all shards with a quantum that comes
directly after one of this shard. Parts are kept in the checkpoint, since a restart can use them again.
"""

import itertools
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from aggregator.schemas import messages, verdicts
from aggregator.schemas.checkpoints import checkpoint, dataset_part, digest
from aggregator.schemas.graphs import addresses, blocks, predicted
from aggregator.storage import errors, fault_points, local_files
from aggregator.workers.roles.writing import dataset_blocks


class OutputDatasets:
    """Builds parts of the dataset section.

    Parameters
    ----------
    graph
        The predicted graph.
    layout
        Checkpoint with the digests.
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
        self._layout = layout
        self._identity = identity
        self._blocks = dataset_blocks.DatasetBlocks(graph, codec)
        run = b',"run":' + msgspec.json.encode(graph.header.output_run)
        self._ends = (run + b',"produced":false,"producer":"', run + b',"produced":true,"producer":"')

    def build(self, request: messages.BuildOutputs) -> messages.OutputsBuilt:
        """Write the part of a shard, unless one that fits is there."""
        path = self._layout.output_datasets(request.shard)
        with self._open(request.shard) as opened:
            key = dataset_part.key(opened, request.verdicts)
            counts = _existing(path, key)
            if counts is not None:
                return messages.OutputsBuilt(request.shard, *counts)
            table, descriptions = self._describe(opened, np.frombuffer(request.verdicts, dtype="i1"))
        ranges = np.frombuffer(request.consumers, dtype=np.int32).reshape(-1, 2).tolist()
        shards = itertools.chain.from_iterable(itertools.starmap(range, ranges))
        rows, consumers, n_shared = self._consumers(np.ascontiguousarray(table["id"]), shards)
        framed = self._blocks.encode(table["id"], descriptions, rows, consumers)
        table["size"] = [len(block) for block in framed]
        dataset_part.write(path, key, table, framed, n_edges=len(rows), n_shared=n_shared)
        fault_points.reached("outputs")
        return messages.OutputsBuilt(request.shard, len(rows), n_shared)

    def _open(self, shard: int) -> digest.Digest:
        return digest.Digest(self._layout.digest(shard), self._identity, shard)

    def _describe(
        self, opened: digest.Digest, verdict: npt.NDArray[np.int8]
    ) -> tuple[npt.NDArray[Any], list[bytes]]:
        """Return the table, without sizes, and the descriptions of a shard's outputs."""
        kinds = opened.column("dataset.type")
        keep = kinds != self._blocks.packages
        flags, quanta = opened.column("dataset.flags")[keep], opened.column("dataset.quantum")[keep]
        table = np.zeros(len(quanta), dtype=dataset_part.ROW)
        table["id"] = opened.column("dataset.id")[keep]
        table["row"] = quanta
        table["role"] = flags >> digest.ROLE_SHIFT
        produced = (flags & digest.PRODUCED).astype(bool) & (verdict[quanta] == verdicts.ACCEPTED)
        coordinates = opened.values("coordinates")
        producers = addresses.text_list(opened.column("quantum.id"))
        return table, [
            self._blocks.description(kind, coordinates[c], b'%b%b"' % (self._ends[p], producers[q]))
            for kind, c, p, q in zip(
                kinds[keep].tolist(),
                opened.column("dataset.coordinate")[keep].tolist(),
                produced.tolist(),
                quanta.tolist(),
                strict=True,
            )
        ]

    def _consumers(
        self, ids: addresses.Ids, shards: Iterable[int]
    ) -> tuple[npt.NDArray[np.int64], addresses.Ids, int]:
        """Return (rows of datasets, ids of the quanta that read them), and how many edges look external."""
        rows = [np.zeros(0, dtype=np.int64)]
        consumers = [np.zeros(0, dtype=addresses.ID_TYPE)]
        n_shared = 0
        for shard in shards if len(ids) else ():
            with self._open(shard) as opened:
                edges = opened.column("edge.id")
                # The ids of a shard are usually close together, so most edges of others are not looked at.
                begin = int(np.searchsorted(edges, ids[:1])[0])
                end = int(np.searchsorted(edges, ids[-1:], "right")[0])
                row, matches = _find(ids, edges[begin:end])
                if len(row):
                    quanta = opened.part("edge.quantum", begin, end)[matches]
                    rows.append(row)
                    consumers.append(opened.column("quantum.id")[quanta])
                    n_shared += len(_find(opened.column("input.id"), ids[row])[0])
        return np.concatenate(rows), np.concatenate(consumers), n_shared


def _find(ids: addresses.Ids, sought: addresses.Ids) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return rows in sorted ids of those sought that are among them, and which these are."""
    if not len(ids):
        return np.zeros(0, dtype=np.int64), np.zeros(len(sought), dtype=bool)
    row = np.searchsorted(ids, sought)
    row[row == len(ids)] = 0
    matches = ids[row] == sought
    return row[matches], matches


def _existing(path: str, key: bytes) -> tuple[int, int] | None:
    """Return the numbers of edges of a part that is there and fits."""
    if not local_files.exists(path):
        return None
    try:
        with dataset_part.Part(path) as part:
            return (part.n_edges, part.n_shared) if part.key == key and part.is_sound() else None
    except errors.FormatError:
        return None
