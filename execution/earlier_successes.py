"""Quanta of a graph that have succeeded before, as far as that can be seen without reading their files."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Sequence

from aggregator.butler import artifacts
from aggregator.execution import foreign_metadata, graph_context, quantum_attempts, readiness
from aggregator.schemas.graphs import pipeline
from aggregator.storage import in_flight, local_files

_AT_ONCE = 500
"""Quanta whose files are looked at together."""

_Files = Sequence[Sequence[artifacts.Artifact]]
"""Files of a dataset, by datastore."""


def find(
    context: graph_context.GraphContext, quanta: Iterable[readiness.QuantumData]
) -> dict[uuid.UUID, readiness.QuantumData]:
    """Return quanta that have left metadata, and a log after that, and so have all before them.

    The log of a retry takes the place of that of the failure before, later than its metadata are written.
    What is in doubt has to be looked at by whoever executes it.

    Parameters
    ----------
    context
        Graph and repository.
    quanta
        The quanta, none before its prerequisites.

    Raises
    ------
    RefusedError
        If they are of another graph.
    """
    executed: dict[uuid.UUID, readiness.QuantumData] = {}
    source, knows_graph = iter(quanta), False
    with in_flight.Requests() as requests:
        while some := list(itertools.islice(source, _AT_ONCE)):
            # Below what has not succeeded, nothing is there that counts.
            known = executed.keys() | {data.id for data in some}
            chosen = [data for data in some if not data.is_blocked and data.prerequisites <= known]
            looks = requests.map(_has_succeeded, [_files(context, data) for data in chosen])
            for data, has_succeeded in zip(chosen, looks, strict=True):
                if has_succeeded and data.prerequisites <= executed.keys():
                    if not knows_graph:
                        quantum = context.quantum(context.block(data.quantum))
                        knows_graph = foreign_metadata.check(context.files, quantum)
                    executed[data.id] = data
    return executed


def _files(context: graph_context.GraphContext, data: readiness.QuantumData) -> tuple[_Files, _Files]:
    """Return the metadata files of a quantum, and those of its log."""
    quantum = context.quantum(context.block(data.quantum))
    metadata = quantum.outputs[pipeline.METADATA_CONNECTION][0]
    log = quantum_attempts.log_ref(quantum)
    refs = (metadata, metadata if log is None else log)
    first, second = (context.files.predicted(ref, ref.datasetType.storage_class) for ref in refs)
    return first, second


def _has_succeeded(files: tuple[_Files, _Files]) -> bool:
    metadata, log = files
    written, logged = _latest(metadata), _latest(log)
    return written is not None and logged is not None and written <= logged


def _latest(files: _Files) -> int | None:
    """Return when the last file of a dataset was written, in ns, where all of them are."""
    for group in files:
        try:
            marks = [each.store.mark(each.key) for each in group]
        except local_files.UnusableError:
            continue
        if group and all(mark is not None for mark in marks):
            return max(mark.modified for mark in marks if mark is not None)
    return None
