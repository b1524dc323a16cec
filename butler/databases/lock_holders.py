"""Which process holds locks of a file, as far as the system tells."""

import os


def describe(*paths: str) -> str:
    """Return who holds locks of some files, as in "process 123 (aggregator)"; mostly one that writes.

    Parameters
    ----------
    paths
        The files, which belong together. None of them is opened: to close one again would release all locks
        that this process holds on it.
    """
    holders = {True: "", False: ""}
    for is_writer, pid in _holders(paths):
        holders[is_writer] = f"process {pid} ({_command(pid)})"
    return holders[True] or holders[False] or "another process"


def _holders(paths: tuple[str, ...]) -> list[tuple[bool, int]]:
    """Return whether it may write, and its number, for each lock that other processes hold."""
    try:
        statuses = [os.stat(path) for path in paths if os.path.exists(path)]
        places = {f"{os.major(s.st_dev):02x}:{os.minor(s.st_dev):02x}:{s.st_ino}" for s in statuses}
        with open("/proc/locks") as stream:
            locks = [line.split() for line in stream if "->" not in line]
        # Number, kind, ADVISORY, WRITE or READ, process, place, begin and end.
        held = [(lock[3] == "WRITE", int(lock[4])) for lock in locks if lock[5] in places]
    except (OSError, ValueError, IndexError):
        return []
    # One without a number is on another host, or in another container.
    return [(is_writer, pid) for is_writer, pid in held if pid > 0 and pid != os.getpid()]


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as stream:
            return stream.read().strip()
    except OSError:
        return "of somebody else"
