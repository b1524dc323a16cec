"""Tasks written for the Rubin middleware, run as they are.

Nothing of the middleware is imported here; the module of the task does that. All that is asked of its class
is `ConfigClass` with connections, and the methods named below.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from aggregator.butler import dataset_refs
from aggregator.execution import connected_refs, plain_tasks, tasks
from aggregator.schemas.graphs import task_definitions


class PipelineTask(tasks.Task):
    """A task of the middleware."""

    def run(
        self, context: Any, inputs: connected_refs.ConnectedRefs, outputs: connected_refs.ConnectedRefs
    ) -> None:
        """Run a quantum."""
        self._task.runQuantum(context, inputs, outputs)

    def metadata(self) -> dict[str, Any]:
        """Return the metadata of the task and of those below it."""
        document: dict[str, Any] = json.loads(self._task.getFullMetadata().model_dump_json())
        return document


class PipelineTaskMaker(tasks.TaskMaker):
    """A class of the middleware with its configuration.

    Parameters
    ----------
    definition
        What the pipeline says of it.
    task_class
        The class.
    """

    def __init__(self, definition: task_definitions.TaskDefinition, task_class: Any) -> None:
        super().__init__(definition)
        self._class = task_class
        self._config = task_class.ConfigClass()
        self._config.loadFromString(definition.config_text)
        self._config.freeze()
        self._connections = self._config.ConnectionsClass(config=self._config)
        self.connections = _described(self._connections)
        self.dimensions = tuple(self._connections.dimensions)
        self.saves_log = bool(getattr(self._config, "saveLogOutput", True))
        hook = getattr(type(self._connections), "adjust_all_quanta", None)
        self.adjusts_all_quanta = hook is not None and hook.__module__ != _BASE_OF_CONNECTIONS
        self.can_run_in_parallel = bool(getattr(task_class, "canMultiprocess", True))

    def make(self, init_inputs: Mapping[str, Any]) -> tasks.Task:
        """Make the task."""
        label = self.definition.label
        return PipelineTask(self._class(config=self._config, initInputs=dict(init_inputs), name=label))

    def adjust(
        self, inputs: connected_refs.Refs, outputs: connected_refs.Refs, data_id: dataset_refs.DataId
    ) -> tuple[connected_refs.Refs, connected_refs.Refs]:
        """Let the connections adjust the quantum."""
        described = [
            {name: (self._connection(name), list(refs)) for name, refs in each.items() if self._has(name)}
            for each in (inputs, outputs)
        ]
        adjusted = self._connections.adjustQuantum(*described, self.definition.label, data_id)
        left = [
            {**before, **{name: list(refs) for name, (_, refs) in changes.items()}}
            for before, changes in zip((inputs, outputs), adjusted, strict=True)
        ]
        return left[0], left[1]

    def connect_inputs(self, inputs: connected_refs.Refs) -> connected_refs.ConnectedRefs:
        """Return references to inputs and prerequisites."""
        names = [*self._connections.inputs, *self._connections.prerequisiteInputs]
        deferred = {name: bool(getattr(self._connection(name), "deferLoad", False)) for name in names}
        return connected_refs.connect(inputs, self._multiple(names), deferred)

    def connect_outputs(self, outputs: connected_refs.Refs) -> connected_refs.ConnectedRefs:
        """Return references to outputs."""
        return connected_refs.connect(outputs, self._multiple(list(self._connections.outputs)), {})

    def _multiple(self, names: list[str]) -> dict[str, bool]:
        return {name: bool(self._connection(name).multiple) for name in sorted(names)}

    def _has(self, name: str) -> bool:
        return name in self._connections.allConnections

    def _connection(self, name: str) -> Any:
        return self._connections.allConnections[name]


_BASE_OF_CONNECTIONS: Final = "lsst.pipe.base.connections"
"""Where the middleware defines what connections do unless they say otherwise."""

_GROUPS: Final = {
    "inputs": "inputs",
    "prerequisites": "prerequisiteInputs",
    "outputs": "outputs",
    "init_inputs": "initInputs",
    "init_outputs": "initOutputs",
}
"""Groups of connections, with their names in the middleware."""


def _described(connections: Any) -> dict[str, dict[str, plain_tasks.Connection]]:
    return {
        group: {
            name: _connection(connections.allConnections[name])
            for name in sorted(getattr(connections, attribute))
        }
        for group, attribute in _GROUPS.items()
    }


def _connection(given: Any) -> plain_tasks.Connection:
    return plain_tasks.Connection(
        given.name,
        given.storageClass,
        tuple(getattr(given, "dimensions", ())),
        multiple=bool(given.multiple),
        deferred=bool(getattr(given, "deferLoad", False)),
        minimum=int(getattr(given, "minimum", 1)),
        calibration=bool(getattr(given, "isCalibration", False)),
        constrain=not getattr(given, "deferGraphConstraint", False),
        is_looked_up=getattr(given, "lookupFunction", None) is not None,
    )
