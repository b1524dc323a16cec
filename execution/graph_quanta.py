"""The quanta of a predicted graph, in an order in which they can be executed."""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Collection, Iterable, Iterator

import numpy as np
import numpy.typing as npt
from aggregator.butler import artifacts
from aggregator.execution import foreign_metadata, graph_context, readiness
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
        self._ids = table.ids
        self._places = np.stack([table.offsets[:, 0], table.sizes[:, 0]], axis=1)
        self._is_chosen = np.ones(len(table.ids), dtype=bool) if ids is None else self._chosen(ids)
        # Of a graph of millions of quanta, few may be chosen.
        pieces = (each[self._is_chosen[each[:, 1]]] for each in graph.edge_pieces(table))
        self._edges = np.concatenate([np.empty((0, 2), dtype=np.int32), *pieces])
        self._edges = self._edges[np.argsort(self._edges[:, 1], kind="stable")]
        self._begins = np.searchsorted(self._edges[:, 1], np.arange(len(table.ids) + 1))

    def __len__(self) -> int:
        return int(self._is_chosen.sum())

    def _chosen(self, ids: Collection[uuid.UUID]) -> npt.NDArray[np.bool_]:
        texts = [each.hex for each in ids]
        chosen = np.isin(self._ids, addresses.parse_ids(texts))
        if chosen.sum() < len(set(texts)):
            there = set(addresses.hex_digits(self._ids[chosen]))
            unknown = [each for each in ids if each.hex not in there]
            raise errors.RefusedError(
                f"{self._context.graph.path}: has no quantum {unknown[0]}"
                f"{f', nor {len(unknown) - 1} others of those given' if len(unknown) > 1 else ''}."
            )
        return chosen

    def _before(self, row: int) -> list[int]:
        """Return the quanta that have to come before one."""
        before: list[int] = self._edges[self._begins[row] : self._begins[row + 1], 0].tolist()
        return before

    def __iter__(self) -> Iterator[readiness.QuantumData]:
        """Yield them, none before its prerequisites.

        A quantum is blocked if one before it, which is not to be executed, has left no metadata.
        """
        order = self._ordered()
        absent = self._absent()
        for begin in range(0, len(order), _AT_ONCE):
            rows = order[begin : begin + _AT_ONCE]
            for row, block in zip(rows.tolist(), self._blocks(rows), strict=True):
                before = self._before(row)
                yield readiness.QuantumData(
                    quantum=tuple(self._places[row].tolist()),
                    task=block.task_label,
                    id=uuid.UUID(block.quantum_id),
                    prerequisites=frozenset(self._id(each) for each in before if self._is_chosen[each]),
                    data_id=self._context.required_values(block),
                    is_blocked=not absent.isdisjoint(before),
                )

    def _id(self, row: int) -> uuid.UUID:
        return uuid.UUID(bytes=addresses.id_at(self._ids, row))

    def blocks(self) -> Iterator[predicted.Quantum]:
        """Yield the blocks of all of them, in any order."""
        rows = np.flatnonzero(self._is_chosen)
        for begin in range(0, len(rows), _AT_ONCE):
            yield from self._blocks(rows[begin : begin + _AT_ONCE])

    def _blocks(self, rows: npt.NDArray[np.int64]) -> Iterator[predicted.Quantum]:
        places = self._places[rows]
        for block, _ in self._context.graph.read_quanta(places[:, 0], places[:, 1]):
            yield block

    def _ordered(self) -> npt.NDArray[np.int64]:
        """Return the rows in topological order, and in that of the file where that leaves a choice."""
        rows = np.flatnonzero(self._is_chosen)
        order = rows[np.argsort(self._places[rows, 0])]
        edges = self._edges[self._is_chosen[self._edges].all(axis=1)]
        ranks = np.empty(len(self._ids), dtype=np.int64)
        ranks[order] = np.arange(len(order))
        if (ranks[edges[:, 0]] < ranks[edges[:, 1]]).all():
            # As all builders of graphs write them.
            return order
        ranks = np.array(_sorted(len(order), ranks[edges].tolist()), dtype=np.int64)
        if len(ranks) < len(order):
            raise errors.FormatError(
                self._context.graph.path, "", "quanta depend on each other in a circle; build it again"
            )
        return order[ranks]

    def _absent(self) -> set[int]:
        """Return the quanta before the chosen ones, themselves not chosen, that have left no metadata.

        Raises
        ------
        RefusedError
            If others have left metadata of another graph.
        """
        producers, consumers = self._edges.T
        outside = np.unique(producers[self._is_chosen[consumers] & ~self._is_chosen[producers]])
        absent: set[int] = set()
        knows_graph = False
        for begin in range(0, len(outside), _AT_ONCE):
            rows = outside[begin : begin + _AT_ONCE]
            for row, block in zip(rows.tolist(), self._blocks(rows), strict=True):
                if not has_metadata(self._context, block):
                    absent.add(row)
                elif not knows_graph:
                    knows_graph = foreign_metadata.check(self._context.files, self._context.quantum(block))
        return absent


def _sorted(n: int, edges: Iterable[tuple[int, int]]) -> list[int]:
    """Return numbers in topological order, the smallest first; those in circles are missing."""
    after: dict[int, list[int]] = {}
    left = [0] * n
    for producer, consumer in edges:
        after.setdefault(producer, []).append(consumer)
        left[consumer] += 1
    heap = [each for each, n_before in enumerate(left) if not n_before]
    order = []
    while heap:
        each = heapq.heappop(heap)
        order.append(each)
        for consumer in after.get(each, ()):
            left[consumer] -= 1
            if not left[consumer]:
                heapq.heappush(heap, consumer)
    return order


def has_metadata(context: graph_context.GraphContext, block: predicted.Quantum) -> bool:
    """Return whether a quantum has left metadata, which tell that it has succeeded."""
    ref = context.quantum(block).outputs[pipeline.METADATA_CONNECTION][0]
    return any(
        all(artifacts.are_there(each)) for each in context.files.predicted(ref, ref.datasetType.storage_class)
    )
