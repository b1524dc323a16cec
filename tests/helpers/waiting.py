"""What tests wait for, with limits that no load reaches, and whether processes are still there."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable

import psutil

SECONDS = 120.0
"""How long is waited for what happens at once where nobody else wants the processors."""


def until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def lives(pid: int) -> bool:
    """Tell whether a process has not ended; in a container nobody may ask for the exit code of an orphan."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            # What it had open is closed with the last of its threads, not with the first.
            return process.num_threads() > 1
        return True
    return False


def assert_gone(pids: Iterable[int]) -> None:
    """Wait until processes have ended."""
    left = list(pids)
    until(lambda: not any(map(lives, left)))


def send(pid: int, number: int) -> None:
    """Send a signal, and wait until it was taken: of two that wait at a time, a process sees only one."""
    os.kill(pid, number)
    until(lambda: not _is_pending(pid, number))
    # Python acts upon it a moment later.
    time.sleep(0.3)


def _is_pending(pid: int, number: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/status") as stream:
        pending = [int(line.split()[1], 16) for line in stream if line.startswith(("SigPnd", "ShdPnd"))]
        return any(mask >> (number - 1) & 1 for mask in pending)
    return False
