"""What became of jobs of Slurm: states and exit codes, which all its formats have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from aggregator.schemas.jobs import job_records

SYSTEM = "Slurm"

_CAUSES = {
    "OUT_OF_MEMORY": job_records.Cause.OUT_OF_MEMORY,
    "TIMEOUT": job_records.Cause.TIME_LIMIT,
    "DEADLINE": job_records.Cause.TIME_LIMIT,
    "NODE_FAIL": job_records.Cause.NODE_LOST,
    "BOOT_FAIL": job_records.Cause.NODE_LOST,
    "PREEMPTED": job_records.Cause.EVICTED,
    "CANCELLED": job_records.Cause.REMOVED,
    "REVOKED": job_records.Cause.REMOVED,
}
"""Why a job has ended, by its state; "FAILED" has an exit code, and others are no ends, or successes."""

_FAILED, _COMPLETED = "FAILED", "COMPLETED"
_NOTHING = frozenset({"", "(null)", "None", "None assigned", "N/A", "Unknown", "unknown"})
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_SIZE = re.compile(r"([\d.]+)([KMGT]?)")
_ELEMENTS = re.compile(r"\[?([\d,-]+)(?:%\d+)?\]?")
_LARGEST = 1 << 60
"""A number that is larger was damaged."""

_MOST_ELEMENTS = 1_000_000
"""Elements of an array."""


def value(text: str) -> str:
    """Return a value, or an empty text if Slurm means that there is none."""
    text = text.strip()
    return "" if text in _NOTHING else text


def time(text: str) -> str:
    """Return a time as records have it."""
    return value(text).replace("T", " ")


def size(text: str) -> int | None:
    """Return a number of bytes, given with a unit; nothing if it is none."""
    match = _SIZE.fullmatch(value(text))
    try:
        n = 0.0 if match is None else float(match[1]) * (1 << _UNITS[match[2]])
    except ValueError:
        return None
    return int(n) if match is not None and n < _LARGEST else None


def end(fields: Mapping[str, str], host: str, memory: int | None) -> job_records.End | None:
    """Return how a job has ended, given "State", "ExitCode" and "Reason"; nothing if not, or with success.

    Raises
    ------
    ValueError
        If the exit code is none, or was damaged.
    """
    # As in "CANCELLED by 1000".
    state, _, more = value(fields["State"]).partition(" ")
    reason = " ".join(filter(None, (more, value(fields.get("Reason", "")))))
    if state == _FAILED:
        code, _, signal = (value(fields.get("ExitCode", "")) or "0:0").partition(":")
        numbers = int(code), int(signal or 0)
        if max(numbers) > _LARGEST:
            raise ValueError("there is no such exit code")
        # Slurm says that it failed, be there a code or not.
        result = job_records.failure(*numbers) or job_records.End(job_records.Cause.FAILED)
    elif state in _CAUSES:
        result = job_records.End(_CAUSES[state])
    else:
        return None
    return job_records.End(result.cause, reason, host, memory, result.exit_code, result.signal)


def is_open(state: str) -> bool:
    """Return whether a job in a state runs or is in a queue, maybe again."""
    return value(state).partition(" ")[0] not in {_FAILED, _COMPLETED, *_CAUSES}


def elements(text: str) -> Iterator[int]:
    """Yield the elements of an array that a text names: ``7``, or ``[1-3,9%2]``.

    Raises
    ------
    ValueError
        If it names none.
    """
    match = _ELEMENTS.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no element of an array")
    for part in match[1].split(","):
        begin, _, last = part.partition("-")
        span = range(int(begin), int(last or begin) + 1)
        if len(span) > _MOST_ELEMENTS:
            raise ValueError(f"{text!r} is more than an array has")
        yield from span
