"""The quanta of a predicted graph, in an order in which they can be executed."""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Collection, Iterator, Sequence

import numpy as np
from aggregator.butler import artifacts
from aggregator.execution import graph_context, readiness
from aggregator.schemas.graphs import addresses, pipeline, predicted
from aggregator.storage import errors

_AT_ONCE = 500
"""Quanta whose blocks are read at a time."""


class GraphQuanta:
    """The quanta of a graph that are to be executed.

    Parameters
    ----------
    context
        The graph with its repository.
    ids
        The quanta; all by default.

    Raises
    ------
    RefusedError
        If one is not in the graph.
    FormatError
        If the graph is damaged.
    """

    def __init__(self, context: graph_context.GraphContext, ids: Collection[uuid.UUID] | None = None) -> None:
        self._context = context
        graph = context.graph
        table = graph.address_table()
        self._ids = [uuid.UUID(hex=digits) for digits in addresses.hex_digits(table.ids)]
        self._places = list(zip(table.offsets[:, 0].tolist(), table.sizes[:, 0].tolist(), strict=True))
        self._before: dict[int, list[int]] = {}
        self._after: dict[int, list[int]] = {}
        for producer, consumer in graph.edges(table).tolist():
            self._before.setdefault(consumer, []).append(producer)
            self._after.setdefault(producer, []).append(consumer)
        self._rows = set(range(len(self._ids))) if ids is None else self._chosen(ids)

    def __len__(self) -> int:
        return len(self._rows)

    def _chosen(self, ids: Collection[uuid.UUID]) -> set[int]:
        rows = {each: row for row, each in enumerate(self._ids)}
        if unknown := [each for each in ids if each not in rows]:
            raise errors.RefusedError(
                f"{self._context.graph.path}: has no quantum {unknown[0]}"
                f"{f', nor {len(unknown) - 1} others of those given' if len(unknown) > 1 else ''}."
            )
        return {rows[each] for each in ids}

    def __iter__(self) -> Iterator[readiness.QuantumData]:
        """Yield them, none before its prerequisites.

        A quantum is blocked if one before it, which is not to be executed, has left no metadata.
        """
        order = self._ordered()
        absent = self._absent()
        for begin in range(0, len(order), _AT_ONCE):
            rows = order[begin : begin + _AT_ONCE]
            for row, block in zip(rows, self._blocks(rows), strict=True):
                before = self._before.get(row, ())
                yield readiness.QuantumData(
                    quantum=self._places[row],
                    task=block.task_label,
                    id=self._ids[row],
                    prerequisites=frozenset(self._ids[each] for each in before if each in self._rows),
                    data_id=self._context.required_values(block),
                    is_blocked=any(each in absent for each in before),
                )

    def _blocks(self, rows: Sequence[int]) -> Iterator[predicted.Quantum]:
        places = np.array([self._places[row] for row in rows], dtype=np.int64).reshape(-1, 2)
        for block, _ in self._context.graph.read_quanta(places[:, 0], places[:, 1]):
            yield block

    def _ordered(self) -> list[int]:
        """Return the rows in topological order, and in that of the file where that leaves a choice."""
        left = {row: sum(each in self._rows for each in self._before.get(row, ())) for row in self._rows}
        heap = [(self._places[row], row) for row, n_before in left.items() if not n_before]
        heapq.heapify(heap)
        order = []
        while heap:
            _, row = heapq.heappop(heap)
            order.append(row)
            for each in self._after.get(row, ()):
                if each in left:
                    left[each] -= 1
                    if not left[each]:
                        heapq.heappush(heap, (self._places[each], each))
        if len(order) < len(self._rows):
            raise errors.FormatError(
                self._context.graph.path, "", "quanta depend on each other in a circle; build it again"
            )
        return order

    def _absent(self) -> set[int]:
        """Return the quanta before the chosen ones, themselves not chosen, that have left no metadata."""
        outside = sorted({each for row in self._rows for each in self._before.get(row, ())} - self._rows)
        absent: set[int] = set()
        for begin in range(0, len(outside), _AT_ONCE):
            rows = outside[begin : begin + _AT_ONCE]
            absent |= {
                row
                for row, block in zip(rows, self._blocks(rows), strict=True)
                if not has_metadata(self._context, block)
            }
        return absent


def has_metadata(context: graph_context.GraphContext, block: predicted.Quantum) -> bool:
    """Return whether a quantum has left metadata, which tell that it has succeeded."""
    ref = context.quantum(block).outputs[pipeline.METADATA_CONNECTION][0]
    return any(
        all(artifacts.are_there(each)) for each in context.files.predicted(ref, ref.datasetType.storage_class)
    )
