"""Jobs of Slurm, one a line: as ``scontrol --oneliner show jobs`` prints and jobcomp/filetxt writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from aggregator.schemas.jobs import job_records, slurm_jobs

HEAD = re.compile(r"JobId=\d+ ")
"""Begin of a line."""

NO_JOBS = "No jobs in the system"
"""What there is instead, if there is none."""

_FIELD = re.compile(r"([A-Z][\w/:]*)=(.*?)(?= [A-Z][\w/:]*=|\s*$)")
"""A name and its value, which can have spaces in it."""

_TIMES = ("EndTime", "StartTime", "SubmitTime")
"""The first that is known counts."""


def read(lines: Iterable[str], damage: job_records.Damage) -> Iterator[job_records.JobRecord]:
    """Yield what is on record of each job, and of each element of an array.

    Parameters
    ----------
    lines
        Lines.
    damage
        Where to count what can't be read.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith(NO_JOBS):
            continue
        fields = dict(_FIELD.findall(line.rstrip()))
        try:
            if HEAD.match(line) is None:
                raise ValueError("it does not begin with JobId")
            yield from _records(fields)
        except (ValueError, LookupError) as exc:
            damage.add(number, f"no job ({exc})")


def _records(fields: dict[str, str]) -> Iterator[job_records.JobRecord]:
    host = slurm_jobs.value(fields.get("NodeList", ""))
    end = slurm_jobs.end({**fields, "State": fields["JobState"]}, host, None)
    job, part = fields.get("ArrayJobId", fields["JobId"]), fields.get("ArrayTaskId", "")
    for element in slurm_jobs.elements(part) if part else (None,):
        yield job_records.JobRecord(
            slurm_jobs.SYSTEM,
            job if element is None else f"{job}_{element}",
            slurm_jobs.value(fields.get("JobName") or fields.get("Name", "")),
            element,
            slurm_jobs.value(fields.get("WorkDir", "")),
            slurm_jobs.value(fields.get("Command", "")),
            next(filter(None, (slurm_jobs.time(fields.get(name, "")) for name in _TIMES)), ""),
            end,
            slurm_jobs.is_open(fields["JobState"]),
        )
