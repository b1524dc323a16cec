"""Mounts whose locks other hosts do not see: for them it is as if there were none."""

import os

_TABLE = "/proc/self/mountinfo"

_ANY = {"nolock", "local_lock=all"}
_FLOCK = {"local_lock=flock", "localflock"}
_RECORDS = {"local_lock=posix"}


def has_local_locks(path: str) -> bool:
    """Return whether locks of whole files (`flock`) are known to this host only."""
    return bool(_options(path) & (_ANY | _FLOCK))


def has_local_record_locks(path: str) -> bool:
    """Return whether locks of parts of files (`fcntl`) are known to this host only."""
    return bool(_options(path) & (_ANY | _RECORDS))


def _options(path: str) -> set[str]:
    """Return the options of the file system that a path is on; none if they can't be found out."""
    try:
        device = os.stat(path).st_dev
        with open(_TABLE, encoding="utf-8", errors="replace") as stream:
            lines = stream.readlines()
    except OSError:
        return set()
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        fields = line.split()
        if fields[2:3] == [number]:
            return set(fields[-1].split(","))
    return set()
