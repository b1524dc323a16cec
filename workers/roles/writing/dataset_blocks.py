"""Blocks of the dataset section of a provenance graph (quantum-graph-format.md section 7.1)."""

import msgspec
import numpy as np
import numpy.typing as npt
from aggregator.schemas.graphs import addresses, blocks, predicted

_QUOTED_SIZE = addresses.TEXT_SIZE + len(',""')


class DatasetBlocks:
    """Makes blocks of datasets.

    Parameters
    ----------
    graph
        The predicted graph.
    codec
        Compresses blocks.
    """

    def __init__(self, graph: predicted.PredictedGraph, codec: blocks.Codec) -> None:
        self._codec = codec
        self._int_size = graph.header.int_size
        kinds = graph.pipeline.dataset_types
        self._kinds = {kind.name: i for i, kind in enumerate(kinds)}
        self._names = [
            b'","dataset_type_name":' + msgspec.json.encode(kind.name) + b',"data_coordinate":'
            for kind in kinds
        ]
        # The last type is that of the packages, which the graph holds in another way.
        self.packages = len(kinds) - 1

    def index(self, dataset_type: str) -> int:
        """Return the index of a dataset type."""
        return self._kinds[dataset_type]

    def description(self, kind: int, coordinate: bytes, rest: bytes) -> bytes:
        """Return the part of a document between the dataset's id and its consumers.

        Parameters
        ----------
        kind
            Index of the dataset type.
        coordinate
            Data coordinate, as JSON.
        rest
            From ``,"run":`` to the producer, as JSON.
        """
        return b"%b%b%b" % (self._names[kind], coordinate, rest)

    def encode(
        self,
        ids: addresses.Ids,
        descriptions: list[bytes],
        rows: npt.NDArray[np.int64],
        consumers: addresses.Ids,
    ) -> list[bytes]:
        """Return the blocks of some datasets.

        Parameters
        ----------
        ids
            Ids of the datasets, shape (n,).
        descriptions
            `description` of each.
        rows
            Which of the datasets a quantum reads, shape (n_edges,).
        consumers
            Id of that quantum, shape (n_edges,).
        """
        order = np.argsort(rows, kind="stable")
        texts = _quoted(consumers[order])
        ends = np.cumsum(np.bincount(rows, minlength=len(ids)))
        places = (np.concatenate([[0], ends]) * _QUOTED_SIZE).tolist()
        documents = (
            # There is no comma before the first consumer.
            b'{"dataset_id":"%b%b,"consumers":[%b]}' % (text, description, texts[begin + 1 : end])
            for text, description, begin, end in zip(
                addresses.text_list(ids), descriptions, places, places[1:], strict=False
            )
        )
        return [blocks.frame(self._codec.compress(document), self._int_size) for document in documents]


def _quoted(ids: addresses.Ids) -> bytes:
    """Return ids as the elements of a JSON array, with a comma before each."""
    result = np.empty((len(ids), _QUOTED_SIZE), dtype=np.uint8)
    result[:, 0] = ord(",")
    result[:, 1] = result[:, -1] = ord('"')
    result[:, 2:-1] = addresses.texts(ids)
    return result.tobytes()
