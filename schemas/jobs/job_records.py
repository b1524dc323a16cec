"""What a batch system has on record of a job, whatever the format."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import math

from aggregator.schemas import printable
from aggregator.schemas.execution import task_metadata

_SIGNALLED = 128
"""A shell ends with this and the signal's number if what it ran was killed."""


class Cause(enum.Enum):
    """Why a job has ended without success; its value is the type of exception that graphs have."""

    OUT_OF_MEMORY = "aggregator.JobOutOfMemory"
    TIME_LIMIT = "aggregator.JobTimeLimit"
    EVICTED = "aggregator.JobEvicted"
    REMOVED = "aggregator.JobRemoved"
    HELD = "aggregator.JobHeld"
    NODE_LOST = "aggregator.JobNodeLost"
    KILLED = "aggregator.JobKilled"
    FAILED = "aggregator.JobFailed"


_WORDS = {
    Cause.OUT_OF_MEMORY: "ran out of memory",
    Cause.TIME_LIMIT: "took longer than it was allowed to",
    Cause.EVICTED: "was evicted",
    Cause.REMOVED: "was removed",
    Cause.HELD: "was held",
    Cause.NODE_LOST: "lost its node",
    Cause.KILLED: "was killed",
    Cause.FAILED: "failed",
}


@dataclasses.dataclass(frozen=True, slots=True)
class End:
    """How a job has ended without success."""

    cause: Cause
    """Why."""

    reason: str = ""
    """What the batch system says, if it says anything."""

    host: str = ""
    """Where it ran last; empty if it never did, or nobody knows."""

    memory: int | None = None
    """Bytes that it used at most, as far as the batch system has seen."""

    exit_code: int | None = None
    """Its exit code, if it had one."""

    signal: int | None = None
    """The signal that ended it, if one did."""


@dataclasses.dataclass(frozen=True, slots=True)
class JobRecord:
    """What is on record of a job."""

    system: str
    """The batch system, as its users call it."""

    job: str
    """Its id there."""

    name: str = ""
    """Its name: that of the node, for a DAG of HTCondor."""

    element: int | None = None
    """Its number in an array of jobs; nothing if it is none, or is what is left of an array."""

    directory: str = ""
    """Where it was submitted; empty if that is not on record."""

    command: str = ""
    """What it runs, as far as that is on record."""

    time: str = ""
    """When something was put on record last: date and time, with a zone if one is known (see `moment`)."""

    end: End | None = None
    """How it has ended, the last time that it did; nothing if it has succeeded, or has not ended."""

    is_open: bool = False
    """Whether it runs, or is in a queue, maybe again: what becomes of it is not known yet."""


@dataclasses.dataclass(slots=True)
class Damage:
    """What of a file can't be read, and is left out."""

    n: int = 0
    """Number of records."""

    first: str = ""
    """Where the first of them is, and what is wrong with it."""

    def add(self, line: int, reason: str) -> None:
        """Add a record, by its line."""
        self.first = self.first or f"line {line}: {printable.line(reason)}"
        self.n += 1


def moment(time: str) -> float:
    """Return the seconds since 1970 of a time on record; minus infinity if it is none.

    One without a zone is that of this machine, and one without a year the last one until tomorrow.
    """
    now = datetime.datetime.now().astimezone()
    try:
        if time[2:3] == "/":
            month, day = int(time[:2]), int(time[3:5])
            text = f"{now.year}-{month:02}-{day:02}{time[5:]}"
            found = datetime.datetime.fromisoformat(text).astimezone()
            if found > now + datetime.timedelta(days=1):
                found = datetime.datetime.fromisoformat(f"{now.year - 1}{text[4:]}").astimezone()
            return found.timestamp()
        return datetime.datetime.fromisoformat(time).astimezone().timestamp()
    except (ValueError, OverflowError):
        return -math.inf


def failure(exit_code: int, signal: int = 0, reason: str = "") -> End | None:
    """Return how a job has ended that was neither stopped nor lost; nothing if it has succeeded."""
    if signal == 0 and exit_code > _SIGNALLED:
        signal = exit_code - _SIGNALLED
    if signal:
        return End(Cause.KILLED, reason, signal=signal)
    return End(Cause.FAILED, reason, exit_code=exit_code) if exit_code else None


def exception(record: JobRecord, end: End) -> task_metadata.ExceptionInfo:
    """Return what a graph has of a quantum that its job has left without files."""
    where = f" on {end.host}" if end.host else ""
    how = ""
    if end.signal is not None:
        how = f" by signal {end.signal}"
    elif end.exit_code is not None:
        how = f" with exit code {end.exit_code}"
    used = f" ({end.memory >> 20} MB in use)" if end.memory else ""
    why = f": {end.reason}" if end.reason else ""
    message = f"{record.system} job {record.job} {_WORDS[end.cause]}{how}{where}{used}{why}"
    values: dict[str, float | int | str | bool | None] = {
        "system": record.system,
        "job": record.job,
        "name": record.name or None,
        "host": end.host or None,
        "memory": end.memory,
        "exit_code": end.exit_code,
        "signal": end.signal,
        "time": record.time or None,
    }
    for name in [name for name, value in values.items() if value is None]:
        del values[name]
    return task_metadata.ExceptionInfo(end.cause.value, message, values)
