"""What selected datasets came from, or what came of them, by the provenance graphs of a repository."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import ingested_graphs, registry
from aggregator.schemas.graphs import addresses, provenance_graph
from aggregator.storage import errors

DIRECTIONS: Final = ("up", "down")
"""To what datasets came from, or to what came of them."""

_NONE: Final = b"\0" * 16


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """How far to go."""

    is_up: bool
    """Whether to go to what datasets came from."""

    depth: int | None = None
    """Quanta on the way, at most; as many as there are by default."""

    @classmethod
    def parse(cls, text: str) -> Request:
        """Return the request that a text stands for: a direction, perhaps with a colon and a depth.

        Raises
        ------
        RefusedError
            If it stands for none.
        """
        direction, separator, depth = text.lower().partition(":")
        if direction not in DIRECTIONS or (separator and not (depth.isdecimal() and int(depth[:9]))):
            raise errors.RefusedError(f"lineage must be up, down, up:DEPTH or down:DEPTH, not {text!r}.")
        return cls(direction == "up", int(depth[:9]) if separator else None)


class _Edges:
    """Which quanta write and read the datasets of a graph: some 100 bytes of memory for each dataset.

    Parameters
    ----------
    path
        The graph.
    """

    def __init__(self, path: str) -> None:
        ids, producers, read, consumers = bytearray(), bytearray(), bytearray(), bytearray()
        with provenance_graph.ProvenanceGraph(path) as graph:
            for dataset in graph.datasets():
                dataset_id = _bytes(dataset.dataset_id)
                ids += dataset_id
                producers += _NONE if dataset.producer is None else _bytes(dataset.producer)
                for consumer in dataset.consumers:
                    read += dataset_id
                    consumers += _bytes(consumer)
        self.ids, self.producers = _array(ids), _array(producers)
        self._read, self._consumers = _array(read), _array(consumers)

    def step(self, some: addresses.Ids, *, is_up: bool) -> addresses.Ids:
        """Return the datasets on the other side of the quanta next to some datasets, sorted."""
        if is_up:
            quanta = np.unique(self.producers[addresses.are_in(self.ids, some)])
            found: addresses.Ids = np.unique(self._read[_are_in(self._consumers, quanta)])
            return found
        quanta = np.unique(self._consumers[addresses.are_in(self._read, some)])
        written: addresses.Ids = self.ids[_are_in(self.producers, quanta)]
        return np.unique(written)


def _bytes(node_id: str) -> bytes:
    return bytes.fromhex(node_id.replace("-", ""))


def _array(data: bytearray) -> addresses.Ids:
    return np.frombuffer(bytes(data), addresses.ID_TYPE)


def _are_in(ids: addresses.Ids, quanta: addresses.Ids) -> npt.NDArray[np.bool_]:
    # Overall inputs have no producer; numpy strips the zeros of what stands for that.
    return addresses.are_in(ids, quanta[quanta != b""])


def walk(
    config: repository_config.RepositoryConfig,
    source: registry.Registry,
    start: addresses.Ids,
    request: Request,
) -> Iterator[addresses.Ids]:
    """Yield the datasets that some lead to, step by step, sorted; some may not be in the repository.

    Parameters
    ----------
    config
        Configuration of the repository.
    source
        Its database.
    start
        Ids of the datasets to begin with.
    request
        How far to go.
    """
    paths = [places[0].file for _, places in sorted(ingested_graphs.places(config, source).items())]
    graphs = [_Edges(path) for path in paths]
    seen, edge, depth = np.unique(start), np.unique(start), 0
    while len(edge) and graphs and depth != request.depth:
        steps = [graph.step(edge, is_up=request.is_up) for graph in graphs]
        nearby = np.unique(np.concatenate(steps))
        edge = nearby[~addresses.are_in(nearby, seen)]
        seen = np.unique(np.concatenate([seen, edge]))
        depth += 1
        if len(edge):
            yield edge
