"""Files with records of jobs: which format one has, and what is in it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from typing import TextIO

from aggregator.schemas.jobs import (
    condor_ads,
    condor_jobs,
    condor_log,
    job_records,
    slurm_accounting,
    slurm_lines,
)
from aggregator.storage import errors, local_files

_LOOKED_AT = 100
"""Lines that are looked at for a sign of the format: a log may begin in the middle of an event."""

_LONGEST = 1 << 20
"""Characters of a line; what is longer counts as several."""


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
    try:
        descriptor = local_files.open_file(path)
    except (OSError, local_files.UnusableError) as exc:
        reason = local_files.reason(exc)
        raise errors.RefusedError(f"{path}: can't read these records of jobs ({reason}).") from exc
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as stream:
        lines = _lines(path, stream)
        first = list(itertools.islice(lines, _LOOKED_AT))
        directory = os.path.dirname(os.path.abspath(path))
        yield from _parse(path, directory, first, itertools.chain(first, lines), damage)


def _lines(path: str, stream: TextIO) -> Iterator[str]:
    while line := local_files.watched(path, stream.readline, _LONGEST):
        yield line


def _parse(
    path: str, directory: str, first: list[str], lines: Iterable[str], damage: job_records.Damage
) -> Iterator[job_records.JobRecord]:
    for line in first:
        if condor_log.HEAD.match(line):
            return condor_jobs.read(condor_log.read(lines, damage), directory)
        if slurm_accounting.is_head(line):
            return slurm_accounting.read(lines, damage)
        if slurm_lines.HEAD.match(line) or line.startswith(slurm_lines.NO_JOBS):
            return slurm_lines.read(lines, damage)
        if line.startswith("{"):
            return condor_jobs.read(condor_ads.read_json(lines, damage), directory)
        if line.lstrip().startswith(("<c>", "<classads>")):
            return condor_jobs.read(condor_ads.read_xml(lines, damage), directory)
    if any(line.strip() for line in first):
        raise errors.RefusedError(
            f"{path}: is no record of jobs that is known: an event log of HTCondor, or what sacct "
            "--parsable2 or scontrol --oneliner show jobs of Slurm print, or a file of its jobcomp/filetxt."
        )
    return iter(())
