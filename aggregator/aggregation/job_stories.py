"""Stories of quanta from the records of batch systems that the user has named."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from aggregator.execution.workflows import job_quanta
from aggregator.schemas.graphs import addresses
from aggregator.schemas.jobs import condor_jobs, growing_logs, job_files, job_records, stories
from aggregator.storage import errors, uris

_log = logging.getLogger(__name__)

_Key = tuple[str, str, int | None]
"""A job in all its attempts: where it was submitted, its name, and its number in an array."""


@dataclasses.dataclass(frozen=True, slots=True)
class RecordFile:
    """What a file tells."""

    path: str
    """The file."""

    latest: Mapping[_Key, job_records.JobRecord]
    """The latest record of each job that has a name, and those of jobs without."""


def read(paths: Iterable[str], logs: growing_logs.GrowingLogs | None = None) -> list[RecordFile]:
    """Return what files tell; what of them can't be read is left out, and said to be.

    Parameters
    ----------
    paths
        The files.
    logs
        Knows what was read of them before, if they are read again while they grow.

    Raises
    ------
    RefusedError
        If there is no such file, or it has no known format.
    MachineError
        If the machine is in trouble.
    """
    read_file = job_files.read if logs is None else logs.read
    return [_read(path, read_file) for path in paths]


def _read(
    path: str, read_file: Callable[[str, job_records.Damage], Iterator[job_records.JobRecord]]
) -> RecordFile:
    if uris.is_remote(path):
        raise errors.RefusedError(f"{path}: records of jobs are read from local files only.")
    damage = job_records.Damage()
    latest: dict[_Key, job_records.JobRecord] = {}
    for record in read_file(path, damage):
        key = (record.directory, record.name or record.job, record.element)
        if key not in latest or _is_later(record, latest[key]):
            latest[key] = record
    if damage.n:
        _log.warning(
            "%s: %d records can't be read and are left out, the first at %s", path, damage.n, damage.first
        )
    return RecordFile(path, latest)


def _is_later(record: job_records.JobRecord, other: job_records.JobRecord) -> bool:
    """Return whether a record is later than one that comes before it in the same file."""
    # An event log is in order; its times may lack the year, and those of a zone go back once a year.
    # Slurm has no time for a job that waits, unless one asks when it was submitted.
    is_in_order = record.system == condor_jobs.SYSTEM
    moment = job_records.moment
    return is_in_order or moment(other.time) <= moment(record.time) or (record.is_open and not record.time)


def resolve(files: Sequence[RecordFile], ids: addresses.Ids, incomplete: bool = False) -> stories.Stories:
    """Return the stories of the quanta of a graph.

    Parameters
    ----------
    files
        Records of jobs.
    ids
        Ids of the graph's quanta, shape (n,).
    incomplete
        Whether the campaign goes on: jobs that run or are in a queue have no story then, whatever became of
        them before.
    """
    # Of two records of one quantum the later one counts, whatever file it is in.
    times: dict[uuid.UUID, float] = {}
    numbers: dict[uuid.UUID, int] = {}
    exceptions = []
    graph_ids = np.sort(ids) if files else ids
    for file in files:
        n_jobs = n_foreign = 0
        for record, quanta in _telling(file, incomplete):
            mine, moment = _known(quanta, graph_ids), job_records.moment(record.time)
            if (incomplete and record.is_open) or record.end is None:
                for quantum in mine:
                    if times.get(quantum, -math.inf) <= moment or not record.time:
                        times[quantum] = moment
                        numbers.pop(quantum, None)
                continue
            n_jobs += 1
            n_foreign += not mine
            exceptions.append(job_records.exception(record, record.end))
            for quantum in mine:
                if times.get(quantum, -math.inf) <= moment:
                    times[quantum], numbers[quantum] = moment, len(exceptions) - 1
        _log.info("%s: %d jobs have ended without success", file.path, n_jobs)
        if n_foreign:
            _log.warning(
                "%s: %d of %d jobs without success are of no quantum of this graph, as far as they and their "
                "workflow tell; nothing is concluded from them",
                file.path,
                n_foreign,
                n_jobs,
            )
    return stories.Stories.make(numbers, exceptions)


def _telling(file: RecordFile, incomplete: bool) -> Iterator[tuple[job_records.JobRecord, list[uuid.UUID]]]:
    """Yield jobs that have ended without success, with their quanta as far as these are known.

    If the campaign goes on, those that have not ended are yielded, too.
    """
    telling = [
        record for record in file.latest.values() if record.end is not None or (incomplete and record.is_open)
    ]
    elements: dict[tuple[str, str], set[int]] = {}
    for directory, name, element in file.latest:
        if element is not None:
            elements.setdefault((directory, name), set()).add(element)
    directory = os.path.dirname(os.path.abspath(file.path))
    quanta_of_jobs = job_quanta.JobQuanta(directory, frozenset(record.name for record in telling))
    for record in telling:
        others = elements.get((record.directory, record.name), set())
        yield record, list(quanta_of_jobs.of(record, others) or ())


def _known(quanta: Sequence[uuid.UUID], ids: addresses.Ids) -> list[uuid.UUID]:
    """Return those of some quanta that are in a graph, whose ids are ascending."""
    if not quanta or not len(ids):
        return []
    target = np.frombuffer(b"".join(each.bytes for each in quanta), dtype=addresses.ID_TYPE)
    rows = np.minimum(np.searchsorted(ids, target), len(ids) - 1)
    return [each for each, is_known in zip(quanta, ids[rows] == target, strict=True) if is_known]
