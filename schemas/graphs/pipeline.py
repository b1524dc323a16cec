"""Header and pipeline graph, common to both kinds of graph (quantum-graph-format.md section 5)."""

import dataclasses
from typing import Any

import msgspec
from aggregator.storage import errors

PACKAGES_TYPE = "packages"
PACKAGES_STORAGE_CLASS = "Packages"
METADATA_CONNECTION = "_metadata"
LOG_CONNECTION = "_log"
CONFIG_CONNECTION = "_config"
FORMAT_VERSION = 1


class Header(msgspec.Struct, frozen=True):
    """What the graph says of itself (section 5.2)."""

    version: int = 1
    """Format version."""
    graph_type: str = ""
    """"predicted" or "provenance"."""
    inputs: list[str] = []
    """Input collections, in order."""
    output: str | None = ""
    """CHAINED output collection, or nothing."""
    output_run: str = ""
    """RUN collection of all outputs."""
    int_size: int = 8
    """Bytes per integer in multi-block and address files."""
    n_quanta: int = 0
    """Number of regular quanta."""
    n_datasets: int = 0
    """Number of distinct datasets, `packages` included."""
    n_task_quanta: dict[str, int] = {}
    """Number of quanta of each task."""
    user: Any = None
    """Who built it; only shown, as the next two."""
    timestamp: Any = None
    """When, ISO 8601, local time."""
    command: Any = None
    """With which command line."""


class _Edge(msgspec.Struct, frozen=True):
    dataset_type_name: str
    storage_class: str = ""


class _TaskInit(msgspec.Struct, frozen=True):
    config_output: _Edge
    inputs: dict[str, _Edge] = {}
    outputs: dict[str, _Edge] = {}


class _Task(msgspec.Struct, frozen=True):
    init: _TaskInit
    dimensions: list[str]
    metadata_output: _Edge
    inputs: dict[str, _Edge] = {}
    prerequisite_inputs: dict[str, _Edge] = {}
    outputs: dict[str, _Edge] = {}
    log_output: _Edge | None = None
    index: int | None = None


class _DatasetType(msgspec.Struct, frozen=True):
    dimensions: list[str]
    storage_class: str
    is_calibration: bool = False
    index: int | None = None


class _PipelineGraph(msgspec.Struct, frozen=True):
    tasks: dict[str, _Task]
    dataset_types: dict[str, _DatasetType]
    dimensions: dict[str, Any] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetType:
    """A dataset type of the pipeline."""

    name: str
    """Name of the parent dataset type, never a component."""
    dimensions: tuple[str, ...]
    """All dimensions, required and implied."""
    storage_class: str
    """Storage class in the registry."""
    is_calibration: bool
    """Whether it is a calibration dataset type."""
    is_produced: bool
    """Whether a task or its initialisation writes it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """A task of the pipeline."""

    label: str
    """Task label."""
    dimensions: tuple[str, ...]
    """All dimensions of its quanta."""
    log_type: str | None
    """Dataset type of its logs; nothing if the task's configuration disables them."""
    inputs: dict[str, str] = dataclasses.field(default_factory=dict)
    """Parent dataset type that each connection reads, prerequisites included."""
    outputs: dict[str, str] = dataclasses.field(default_factory=dict)
    """Dataset type that each connection writes, metadata and log included."""
    init_inputs: dict[str, str] = dataclasses.field(default_factory=dict)
    """Parent dataset type that each connection of the initialisation reads."""
    init_outputs: dict[str, str] = dataclasses.field(default_factory=dict)
    """Dataset type that each connection of the initialisation writes, the configuration included."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pipeline:
    """Tasks and dataset types, each in the order of the pipeline graph's indices."""

    tasks: tuple[Task, ...]
    """Tasks in pipeline order."""
    dataset_types: tuple[DatasetType, ...]
    """Dataset types in pipeline order; `packages`, which the file does not list, is last."""
    universe: dict[str, Any]
    """Configuration of the dimension universe."""


def parse_header(data: bytes, path: str, graph_type: str) -> Header:
    """Return the header of a graph of the given type.

    Raises
    ------
    RefusedError
        If the graph is of another type or of a newer version.
    """
    try:
        header = msgspec.json.decode(data, type=Header)
    except (ValueError, RecursionError, msgspec.MsgspecError) as exc:
        raise errors.FormatError(path, "header", str(exc)) from exc
    if header.graph_type != graph_type:
        raise errors.RefusedError(
            f"{path}: a {graph_type} graph is needed, this one is of type {header.graph_type!r}"
        )
    if header.version > FORMAT_VERSION:
        raise errors.RefusedError(
            f"{path}: format version {header.version} is newer than {FORMAT_VERSION}, the newest known"
        )
    if not 1 <= header.int_size <= 8:
        raise errors.FormatError(path, "header", f"int_size {header.int_size} is not in 1..8")
    return header


def parse_pipeline(data: bytes, path: str) -> Pipeline:
    """Return tasks and dataset types of a pipeline graph."""
    try:
        graph = msgspec.json.decode(data, type=_PipelineGraph)
    except (ValueError, RecursionError, msgspec.MsgspecError) as exc:
        raise errors.FormatError(path, "pipeline_graph", str(exc)) from exc
    if graph.dimensions is None:
        raise errors.RefusedError(f"{path}: its pipeline graph is not resolved (no dimension universe)")
    produced: set[str] = set()
    for task in graph.tasks.values():
        edges = [task.metadata_output, task.init.config_output]
        edges += [*task.outputs.values(), *task.init.outputs.values()]
        if task.log_output is not None:
            edges.append(task.log_output)
        produced.update(edge.dataset_type_name for edge in edges)
    tasks = sorted(graph.tasks.items(), key=lambda item: item[1].index or 0)
    types = sorted(graph.dataset_types.items(), key=lambda item: item[1].index or 0)
    dataset_types = [
        DatasetType(name, tuple(t.dimensions), t.storage_class, t.is_calibration, name in produced)
        for name, t in types
    ]
    dataset_types.append(DatasetType(PACKAGES_TYPE, (), PACKAGES_STORAGE_CLASS, False, True))
    return Pipeline(
        tasks=tuple(_task(label, t) for label, t in tasks),
        dataset_types=tuple(dataset_types),
        universe=graph.dimensions,
    )


def _task(label: str, task: _Task) -> Task:
    outputs = {**task.outputs, METADATA_CONNECTION: task.metadata_output}
    if task.log_output is not None:
        outputs[LOG_CONNECTION] = task.log_output
    return Task(
        label=label,
        dimensions=tuple(task.dimensions),
        log_type=task.log_output.dataset_type_name if task.log_output else None,
        inputs=_types({**task.inputs, **task.prerequisite_inputs}),
        outputs=_types(outputs),
        init_inputs=_types(task.init.inputs),
        init_outputs=_types({**task.init.outputs, CONFIG_CONNECTION: task.init.config_output}),
    )


def _types(edges: dict[str, _Edge]) -> dict[str, str]:
    """Return the parent dataset type of each connection; inputs can be components."""
    return {name: edge.dataset_type_name.partition(".")[0] for name, edge in edges.items()}
