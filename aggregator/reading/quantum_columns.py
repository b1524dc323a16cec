"""The table of quanta, made of the side index and the addresses: hardly a block of the graph is read."""

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from aggregator.reading import node_search, tables
from aggregator.schemas.execution import caveats, statuses
from aggregator.schemas.graphs import addresses, nodes, provenance_graph, quantum_index
from aggregator.storage import errors

if TYPE_CHECKING:
    import pyarrow

COLUMNS: Final[tables.Columns] = {
    "quantum_id": "text",
    "task": "category",
    "status": "category",
    "caveats": "category",
}
"""Columns before those of the data ID."""


def batches(
    graph: provenance_graph.ProvenanceGraph,
    search: node_search.NodeSearch,
    query: node_search.Query,
    columns: tables.Columns,
) -> "Iterator[pyarrow.RecordBatch]":
    """Yield the table of the quanta that fit; takes 24 bytes for each quantum of the graph, and a batch."""
    pa = tables.import_library("pyarrow")
    form = tables.schema(columns)
    maker = _Maker(graph, search, columns)
    for group in search.index.columns(*search.codes(query)):
        arrays = maker.arrays(group)
        yield pa.RecordBatch.from_arrays([pa.array(arrays[f.name]).cast(f.type) for f in form], schema=form)


class _Maker:
    """Makes columns of what the index holds.

    Parameters
    ----------
    graph, search
        The graph.
    columns
        Columns of the table.
    """

    def __init__(
        self,
        graph: provenance_graph.ProvenanceGraph,
        search: node_search.NodeSearch,
        columns: tables.Columns,
    ) -> None:
        self._graph = graph
        self._tasks = graph.pipeline.tasks
        self._keys = [search.naming.keys(task.dimensions) for task in self._tasks]
        self._names = {name: kind for name, kind in columns.items() if name not in COLUMNS}
        self._texts: dict[tuple[str, int], str] = {}

    def arrays(self, group: quantum_index.Columns) -> dict[str, npt.NDArray[Any]]:
        """Return the columns of some quanta."""
        labels = np.array([task.label for task in self._tasks], dtype=object)
        bits = group["caveats"]
        result = {
            "quantum_id": self._ids(group["offset"]),
            "task": labels[group["task"]],
            "status": _mapped(group["status"], statuses.NAMES.__getitem__),
            "caveats": _mapped(bits, lambda each: None if each < 0 else caveats.text(each)),
        }
        for name, kind in self._names.items():
            values = np.full(len(bits), None, dtype=object)
            for task in np.unique(group["task"]).tolist():
                if name in self._keys[task]:
                    rows = np.flatnonzero(group["task"] == task)
                    position = self._keys[task].index(name)
                    codes = group[quantum_index.value_column(position)][rows]
                    is_number = kind == "integer"
                    values[rows] = codes if is_number else self._decode(name, position, codes, rows, group)
            result[name] = values
        return result

    def _decode(
        self,
        name: str,
        position: int,
        codes: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int64],
        group: quantum_index.Columns,
    ) -> npt.NDArray[Any]:
        """Return the texts that codes stand for: for each, one quantum that has it is read."""
        distinct, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
        texts = []
        for code, row in zip(distinct.tolist(), rows[first].tolist(), strict=True):
            if (name, code) not in self._texts:
                quantum = self._graph.quantum_at(int(group["offset"][row]), int(group["size"][row]))
                values = nodes.coordinate_values(quantum.data_coordinate)
                self._texts[name, code] = str(values[position])
            texts.append(self._texts[name, code])
        return np.array(texts, dtype=object)[inverse]

    def _ids(self, offsets: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        places, ids = self._places
        rows = np.minimum(np.searchsorted(places, offsets), len(places) - 1)
        if not np.array_equal(places[rows], offsets):
            raise errors.FormatError(
                self._graph.path,
                nodes.ADDRESSES,
                "has no address of a quantum; copy or write the graph again",
            )
        texts = addresses.text_list(ids[rows])
        return np.array([each.decode() for each in texts], dtype=object)

    @functools.cached_property
    def _places(self) -> tuple[npt.NDArray[np.int64], addresses.Ids]:
        """Offsets of all quanta, sorted, and their ids."""
        offsets, ids = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=addresses.ID_TYPE)]
        for table in self._graph.address_rows():
            chosen = np.flatnonzero(table.sizes[:, nodes.QUANTA])
            offsets.append(table.offsets[chosen, nodes.QUANTA])
            ids.append(table.ids[chosen])
        joined = np.concatenate(offsets)
        order = np.argsort(joined)
        return joined[order], np.concatenate(ids)[order]


def _mapped(values: npt.NDArray[Any], name: Any) -> npt.NDArray[Any]:
    """Return the names of small numbers."""
    distinct, inverse = np.unique(values, return_inverse=True)
    return np.array([name(each) for each in distinct.tolist()], dtype=object)[inverse]
