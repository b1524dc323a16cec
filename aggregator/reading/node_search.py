"""Finding the nodes of a provenance graph by what they are."""

import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping

import numpy as np

from aggregator.butler.dimensions import universe
from aggregator.reading import data_ids, index_cache, tables
from aggregator.schemas.execution import statuses
from aggregator.schemas.graphs import nodes, pipeline, provenance_graph, quantum_index
from aggregator.storage import errors

DataId = Mapping[str, int | str] | str | None
"""Some or all values of a data ID; as text like ``visit=102 AND detector=5``."""

Statuses = str | int | Collection[str | int] | None
"""A status or several, by name or number (see `aggregator.Status`)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """Which quanta are looked for."""

    task: pipeline.Task | None
    """Of which task; of all by default."""

    values: data_ids.Constraint
    """Values of their data IDs."""

    statuses: frozenset[int] | None
    """Their statuses; all by default."""

    def __str__(self) -> str:
        task = "" if self.task is None else f" of {self.task.label}"
        values = f" with {data_ids.text(self.values)}" if self.values else ""
        names = [] if self.statuses is None else [statuses.NAMES[each] for each in sorted(self.statuses)]
        return f"{task}{values}{' that are ' + ', '.join(names) if names else ''}"

    def without_statuses(self) -> str:
        """Return it in words, but for the statuses."""
        return str(dataclasses.replace(self, statuses=None))


class NodeSearch:
    """Finds quanta and datasets by task or dataset type, data ID and status.

    Parameters
    ----------
    graph
        The graph.
    """

    def __init__(self, graph: provenance_graph.ProvenanceGraph) -> None:
        self._graph = graph
        self._tasks = {task.label: i for i, task in enumerate(graph.pipeline.tasks)}
        self._types = {each.name: each.dimensions for each in graph.pipeline.dataset_types}
        # Not in the graph, though its type is in all pipelines.
        del self._types[pipeline.PACKAGES_TYPE]
        self._index: quantum_index.Index | None = None

    def close(self) -> None:
        """Close the index."""
        if self._index is not None:
            self._index.close()

    @functools.cached_property
    def naming(self) -> data_ids.DataIds:
        """Names of the values in data IDs."""
        return data_ids.DataIds(universe.Universe.from_config(self._graph.pipeline.universe))

    @property
    def index(self) -> quantum_index.Index:
        """The graph's index, made when it is needed for the first time."""
        if self._index is None:
            self._index = index_cache.open_index(self._graph)
        return self._index

    def dimensions(self, node: nodes.Quantum | nodes.Dataset) -> tuple[str, ...]:
        """Return the dimensions of a node."""
        if isinstance(node, nodes.Dataset):
            return self._types[node.dataset_type_name]
        return self._graph.pipeline.tasks[self._tasks[node.task_label]].dimensions

    def data_id(self, node: nodes.Quantum | nodes.Dataset) -> dict[str, data_ids.Value]:
        """Return the full data ID of a node, required dimensions first."""
        return self.naming.name(self.dimensions(node), nodes.coordinate_values(node.data_coordinate))

    def data_id_columns(self, task: pipeline.Task | None) -> tables.Columns:
        """Return the columns of data IDs of the quanta of a task, or of all."""
        chosen = self._graph.pipeline.tasks if task is None else [task]
        return {name: kind for each in chosen for name, kind in self.naming.columns(each.dimensions).items()}

    def type_columns(self, dataset_type: str) -> tables.Columns:
        """Return the columns of data IDs of a dataset type."""
        return self.naming.columns(self._types[dataset_type])

    def query(self, task: str | None, data_id: DataId, chosen: Statuses) -> Query:
        """Return a question for quanta that can be answered; see `aggregator.Provenance.quanta`."""
        given, codes = _mapping(data_id), _codes(chosen)
        if task is None:
            if given:
                raise errors.RefusedError("a data ID has a meaning together with a task only; name the task")
            return Query(None, {}, codes)
        if task not in self._tasks:
            labels = ", ".join(self._tasks)
            raise errors.RefusedError(f"{self._graph.path}: no task {task!r}; there are {labels}")
        task_node = self._graph.pipeline.tasks[self._tasks[task]]
        return Query(task_node, self.naming.constraint(f"task {task}", task_node.dimensions, given), codes)

    def codes(self, query: Query) -> tuple[int | None, dict[int, int], frozenset[int] | None]:
        """Return a question as the index takes it: position of the task, codes of values, and statuses."""
        if query.task is None:
            return None, {}, query.statuses
        keys = self.naming.keys(query.task.dimensions)
        codes = {keys.index(name): quantum_index.code(value) for name, value in query.values.items()}
        return self._tasks[query.task.label], codes, query.statuses

    def find(self, query: Query) -> Iterator[nodes.Quantum]:
        """Yield the quanta that are asked for, in the order of the graph."""
        expected = query.values.items()
        for place in self.index.search(*self.codes(query)):
            quantum = self._graph.quantum_at(place.offset, place.size)
            # Two strings can have one code.
            if not expected or expected <= self.data_id(quantum).items():
                yield quantum

    def check_type(self, dataset_type: str, data_id: DataId) -> data_ids.Constraint:
        """Return the constraint of a question for datasets; see `aggregator.Provenance.datasets`."""
        if dataset_type not in self._types:
            names = ", ".join(self._types)
            raise errors.RefusedError(
                f"{self._graph.path}: no dataset type {dataset_type!r}; there are {names}"
            )
        what = f"dataset type {dataset_type}"
        return self.naming.constraint(what, self._types[dataset_type], _mapping(data_id))

    def counts(self) -> dict[str, tuple[dict[statuses.Status, int], dict[int, int]]]:
        """Count quanta; see `aggregator.Provenance.counts`."""
        by_status, by_caveats = self.index.counts(len(self._tasks))
        result = {}
        for label, i in self._tasks.items():
            states = {state: int(by_status[i, state - statuses.ABORTED]) for state in statuses.Status}
            result[label] = (
                states,
                {int(bits): int(by_caveats[i, bits]) for bits in np.flatnonzero(by_caveats[i])},
            )
        return result

    def datasets(self, dataset_type: str, constraint: data_ids.Constraint) -> Iterator[nodes.Dataset]:
        """Yield the datasets of a type with a constraint."""
        seen: set[str] = set()
        for dataset_id in self._candidates(dataset_type, constraint):
            if dataset_id not in seen:
                seen.add(dataset_id)
                dataset = self._graph.dataset(dataset_id)
                values = nodes.coordinate_values(dataset.data_coordinate)
                full = self.naming.name(self._types[dataset_type], values)
                if constraint.items() <= full.items():
                    yield dataset

    def _candidates(self, dataset_type: str, constraint: data_ids.Constraint) -> Iterator[str]:
        """Yield the ids of datasets of a type, with few others than those wanted; some of them repeatedly."""
        tasks = self._graph.pipeline.tasks
        written = any(dataset_type in {**t.outputs, **t.init_outputs}.values() for t in tasks)
        init_quanta = {quantum.task_label: quantum for quantum in self._graph.init_quanta()}
        for task in tasks:
            init_types = task.init_outputs if written else task.init_inputs
            for connection in _connections(init_types, dataset_type):
                init = init_quanta[task.label]
                yield from filter(None, [(init.outputs if written else init.inputs).get(connection)])
        for task in tasks:
            connections = _connections(task.outputs if written else task.inputs, dataset_type)
            if connections:
                shared = {name: value for name, value in constraint.items() if name in task.dimensions}
                for quantum in self.find(Query(task, shared, None)):
                    ids = quantum.outputs if written else quantum.inputs
                    for connection in connections:
                        yield from ids.get(connection, ())


def _connections(types: dict[str, str], dataset_type: str) -> list[str]:
    return [connection for connection, name in types.items() if name == dataset_type]


def _mapping(data_id: DataId) -> Mapping[str, int | str]:
    if isinstance(data_id, str):
        return data_ids.parse(data_id)
    return data_id or {}


def _codes(chosen: Statuses) -> frozenset[int] | None:
    """Return the numbers of statuses.

    Raises
    ------
    RefusedError
        If one is unknown.
    """
    if chosen is None:
        return None
    result = set()
    for each in [chosen] if isinstance(chosen, str | int) else chosen:
        try:
            result.add(int(statuses.Status[each.upper()] if isinstance(each, str) else statuses.Status(each)))
        except (KeyError, ValueError):
            names = ", ".join(statuses.NAMES.values())
            raise errors.RefusedError(f"{each!r} is no status; there are {names}") from None
    return frozenset(result)
