"""Which quanta are to run, and which datasets they read and write (graph-building.md section 3)."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Collection, Iterable, Mapping

from aggregator.butler import dataset_refs
from aggregator.butler.registry import new_ids, searches
from aggregator.execution import task_errors
from aggregator.execution.graph_building import existing_datasets, graph_nodes
from aggregator.execution.pipelines import pipeline_graph
from aggregator.schemas.graphs import pipeline
from aggregator.storage import errors


@dataclasses.dataclass(slots=True)
class Counts:
    """What became of the quanta that there might have been."""

    n_skipped: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """By task: those that have succeeded before."""

    n_without_work: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """By task: those that lack inputs."""

    n_kept: int = 0
    """Outputs of earlier attempts that keep their ids, to be replaced."""


class QuantumResolution:
    """Goes through the quanta of a skeleton, task by task, and leaves those that can run.

    Parameters
    ----------
    skeleton
        The skeleton; it is changed.
    graph
        The pipeline.
    existing
        Datasets that exist.
    output_run
        RUN collection of all outputs.
    clobbers
        Whether outputs that are there are to be replaced.
    """

    def __init__(
        self,
        skeleton: graph_nodes.Skeleton,
        graph: pipeline_graph.PipelineGraph,
        existing: existing_datasets.ExistingDatasets,
        output_run: str,
        *,
        clobbers: bool,
    ) -> None:
        self._skeleton = skeleton
        self._graph = graph
        self._existing = existing
        self._run = output_run
        self._clobbers = clobbers
        self.counts = Counts()

    def resolve(self) -> None:
        """Do it.

        Raises
        ------
        RefusedError
            If an output is in the way, or something lacks without which nothing can be built.
        """
        for task in self._graph.tasks.values():
            self._skip(task)
            for quantum in self._skeleton.quanta[task.label].values():
                self._place_outputs(quantum)
            self._find_prerequisites(task)
        for task in self._graph.tasks.values():
            self._adjust(task)
        for task in self._graph.tasks.values():
            self._initialise(task)
        self._skeleton.packages = self._init_place(pipeline.PACKAGES_TYPE)

    def _skip(self, task: pipeline_graph.TaskNode) -> None:
        """Take out quanta that have succeeded before; what they have written is there to be read."""
        quanta = self._skeleton.quanta[task.label]
        done = self._existing.skippable.get(task.outputs[pipeline.METADATA_CONNECTION].dataset_type, {})
        for key in [key for key in quanta if key in done]:
            for name, datasets in quanta.pop(key).outputs.items():
                for dataset in datasets:
                    dataset.place = self._existing.skippable[name].get(dataset.key)
                    dataset.is_overall, dataset.is_gone = True, dataset.place is None
            self.counts.n_skipped[task.label] += 1

    def _place_outputs(self, quantum: graph_nodes.QuantumNode) -> None:
        """Give outputs their ids, and drop inputs that nobody has or writes."""
        for name, datasets in quantum.outputs.items():
            for dataset in datasets:
                present = self._existing.in_the_way[name].get(dataset.key)
                if present is not None and not self._clobbers:
                    raise errors.RefusedError(
                        f"Run {self._run!r} has {name} {dataset.data_id} already. Give another output run; "
                        "or take what "
                        "has succeeded as done (--skip-existing-in) and let the rest be replaced "
                        "(--clobber-outputs)."
                    )
                self.counts.n_kept += present is not None
                dataset.place = present or searches.Place(new_ids.new(), self._run)
        for name, datasets in quantum.inputs.items():
            quantum.inputs[name] = [each for each in datasets if each.place is not None]

    def _find_prerequisites(self, task: pipeline_graph.TaskNode) -> None:
        quanta = self._skeleton.quanta[task.label]
        for name, connection in task.group("prerequisites").items():
            kind = self._graph.dataset_types[pipeline_graph.parent(connection)]
            if not quanta or not self._existing.is_registered(kind.name):
                continue
            if connection.is_looked_up or not set(kind.dimensions.required) <= set(task.dimensions.names):
                raise errors.RefusedError(
                    f"Prerequisite {name!r} of task {task.label!r}: datasets of type {kind.name} can't be "
                    "found by this "
                    f"version, since their dimensions ({', '.join(kind.dimensions.required)}) are not among "
                    "the task's "
                    f"({', '.join(task.dimensions.required)})."
                )
            datasets = self._skeleton.datasets[kind.name]
            for quantum in quanta.values():
                key = graph_nodes.projected(quantum.data_id, kind.dimensions)
                if key not in datasets:
                    data_id = quantum.data_id.make(kind.dimensions, quantum.data_id)
                    datasets[key] = graph_nodes.DatasetNode(kind, data_id)
            self._existing.attach({k: each for k, each in datasets.items() if each.place is None})
            for quantum in quanta.values():
                dataset = datasets[graph_nodes.projected(quantum.data_id, kind.dimensions)]
                quantum.inputs[kind.name] = [dataset] if dataset.place is not None else []

    def _adjust(self, task: pipeline_graph.TaskNode) -> None:
        """Let the task adjust its quanta; take out those without work."""
        quanta = self._skeleton.quanta[task.label]
        for key, quantum in list(quanta.items()):
            if not self._adjust_quantum(quantum):
                for datasets in quantum.outputs.values():
                    for dataset in datasets:
                        dataset.is_gone = True
                del quanta[key]
                self.counts.n_without_work[task.label] += 1
        for name, connection in task.outputs.items():
            kind = self._graph.dataset_types[pipeline_graph.parent(connection)]
            if set(kind.dimensions.required) != set(task.dimensions.required):
                _check_writers(name, kind.name, quanta.values())

    def _adjust_quantum(self, quantum: graph_nodes.QuantumNode) -> bool:
        """Adjust a quantum; return whether there is work for it."""
        task = quantum.task
        connections = {**task.group("inputs"), **task.group("prerequisites")}
        inputs = _connected(connections, quantum.inputs)
        outputs = _connected(task.outputs, quantum.outputs)
        try:
            left, expected = task.maker.adjust(
                _refs(connections, inputs), _refs(task.outputs, outputs), quantum.data_id
            )
        except BaseException as exc:
            if task_errors.no_work_caveats(exc) is not None:
                return False
            if not isinstance(exc, Exception):
                raise
            raise errors.RefusedError(
                f"Task {task.label!r} {quantum.data_id}: no quantum can be made of it ({type(exc).__name__}: "
                f"{exc})."
            ) from exc
        quantum.connected_inputs = _remaining(inputs, left)
        quantum.connected_outputs = _remaining(outputs, expected)
        if any(outputs.values()) and not any(quantum.connected_outputs.values()):
            return False
        kept = {id(each) for datasets in quantum.connected_outputs.values() for each in datasets}
        for datasets in outputs.values():
            for dataset in datasets:
                dataset.is_gone = id(dataset) not in kept
        return True

    def _initialise(self, task: pipeline_graph.TaskNode) -> None:
        """Give init outputs their ids, and find init inputs."""
        label, skeleton = task.label, self._skeleton
        if not skeleton.quanta[label]:
            if self.counts.n_skipped[label]:
                self._reuse_init_outputs(task)
            return
        inputs = {}
        for name, connection in task.group("init_inputs").items():
            kind = self._graph.dataset_types[pipeline_graph.parent(connection)]
            dataset = self._init_dataset(kind)
            if dataset.place is None:
                dataset.place = self._existing.inputs(kind.name, [()]).get(())
                dataset.is_overall = True
            if dataset.place is None:
                raise errors.RefusedError(
                    f"Task {label!r} needs {kind.name} for its initialisation, which is in none of the input "
                    "collections."
                )
            inputs[name] = [dataset]
        outputs = {}
        for name, connection in task.init_outputs.items():
            dataset = self._init_dataset(self._graph.dataset_types[connection.dataset_type])
            dataset.place = self._init_place(connection.dataset_type)
            outputs[name] = [dataset]
        skeleton.init_inputs[label], skeleton.init_outputs[label] = inputs, outputs

    def _reuse_init_outputs(self, task: pipeline_graph.TaskNode) -> None:
        for connection in task.init_outputs.values():
            dataset = self._init_dataset(self._graph.dataset_types[connection.dataset_type])
            dataset.place = self._existing.skippable[connection.dataset_type].get(())
            dataset.is_overall = True
            if dataset.place is None:
                raise errors.RefusedError(
                    f"All quanta of task {task.label!r} have succeeded before, but {connection.dataset_type} "
                    "of its "
                    "initialisation is in none of the collections to skip."
                )

    def _init_dataset(self, kind: pipeline_graph.TypeNode) -> graph_nodes.DatasetNode:
        datasets = self._skeleton.datasets[kind.name]
        if () not in datasets:
            datasets[()] = graph_nodes.DatasetNode(kind, _no_data_id(kind))
        return datasets[()]

    def _init_place(self, name: str) -> searches.Place:
        return self._existing.in_the_way[name].get(()) or searches.Place(new_ids.new(), self._run)


def _no_data_id(kind: pipeline_graph.TypeNode) -> dataset_refs.DataId:
    return dataset_refs.DataId(kind.dimensions, ())


def _connected(connections: pipeline_graph.Connections, by_type: graph_nodes.Members) -> graph_nodes.Members:
    """Return datasets by connection, in the order of their data IDs, without those that are gone."""
    return {
        name: sorted(
            (each for each in by_type.get(pipeline_graph.parent(connection), ()) if not each.is_gone),
            key=lambda dataset: dataset.key,
        )
        for name, connection in connections.items()
    }


def _refs(
    connections: pipeline_graph.Connections, members: graph_nodes.Members
) -> dict[str, list[dataset_refs.DatasetRef]]:
    return {name: [each.ref(connections[name]) for each in datasets] for name, datasets in members.items()}


def _remaining(
    before: graph_nodes.Members, refs: Mapping[str, Collection[dataset_refs.DatasetRef]]
) -> graph_nodes.Members:
    """Return the datasets that an adjustment has left."""
    result = {}
    for name, datasets in before.items():
        left = {ref.id.hex for ref in refs.get(name, ())}
        result[name] = [each for each in datasets if each.place is not None and each.place.id in left]
    return result


def _check_writers(connection: str, dataset_type: str, quanta: Iterable[graph_nodes.QuantumNode]) -> None:
    """Refuse a dataset that two quanta of a task write."""
    writers: dict[int, graph_nodes.QuantumNode] = {}
    for quantum in quanta:
        for dataset in quantum.connected_outputs.get(connection, ()):
            other = writers.setdefault(id(dataset), quantum)
            if other is not quantum:
                raise errors.RefusedError(
                    f"Task {quantum.task.label!r}: output {connection!r}, {dataset_type} {dataset.data_id}, "
                    f"is written by two quanta, {other.data_id} and {quantum.data_id}. Give it all "
                    "dimensions of the task, or let the task have fewer."
                )
