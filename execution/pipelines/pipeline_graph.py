"""Tasks and dataset types of a pipeline, in an order in which each comes after what it needs."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Iterator, Mapping
from typing import Any, Final

from aggregator.butler.dimensions import universe
from aggregator.butler.registry import dataset_type_rows
from aggregator.execution import plain_tasks, tasks
from aggregator.execution.pipelines import yaml_pipelines
from aggregator.schemas.graphs import pipeline
from aggregator.storage import errors

METADATA_STORAGE_CLASS: Final = "TaskMetadata"
LOG_STORAGE_CLASS: Final = "ButlerLogRecords"
CONFIG_STORAGE_CLASS: Final = "Config"

Connections = Mapping[str, plain_tasks.Connection]
"""Connections by name."""


@dataclasses.dataclass(frozen=True, slots=True)
class TaskNode:
    """A task of a pipeline."""

    maker: tasks.TaskMaker
    """The task, configured."""

    dimensions: universe.Group
    """Dimensions of its quanta."""

    @property
    def label(self) -> str:
        """Its label."""
        return self.maker.definition.label

    def group(self, name: str) -> Connections:
        """Return a group of connections."""
        return self.maker.connections[name]

    @property
    def outputs(self) -> dict[str, plain_tasks.Connection]:
        """What its quanta write, metadata and log included."""
        declared, label = self.maker.dimensions, self.label
        made = {
            **self.group("outputs"),
            pipeline.METADATA_CONNECTION: plain_tasks.Connection(
                f"{label}_metadata", METADATA_STORAGE_CLASS, declared
            ),
        }
        if self.maker.saves_log:
            made[pipeline.LOG_CONNECTION] = plain_tasks.Connection(
                f"{label}_log", LOG_STORAGE_CLASS, declared
            )
        return made

    @property
    def init_outputs(self) -> dict[str, plain_tasks.Connection]:
        """What its initialisation writes, the configuration included."""
        config = plain_tasks.Connection(f"{self.label}_config", CONFIG_STORAGE_CLASS)
        return {**self.group("init_outputs"), pipeline.CONFIG_CONNECTION: config}


@dataclasses.dataclass(frozen=True, slots=True)
class TypeNode:
    """A dataset type of a pipeline."""

    name: str
    """Its name."""

    dimensions: universe.Group
    """Its dimensions."""

    storage_class: str
    """Its storage class in the repository."""

    is_calibration: bool
    """Whether its datasets have times of validity."""

    is_prerequisite: bool
    """Whether it is read through prerequisite connections."""

    constrains: bool
    """Whether data IDs are only those for which there is such a dataset."""

    producer: str | None
    """Label of the task that writes it, or whose initialisation does; nothing if it exists before."""

    is_init: bool
    """Whether an initialisation writes or reads it, and no quantum."""


@dataclasses.dataclass(frozen=True, slots=True)
class PipelineGraph:
    """A pipeline, resolved for a repository."""

    text: yaml_pipelines.PipelineText
    """How it was written."""

    data_id: Mapping[str, Any]
    """Values that all data IDs have."""

    tasks: Mapping[str, TaskNode]
    """Tasks by label, in order."""

    dataset_types: Mapping[str, TypeNode]
    """Dataset types by name, in order."""

    indices: Mapping[tuple[int, str], int]
    """Positions of all nodes: of dataset types (0, name), of initialisations (1, label), of tasks (2, "
    "label)."""

    def parts(self) -> list[list[TaskNode]]:
        """Return the tasks in groups that have only overall inputs in common."""
        owner = {label: label for label in self.tasks}

        def root(label: str) -> str:
            while owner[label] != label:
                label = owner[label]
            return label

        for node in self.tasks.values():
            for connection in node.group("inputs").values():
                producer = self.dataset_types[parent(connection)].producer
                if producer is not None:
                    owner[root(node.label)] = root(producer)
        parts: dict[str, list[TaskNode]] = {}
        for node in self.tasks.values():
            parts.setdefault(root(node.label), []).append(node)
        return list(parts.values())


def parent(connection: plain_tasks.Connection) -> str:
    """Return the dataset type of a connection, or the one that it reads a component of."""
    return connection.dataset_type.partition(".")[0]


def resolve(
    text: yaml_pipelines.PipelineText,
    data_id: Mapping[str, Any],
    makers: Mapping[str, tasks.TaskMaker],
    dimensions: universe.Universe,
    registered: Mapping[str, dataset_type_rows.DatasetTypeRow],
) -> PipelineGraph:
    """Return the graph of a pipeline.

    Parameters
    ----------
    text
        How the pipeline is written.
    data_id
        Values that all data IDs have.
    makers
        Its tasks by label.
    dimensions
        Dimensions of the repository.
    registered
        Dataset types of the repository, by name.

    Raises
    ------
    RefusedError
        If tasks contradict each other or the repository.
    """
    nodes = {label: TaskNode(maker, dimensions.group(maker.dimensions)) for label, maker in makers.items()}
    uses: dict[str, list[_Use]] = {}
    for node in nodes.values():
        for use in _uses(node):
            uses.setdefault(parent(use.connection), []).append(use)
    types = {name: _type(name, each, dimensions, registered.get(name)) for name, each in uses.items()}
    order = _sorted(nodes, types)
    return PipelineGraph(
        text,
        data_id,
        {name: nodes[name] for kind, name in order if kind == _TASK},
        {name: types[name] for kind, name in order if kind == _TYPE},
        {key: place for place, key in enumerate(order)},
    )


def type_names(makers: Mapping[str, tasks.TaskMaker]) -> set[str]:
    """Return the names of all dataset types of some tasks."""
    names = {pipeline.PACKAGES_TYPE}
    for label, maker in makers.items():
        names |= {f"{label}_metadata", f"{label}_log", f"{label}_config"}
        names |= {parent(each) for group in maker.connections.values() for each in group.values()}
    return names


@dataclasses.dataclass(frozen=True, slots=True)
class _Use:
    """That a task reads or writes a dataset type."""

    label: str
    group: str
    connection: plain_tasks.Connection

    @property
    def writes(self) -> bool:
        return self.group in ("outputs", "init_outputs")

    @property
    def is_init(self) -> bool:
        return self.group.startswith("init_")


def _uses(node: TaskNode) -> Iterator[_Use]:
    groups = {**node.maker.connections, "outputs": node.outputs, "init_outputs": node.init_outputs}
    for group, connections in groups.items():
        for connection in connections.values():
            yield _Use(node.label, group, connection)


def _type(
    name: str,
    uses: list[_Use],
    dimensions: universe.Universe,
    row: dataset_type_rows.DatasetTypeRow | None,
) -> TypeNode:
    """Return a dataset type, given all that read or write it."""
    writers = [use for use in uses if use.writes]
    if len(writers) > 1:
        raise errors.RefusedError(
            f"Dataset type {name!r} is written by two tasks, {writers[0].label!r} and {writers[1].label!r}; "
            "rename one of them (connections)."
        )
    is_prerequisite = any(use.group == "prerequisites" for use in uses)
    if is_prerequisite and any(use.group != "prerequisites" for use in uses):
        raise errors.RefusedError(
            f"Dataset type {name!r} is a prerequisite of one task, and something else of another."
        )
    chosen = writers[0] if writers else uses[0]
    for use in uses:
        if writers and not use.writes and use.label == chosen.label and use.is_init == chosen.is_init:
            raise errors.RefusedError(f"Task {use.label!r} both reads and writes dataset type {name!r}.")
        if writers and use.is_init != chosen.is_init:
            raise errors.RefusedError(
                f"Dataset type {name!r} is written by {chosen.label!r} and read by {use.label!r}, one of "
                "them while it is "
                "initialised and the other by quanta; make it an init input and an init output, or neither."
            )
    group = dimensions.group(chosen.connection.dimensions)
    _check_agreement(name, uses, group, dimensions, row)
    return TypeNode(
        name,
        group,
        row.storage_class if row is not None else _storage_class(name, chosen, uses),
        row.is_calibration if row is not None else any(use.connection.calibration for use in uses),
        is_prerequisite,
        not writers
        and not is_prerequisite
        and all(use.connection.constrain and use.connection.minimum > 0 for use in uses)
        and not all(use.is_init for use in uses),
        writers[0].label if writers else None,
        all(use.is_init for use in uses),
    )


def _check_agreement(
    name: str,
    uses: list[_Use],
    group: universe.Group,
    dimensions: universe.Universe,
    row: dataset_type_rows.DatasetTypeRow | None,
) -> None:
    """Refuse connections to one dataset type that have different dimensions."""
    for use in uses:
        if (other := dimensions.group(use.connection.dimensions)) != group:
            raise errors.RefusedError(
                f"Dataset type {name!r} has dimensions {_listed(group)} for task {uses[0].label!r}, and "
                f"{_listed(other)} for {use.label!r}."
            )
    if row is not None and row.required != group.required:
        raise errors.RefusedError(
            f"Dataset type {name!r} has dimensions {_listed(group)} for task {uses[0].label!r}; in the "
            "repository it "
            f"has {', '.join(row.required) or 'none'}."
        )


def _listed(group: universe.Group) -> str:
    return ", ".join(group.required) or "none"


def _storage_class(name: str, chosen: _Use, uses: list[_Use]) -> str:
    """Return the storage class of a dataset type that is not registered."""
    components = {use.connection.dataset_type for use in uses if "." in use.connection.dataset_type}
    if not chosen.writes and components:
        raise errors.RefusedError(
            f"Dataset type {name!r} is not registered, so that nobody knows of what "
            f"{sorted(components)[0]!r} is a part."
        )
    classes = sorted({use.connection.storage_class for use in uses})
    if not chosen.writes and len(classes) > 1:
        raise errors.RefusedError(
            f"Dataset type {name!r} is not registered, and read as {' and '.join(classes)}; register it "
            "first."
        )
    return chosen.connection.storage_class


_TYPE, _INIT, _TASK = 0, 1, 2


def _sorted(nodes: Mapping[str, TaskNode], types: Mapping[str, TypeNode]) -> list[tuple[int, str]]:
    """Return all nodes, each after what it needs: of those that are ready always the least comes next."""
    needs: dict[tuple[int, str], set[tuple[int, str]]] = {(_TYPE, name): set() for name in types}
    for label, node in nodes.items():
        init, task = (_INIT, label), (_TASK, label)
        needs[init] = {(_TYPE, parent(each)) for each in node.group("init_inputs").values()}
        inputs = (*node.group("inputs").values(), *node.group("prerequisites").values())
        needs[task] = {init, *((_TYPE, parent(each)) for each in inputs)}
        for each in node.init_outputs.values():
            needs[_TYPE, each.dataset_type].add(init)
        for each in node.outputs.values():
            needs[_TYPE, each.dataset_type].add(task)
    following: dict[tuple[int, str], list[tuple[int, str]]] = {}
    for key, others in needs.items():
        for other in others:
            following.setdefault(other, []).append(key)
    ready = [key for key, others in needs.items() if not others]
    heapq.heapify(ready)
    order: list[tuple[int, str]] = []
    missing = {key: len(others) for key, others in needs.items()}
    while ready:
        order.append(heapq.heappop(ready))
        for key in following.get(order[-1], ()):
            missing[key] -= 1
            if not missing[key]:
                heapq.heappush(ready, key)
    if len(order) < len(needs):
        circle = sorted(name for kind, name in needs.keys() - set(order) if kind == _TASK)
        raise errors.RefusedError(f"Tasks need each other's outputs in a circle: {', '.join(circle)}.")
    return order
