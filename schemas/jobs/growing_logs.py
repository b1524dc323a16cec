"""Files with records of jobs that are read again and again while they grow: only what was appended is read.

That is so for event logs of HTCondor as text, which may have gigabytes; all others are read as a whole.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterator
from typing import BinaryIO

from aggregator.schemas.jobs import condor_jobs, condor_log, job_files, job_records
from aggregator.storage import machine_trouble

_SEEN = 256
"""Bytes at the begin, and at the end, of what was read that tell whether a file is still the same."""

_MOST_LINES = 100_000
"""Lines without the end of an event that are waited for; more are no events."""


@dataclasses.dataclass(slots=True)
class _Log:
    """What is known of a log."""

    jobs: condor_jobs.Jobs
    """What its events have told."""

    damage: job_records.Damage = dataclasses.field(default_factory=job_records.Damage)
    """What of it can't be read."""

    file: tuple[int, int] = (0, 0)
    """Device and inode."""

    n_lines: int = 0
    """Lines that were read."""

    offset: int = 0
    """Bytes that were read."""

    marks: tuple[bytes, bytes] = (b"", b"")
    """The first and the last of them."""


class GrowingLogs:
    """Knows what it has read of some files."""

    def __init__(self) -> None:
        self._known: dict[str, _Log] = {}

    def read(self, path: str, damage: job_records.Damage) -> Iterator[job_records.JobRecord]:
        """Yield all records of a file, but for an event at its end that is still being written.

        Parameters and errors are those of `job_files.read`.
        """
        log = self._known.pop(path, None)
        with job_files.opened(path) as stream:
            if log is None or not _is_begin(path, log, stream):
                stream.seek(0)
                first = itertools.islice(_lines(path, stream), job_files.LOOKED_AT)
                is_log = job_files.is_event_log(line.decode(errors="replace") for line in first)
                log = _Log(condor_jobs.Jobs(os.path.dirname(os.path.abspath(path)))) if is_log else None
            if log is not None:
                _take(path, log, stream)
                self._known[path] = log
        if log is None:
            yield from job_files.read(path, damage)
        else:
            damage.n, damage.first = log.damage.n, log.damage.first
            yield from log.jobs.records()


def _take(path: str, log: _Log, stream: BinaryIO) -> None:
    """Take what comes after what was read."""
    stream.seek(log.offset)
    for event in condor_log.read(_complete(path, log, stream), log.damage, log.n_lines):
        log.jobs.take(event)
    status = os.fstat(stream.fileno())
    log.file, log.marks = (status.st_dev, status.st_ino), _marks(path, log.offset, stream)


def _complete(path: str, log: _Log, stream: BinaryIO) -> Iterator[str]:
    """Yield lines up to the end of the last complete event, and note that they were read."""
    waiting: list[bytes] = []
    for line in _lines(path, stream):
        waiting.append(line)
        if line.rstrip() == condor_log.END or len(waiting) >= _MOST_LINES:
            log.offset += sum(map(len, waiting))
            log.n_lines += len(waiting)
            yield from (each.decode(errors="replace") for each in waiting)
            waiting.clear()


def _is_begin(path: str, log: _Log, stream: BinaryIO) -> bool:
    """Return whether a file begins with what was read of it before."""
    status = os.fstat(stream.fileno())
    is_same = (status.st_dev, status.st_ino) == log.file and status.st_size >= log.offset
    return is_same and _marks(path, log.offset, stream) == log.marks


def _marks(path: str, offset: int, stream: BinaryIO) -> tuple[bytes, bytes]:
    size = min(_SEEN, offset)
    marks = []
    for place in (0, offset - size):
        stream.seek(place)
        marks.append(machine_trouble.watched(path, stream.read, size))
    return marks[0], marks[1]


def _lines(path: str, stream: BinaryIO) -> Iterator[bytes]:
    while line := machine_trouble.watched(path, stream.readline, job_files.LONGEST):
        yield line
