"""A pipeline with its tasks configured: what is known of it before there is a repository."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from aggregator.execution import task_classes, tasks
from aggregator.execution.pipelines import contracts, pipeline_expansion, task_configs, yaml_pipelines
from aggregator.storage import errors


@dataclasses.dataclass(frozen=True, slots=True)
class ConfiguredPipeline:
    """A pipeline with its tasks."""

    text: yaml_pipelines.PipelineText
    """How it is written."""

    makers: Mapping[str, tasks.TaskMaker]
    """Its tasks by label."""

    configs: Mapping[str, Any]
    """Their configurations, as objects with fields."""

    data_id: Mapping[str, Any]
    """Values that all data IDs have."""


def load(location: str, *, allow_python: bool = False) -> ConfiguredPipeline:
    """Return a pipeline.

    Parameters
    ----------
    location
        Path of its YAML file, perhaps with the names of a part of it (see `pipeline_expansion.load`).
    allow_python
        Whether code in configurations is run.

    Raises
    ------
    RefusedError
        If it can't be read, a class can't be imported, a setting does not fit, or a contract is broken.
    """
    text = pipeline_expansion.load(location)
    if not allow_python:
        for label, entry in text.tasks.items():
            task_configs.refuse_python(label, entry)
    instrument, data_id = _instrument(text.instrument)
    parameters = task_configs.Parameters(text.parameters)
    makers, configs = {}, {}
    for label, entry in text.tasks.items():
        definition, configs[label] = task_configs.configured(label, entry, parameters, instrument)
        makers[label] = task_classes.load(definition)
        if makers[label].adjusts_all_quanta:
            raise errors.RefusedError(
                f"Task {label!r} ({entry.task_class}) decides itself which quanta there are "
                "(adjust_all_quanta), which "
                "this version does not support; build its graph with the middleware."
            )
    for contract in text.contracts:
        contracts.check(contract, configs)
    return ConfiguredPipeline(text, makers, configs, data_id)


def _instrument(name: str | None) -> tuple[Any | None, dict[str, Any]]:
    """Return an instrument, and the data ID of all that is its."""
    if name is None:
        return None, {}
    place = f"Instrument {name}"
    kind = task_classes.imported(name, place)
    try:
        return kind(), {"instrument": str(kind.getName())}
    except Exception as exc:
        raise errors.RefusedError(
            f"{place}: has no name ({type(exc).__name__}: {exc}); getName() gives it."
        ) from exc
