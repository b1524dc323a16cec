"""Status codes of attempts (quantum-graph-format.md section 7.2)."""

import enum

ABORTED = -4
"""Failed hard, without log and metadata, as only records of its job can tell."""
UNKNOWN = -3
"""Nothing is known; no aggregation says so."""
ABORTED_SUCCESS = -2
"""Succeeded, but the log is missing."""
FAILED = -1
"""Failed, or left neither metadata nor log."""
BLOCKED = 0
"""Never ran, since a quantum before it failed; told by the absence of attempts, never stored."""
SUCCESSFUL = 1
"""Succeeded, perhaps with caveats."""


class Status(enum.IntEnum):
    """What became of a quantum, with the names and numbers of the reference."""

    ABORTED = ABORTED
    UNKNOWN = UNKNOWN
    ABORTED_SUCCESS = ABORTED_SUCCESS
    FAILED = FAILED
    BLOCKED = BLOCKED
    SUCCESSFUL = SUCCESSFUL


# Plain numbers, as files have them.
NAMES = {int(status): status.name for status in Status}
"""Name of each status, as users of the reference know it; all tables and charts have them in this order."""

TITLES = {status: name.capitalize().replace("_", " ") for status, name in NAMES.items()}
"""What people read above a column, or beside a bar."""

RARE = frozenset({ABORTED, UNKNOWN, ABORTED_SUCCESS})
"""Statuses of which tables and charts say nothing if no quantum has them."""
