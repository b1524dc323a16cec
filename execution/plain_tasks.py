"""Tasks that are plain classes.

    class Calibrate:
        inputs = {"raw": Connection("raw", "NumpyArray", ("visit", "detector"))}
        outputs = {"image": Connection("image", "NumpyArray", ("visit", "detector"))}
        config = {"threshold": 5.0}

        def __init__(self, config, init_inputs): ...

        def run_quantum(self, butler, inputs, outputs): ...

`dimensions`, `prerequisites`, `init_inputs`, `init_outputs` are optional, and so are two class or static
methods: `connections(config)` returns all of these by name instead, and `adjust(inputs, outputs)` may take
datasets out of a quantum that lacks some, before there is an instance. What an instance has as `metadata`, a
dict, becomes the quantum's metadata. `dimensions` may be such a function of the configuration, too.

Names of dataset types may have `{label}` in them, and names whose values `config["connections"]` has. In a
pipeline, ``connections.NAME`` sets these, or gives the dataset type of a connection another name, and
``saveLogOutput: false`` does without logs; both are there for every task.
"""

from __future__ import annotations

import ast
import dataclasses
import string
from collections.abc import Mapping
from typing import Any, Final

from aggregator.butler import dataset_refs
from aggregator.execution import connected_refs, task_errors, tasks
from aggregator.schemas.graphs import task_definitions
from aggregator.storage import errors


@dataclasses.dataclass(frozen=True, slots=True)
class Connection:
    """What a task reads or writes."""

    dataset_type: str
    """Name of the dataset type."""

    storage_class: str
    """Storage class in which the task has the objects."""

    dimensions: tuple[str, ...] = ()
    """Dimensions of the datasets."""

    multiple: bool = False
    """Whether a quantum may have more than one."""

    deferred: bool = False
    """Whether the task gets handles, and reads when it needs to."""

    minimum: int = 1
    """How many a quantum needs to have work; 0 for what is optional."""

    calibration: bool = False
    """Whether it is searched by its time of validity."""

    constrain: bool = True
    """Whether only quanta are made for which there is such an input."""

    is_looked_up: bool = False
    """Whether a function of the task finds its datasets, as only the middleware can do it."""


NAMES: Final = "connections"
"""Field of every configuration: names of dataset types by connection, and parts of names."""

SAVES_LOG: Final = "saveLogOutput"
"""Field of every configuration: whether the logs of quanta are kept."""

RESERVED: Final = (NAMES, SAVES_LOG)
"""Fields that a class need not name to have them."""

_GROUPS: Final = ("inputs", "prerequisites", "outputs", "init_inputs", "init_outputs")


class PlainTask(tasks.Task):
    """An instance of a plain class.

    Parameters
    ----------
    label
        Label of the task.
    task
        The instance.
    """

    def __init__(self, label: str, task: Any) -> None:
        super().__init__(task)
        self._label = label

    def run(
        self, context: Any, inputs: connected_refs.ConnectedRefs, outputs: connected_refs.ConnectedRefs
    ) -> None:
        """Run a quantum."""
        self._task.run_quantum(context, inputs, outputs)

    def metadata(self) -> dict[str, Any]:
        """Return what the instance has noted, if anything."""
        noted = _document(getattr(self._task, "metadata", {}))
        return {"scalars": {}, "arrays": {}, "metadata": {self._label: noted}}


