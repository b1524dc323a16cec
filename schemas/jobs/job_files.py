"""Files with records of jobs: which format one has, and what is in it."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, TextIO

from aggregator.schemas.jobs import (
    condor_ads,
    condor_jobs,
    condor_log,
    job_records,
    slurm_accounting,
    slurm_lines,
)
from aggregator.storage import errors, local_files, machine_trouble

LOOKED_AT = 100
"""Lines that are looked at for a sign of the format: a log may begin in the middle of an event."""

LONGEST = 1 << 20
"""Characters, or bytes, of a line; what is longer counts as several."""

_Reader = Callable[[Iterable[str], job_records.Damage, str], Iterator[job_records.JobRecord]]
"""Yields records, given lines, where to count what can't be read, and the directory of the file."""


def read(path: str, damage: job_records.Damage) -> Iterator[job_records.JobRecord]:
    """Yield the records of a file; one that is empty has none.

    Parameters
    ----------
    path
        The file.
    damage
        Where to count what can't be read.

    Raises
    ------
    RefusedError
        If it is not there, can't be read, or has no known format.
    MachineError
        If the machine is in trouble.
    """
    with opened(path) as binary, io.TextIOWrapper(binary, "utf-8", "replace") as stream:
        lines = _lines(path, stream)
        first = list(itertools.islice(lines, LOOKED_AT))
        directory = os.path.dirname(os.path.abspath(path))
        yield from _parse(path, directory, first, itertools.chain(first, lines), damage)


def opened(path: str) -> BinaryIO:
    """Return a file, open for reading; errors are those of `read`."""
    try:
        return os.fdopen(local_files.open_file(path), "rb")
    except (OSError, local_files.UnusableError) as exc:
        reason = local_files.reason(exc)
        raise errors.RefusedError(f"{path}: can't read these records of jobs ({reason}).") from exc


def is_event_log(first: Iterable[str]) -> bool:
    """Return whether a file with these first lines is an event log of HTCondor as text."""
    return _reader(first) is _read_events


def _lines(path: str, stream: TextIO) -> Iterator[str]:
    while line := machine_trouble.watched(path, stream.readline, LONGEST):
        yield line


def _parse(
    path: str, directory: str, first: list[str], lines: Iterable[str], damage: job_records.Damage
) -> Iterator[job_records.JobRecord]:
    reader = _reader(first)
    if reader is not None:
        return reader(lines, damage, directory)
    if any(line.strip() for line in first):
        raise errors.RefusedError(
            f"{path}: is no record of jobs that is known: an event log of HTCondor, or what sacct "
            "--parsable2 or scontrol --oneliner show jobs of Slurm print, or a file of its jobcomp/filetxt."
        )
    return iter(())


def _reader(first: Iterable[str]) -> _Reader | None:
    """Return what reads a file with these first lines; nothing if they are of no known format."""
    for line in first:
        if condor_log.HEAD.match(line):
            return _read_events
        if slurm_accounting.is_head(line):
            return lambda lines, damage, _: slurm_accounting.read(lines, damage)
        if slurm_lines.HEAD.match(line) or line.startswith(slurm_lines.NO_JOBS):
            return lambda lines, damage, _: slurm_lines.read(lines, damage)
        if line.startswith("{"):
            return lambda lines, damage, at: condor_jobs.read(condor_ads.read_json(lines, damage), at)
        if line.lstrip().startswith(("<c>", "<classads>")):
            return lambda lines, damage, at: condor_jobs.read(condor_ads.read_xml(lines, damage), at)
    return None


def _read_events(
    lines: Iterable[str], damage: job_records.Damage, directory: str
) -> Iterator[job_records.JobRecord]:
    return condor_jobs.read(condor_log.read(lines, damage), directory)
