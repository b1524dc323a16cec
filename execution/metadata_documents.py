"""The metadata that an attempt leaves: what its task has noted, and what the executor has."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from aggregator.execution import quantum_attempts, task_errors
from aggregator.schemas.execution import task_metadata


def document(
    attempt: quantum_attempts.Attempt, job_metadata: Mapping[str, int | str | float]
) -> dict[str, Any]:
    """Return the metadata of an attempt.

    Parameters
    ----------
    attempt
        The attempt.
    job_metadata
        What there is to tell of its job.
    """
    label = attempt.quantum.task_label
    metadata: dict[str, Any] = {"scalars": {}, "arrays": {}, "metadata": {label: _empty()}}
    if attempt.instance is not None:
        metadata = attempt.instance.metadata()
    nested = metadata["metadata"]
    if attempt.partial is not None:
        scalars = {
            "type": task_errors.type_name(attempt.partial),
            "message": task_errors.message(attempt.partial),
        }
        sections = nested.setdefault(label, _empty())["metadata"]
        sections.setdefault("failure", {**_empty(), "scalars": scalars})
    nested["quantum"] = attempt.section
    if job_metadata:
        nested["job"] = {**_empty(), "scalars": dict(job_metadata)}
    return metadata


def of_failure(
    attempt: quantum_attempts.Attempt, job_metadata: Mapping[str, int | str | float]
) -> dict[str, Any]:
    """Return the metadata of a failed attempt, without what its task has noted if that can't be had."""
    attempt.section = copy.deepcopy(attempt.section)
    attempt.section["scalars"].pop("caveats", None)
    attempt.section["metadata"].pop("butler_metrics", None)
    try:
        metadata = document(attempt, job_metadata)
        task_metadata.convert(metadata)
    except Exception:
        attempt.instance = None
        metadata = document(attempt, job_metadata)
    return metadata


def _empty() -> dict[str, Any]:
    return {"scalars": {}, "arrays": {}, "metadata": {}}
