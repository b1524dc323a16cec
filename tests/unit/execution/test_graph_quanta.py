"""The order in which the quanta of a graph are executed."""

from __future__ import annotations

import types
import uuid
from typing import Any

import numpy as np
import pytest
from aggregator.execution import graph_quanta
from aggregator.schemas.graphs import addresses
from aggregator.storage import errors

IDS = [uuid.UUID(int=number) for number in range(5)]
OFFSETS = [40, 30, 20, 10, 0]
"""The last one comes first in the file."""


def context(edges: list[tuple[int, int]]) -> Any:
    """Return a graph of quanta with these edges."""
    ids = addresses.parse_ids([each.hex for each in IDS])
    column = np.array(OFFSETS).reshape(-1, 1)
    table = addresses.AddressTable(8, ids, np.arange(5), column, np.full((5, 1), 10))

    def read_quanta(offsets: Any, sizes: Any) -> Any:
        for offset in offsets.tolist():
            quantum_id = IDS[OFFSETS.index(offset)]
            yield types.SimpleNamespace(quantum_id=str(quantum_id), task_label="task"), b""

    graph = types.SimpleNamespace(
        path="graph.qg",
        address_table=lambda: table,
        edge_pieces=lambda _: iter([np.array(edges, dtype=np.int32).reshape(-1, 2)]),
        read_quanta=read_quanta,
    )
    return types.SimpleNamespace(graph=graph, required_values=lambda block: {})


@pytest.mark.parametrize(
    ("edges", "order"),
    [
        ([], [4, 3, 2, 1, 0]),
        ([(4, 0), (3, 2), (3, 1)], [4, 3, 2, 1, 0]),
        ([(0, 4), (2, 3)], [2, 3, 1, 0, 4]),
    ],
    ids=["no edges", "edges in the order of the file", "other edges"],
)
def test_none_comes_before_its_prerequisites(edges: list[tuple[int, int]], order: list[int]) -> None:
    quanta = list(graph_quanta.GraphQuanta(context(edges)))
    assert [each.id.int for each in quanta] == order
    expected = {number: {IDS[p] for p, c in edges if c == number} for number in range(5)}
    assert {each.id.int: set(each.prerequisites) for each in quanta} == expected
    assert [each.quantum for each in quanta] == [(OFFSETS[number], 10) for number in order]


def test_circles_are_refused() -> None:
    with pytest.raises(errors.FormatError, match="in a circle"):
        list(graph_quanta.GraphQuanta(context([(0, 1), (1, 2), (2, 0)])))
