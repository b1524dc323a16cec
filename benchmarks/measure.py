"""Running a command and measuring it: time, CPU and memory of all its processes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

import psutil

INTERVAL = 0.05
"""Seconds between two looks at memory."""


class CommandError(RuntimeError):
    """A measured command has failed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Measurement:
    """What one command took."""

    wall: float
    """Seconds from start to end."""

    cpu: float
    """CPU seconds, user and system, of the process and all its descendants.

    The system only counts descendants that their parents have waited for; what was seen of the others while
    they ran counts, too.
    """

    peak_tree: int
    """Peak of the resident memory summed over all processes at a time, in bytes; shared pages count twice."""

    peak_process: int
    """Peak of the resident memory of the largest process, in bytes."""

    processes: int
    """Largest number of processes at a time."""


class _Watch(threading.Thread):
    """Looks at a process and its descendants until told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.ended = threading.Event()
        self.peak_tree = self.peak_process = self.processes = 0
        self.cpu: dict[int, float] = {}

    def run(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.pid)
            while not self.ended.wait(INTERVAL):
                self._look([root, *root.children(recursive=True)])

    def _look(self, processes: Sequence[psutil.Process]) -> None:
        sizes = []
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                sizes.append(process.memory_info().rss)
                self.peak_process = max(self.peak_process, _peak(process.pid))
                times = process.cpu_times()
                self.cpu[process.pid] = times.user + times.system
        self.peak_tree = max(self.peak_tree, sum(sizes))
        self.processes = max(self.processes, len(sizes))


def _peak(pid: int) -> int:
    """Return the peak of a process's resident memory so far, in bytes.

    ``ru_maxrss`` will not do: it starts with the memory of whoever started the process.
    """
    with contextlib.suppress(OSError):
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def measure(
    command: Sequence[str], *, cwd: pathlib.Path, env: Mapping[str, str], log: pathlib.Path
) -> Measurement:
    """Run a command to its end.

    Parameters
    ----------
    command
        Program and arguments.
    cwd, env
        Working directory and environment.
    log
        File for what it prints.

    Returns
    -------
    measurement
        What it took.

    Raises
    ------
    CommandError
        If its exit code is not 0.
    """
    with log.open("w") as stream:
        start = time.perf_counter()
        # Not a context manager, as only wait4 gives the resources of one child.
        process = subprocess.Popen(command, cwd=cwd, env=dict(env), stdout=stream, stderr=stream)
        watch = _Watch(process.pid)
        watch.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    watch.ended.set()
    watch.join()
    if process.returncode:
        tail = "\n".join(log.read_text().splitlines()[-20:])
        raise CommandError(f"exit code {process.returncode}: {' '.join(command)}\n{tail}")
    cpu = max(usage.ru_utime + usage.ru_stime, sum(watch.cpu.values()))
    return Measurement(wall, cpu, watch.peak_tree, watch.peak_process, watch.processes)
