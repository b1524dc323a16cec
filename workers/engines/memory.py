"""Memory of processes, from the kernel's files."""

import resource


def resident(pid: int) -> int:
    """Return the memory that a process holds now, in bytes; 0 if it is gone."""
    return _field(pid, "VmRSS")


def peak(pid: int) -> int:
    """Return the most memory that a process has held, in bytes; 0 if it is gone."""
    return _field(pid, "VmHWM")


def largest_child() -> int:
    """Return the most memory that one of the processes has held which this one has waited for, in bytes."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def _field(pid: int, name: str) -> int:
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as stream:
            for line in stream:
                if line.startswith(name):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
