"""CPU time of this process and of its children that have ended."""

import resource

_ALL_PROCESSES = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def seconds() -> float:
    """Return the CPU time of this process and of those that it has waited for."""
    return sum(resource.getrusage(who).ru_utime + resource.getrusage(who).ru_stime for who in _ALL_PROCESSES)
