"""What became of the jobs of HTCondor, from their events in the order of a log."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from aggregator.schemas.jobs import condor_log, job_records

SYSTEM = "HTCondor"

_NODE = "DAG Node: "
_MEGABYTE = 1 << 20
_LARGEST = 1 << 40
"""What is larger was damaged."""

# Reasons to hold a job; many more mean that something went wrong, and have a text that says what.
_BY_POLICY, _OUT_OF_RESOURCES, _TOO_LONG, _RAN_TOO_LONG = 3, 34, 46, 47

_ALIAS = re.compile(r"[?&]alias=([^&>]+)")
_SIGNAL = re.compile(r"\bsignal (\d+)")
_EXIT_CODE = re.compile(r"\bexit code (\d+)", re.IGNORECASE)


class _Job:
    """A job as far as events have told."""

    __slots__ = ("command", "end", "host", "is_open", "memory", "name", "time")

    def __init__(self) -> None:
        self.name = self.time = self.host = self.command = ""
        self.memory: int | None = None
        self.end: job_records.End | None = None
        self.is_open = True


class Jobs:
    """What is on record of jobs, as far as events have told.

    Parameters
    ----------
    directory
        Where the log is, and with it the DAG.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._jobs: dict[str, _Job] = {}

    def take(self, event: condor_log.Event) -> None:
        """Take the next event of the log."""
        # Last is who was told of last: dates of old logs have no year.
        job = self._jobs.pop(event.job, None) or _Job()
        self._jobs[event.job] = job
        job.time = event.time
        job.is_open = _is_open(event, job.is_open)
        action = _ACTIONS.get(event.number)
        if action is not None:
            action(job, event.attributes)

    def records(self) -> Iterator[job_records.JobRecord]:
        """Yield what is on record of each job, in the order of their last events."""
        for number, job in self._jobs.items():
            end = job.end
            if end is not None:
                end = dataclasses.replace(end, host=job.host, memory=job.memory)
            yield job_records.JobRecord(
                SYSTEM, number, job.name, None, self._directory, job.command, job.time, end, job.is_open
            )


def read(events: Iterable[condor_log.Event], directory: str) -> Iterator[job_records.JobRecord]:
    """Yield what is on record of each job, in the order of their last events.

    Parameters
    ----------
    events
        Events of a log, in its order.
    directory
        Where the log is, and with it the DAG.
    """
    jobs = Jobs(directory)
    for event in events:
        jobs.take(event)
    return jobs.records()


def _is_open(event: condor_log.Event, was_open: bool) -> bool:
    """Return whether a job runs or is in the queue after an event."""
    if event.number in _CLOSING:
        return False
    return event.number in _OPENING or was_open


def _text(attributes: dict[str, Any], name: str) -> str:
    return " ".join(str(attributes.get(name, "")).split())


def _number(attributes: dict[str, Any], name: str) -> int | None:
    value = attributes.get(name)
    return int(value) if isinstance(value, int | float) and abs(value) < _LARGEST else None


def _submit(job: _Job, attributes: dict[str, Any]) -> None:
    notes = _text(attributes, "LogNotes")
    if notes.startswith(_NODE):
        job.name = notes.removeprefix(_NODE)


def _execute(job: _Job, attributes: dict[str, Any]) -> None:
    address, slot = _text(attributes, "ExecuteHost"), _text(attributes, "SlotName")
    alias = _ALIAS.search(address)
    job.host = alias[1] if alias else slot.rpartition("@")[2] or address.strip("<>").partition("?")[0]
    job.memory = job.end = None


def _measure(job: _Job, attributes: dict[str, Any]) -> None:
    megabytes, kilobytes = _number(attributes, "MemoryUsage"), _number(attributes, "ResidentSetSize")
    used = [n for n in ((megabytes or 0) * _MEGABYTE, (kilobytes or 0) << 10, job.memory or 0) if n]
    job.memory = max(used, default=None)


def _terminate(job: _Job, attributes: dict[str, Any]) -> None:
    _measure(job, attributes)
    code, signal = _number(attributes, "ReturnValue"), _number(attributes, "TerminatedBySignal")
    # A log that was damaged may say neither.
    job.end = job_records.failure(code or 0, signal or 0)


def _hold(job: _Job, attributes: dict[str, Any]) -> None:
    code, reason = _number(attributes, "HoldReasonCode"), _text(attributes, "HoldReason")
    job.end = job_records.End(job_records.Cause.HELD, reason)
    lower = reason.lower()
    if code == _OUT_OF_RESOURCES and ("memory" in lower or "disk" not in lower):
        job.end = job_records.End(job_records.Cause.OUT_OF_MEMORY, reason)
    elif code in (_TOO_LONG, _RAN_TOO_LONG):
        job.end = job_records.End(job_records.Cause.TIME_LIMIT, reason)
    elif code == _BY_POLICY:
        # Jobs are held when they are killed, to be released with more memory.
        signal, exit_code = _SIGNAL.search(reason), _EXIT_CODE.search(reason)
        code, number = (int(match[1]) if match else 0 for match in (exit_code, signal))
        job.end = job_records.failure(code, number, reason) or job.end


def _abort(job: _Job, attributes: dict[str, Any]) -> None:
    reason = _text(attributes, "Reason")
    if job.end is None:
        job.end = job_records.End(job_records.Cause.REMOVED, reason)
    else:
        # Why it was in the queue still, or again, matters more.
        removal = f"removed ({reason})" if reason else "removed"
        job.end = dataclasses.replace(job.end, reason="; ".join(filter(None, (job.end.reason, removal))))


def _ending(cause: job_records.Cause, name: str) -> Callable[[_Job, dict[str, Any]], None]:
    def take(job: _Job, attributes: dict[str, Any]) -> None:
        _measure(job, attributes)
        job.end = job_records.End(cause, _text(attributes, name))

    return take


def _reconnect(job: _Job, attributes: dict[str, Any]) -> None:
    job.end = None


def _inform(job: _Job, attributes: dict[str, Any]) -> None:
    job.command = _text(attributes, "Arguments") or job.command
    job.name = job.name or _text(attributes, "bps_job_name")


_CLOSING = frozenset({condor_log.TERMINATED, condor_log.ABORTED, condor_log.HELD})
"""Events after which nothing becomes of a job, unless somebody releases it."""

_OPENING = frozenset({condor_log.SUBMIT, condor_log.EXECUTE, condor_log.RELEASED})

_ACTIONS = {
    condor_log.SUBMIT: _submit,
    condor_log.EXECUTE: _execute,
    condor_log.EXECUTABLE_ERROR: _ending(job_records.Cause.FAILED, "ExecuteErrorType"),
    condor_log.EVICTED: _ending(job_records.Cause.EVICTED, "Reason"),
    condor_log.TERMINATED: _terminate,
    condor_log.IMAGE_SIZE: _measure,
    condor_log.SHADOW_EXCEPTION: _ending(job_records.Cause.FAILED, "Message"),
    condor_log.ABORTED: _abort,
    condor_log.HELD: _hold,
    condor_log.REMOTE_ERROR: _ending(job_records.Cause.FAILED, "ErrorMsg"),
    condor_log.DISCONNECTED: _ending(job_records.Cause.NODE_LOST, "DisconnectReason"),
    condor_log.RECONNECTED: _reconnect,
    condor_log.RECONNECT_FAILED: _ending(job_records.Cause.NODE_LOST, "Reason"),
    condor_log.AD_INFORMATION: _inform,
}
