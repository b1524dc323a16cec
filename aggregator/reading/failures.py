"""Everything that failed in a run, with the first cause above each blocked quantum."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from aggregator.reading import blocking, causes, node_search
from aggregator.schemas.execution import statuses
from aggregator.schemas.graphs import addresses, nodes, provenance_graph, quantum_index

STATUSES: Final = frozenset(statuses.NAMES) - {statuses.SUCCESSFUL}
"""Statuses of what failed in a wide sense: blocked quanta and lost logs, too."""

_FEW: Final = 200
"""Failures that are looked into one by one; for more, all of them are read first."""

_PLACE: Final = np.dtype([("offset", "<i8"), ("size", "<i8"), ("status", "i1")])


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """A quantum that did not succeed."""

    quantum: nodes.Quantum
    """The quantum."""

    cause: nodes.Quantum | None
    """If it is blocked: the failed quantum nearest above; nothing if none is on record."""


def find(
    graph: provenance_graph.ProvenanceGraph,
    search: node_search.NodeSearch,
    first_causes: causes.Causes,
    query: node_search.Query,
    limit: int | None,
) -> Iterator[Failure]:
    """Yield what failed, in the order of the graph; see `aggregator.Provenance.failures`."""
    quanta = search.find(query)
    if limit is not None and limit <= _FEW:
        for _, quantum in zip(range(limit), quanta, strict=False):
            yield Failure(
                quantum, first_causes.first(quantum) if quantum.status == statuses.BLOCKED else None
            )
        return
    tree = _Tree(graph, search.index)
    for _, quantum in zip(range(tree.n if limit is None else limit), quanta, strict=False):
        yield Failure(quantum, tree.cause(quantum) if quantum.status == statuses.BLOCKED else None)


class _Tree:
    """All quanta that failed or are blocked, and who blocks whom; about 150 bytes each.

    Only their outputs can be what blocked quanta wait for, so no dataset has to be looked up.
    """

    def __init__(self, graph: provenance_graph.ProvenanceGraph, index: quantum_index.Index) -> None:
        self._graph = graph
        # One failure often blocks many.
        self._cause = functools.lru_cache(1024)(self._read)
        failures = ((f.offset, f.size, f.status) for f in index.search(None, {}, STATUSES))
        self._places = np.fromiter(failures, dtype=_PLACE)
        self.n = len(self._places)
        ids, outputs, owners = self._read_outputs()
        order = np.argsort(ids)
        # From here on quanta have numbers in the order of their ids.
        self._places, self._ids = self._places[order], ids[order]
        numbers = np.argsort(order)
        by_output = np.argsort(outputs)
        children, parents = self._read_inputs(outputs[by_output], numbers[owners][by_output])
        fails = np.isin(self._places["status"], list(causes.BLOCKING))
        marks = np.where(fails, np.arange(self.n), blocking.NONE)
        self._causes = blocking.Blocking(self.n, children, parents).first_causes(marks)

    def cause(self, quantum: nodes.Quantum) -> nodes.Quantum | None:
        """Return the failed quantum nearest above a blocked one."""
        number = int(np.searchsorted(self._ids, addresses.parse_ids([quantum.quantum_id]))[0])
        cause = int(self._causes[number])
        return None if cause == blocking.NONE else self._cause(cause)

    def _read(self, number: int) -> nodes.Quantum:
        place = self._places[number]
        return self._graph.quantum_at(int(place["offset"]), int(place["size"]))

    def _read_outputs(self) -> tuple[addresses.Ids, addresses.Ids, npt.NDArray[np.int64]]:
        """Return the ids of the quanta, those of their outputs, and whose output each is."""
        ids, outputs, counts = bytearray(), bytearray(), np.zeros(self.n, dtype=np.int64)
        for number in range(self.n):
            quantum = self._read(number)
            dataset_ids = [output for each in quantum.outputs.values() for output in each]
            ids += addresses.parse_ids([quantum.quantum_id]).tobytes()
            outputs += addresses.parse_ids(dataset_ids).tobytes()
            counts[number] = len(dataset_ids)
        kind = addresses.ID_TYPE
        return np.frombuffer(ids, kind), np.frombuffer(outputs, kind), np.repeat(np.arange(self.n), counts)

    def _read_inputs(
        self, outputs: addresses.Ids, owners: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return pairs of a blocked quantum and one that was to write an input of it."""
        children, parents = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
        for number in np.flatnonzero(self._places["status"] == statuses.BLOCKED).tolist():
            inputs = addresses.parse_ids([i for ids in self._read(number).inputs.values() for i in ids])
            rows = np.minimum(np.searchsorted(outputs, inputs), max(len(outputs) - 1, 0))
            if len(outputs):
                writers = np.unique(owners[rows[outputs[rows] == inputs]])
                children.append(np.full(len(writers), number))
                parents.append(writers)
        return np.concatenate(children), np.concatenate(parents)
