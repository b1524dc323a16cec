"""What an executor asks of a task, whoever has written it."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

from aggregator.butler import dataset_refs
from aggregator.execution import connected_refs
from aggregator.schemas.graphs import task_definitions


class Task(abc.ABC):
    """A task that can be run; made for one quantum.

    Parameters
    ----------
    task
        The task itself, an instance of its class.
    """

    def __init__(self, task: Any) -> None:
        self._task = task

    @abc.abstractmethod
    def run(
        self, context: Any, inputs: connected_refs.ConnectedRefs, outputs: connected_refs.ConnectedRefs
    ) -> None:
        """Run a quantum: read its inputs and write its outputs through a `quantum_context.QuantumContext`."""

    def init_output(self, connection: str) -> Any:
        """Return the object for a connection for outputs of the initialisation: the attribute of its name."""
        return getattr(self._task, connection)

    @abc.abstractmethod
    def metadata(self) -> dict[str, Any]:
        """Return what the task has noted, a document of task metadata with the label at its top."""


class TaskMaker(abc.ABC):
    """A task of a pipeline: class and configuration, from which it can be made for each quantum.

    Parameters
    ----------
    definition
        What the pipeline says of it.
    """

    def __init__(self, definition: task_definitions.TaskDefinition) -> None:
        self.definition = definition

    @abc.abstractmethod
    def make(self, init_inputs: Mapping[str, Any]) -> Task:
        """Make the task, given the inputs of its initialisation by connection."""

    @abc.abstractmethod
    def adjust(
        self, inputs: connected_refs.Refs, outputs: connected_refs.Refs, data_id: dataset_refs.DataId
    ) -> tuple[connected_refs.Refs, connected_refs.Refs]:
        """Return what is left to read and to write by a quantum that lacks some inputs.

        Raises
        ------
        task_errors.NoWork
            If nothing is left to do (or another exception of this meaning, see `task_errors`).
        Exception
            If it can't be run.
        """

    @abc.abstractmethod
    def connect_inputs(self, inputs: connected_refs.Refs) -> connected_refs.ConnectedRefs:
        """Return references to inputs as the task gets them."""

    @abc.abstractmethod
    def connect_outputs(self, outputs: connected_refs.Refs) -> connected_refs.ConnectedRefs:
        """Return references to outputs as the task gets them."""

    dimensions: tuple[str, ...]
    """Dimensions of its quanta, as it declares them."""

    connections: Mapping[str, Mapping[str, Any]]
    """What it reads and writes (`plain_tasks.Connection`), in groups: inputs, prerequisites, outputs,
    init_inputs and init_outputs."""

    saves_log: bool
    """Whether logs of its quanta are kept."""

    adjusts_all_quanta: bool = False
    """Whether it has a say in which quanta there are, beyond its adjustment of each."""

    can_run_in_parallel: bool = True
    """Whether several of its quanta may run at a time."""
