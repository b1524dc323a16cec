"""A file that jobs on other hosts live by: when it is gone, so is the run that has begun them.

It lies where all of them see it: beside the predicted graph, or else among the files of the run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from aggregator.running import abandoned_places
from aggregator.workers.engines import leash

_log = logging.getLogger(__name__)

_ENDING: Final = ".running"
_SECONDS_TO_END: Final = 3 * leash.POLL_SECONDS
"""How long jobs may take to miss their file; those that take longer do no harm, but work in vain."""
_SECONDS_TO_RECORD: Final = leash.POLL_SECONDS + leash.SECONDS_TO_STOP + leash.SECONDS_TO_END
"""How long jobs may take after that to put on record what they were at."""
_PAUSE_SECONDS: Final = 0.1


class Lifeline:
    """The file of a run.

    Parameters
    ----------
    path
        The file; empty if none can be there, so that jobs go on when this process is killed.
    has_jobs
        Returns whether jobs of the run are known to be under way.
    """

    def __init__(self, path: str, has_jobs: Callable[[], bool]) -> None:
        self.path = path
        self._has_jobs = has_jobs

    def remove(self) -> None:
        """Remove it."""
        if self.path:
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    def end_jobs(self) -> None:
        """Remove it, and wait until jobs have ended, as far as anybody can tell."""
        if not self.path:
            return
        self.remove()
        deadline = time.monotonic() + _SECONDS_TO_RECORD
        while self._has_jobs() and time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)


@contextlib.contextmanager
def made(subjects: Sequence[str], has_jobs: Callable[[], bool]) -> Iterator[Lifeline]:
    """Make one, and remove it afterwards.

    Those of runs that were killed are removed, and their jobs get the time to end.

    Parameters
    ----------
    subjects
        Absolute paths beside which it may be, the best one first.
    has_jobs
        Returns whether jobs of the run are known to be under way.
    """
    _end_abandoned(subjects)
    path, descriptor = _new(subjects), None
    while path and (descriptor := abandoned_places.occupy(path)) is None:
        path = _new(subjects)
    line = Lifeline(path, has_jobs)
    try:
        yield line
    finally:
        if descriptor is not None:
            line.remove()
            os.close(descriptor)


def _new(subjects: Sequence[str]) -> str:
    """Return a new file; nothing if none can be there."""
    problems = []
    for subject in subjects:
        path = f"{subject}.{secrets.token_hex(6)}{_ENDING}"
        try:
            open(path, "xb").close()
            return path
        except OSError as exc:
            problems.append(f"{path}: can't write it ({exc.strerror})")
    for problem in problems:
        _log.warning("%s; jobs will go on if this process is killed", problem)
    return ""


def _end_abandoned(subjects: Sequence[str]) -> None:
    """End the jobs of runs that were killed."""
    n_removed = 0
    for directory, name in map(os.path.split, subjects):
        for each in abandoned_places.of(directory, f"{name}.", _ENDING):
            with contextlib.suppress(OSError):
                os.unlink(each)
                n_removed += 1
    if n_removed:
        _log.info("Waiting for the end of jobs that a killed run has left")
        time.sleep(_SECONDS_TO_END)