class PlainTaskMaker(tasks.TaskMaker):
    """A plain class with its configuration.

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
        values = parse_config(definition.config_text, definition.label)
        self._config = _merged(getattr(task_class, "config", {}), values)
        self._connections = _connections(task_class, self._config)
        names = {**_names(getattr(task_class, "config", {})), **values.get(NAMES, {})}
        self.connections = _named(self._connections, names, definition.label)
        dimensions = getattr(task_class, "dimensions", ())
        self.dimensions = tuple(dimensions(self._config) if callable(dimensions) else dimensions)
        self.saves_log = bool(values.get(SAVES_LOG, True))

    def make(self, init_inputs: Mapping[str, Any]) -> tasks.Task:
        """Make the task."""
        return PlainTask(self.definition.label, self._class(self._config, dict(init_inputs)))

    def adjust(
        self, inputs: connected_refs.Refs, outputs: connected_refs.Refs, data_id: dataset_refs.DataId
    ) -> tuple[connected_refs.Refs, connected_refs.Refs]:
        """Let the class adjust the quantum, and look whether enough is left."""
        left = {name: list(refs) for name, refs in inputs.items()}
        expected = {name: list(refs) for name, refs in outputs.items()}
        if (adjust := getattr(self._class, "adjust", None)) is not None:
            adjust(left, expected)
        for group in ("inputs", "prerequisites"):
            for name, connection in self._connections[group].items():
                n_left = len(left.get(name, ()))
                if n_left >= connection.minimum:
                    continue
                text = f"{n_left} datasets for {name} of {self.definition.label} {data_id}"
                text += f", of {connection.minimum} that are needed"
                if group == "prerequisites":
                    raise FileNotFoundError(text)
                raise task_errors.NoWork(text)
        return left, expected

    def connect_inputs(self, inputs: connected_refs.Refs) -> connected_refs.ConnectedRefs:
        """Return references to inputs and prerequisites."""
        connections = {**self._connections["inputs"], **self._connections["prerequisites"]}
        deferred = {name: each.deferred for name, each in connections.items()}
        return connected_refs.connect(inputs, _multiple(connections), deferred)

    def connect_outputs(self, outputs: connected_refs.Refs) -> connected_refs.ConnectedRefs:
        """Return references to outputs."""
        return connected_refs.connect(outputs, _multiple(self._connections["outputs"]), {})


def parse_config(text: str, label: str) -> dict[str, Any]:
    """Return the values of a configuration: lines like ``config.threshold = 5.0``.

    Parameters
    ----------
    text
        The lines. Nothing in them is carried out.
    label
        Label of the task, for messages.

    Raises
    ------
    RefusedError
        If there is something else in it.
    """
    values: dict[str, Any] = {}
    try:
        for statement in ast.parse(text).body:
            match statement:
                case ast.Assign(targets=[ast.Attribute(value=ast.Name("config"), attr=name)], value=value):
                    values[name] = ast.literal_eval(value)
                case _:
                    raise ValueError(f"line {statement.lineno} is no 'config.NAME = VALUE'")
    except (SyntaxError, ValueError) as exc:
        raise errors.RefusedError(f"Configuration of task {label!r}: {exc}; build the graph again.") from exc
    return values


def _connections(task_class: Any, config: Any) -> dict[str, dict[str, Connection]]:
    if (function := getattr(task_class, "connections", None)) is not None:
        groups = function(config)
    else:
        groups = {group: getattr(task_class, group, {}) for group in _GROUPS}
    return {group: dict(groups.get(group, {})) for group in _GROUPS}


def _multiple(connections: Mapping[str, Connection]) -> dict[str, bool]:
    return {name: each.multiple for name, each in sorted(connections.items())}


def _names(defaults: Any) -> dict[str, str]:
    """Return the names that a configuration has for dataset types."""
    names = defaults.get(NAMES) if isinstance(defaults, Mapping) else getattr(defaults, NAMES, None)
    return dict(names or {})


def _named(
    groups: Mapping[str, Mapping[str, Connection]], names: Mapping[str, str], label: str
) -> dict[str, dict[str, Connection]]:
    """Return connections with the names that their dataset types have in a pipeline."""
    all_connections = {name: each for group in groups.values() for name, each in group.items()}
    texts = {name: names.get(name, each.dataset_type) for name, each in all_connections.items()}
    parts = {part for text in texts.values() for _, part, _, _ in string.Formatter().parse(text) if part}
    if strange := sorted(names.keys() - all_connections.keys() - parts):
        raise errors.RefusedError(
            f"Task {label!r} has no connection {strange[0]!r}, nor a name with it in it."
        )
    values = {"label": label, **names}
    if missing := sorted(parts - values.keys()):
        raise errors.RefusedError(
            f"Task {label!r}: set 'connections.{missing[0]}', a part of names of its datasets."
        )
    return {
        group: {
            name: dataclasses.replace(each, dataset_type=texts[name].format(**values))
            for name, each in connections.items()
        }
        for group, connections in groups.items()
    }


def _merged(defaults: Any, values: Mapping[str, Any]) -> Any:
    """Return a configuration of the kind of the defaults: a dict, or a dataclass."""
    fields = (
        {each.name for each in dataclasses.fields(defaults)}
        if dataclasses.is_dataclass(defaults)
        else defaults
    )
    values = {name: value for name, value in values.items() if name not in RESERVED or name in fields}
    if isinstance(defaults, type):
        return defaults(**values)
    if dataclasses.is_dataclass(defaults) and not isinstance(defaults, type):
        return dataclasses.replace(defaults, **values)
    return {**defaults, **values}


def _document(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dict as a document of task metadata."""
    document: dict[str, Any] = {"scalars": {}, "arrays": {}, "metadata": {}}
    for name, value in values.items():
        if isinstance(value, Mapping):
            document["metadata"][str(name)] = _document(value)
        elif isinstance(value, list | tuple):
            document["arrays"][str(name)] = list(value)
        else:
            simple = isinstance(value, str | int | float | bool)
            document["scalars"][str(name)] = value if simple else str(value)
    return document
