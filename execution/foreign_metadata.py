"""Metadata of quanta of another graph: one that was built again for the same run has other ids."""

from __future__ import annotations

from aggregator.butler import artifacts
from aggregator.butler import quantum as quantum_module
from aggregator.schemas.execution import attempt_metadata, task_metadata
from aggregator.schemas.graphs import pipeline
from aggregator.storage import errors


def check(files: artifacts.Artifacts, quantum: quantum_module.Quantum) -> bool:
    """Make sure that the metadata of a quantum are its own; return whether they tell.

    Files are found by data IDs, so that those of another graph would be taken for successes of this one,
    whose outputs nobody could ingest.

    Parameters
    ----------
    files
        Where files are.
    quantum
        The quantum, which has left metadata.

    Raises
    ------
    RefusedError
        If none of the outputs that they tell of are its own.
    """
    ref = quantum.outputs[pipeline.METADATA_CONNECTION][0]
    for group in files.predicted(ref, ref.datasetType.storage_class):
        for file in group:
            try:
                content = file.read()
                listed = None if content is None else _listed(content)
            except (errors.FormatError, ValueError):
                # That is for whoever aggregates it.
                continue
            own = {str(each.id) for each in quantum.predicted_outputs()}
            if listed and own.isdisjoint(listed):
                raise errors.RefusedError(
                    f"{file.store.location(file.key)}: is of a quantum of another graph, of which run "
                    f"{ref.run!r} has files already. Aggregate that graph, or go on with it; a graph that is "
                    "built again needs another output run."
                )
            if listed:
                return True
    return False


def _listed(content: bytes) -> list[str] | None:
    return attempt_metadata.listed_outputs(task_metadata.parse(content))
