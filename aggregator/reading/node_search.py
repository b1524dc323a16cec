"""Finding the nodes of a provenance graph by what they are."""

import functools
from collections.abc import Iterator, Mapping

import numpy as np

from aggregator.butler.dimensions import universe
from aggregator.reading import data_ids, index_cache
from aggregator.schemas.execution import statuses
from aggregator.schemas.graphs import nodes, pipeline, provenance_graph, quantum_index
from aggregator.storage import errors

DataId = Mapping[str, int | str] | str | None
"""Some or all values of a data ID; as text like ``visit=102 AND detector=5``."""


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

    def quanta(
        self, task: str | None, data_id: DataId, wanted: frozenset[int] | None
    ) -> Iterator[nodes.Quantum]:
        """Yield regular quanta; see `aggregator.Provenance.quanta`."""
        given = _mapping(data_id)
        if task is None:
            if given:
                raise errors.RefusedError("a data ID has a meaning together with a task only; name the task")
            return self._search(None, {}, wanted)
        if task not in self._tasks:
            known = ", ".join(self._tasks)
            raise errors.RefusedError(f"{self._graph.path}: no task {task!r}; there are {known}")
        found = self._graph.pipeline.tasks[self._tasks[task]]
        checked = self.naming.constraint(f"task {task}", found.dimensions, given)
        return self._search(found, checked, wanted)

    def datasets(self, dataset_type: str, data_id: DataId) -> Iterator[nodes.Dataset]:
        """Yield datasets; see `aggregator.Provenance.datasets`."""
        if dataset_type not in self._types:
            known = ", ".join(self._types)
            raise errors.RefusedError(
                f"{self._graph.path}: no dataset type {dataset_type!r}; there are {known}"
            )
        what = f"dataset type {dataset_type}"
        checked = self.naming.constraint(what, self._types[dataset_type], _mapping(data_id))
        return self._datasets(dataset_type, checked)

    def counts(self) -> dict[str, tuple[dict[int, int], dict[int, int]]]:
        """Count quanta; see `aggregator.Provenance.counts`."""
        by_status, by_caveats = self.index.counts(len(self._tasks))
        result = {}
        for label, i in self._tasks.items():
            states = {state: int(by_status[i, state - statuses.ABORTED]) for state in statuses.NAMES}
            result[label] = (
                states,
                {int(bits): int(by_caveats[i, bits]) for bits in np.flatnonzero(by_caveats[i])},
            )
        return result

    def _search(
        self, task: pipeline.Task | None, wanted_values: data_ids.Constraint, wanted: frozenset[int] | None
    ) -> Iterator[nodes.Quantum]:
        number, codes, expected = None, {}, {}
        if task is not None:
            keys = self.naming.keys(task.dimensions)
            number = self._tasks[task.label]
            expected = {keys.index(name): value for name, value in wanted_values.items()}
            codes = {position: quantum_index.code(value) for position, value in expected.items()}
        for found in self.index.search(number, codes, wanted):
            quantum = self._graph.quantum_at(found.offset, found.size)
            values = nodes.coordinate_values(quantum.data_coordinate)
            # Two strings can have one code.
            if all(values[position] == value for position, value in expected.items()):
                yield quantum

    def _datasets(self, dataset_type: str, wanted: data_ids.Constraint) -> Iterator[nodes.Dataset]:
        seen: set[str] = set()
        for dataset_id in self._candidates(dataset_type, wanted):
            if dataset_id not in seen:
                seen.add(dataset_id)
                dataset = self._graph.dataset(dataset_id)
                values = nodes.coordinate_values(dataset.data_coordinate)
                full = self.naming.name(self._types[dataset_type], values)
                if wanted.items() <= full.items():
                    yield dataset

    def _candidates(self, dataset_type: str, wanted: data_ids.Constraint) -> Iterator[str]:
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
                shared = {name: value for name, value in wanted.items() if name in task.dimensions}
                for quantum in self._search(task, shared, None):
                    ids = quantum.outputs if written else quantum.inputs
                    for connection in connections:
                        yield from ids.get(connection, ())


def _connections(types: dict[str, str], dataset_type: str) -> list[str]:
    return [connection for connection, name in types.items() if name == dataset_type]


def _mapping(data_id: DataId) -> Mapping[str, int | str]:
    if isinstance(data_id, str):
        return data_ids.parse(data_id)
    return data_id or {}
