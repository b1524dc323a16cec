"""Event logs of HTCondor as text, its default: a head, some lines, and three dots for each event."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any

from aggregator.schemas.jobs import job_records

HEAD = re.compile(
    r"(?P<number>\d{3}) \((?P<cluster>\d+)\.(?P<proc>\d+)\.\d+\) "
    r"(?P<date>\d{4}-\d\d-\d\d|\d\d/\d\d)[ T](?P<time>\d\d:\d\d:\d\d)"
    r"(?:[.,]\d+)?(?P<zone>Z|[+-]\d\d:?\d\d)?\S* ?(?P<text>.*)"
)
"""First line of an event."""

ZONE = re.compile(r"(?:[.,]\d+)?(Z|[+-]\d\d:?\d\d)$")
"""What is after the seconds of a time that has a zone."""

END = b"..."
"""Last line of an event."""

_END = END.decode()
_MOST_LINES = 1000
"""Lines of an event; more are none of it."""

SUBMIT, EXECUTE, EXECUTABLE_ERROR, EVICTED, TERMINATED, IMAGE_SIZE, SHADOW_EXCEPTION = 0, 1, 2, 4, 5, 6, 7
ABORTED, HELD, RELEASED, REMOTE_ERROR = 9, 12, 13, 21
DISCONNECTED, RECONNECTED, RECONNECT_FAILED, AD_INFORMATION = 22, 23, 24, 28

_PATTERNS = {
    SUBMIT: (r"(?P<LogNotes>DAG Node: .*)",),
    EXECUTE: (r"SlotName: (?P<SlotName>\S+)",),
    EVICTED: (r"Memory \(MB\) +: +(?P<MemoryUsage>\d+) +\d+ +\d+",),
    TERMINATED: (
        r"\(1\) Normal termination \(return value (?P<ReturnValue>-?\d+)\)",
        r"\(0\) Abnormal termination \(signal (?P<TerminatedBySignal>\d+)\)",
        r"Memory \(MB\) +: +(?P<MemoryUsage>\d+) +\d+ +\d+",
    ),
    IMAGE_SIZE: (
        r"(?P<MemoryUsage>\d+) +- +MemoryUsage of job \(MB\)",
        r"(?P<ResidentSetSize>\d+) +- +ResidentSetSize of job \(KB\)",
    ),
    HELD: (r"Code (?P<HoldReasonCode>-?\d+) Subcode (?P<HoldReasonSubCode>-?\d+)",),
    AD_INFORMATION: (r'Arguments = "(?P<Arguments>.*)"', r'bps_job_name = "(?P<bps_job_name>.*)"'),
}
"""Lines that tell something, for each event that has such lines, with the names that ClassAds have for it."""

_FIRST_LINES = {
    SHADOW_EXCEPTION: "Message",
    ABORTED: "Reason",
    HELD: "HoldReason",
    REMOTE_ERROR: "ErrorMsg",
    DISCONNECTED: "DisconnectReason",
    RECONNECT_FAILED: "Reason",
}
"""Names of what the first line after the head is."""

_BYTES = "Run Bytes Received By Job"
_NO_REASON = re.compile(r"\(|Partitionable Resources|Code ")
"""The reason of an eviction comes after the first of these, unless the second one does."""

_HEADS = {EXECUTE: re.compile(r"Job executing on host: (?P<ExecuteHost>.*)")}
_COMPILED = {number: re.compile("|".join(each)) for number, each in _PATTERNS.items()}
_NUMBERS = frozenset(
    {
        "ReturnValue",
        "TerminatedBySignal",
        "MemoryUsage",
        "ResidentSetSize",
        "HoldReasonCode",
        "HoldReasonSubCode",
    }
)


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job."""

    number: int
    """Which kind of event it is."""

    job: str
    """The job: cluster and process."""

    time: str
    """Date and time, with a zone if the log has one."""

    attributes: dict[str, Any]
    """What else is told, by the names that ClassAds have for it."""


def read(lines: Iterable[str], damage: job_records.Damage, n_before: int = 0) -> Iterator[Event]:
    """Yield the events of a log; what comes of one that was cut off is taken, too.

    Parameters
    ----------
    lines
        Its lines.
    damage
        Where to count what can't be read.
    n_before
        Lines of the log before these.
    """
    head: re.Match[str] | None = None
    body: list[str] = []
    is_lost = False
    number = n_before
    for number, line in enumerate(lines, n_before + 1):
        stripped = line.rstrip()
        if stripped == _END:
            if head is not None:
                yield _event(head, body)
            head, is_lost = None, False
        elif (new := HEAD.match(stripped)) is not None:
            if head is not None:
                damage.add(number, "an event was cut off before")
                yield _event(head, body)
            head, body, is_lost = new, [], False
        elif head is not None and len(body) < _MOST_LINES:
            body.append(stripped.strip())
        elif stripped and not is_lost:
            # One event can have many lines.
            damage.add(number, f"{stripped[:60]!r} is of no event")
            head, is_lost = None, True
    if head is not None:
        damage.add(number, "the last event is not complete")
        yield _event(head, body)


def _event(head: re.Match[str], body: list[str]) -> Event:
    number = int(head["number"])
    attributes: dict[str, Any] = {}
    if number in _FIRST_LINES and body:
        attributes[_FIRST_LINES[number]] = body[0]
    if number in _HEADS and (match := _HEADS[number].match(head["text"])) is not None:
        attributes.update(match.groupdict())
    if number == EVICTED:
        attributes.update(("Reason", line) for line in _after(body, _BYTES) if _NO_REASON.match(line) is None)
    for line in body if number in _COMPILED else ():
        if (match := _COMPILED[number].match(line)) is not None:
            for name, value in match.groupdict().items():
                if value is not None:
                    attributes[name] = int(value) if name in _NUMBERS else value
    time = f"{head['date']} {head['time']}{head['zone'] or ''}"
    return Event(number, f"{int(head['cluster'])}.{int(head['proc'])}", time, attributes)


def _after(body: list[str], end: str) -> list[str]:
    """Return the line after the one that has a certain end, if there is one."""
    place = next((number for number, line in enumerate(body, 1) if line.endswith(end)), len(body))
    return body[place : place + 1]
