"""The document of a pipeline graph (quantum-graph-format.md section 5.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from aggregator.execution import plain_tasks
from aggregator.execution.pipelines import pipeline_graph
from aggregator.schemas.graphs import pipeline

_VERSION = "0.0.1"


def document(graph: pipeline_graph.PipelineGraph, dimension_config: Mapping[str, Any]) -> bytes:
    """Return a pipeline graph as JSON.

    Parameters
    ----------
    graph
        The graph.
    dimension_config
        Configuration of the dimension universe.
    """
    text = graph.text
    sizes = {step.label: sorted(step.dimensions) for step in text.steps}
    return msgspec.json.encode(
        {
            "version": _VERSION,
            "description": text.description,
            "tasks": {label: _task(graph, node) for label, node in graph.tasks.items()},
            "dataset_types": {node.name: _dataset_type(graph, node) for node in graph.dataset_types.values()},
            "task_subsets": {
                name: {
                    "description": subset.description,
                    "tasks": sorted(subset.labels),
                    "dimensions": sizes.get(name, []),
                }
                for name, subset in sorted(text.subsets.items())
            },
            "dimensions": dimension_config,
            "data_id": dict(graph.data_id),
            "step_labels": [step.label for step in text.steps],
            "steps_verified": True,
        }
    )


def _task(graph: pipeline_graph.PipelineGraph, node: pipeline_graph.TaskNode) -> dict[str, Any]:
    outputs, init_outputs = node.outputs, node.init_outputs
    config = init_outputs.pop(pipeline.CONFIG_CONNECTION)
    metadata, log = outputs.pop(pipeline.METADATA_CONNECTION), outputs.pop(pipeline.LOG_CONNECTION, None)
    return {
        "task_class": node.maker.definition.task_class,
        "init": {
            "inputs": _edges(node.group("init_inputs")),
            "outputs": _edges(init_outputs),
            "config_output": _edge(config),
            "index": graph.indices[1, node.label],
        },
        "config_str": node.maker.definition.config_text,
        "inputs": _edges(node.group("inputs")),
        "prerequisite_inputs": _edges(node.group("prerequisites")),
        "outputs": _edges(outputs),
        "metadata_output": _edge(metadata),
        "log_output": None if log is None else _edge(log),
        "dimensions": sorted(node.dimensions.names),
        "index": graph.indices[2, node.label],
    }


def _edges(connections: pipeline_graph.Connections) -> dict[str, Any]:
    return {name: _edge(each) for name, each in sorted(connections.items())}


def _edge(connection: plain_tasks.Connection) -> dict[str, Any]:
    return {
        "dataset_type_name": connection.dataset_type,
        "storage_class": connection.storage_class,
        "raw_dimensions": sorted(connection.dimensions),
        "is_calibration": connection.calibration,
        "defer_query_constraint": not connection.constrain or connection.minimum == 0,
    }


def _dataset_type(graph: pipeline_graph.PipelineGraph, node: pipeline_graph.TypeNode) -> dict[str, Any]:
    return {
        "dimensions": list(node.dimensions.names),
        "storage_class": node.storage_class,
        "is_calibration": node.is_calibration,
        "is_initial_query_constraint": node.constrains,
        "is_prerequisite": node.is_prerequisite,
        "index": graph.indices[0, node.name],
    }
