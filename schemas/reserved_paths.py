"""Paths that no command may write, whatever it was told of: their names alone say whose they are."""

from __future__ import annotations

import os
import re
from typing import Final

from aggregator.storage import local_files, machine_trouble

_SYSTEM: Final = re.compile(r"/dev|/dev/fd|/proc|/proc/.*|/sys|/sys/.*")
"""Directories in which everything is a name that the system has given."""

_BESIDE: Final = re.compile(r"(.+)-(?:journal|wal|shm)", re.DOTALL)
"""Names of files that SQLite keeps beside a database; it reads, replaces and removes what is there."""

_DATABASE: Final = b"SQLite format 3\0"


def description(path: str) -> str | None:
    """Return what is, or would be, at a path; nothing if anybody may write there.

    Parameters
    ----------
    path
        Absolute path; there need not be anything.
    """
    if _SYSTEM.fullmatch(os.path.dirname(path)):
        # To replace a link such as /dev/stdout would take it away from all processes.
        return "a name of the operating system"
    name = _BESIDE.fullmatch(path)
    if name is not None and _is_database(name[1]):
        return f"a part of the database {name[1]}"
    return None


def _is_database(path: str) -> bool:
    try:
        with machine_trouble.attempt(path, open, path, "rb") as stream:
            return bool(machine_trouble.attempt(path, stream.read, len(_DATABASE)) == _DATABASE)
    except OSError:
        # What can't be read may be one.
        return local_files.is_taken(path)
