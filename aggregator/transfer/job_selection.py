"""Which quanta of a graph a job on another host can execute: those that nothing here keeps from it."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Collection, Iterator

import numpy as np
import numpy.typing as npt

from aggregator.execution import graph_context, graph_quanta
from aggregator.schemas.graphs import addresses, predicted
from aggregator.storage import errors

_AT_ONCE = 500
"""Quanta whose blocks are in memory."""


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """Quanta of a job."""

    table: addresses.AddressTable
    """Address table of the graph."""

    rows: npt.NDArray[np.int64]
    """Their rows in it, ascending, shape (n,)."""

    n_existing: int
    """Quanta left out because they have succeeded before."""

    n_blocked: int
    """Quanta left out because one before them, which is none of the job, has not succeeded."""

    def blocks(self, graph: predicted.PredictedGraph) -> Iterator[predicted.Quantum]:
        """Yield the quanta, a part of them being in memory."""
        for begin in range(0, len(self.rows), _AT_ONCE):
            rows = self.rows[begin : begin + _AT_ONCE]
            for quantum, _ in graph.read_quanta(self.table.offsets[rows, 0], self.table.sizes[rows, 0]):
                yield quantum


def select(context: graph_context.GraphContext, ids: Collection[uuid.UUID] | None) -> Selection:
    """Return those quanta that can be executed with what is in the repository.

    Parameters
    ----------
    context
        Graph and repository.
    ids
        The quanta that are wanted; all by default.

    Raises
    ------
    RefusedError
        If one is not in the graph.
    AggregatorError
        If none of them can be executed.
    """
    quanta = graph_quanta.GraphQuanta(context, ids)
    existing: set[uuid.UUID] = set()
    blocked: set[uuid.UUID] = set()
    chosen: list[str] = []
    for data in quanta:
        if graph_quanta.has_metadata(context, context.block(data.quantum)):
            existing.add(data.id)
        elif data.is_blocked or not blocked.isdisjoint(data.prerequisites):
            blocked.add(data.id)
        else:
            chosen.append(data.id.hex)
    if not chosen:
        raise errors.AggregatorError(_emptiness(context, len(existing), len(blocked)))
    table = context.graph.address_table()
    rows = np.sort(np.searchsorted(table.ids, addresses.parse_ids(chosen)))
    return Selection(table, rows, len(existing), len(blocked))


def _emptiness(context: graph_context.GraphContext, n_existing: int, n_blocked: int) -> str:
    if not n_blocked:
        return (
            f"{context.graph.path}: there is nothing to pack: all {n_existing} quanta have succeeded before."
        )
    return (
        f"{context.graph.path}: there is nothing to pack: {n_existing} quanta have succeeded before, and "
        f"{n_blocked} need outputs of quanta that have not. Deliver those first, or pack them together."
    )
