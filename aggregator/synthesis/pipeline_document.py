"""The pipeline graph of synthetic runs as a document (quantum-graph-format.md section 5.3)."""

from typing import Any, Final

import msgspec

from aggregator.butler.dimensions import universe
from aggregator.synthesis import survey_data_ids, survey_pipeline

_MOCKS: Final = "lsst.pipe.base.tests.mocks._pipeline_task"
_CONFIG_CLASS: Final = f"{_MOCKS}.DynamicTestPipelineTaskConfig"


def config_text(task: survey_pipeline.Task) -> str:
    """Return the configuration of a task, the Python text that its init output holds."""
    lines = [
        f"import {_MOCKS}",
        f"assert type(config) is {_CONFIG_CLASS}, f'{task.label} is configured with {{type(config)}}'",
        "",
        "# A synthetic task: its quanta were never executed.",
        "config.saveLogOutput=True",
        f"config.dimensions={list(survey_data_ids.KINDS[task.kind].dimensions)!r}",
    ]
    for each in task.inputs:
        section = "prerequisite_inputs" if each.prerequisite else "inputs"
        kind = survey_pipeline.DATASET_TYPES[each.dataset_type]
        lines += _connection(section, each.connection, kind, each.multiple)
    for section, outputs in (
        ("outputs", task.outputs),
        ("init_inputs", task.init_inputs),
        ("init_outputs", task.init_outputs),
    ):
        for output in outputs:
            lines += _connection(
                section, output.connection, survey_pipeline.DATASET_TYPES[output.dataset_type], False
            )
    return "\n".join(lines) + "\n"


def _connection(section: str, name: str, kind: survey_pipeline.DatasetType, multiple: bool) -> list[str]:
    place = f"config.{section}[{name!r}]"
    return [
        "",
        f"{place}={_MOCKS}.DynamicConnectionConfig()",
        f"{place}.dataset_type_name={kind.name!r}",
        f"{place}.dimensions={list(kind.dimensions)!r}",
        f"{place}.storage_class={kind.storage_class!r}",
        f"{place}.mock_storage_class=False",
        f"{place}.multiple={multiple}",
    ]


def _edge(name: str, storage_class: str, dimensions: tuple[str, ...]) -> dict[str, Any]:
    return {
        "dataset_type_name": name,
        "storage_class": storage_class,
        "raw_dimensions": sorted(dimensions),
        "is_calibration": False,
        "defer_query_constraint": False,
    }


def _edges(outputs: tuple[survey_pipeline.Output, ...]) -> dict[str, Any]:
    kinds = {each.connection: survey_pipeline.DATASET_TYPES[each.dataset_type] for each in outputs}
    return {name: _edge(kind.name, kind.storage_class, kind.dimensions) for name, kind in kinds.items()}


def _task(
    task: survey_pipeline.Task, dimensions: universe.Universe, init_index: int, index: int
) -> dict[str, Any]:
    inputs: dict[str, dict[str, Any]] = {"prerequisite_inputs": {}, "inputs": {}}
    for each in sorted(task.inputs, key=lambda each: each.connection):
        kind = survey_pipeline.DATASET_TYPES[each.dataset_type]
        section = inputs["prerequisite_inputs" if each.prerequisite else "inputs"]
        section[each.connection] = _edge(kind.name, kind.storage_class, kind.dimensions)
    special = _edges(task.all_outputs[len(task.outputs) :])
    return {
        "task_class": survey_pipeline.TASK_CLASS,
        "init": {
            "inputs": _edges(task.init_inputs),
            "outputs": _edges(task.init_outputs),
            "config_output": next(iter(_edges(task.all_init_outputs[-1:]).values())),
            "index": init_index,
        },
        "config_str": config_text(task),
        **inputs,
        "outputs": _edges(task.outputs),
        "metadata_output": special["_metadata"],
        "dimensions": sorted(dimensions.group(survey_data_ids.KINDS[task.kind].dimensions).names),
        "log_output": special["_log"],
        "index": index,
    }


def document(dimension_config: dict[str, Any]) -> bytes:
    """Return the pipeline graph as JSON.

    Parameters
    ----------
    dimension_config
        Configuration of the dimension universe.
    """
    dimensions = universe.Universe.from_config(dimension_config)
    order = {each.name: position for position, each in enumerate(survey_pipeline.OVERALL_INPUTS)}
    tasks, index = {}, len(order)
    for task in survey_pipeline.TASKS:
        init_index, task_index = index, index + 1 + len(task.all_init_outputs)
        tasks[task.label] = _task(task, dimensions, init_index, task_index)
        for first, outputs in ((init_index, task.all_init_outputs), (task_index, task.all_outputs)):
            order.update({each.dataset_type: first + 1 + i for i, each in enumerate(outputs)})
        index = task_index + 1 + len(task.all_outputs)
    content = {
        "version": "0.0.1",
        "description": "A synthetic campaign, from raw exposures to tables of objects.",
        "tasks": tasks,
        "dataset_types": _dataset_types(dimensions, order),
        "task_subsets": {},
        "dimensions": dimension_config,
        "data_id": {},
        "step_labels": [],
        "steps_verified": True,
    }
    return msgspec.json.encode(content)


def _dataset_types(dimensions: universe.Universe, order: dict[str, int]) -> dict[str, Any]:
    """Return all dataset types; ``order`` has their positions in the pipeline graph."""
    return {
        kind.name: {
            "dimensions": list(dimensions.group(kind.dimensions).names),
            "storage_class": kind.storage_class,
            "is_calibration": False,
            "is_initial_query_constraint": kind.run is not None,
            "is_prerequisite": kind.is_prerequisite,
            "index": order[kind.name],
        }
        for kind in sorted(survey_pipeline.DATASET_TYPES.values(), key=lambda kind: order[kind.name])
    }
