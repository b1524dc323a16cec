"""A predicted graph with the repository that it is for: all that is needed to execute its quanta."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Self

from aggregator.butler import artifacts, dataset_refs
from aggregator.butler import quantum as quantum_module
from aggregator.butler.configuration import repository_config
from aggregator.butler.datastores import datastore
from aggregator.butler.dimensions import records, universe
from aggregator.execution import task_classes, tasks
from aggregator.schemas.graphs import predicted, task_definitions
from aggregator.storage import errors

Address = tuple[int, int]
"""Where the block of a quantum is in its graph: offset and size in bytes."""


class GraphContext:
    """A predicted graph, opened, and the repository.

    Parameters
    ----------
    graph_path
        Path or URI of the graph.
    repository
        The repository.

    Raises
    ------
    RefusedError
        If one of them is none, or the configuration of the repository does not say where datasets are.
    """

    def __init__(self, graph_path: str, repository: str) -> None:
        self.config = repository_config.load(repository)
        self.graph = predicted.PredictedGraph(graph_path)
        try:
            self.definitions = task_definitions.parse(self.graph.pipeline_json, self.graph.path)
            self.dimensions = universe.Universe.from_config(self.graph.pipeline.universe)
            self.init_blocks = self.graph.init_quanta()
            self._reader = quantum_module.QuantumReader(
                self.graph.pipeline, self.dimensions, self.init_blocks, self.graph.path
            )
            self.files = artifacts.Artifacts(self.config, self.dimensions, self._records())
        except BaseException:
            self.graph.close()
            raise
        self.dataset_types = {kind.name: kind.storage_class for kind in self.graph.pipeline.dataset_types}
        self.task = functools.cache(self._task)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.graph.close()

    def _records(self) -> records.RecordTable:
        """Return the attributes of dimension records that names of files depend on."""
        store = datastore.Datastore(self.config, self.dimensions)
        instruments = [str(row[0]) for _, row in self.graph.dimension_rows({"instrument"})]
        requests = []
        for kind in self.graph.pipeline.dataset_types:
            group = self.dimensions.group(kind.dimensions)
            for instrument in instruments if "instrument" in group.names else [None]:
                requests.append((kind.name, kind.storage_class, group, instrument))
        needed = store.needed_attributes(requests)
        return records.RecordTable.build(self.dimensions, needed, self.graph.dimension_rows(set(needed)))

    def _task(self, label: str) -> tasks.TaskMaker:
        """Return a task, whose class is imported when it is asked for the first time."""
        return task_classes.load(self.definitions[label])

    def block(self, address: Address) -> predicted.Quantum:
        """Return a quantum as it is in the graph."""
        return self.graph.read_quantum(*address)

    def ref(self, dataset: predicted.Dataset) -> dataset_refs.DatasetRef:
        """Return the reference to a dataset as it is stored.

        Raises
        ------
        FormatError
            If the graph has no such dataset type.
        """
        return self._reader.ref(dataset)

    def quantum(self, block: predicted.Quantum) -> quantum_module.Quantum:
        """Return a quantum with its datasets as its task sees them.

        Raises
        ------
        FormatError
            If it does not fit to the pipeline.
        """
        definition = self.definitions.get(block.task_label)
        if definition is None:
            raise errors.FormatError(self.graph.path, "", f"has no task {block.task_label!r}; build it again")
        whole = self._reader.quantum(block)
        return dataclasses.replace(
            whole,
            inputs=_seen(whole.inputs, {**definition.inputs, **definition.prerequisites}),
            outputs=_seen(whole.outputs, definition.outputs),
            init_inputs=_seen(whole.init_inputs, definition.init_inputs),
        )

    def init_quantum(self, block: predicted.Quantum) -> quantum_module.Quantum:
        """Return an init quantum."""
        whole = self._reader.init_quantum(block)
        definition = self.definitions.get(block.task_label)
        if definition is None:
            return whole
        return dataclasses.replace(
            whole,
            inputs=_seen(whole.inputs, definition.init_inputs),
            outputs=_seen(whole.outputs, definition.init_outputs),
        )

    def required_values(self, block: predicted.Quantum) -> dict[str, dataset_refs.Value]:
        """Return the values of the required dimensions of a quantum."""
        return self._reader.data_id(block).required


def _seen(refs: quantum_module.Refs, edges: Mapping[str, task_definitions.Edge]) -> quantum_module.Refs:
    """Return datasets with the storage classes, or the components, that a task asks for."""
    result = {}
    for name, each in refs.items():
        edge = edges.get(name)
        result[name] = each if edge is None else tuple(_as_seen(ref, edge) for ref in each)
    return result


def _as_seen(ref: dataset_refs.DatasetRef, edge: task_definitions.Edge) -> dataset_refs.DatasetRef:
    component = edge.dataset_type_name.partition(".")[2]
    if component:
        return ref.makeComponentRef(component, edge.storage_class)
    if edge.storage_class in ("", ref.datasetType.storage_class):
        return ref
    kind = dataclasses.replace(ref.datasetType, storage_class=edge.storage_class)
    return dataclasses.replace(ref, datasetType=kind)
