"""The limit of open files: whether it is enough for the processes that are going to be started."""

import os
import resource

from aggregator.storage import errors

_PER_PROCESS = 4
"""A pipe, what tells that the process is gone, and twice what tells the process that this one is."""

_BESIDES = 32
"""Graph, database, checkpoint, logs, and what is open for a moment while a process starts."""


def check(n_processes: int) -> None:
    """Refuse more processes than this one may have files open for.

    Parameters
    ----------
    n_processes
        Number of processes to start.

    Raises
    ------
    RefusedError
        If there may not be enough; tells the number needed.
    """
    needed = len(os.listdir("/proc/self/fd")) + _PER_PROCESS * n_processes + _BESIDES
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed not in (resource.RLIM_INFINITY, -1) and needed > allowed:
        raise errors.RefusedError(
            f"{n_processes} worker processes need {needed} open files, but only {allowed} are allowed here. "
            f"Allow more (ulimit -n {needed}), or ask for fewer processes with -j."
        )
