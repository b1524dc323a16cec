"""Nodes of a graph that fit a question: looked up when they are iterated over, or as tables."""

import abc
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from aggregator.reading import failures, node_search, quantum_columns, tables
from aggregator.schemas.execution import caveats, statuses
from aggregator.schemas.graphs import nodes, provenance_graph

if TYPE_CHECKING:
    import pandas
    import pyarrow

T = TypeVar("T")

_SHOWN: Final = 20
"""Rows that a notebook shows."""

_DETAILS: Final[tables.Columns] = {
    "attempts": "integer",
    "exception": "category",
    "message": "text",
    "start": "text",
    "run_time": "number",
    "cpu_time": "number",
    "memory": "number",
}


class Selection(abc.ABC, Generic[T]):
    """What fits a question; can be iterated over again and again, and is looked up anew each time.

    Parameters
    ----------
    what
        The question, in words.
    """

    def __init__(self, what: str) -> None:
        self._what = what

    def __repr__(self) -> str:
        return f"<{self._what}>"

    @abc.abstractmethod
    def __iter__(self) -> Iterator[T]:
        """Yield what fits, in the order of the graph."""

    @abc.abstractmethod
    def _columns(self) -> tables.Columns:
        """Return names and kinds of the table's columns."""

    @abc.abstractmethod
    def _row(self, each: T) -> tables.Row:
        """Return the table's row of a node."""

    def to_batches(self) -> "Iterator[pyarrow.RecordBatch]":
        """Yield the table in parts of bounded size: for what does not fit into memory.

        Raises
        ------
        RefusedError
            If pyarrow is not installed; of all methods that make tables.
        """
        return tables.batches(self._columns(), map(self._row, self))

    def to_arrow(self) -> "pyarrow.Table":
        """Return all of it as a table of Arrow."""
        pa = tables.import_library("pyarrow")
        table: pyarrow.Table = pa.Table.from_batches(self.to_batches(), tables.schema(self._columns()))
        return table.unify_dictionaries()

    def to_pandas(self) -> "pandas.DataFrame":
        """Return all of it as a table of pandas, which has to be installed as well."""
        tables.import_library("pandas")
        frame: pandas.DataFrame = self.to_arrow().to_pandas()
        return frame

    def _repr_html_(self) -> str:
        """Return the first rows, for notebooks."""
        items = iter(self)
        rows = [self._row(each) for each in itertools.islice(items, _SHOWN)]
        names = [name for name in self._columns() if any(row.get(name) is not None for row in rows)]
        return tables.to_html(self._what, names, rows, next(items, None) is not None)


class Quanta(Selection[nodes.Quantum]):
    """Regular quanta. Their table has id, task, status, caveats and data ID, and is made of the index."""

    def __init__(
        self,
        graph: provenance_graph.ProvenanceGraph,
        search: node_search.NodeSearch,
        query: node_search.Query,
        is_detailed: bool = False,
    ) -> None:
        super().__init__(f"quanta{query} in {graph.path}")
        self._graph = graph
        self._search = search
        self._query = query
        self._is_detailed = is_detailed

    def __iter__(self) -> Iterator[nodes.Quantum]:
        return self._search.find(self._query)

    def detailed(self) -> "Quanta":
        """Return the same with more columns, for which each quantum has to be read (0.04 ms).

        They tell the number of attempts, and of the last one exception, message, start, time and CPU time of
        the run in seconds, and memory in bytes.
        """
        return Quanta(self._graph, self._search, self._query, is_detailed=True)

    def to_batches(self) -> "Iterator[pyarrow.RecordBatch]":
        """Yield the table in parts of bounded size; see `Selection.to_batches`."""
        if self._is_detailed:
            return super().to_batches()
        return quantum_columns.batches(self._graph, self._search, self._query, self._columns())

    def _columns(self) -> tables.Columns:
        more = _DETAILS if self._is_detailed else {}
        return {**quantum_columns.COLUMNS, **self._search.data_id_columns(self._query.task), **more}

    def _row(self, each: nodes.Quantum) -> tables.Row:
        more = _details(each) if self._is_detailed else {}
        return {**_brief(each), **self._search.data_id(each), **more}


class Failures(Selection[failures.Failure]):
    """Quanta that did not succeed, with the first cause of those that are blocked.

    Their table has what the one of quanta has, exception and message, and the same of the cause.
    """

    def __init__(
        self,
        search: node_search.NodeSearch,
        query: node_search.Query,
        find: Callable[[], Iterator[failures.Failure]],
        where: str,
    ) -> None:
        super().__init__(f"failures{query.without_statuses()} in {where}")
        self._search = search
        self._query = query
        self._find = find

    def __iter__(self) -> Iterator[failures.Failure]:
        return self._find()

    def _columns(self) -> tables.Columns:
        return {
            **quantum_columns.COLUMNS,
            **self._search.data_id_columns(self._query.task),
            **_DETAILS,
            "cause_id": "text",
            "cause_task": "category",
            "cause_exception": "category",
            "cause_message": "text",
        }

    def _row(self, each: failures.Failure) -> tables.Row:
        cause = each.cause
        row = {**_brief(each.quantum), **self._search.data_id(each.quantum), **_details(each.quantum)}
        if cause is None:
            return row
        details = _details(cause)
        return {
            **row,
            "cause_id": cause.quantum_id,
            "cause_task": cause.task_label,
            "cause_exception": details.get("exception"),
            "cause_message": details.get("message"),
        }


class Datasets(Selection[nodes.Dataset]):
    """Datasets of one type. Their table has id, type, run, whether it was produced, producer and data ID."""

    def __init__(
        self,
        search: node_search.NodeSearch,
        dataset_type: str,
        find: Callable[[], Iterator[nodes.Dataset]],
        where: str,
    ) -> None:
        super().__init__(f"datasets of type {dataset_type} in {where}")
        self._search = search
        self._dataset_type = dataset_type
        self._find = find

    def __iter__(self) -> Iterator[nodes.Dataset]:
        return self._find()

    def _columns(self) -> tables.Columns:
        return {
            "dataset_id": "text",
            "dataset_type": "category",
            "run": "category",
            "produced": "boolean",
            "producer": "text",
            "consumers": "integer",
            **self._search.type_columns(self._dataset_type),
        }

    def _row(self, each: nodes.Dataset) -> tables.Row:
        return {
            "dataset_id": each.dataset_id,
            "dataset_type": each.dataset_type_name,
            "run": each.run,
            "produced": each.produced,
            "producer": each.producer,
            "consumers": len(each.consumers),
            **self._search.data_id(each),
        }


def _brief(quantum: nodes.Quantum) -> dict[str, Any]:
    bits = quantum.attempts[-1].caveats if quantum.attempts else None
    return {
        "quantum_id": quantum.quantum_id,
        "task": quantum.task_label,
        "status": statuses.NAMES[quantum.status],
        "caveats": None if bits is None else caveats.text(bits),
    }


def _details(quantum: nodes.Quantum) -> dict[str, Any]:
    if not quantum.attempts:
        return {"attempts": 0}
    last = quantum.attempts[-1]
    result: dict[str, Any] = {"attempts": len(quantum.attempts)}
    if last.exception is not None:
        result |= {"exception": last.exception.type_name, "message": last.exception.message}
    if last.resource_usage is not None:
        usage = last.resource_usage
        result |= {"start": usage.start, "run_time": usage.run_time, "cpu_time": usage.run_time_cpu}
        result["memory"] = usage.memory
    return result
