"""Accounting of Slurm as a table: what ``sacct --parsable2`` (or ``-P``) prints, with its head."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from aggregator.schemas.jobs import job_records, slurm_jobs

_NEEDED = frozenset({"JobID", "State"})


def is_head(line: str) -> bool:
    """Return whether a line is the first one of such a table."""
    return set(line.rstrip("\n").split("|")) >= _NEEDED


def read(lines: Iterable[str], damage: job_records.Damage) -> Iterator[job_records.JobRecord]:
    """Yield what is on record of each job, and of each element of an array.

    Steps of a job, which are in lines of their own, tell of its memory.

    Parameters
    ----------
    lines
        Its lines.
    damage
        Where to count what can't be read.
    """
    names: list[str] = []
    jobs: list[job_records.JobRecord] = []
    base, memory = "", 0
    for number, line in enumerate(lines, 1):
        cells = line.rstrip("\r\n").split("|")
        if is_head(line):
            # Tables that were joined have more than one.
            names = cells
        elif line.strip():
            try:
                fields = dict(zip(names, cells, strict=True))
                job, _, step = fields["JobID"].partition(".")
                if job != base:
                    yield from _with_memory(jobs, memory)
                    base, memory, jobs = job, 0, []
                memory = max(memory, slurm_jobs.size(fields.get("MaxRSS", "")) or 0)
                if not step:
                    # A job that was repeated has a line for each time.
                    jobs = list(_records(fields))
            except (ValueError, LookupError) as exc:
                damage.add(number, f"no line of the table ({exc})")
    yield from _with_memory(jobs, memory)


def _with_memory(jobs: Sequence[job_records.JobRecord], memory: int) -> Iterator[job_records.JobRecord]:
    for each in jobs:
        if each.end is not None and memory:
            yield dataclasses.replace(each, end=dataclasses.replace(each.end, memory=memory))
        else:
            yield each


def _records(fields: dict[str, str]) -> Iterator[job_records.JobRecord]:
    job, _, part = fields["JobID"].partition("_")
    if not job.isdigit():
        raise ValueError(f"{fields['JobID']!r} is no id of a job")
    host = slurm_jobs.value(fields.get("NodeList", ""))
    end = slurm_jobs.end(fields, host, None)
    times = (slurm_jobs.time(fields.get(name, "")) for name in ("End", "Start", "Submit"))
    time = next(filter(None, times), "")
    for element in slurm_jobs.elements(part) if part else (None,):
        yield job_records.JobRecord(
            slurm_jobs.SYSTEM,
            job if element is None else f"{job}_{element}",
            slurm_jobs.value(fields.get("JobName", "")),
            element,
            slurm_jobs.value(fields.get("WorkDir", "")),
            slurm_jobs.value(fields.get("SubmitLine", "")),
            time,
            end,
            slurm_jobs.is_open(fields["State"]),
        )
