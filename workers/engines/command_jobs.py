"""A job that is a command: what can die does so in a process of its own, not in the engine's worker.

Engines take the end of a worker for their own trouble: they begin jobs again which have killed it, and blame
others that were there. The end of a command is an answer like any other.
"""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from aggregator.workers.engines import job_engine, leash

_N_KEPT = 1 << 13
_PIECE = 1 << 16


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    """Its exit code; negative is the number of the signal that has ended it, 127 that it did not start."""

    stderr: str
    """The last 8 kB of what it has written to standard error."""


def job(command: Sequence[str], about: str, lifeline: str = "") -> job_engine.Job:
    """Return a job that is a command; its result is an `Ended`.

    Parameters
    ----------
    command
        The program and its arguments.
    about
        What it is about, for people.
    lifeline
        A file that the worker sees: the command is killed, with all that it has started, when that is gone.
        It is also killed when the worker is.
    """
    return job_engine.Job(run, (tuple(command), lifeline), about)


def run(command: Sequence[str], lifeline: str = "") -> Ended:
    """Run a command, with no input and only its errors kept.

    Parameters
    ----------
    command, lifeline
        See `job`.
    """
    # As long as this end is open, whoever runs it lives.
    there, here = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", leash.__file__, str(there), lifeline, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[there],
            process_group=0,
        )
    except BaseException:
        os.close(here)
        raise
    finally:
        os.close(there)
    with process:
        try:
            return Ended(*_watch(process))
        finally:
            os.close(here)


def _watch(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Wait for the end of a process; return its code and the end of its errors."""
    assert process.stderr is not None
    source, tail = process.stderr.fileno(), b""
    os.set_blocking(source, False)
    ended = leash.end_of(process.pid)
    try:
        while True:
            # Something that has left its group may keep its errors open for ever.
            is_over = ended in leash.ready_of([source, ended])
            with contextlib.suppress(BlockingIOError):
                while piece := os.read(source, _PIECE):
                    tail = (tail + piece)[-_N_KEPT:]
                is_over = True
            if is_over:
                leash.ready_of([ended])
                return _end(process), tail.decode(errors="replace")
    finally:
        os.close(ended)


def _end(process: subprocess.Popen[bytes]) -> int:
    """Kill what is left of the group of a leash that has ended; return its code."""
    # As long as nobody has taken note of the leash's end, no other group can have its number.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()
