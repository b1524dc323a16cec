"""From the name of a class to a task."""

from __future__ import annotations

import importlib
from typing import Any

from aggregator.execution import pipeline_tasks, plain_tasks, tasks
from aggregator.schemas.graphs import task_definitions
from aggregator.storage import errors


def load(definition: task_definitions.TaskDefinition) -> tasks.TaskMaker:
    """Return a task of a pipeline, after importing its class.

    Raises
    ------
    RefusedError
        If it can't be imported, is no task, or its configuration does not fit.
    """
    place = f"Task {definition.label!r} ({definition.task_class})"
    task_class = imported(definition.task_class, place)
    is_plain_class = is_plain(task_class, place)
    maker = plain_tasks.PlainTaskMaker if is_plain_class else pipeline_tasks.PipelineTaskMaker
    try:
        return maker(definition, task_class)
    except errors.AggregatorError:
        raise
    except Exception as exc:
        text = f"its configuration or connections can't be made ({type(exc).__name__}: {exc})"
        raise errors.RefusedError(
            f"{place}: {text}. Is it the version that the graph was built with?"
        ) from exc


def is_plain(task_class: Any, place: str) -> bool:
    """Return whether a class is a plain task, and none of the middleware's.

    Parameters
    ----------
    task_class
        The class.
    place
        What it is of, for messages.

    Raises
    ------
    RefusedError
        If it is no task at all.
    """
    if hasattr(task_class, "run_quantum"):
        return True
    if not hasattr(task_class, "ConfigClass"):
        raise errors.RefusedError(f"{place}: is no task; it has neither run_quantum nor ConfigClass.")
    return False


def imported(name: str, place: str) -> Any:
    """Return a class by its qualified name.

    Parameters
    ----------
    name
        The name.
    place
        What it is of, for messages.

    Raises
    ------
    RefusedError
        If it can't be imported.
    """
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as exc:
        text = f"can't be imported ({type(exc).__name__}: {exc}). Is it in PYTHONPATH?"
        raise errors.RefusedError(f"{place}: {text}") from exc
