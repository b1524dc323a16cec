"""A file that jobs on other hosts live by: when it is gone, so is the run that has begun them.

It lies beside the predicted graph, which all of them see.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Final

from aggregator.running import abandoned_places
from aggregator.storage import uris
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
def made(graph_path: str, has_jobs: Callable[[], bool]) -> Iterator[Lifeline]:
    """Make one for a run of a graph, and remove it afterwards.

    Those of runs that were killed are removed, and their jobs get the time to end.

    Parameters
    ----------
    graph_path
        The graph.
    has_jobs
        Returns whether jobs of the run are known to be under way.
    """
    path, descriptor = _new(graph_path), None
    while path and (descriptor := abandoned_places.occupy(path)) is None:
        path = _new(graph_path)
    line = Lifeline(path, has_jobs)
    try:
        yield line
    finally:
        if descriptor is not None:
            line.remove()
            os.close(descriptor)


def _new(graph_path: str) -> str:
    """Return a new file; nothing if none can be there."""
    if uris.is_remote(graph_path):
        return ""
    path = os.path.abspath(graph_path)
    _end_abandoned(path)
    path = f"{path}.{secrets.token_hex(6)}{_ENDING}"
    try:
        open(path, "xb").close()
    except OSError as exc:
        _log.warning("%s: can't write it (%s); jobs will go on if this process is killed", path, exc.strerror)
        return ""
    return path


def _end_abandoned(graph_path: str) -> None:
    """End the jobs of runs that were killed."""
    n_removed = 0
    directory, name = os.path.split(graph_path)
    for each in abandoned_places.of(directory, f"{name}.", _ENDING):
        with contextlib.suppress(OSError):
            os.unlink(each)
            n_removed += 1
    if n_removed:
        _log.info("Waiting for the end of jobs that a killed run has left")
        time.sleep(_SECONDS_TO_END)
