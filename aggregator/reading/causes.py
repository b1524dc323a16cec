"""Why quanta did not run: the failures above them."""

import functools
from typing import Final

from aggregator.schemas.execution import statuses
from aggregator.schemas.graphs import nodes, provenance_graph

BLOCKING: Final = frozenset({statuses.ABORTED, statuses.UNKNOWN, statuses.FAILED})
"""Statuses that keep the quanta below from running."""

_KEPT = 4096
"""Nodes that are remembered, since blocked quanta often share what they wait for."""


class Causes:
    """Finds the first cause above blocked quanta.

    Parameters
    ----------
    graph
        The graph.
    """

    def __init__(self, graph: provenance_graph.ProvenanceGraph) -> None:
        self._graph = graph
        self._init_ids = {quantum.quantum_id for quantum in graph.init_quanta()}
        self._producer = functools.lru_cache(_KEPT)(self._read_producer)
        self._quantum = functools.lru_cache(_KEPT)(self._read_quantum)

    def first(self, quantum: nodes.Quantum) -> nodes.Quantum | None:
        """Return the failed quantum nearest above a blocked one; nothing if none is on record.

        Of several at the same distance, it is the one with the lowest id.
        """
        seen: set[str] = set()
        level = [_inputs(quantum)]
        while level:
            failed, above = [], []
            for producer in filter(None, (self._producer(each) for inputs in level for each in inputs)):
                if producer not in seen:
                    seen.add(producer)
                    status, its_inputs = self._quantum(producer)
                    if status in BLOCKING:
                        failed.append(producer)
                    elif status == statuses.BLOCKED:
                        above.append(its_inputs)
            if failed:
                return self._graph.quantum(min(failed))
            level = above
        return None

    def _read_producer(self, dataset_id: str) -> str | None:
        producer = self._graph.dataset(dataset_id).producer
        return None if producer in self._init_ids else producer

    def _read_quantum(self, quantum_id: str) -> tuple[int, tuple[str, ...]]:
        quantum = self._graph.quantum(quantum_id)
        status = quantum.status
        return status, _inputs(quantum) if status == statuses.BLOCKED else ()


def _inputs(quantum: nodes.Quantum) -> tuple[str, ...]:
    return tuple(dataset_id for ids in quantum.inputs.values() for dataset_id in ids)
