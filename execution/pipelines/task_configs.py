"""Configurations of tasks, as the settings in a pipeline make them."""

from __future__ import annotations

import abc
import ast
import dataclasses
import io
from collections.abc import Mapping
from typing import Any, Final

from aggregator.execution import plain_tasks, task_classes
from aggregator.execution.pipelines import yaml_pipelines
from aggregator.schemas.graphs import task_definitions
from aggregator.storage import errors, local_files

_PARAMETER: Final = "parameters."
_HEADER: Final = "# Configuration of task {label}: one value a line."


class Parameters:
    """Values that settings can name.

    Parameters
    ----------
    values
        The values.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)

    def filled_in(self, value: Any) -> Any:
        """Return the value that a setting means: it may be the name of a parameter."""
        if isinstance(value, str) and value.startswith(_PARAMETER):
            return self.__dict__.get(value.removeprefix(_PARAMETER), value)
        return value


class TaskConfig(abc.ABC):
    """The configuration of a task, while it is being made."""

    config: Any
    """What Python statements know as ``config``."""

    def apply(self, block: yaml_pipelines.ConfigBlock, parameters: Parameters) -> None:
        """Make settings."""
        for path in block.files:
            self._run(local_files.read(path).decode(), path, parameters)
        if block.python:
            self._run(block.python, "<pipeline>", parameters)
        for name, value in block.values:
            *groups, field = name.split(".")
            owner = self.config
            for group in groups:
                owner = getattr(owner, group)
            setattr(owner, field, parameters.filled_in(value))

    def _run(self, text: str, place: str, parameters: Parameters) -> None:
        exec(compile(text, place, "exec"), {"config": self.config, "parameters": parameters})

    @abc.abstractmethod
    def text(self, label: str) -> str:
        """Return it as Python statements, as a run keeps it."""


class Fields:
    """Values by field, as attributes, of which none can be added.

    Parameters
    ----------
    values
        The values; dicts among them are groups of fields, unless they are empty.
    free
        Names of groups to which fields can be added.
    """

    def __init__(self, values: Mapping[str, Any], free: tuple[str, ...] = ()) -> None:
        self.__dict__["_values"] = dict(values)
        self.__dict__["_free"] = free

    def __getattr__(self, name: str) -> Any:
        if name not in self.__dict__.get("_values", ()):
            raise AttributeError(f"there is no field {name!r}; there are {', '.join(sorted(self._values))}")
        value = self._values[name]
        return _Group(value, is_free=name in self._free) if isinstance(value, dict) else value

    def __setattr__(self, name: str, value: Any) -> None:
        getattr(self, name)
        self._values[name] = _fitting(name, self._values[name], value)

    def values(self) -> dict[str, Any]:
        """Return all values."""
        return dict(self.__dict__["_values"])


class _Group(dict[str, Any]):
    """A dict of a configuration, whose entries are attributes, too."""

    def __init__(self, values: dict[str, Any], *, is_free: bool) -> None:
        super().__init__(values)
        self.__dict__.update(_target=values, _is_free=is_free)

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(f"there is no field {name!r}; there are {', '.join(sorted(self))}")
        value = self[name]
        return _Group(value, is_free=False) if isinstance(value, dict) else value

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value if self.__dict__["_is_free"] else _fitting(name, getattr(self, name), value)

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self.__dict__["_target"][name] = value


def _fitting(name: str, before: Any, value: Any) -> Any:
    """Return a value for a field in the type that it has had."""
    kind = type(before)
    if before is None or kind is type(value):
        return value
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(before, list | tuple) and isinstance(value, list | tuple):
        return kind(value)
    if value is None or (isinstance(before, dict) and isinstance(value, dict)):
        return value
    raise TypeError(
        f"field {name!r} has to be of type {kind.__name__}, not {type(value).__name__} ({value!r})"
    )


class PlainConfig(TaskConfig):
    """The configuration of a plain class.

    Parameters
    ----------
    task_class
        The class.
    """

    def __init__(self, task_class: Any) -> None:
        defaults = getattr(task_class, "config", {})
        if dataclasses.is_dataclass(defaults):
            values = {each.name: _default(defaults, each) for each in dataclasses.fields(defaults)}
        else:
            values = dict(defaults)
        self._defaults = dict(values)
        reserved = {plain_tasks.NAMES: dict(values.get(plain_tasks.NAMES, {})), plain_tasks.SAVES_LOG: True}
        self.config = Fields(_copied({**reserved, **values}), free=(plain_tasks.NAMES,))

    def text(self, label: str) -> str:
        """Return it as Python statements."""
        lines = [_HEADER.format(label=label)]
        for name, value in sorted(self.config.values().items()):
            is_reserved = name in plain_tasks.RESERVED and name not in self._defaults
            if is_reserved and value in ({}, True):
                continue
            if _is_literal(value):
                lines.append(f"config.{name} = {value!r}")
            elif value is not self._defaults.get(name):
                raise TypeError(f"field {name!r}: {value!r} can't be written as a literal")
        return "\n".join(lines) + "\n"


def _default(defaults: Any, field: dataclasses.Field[Any]) -> Any:
    if not isinstance(defaults, type):
        return getattr(defaults, field.name)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _copied(value: Any) -> Any:
    return {name: _copied(each) for name, each in value.items()} if isinstance(value, dict) else value


def _is_literal(value: Any) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError):
        return False


class MiddlewareConfig(TaskConfig):
    """The configuration of a task of the Rubin middleware.

    Parameters
    ----------
    task_class
        The class.
    instrument
        The instrument, whose settings come first.
    """

    def __init__(self, task_class: Any, instrument: Any | None) -> None:
        self.config = task_class.ConfigClass()
        if instrument is not None and hasattr(instrument, "applyConfigOverrides"):
            instrument.applyConfigOverrides(task_class._DefaultName, self.config)

    def text(self, label: str) -> str:
        """Return it as Python statements."""
        self.config.validate()
        stream = io.StringIO()
        self.config.saveToStream(stream)
        return stream.getvalue()


def configured(
    label: str, entry: yaml_pipelines.TaskEntry, parameters: Parameters, instrument: Any | None
) -> tuple[task_definitions.TaskDefinition, Any]:
    """Return a task with its configuration as text, and as an object with fields.

    Parameters
    ----------
    label
        Its label.
    entry
        What the pipeline says of it.
    parameters
        Values that settings can name.
    instrument
        The instrument of the pipeline.

    Raises
    ------
    RefusedError
        If its class can't be imported, or a setting does not fit.
    """
    place = f"Task {label!r} ({entry.task_class})"
    task_class = task_classes.imported(entry.task_class, place)
    try:
        is_plain = task_classes.is_plain(task_class, place)
        made = PlainConfig(task_class) if is_plain else MiddlewareConfig(task_class, instrument)
        for block in entry.blocks:
            made.apply(block, parameters)
        text = made.text(label)
    except errors.AggregatorError:
        raise
    except Exception as exc:
        message = str(exc).partition("\n")[0]
        raise errors.RefusedError(
            f"{place}: its configuration can't be made ({type(exc).__name__}: {message})."
        ) from exc
    return task_definitions.TaskDefinition(label, entry.task_class, text, {}, {}, {}, {}, {}), made.config


def refuse_python(label: str, entry: yaml_pipelines.TaskEntry) -> None:
    """Refuse settings that are code.

    Raises
    ------
    RefusedError
        If there are some.
    """
    for block in entry.blocks:
        if block.python or block.files:
            what = "python" if block.python else f"file {block.files[0]}"
            raise errors.RefusedError(
                f"Task {label!r}: its configuration has a section '{what}', which is code that would be run. "
                "Write "
                "it as values, or allow it with --allow-python-config."
            )
