"""Tasks of a pipeline graph as they are executed (quantum-graph-format.md section 5.3)."""

import dataclasses
from collections.abc import Iterator

import msgspec
from aggregator.schemas.graphs import pipeline
from aggregator.storage import errors


class Edge(msgspec.Struct, frozen=True):
    """What a connection reads or writes."""

    dataset_type_name: str
    """Dataset type; of an input perhaps a component, ``parent.component``."""
    storage_class: str = ""
    """Storage class in which the task has the objects."""


class _Init(msgspec.Struct, frozen=True):
    inputs: dict[str, Edge] = {}
    outputs: dict[str, Edge] = {}


class _Task(msgspec.Struct, frozen=True):
    task_class: str
    config_str: str
    init: _Init
    inputs: dict[str, Edge] = {}
    prerequisite_inputs: dict[str, Edge] = {}
    outputs: dict[str, Edge] = {}


class _Pipeline(msgspec.Struct, frozen=True):
    tasks: dict[str, _Task]


@dataclasses.dataclass(frozen=True, slots=True)
class TaskDefinition:
    """A task of a pipeline."""

    label: str
    """Its label."""

    task_class: str
    """Qualified name of its class."""

    config_text: str
    """Its configuration, Python statements."""

    inputs: dict[str, Edge]
    """What each connection for inputs reads, prerequisites aside."""

    prerequisites: dict[str, Edge]
    """What each connection for prerequisites reads."""

    outputs: dict[str, Edge]
    """What each connection for outputs writes; metadata and log are none of these."""

    init_inputs: dict[str, Edge]
    """What each connection for inputs of the initialisation reads."""

    init_outputs: dict[str, Edge]
    """What each connection for outputs of the initialisation writes; the configuration is none of these."""

    def edges(self) -> Iterator[tuple[str, Edge]]:
        """Return all connections, with what each reads or writes."""
        for group in (self.inputs, self.prerequisites, self.outputs, self.init_inputs, self.init_outputs):
            yield from group.items()


def parse(data: bytes, path: str) -> dict[str, TaskDefinition]:
    """Return the tasks of a pipeline graph by label.

    Raises
    ------
    FormatError
        If there is something else.
    """
    try:
        graph = msgspec.json.decode(data, type=_Pipeline)
    except (ValueError, RecursionError, msgspec.MsgspecError) as exc:
        raise errors.FormatError(path, "pipeline_graph", str(exc)) from exc
    return {
        label: TaskDefinition(
            label,
            task.task_class,
            task.config_str,
            task.inputs,
            task.prerequisite_inputs,
            {name: edge for name, edge in task.outputs.items() if name not in _OF_THE_EXECUTOR},
            task.init.inputs,
            {name: edge for name, edge in task.init.outputs.items() if name not in _OF_THE_EXECUTOR},
        )
        for label, task in graph.tasks.items()
    }


_OF_THE_EXECUTOR = (pipeline.METADATA_CONNECTION, pipeline.LOG_CONNECTION, pipeline.CONFIG_CONNECTION)
