"""Files and directories that name a process by being locked by it; those of the dead can be told."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from aggregator.storage import mounts


def of(directory: str, prefix: str, ending: str = "") -> Iterator[str]:
    """Yield what processes of this user have left in a directory that live no more, locked until the next.

    Parameters
    ----------
    directory
        The directory.
    prefix, ending
        How names begin and end.
    """
    # Hosts that do not see each other's locks would take what is in use.
    if mounts.has_local_locks(directory):
        return
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if not (entry.name.startswith(prefix) and entry.name.endswith(ending)):
                continue
            with contextlib.suppress(OSError):
                descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.fstat(descriptor).st_uid == os.geteuid():
                        yield entry.path
                finally:
                    os.close(descriptor)


def occupy(path: str) -> int | None:
    """Lock something as long as what is returned is open; return nothing if it was taken for abandoned.

    Where there are no locks, nobody can do that.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    if os.path.lexists(path):
        return descriptor
    os.close(descriptor)
    return None
