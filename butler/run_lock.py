"""Keeps executions of a run, its aggregation, and the ingestion of its graph, apart: they share its files.

Whole executions lock the directory of the run. Jobs of a few quanta run at the same time, beside those, and
share the lock of a file in it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator
from typing import Final

from aggregator.butler.configuration import repository_config
from aggregator.butler.datastores import paths
from aggregator.storage import durable_files, errors, local_files, locks, uris

_ADVICE: Final = (
    "Two executions of one run would replace each other's files, and an ingestion of its graph delete them. "
    "Wait until that one, and all that it has started, has gone, and run the same command again."
)
_JOBS: Final = ".jobs.lock"
"""The file that jobs lock; it is there as long as there are some."""


@dataclasses.dataclass(frozen=True, slots=True)
class Hold:
    """What shows that a run is locked."""

    descriptors: tuple[int, ...]
    """What keeps the locks as long as any process has it."""

    ownerships: tuple[locks.Ownership, ...]
    """What tells that the directories of the run are where they were."""


@contextlib.contextmanager
def held(run: str, datastores: Iterable[repository_config.FileDatastore]) -> Iterator[Hold]:
    """Lock a run for one execution of all its quanta; an object store has no directories, and is not locked.

    Directories that are missing are made, and removed if nothing was written to them.

    Parameters
    ----------
    run
        The run.
    datastores
        Where its files are.

    Yields
    ------
    hold
        What shows that.

    Raises
    ------
    InUseError
        If another process executes the run, or ingests its graph.
    """
    places = []
    with contextlib.ExitStack() as stack:
        for directory in directories(run, datastores):
            stack.enter_context(_made(directory))
            with durable_files.writing(directory):
                fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            places.append((directory, stack.enter_context(locks.take(directory, fd, _ADVICE))))
        yield _hold(places)


@contextlib.contextmanager
def held_by_job(run: str, datastores: Iterable[repository_config.FileDatastore]) -> Iterator[Hold]:
    """Lock a run for a job of a few quanta, beside others; all else is that of `held`.

    Raises
    ------
    InUseError
        If another process ingests the graph of the run.
    """
    with _jobs(run, datastores, shared=True) as hold:
        yield hold


@contextlib.contextmanager
def held_alone(run: str, datastores: Iterable[repository_config.FileDatastore]) -> Iterator[None]:
    """Lock a run, so that nothing of it is executed; all else is that of `held`.

    Raises
    ------
    InUseError
        If another process executes quanta of the run, or ingests its graph.
    """
    datastores = list(datastores)
    with held(run, datastores), _jobs(run, datastores, shared=False):
        yield


def executor(run: str, datastores: Iterable[repository_config.FileDatastore]) -> str:
    """Return who executes quanta of a run at the moment, as far as locks can tell; empty if nobody does.

    Parameters
    ----------
    run
        The run.
    datastores
        Where its files are.
    """
    for directory in directories(run, datastores):
        jobs = os.path.join(directory, _JOBS)
        # An ingestion has both alone: what it records decides who comes too late.
        if not locks.holder(jobs) and (who := locks.holder(directory) or locks.holder(jobs, shared=True)):
            return who
    return ""


def job_executor(run: str, datastores: Iterable[repository_config.FileDatastore]) -> str:
    """Return who executes a few quanta of a run as a job; else as `executor`."""
    paths = [os.path.join(directory, _JOBS) for directory in directories(run, datastores)]
    return next(filter(None, (locks.holder(path, shared=True) for path in paths)), "")


def check_idle(run: str, datastores: Iterable[repository_config.FileDatastore]) -> None:
    """Make sure that nobody executes quanta of a run; parameters are those of `executor`.

    Raises
    ------
    InUseError
        If a process does.
    """
    if who := executor(run, datastores):
        raise errors.InUseError(
            f"Quanta of run {run!r} are being executed by {who}, so that nobody can tell yet what becomes of "
            "all. Wait until that has ended, and run the same command again; or aggregate what has succeeded "
            "by then (--incomplete), or follow it (aggregator follow)."
        )


def directories(run: str, datastores: Iterable[repository_config.FileDatastore]) -> list[str]:
    """Return the directories of a run that can be locked; parameters are those of `held`."""
    try:
        key = paths.directory_of_run(run)
    except errors.RefusedError:
        # No file is there that needs a lock.
        return []
    places = [each.files.location(key) for each in datastores]
    return [each for each in places if not uris.is_remote(each)]


@contextlib.contextmanager
def _jobs(run: str, datastores: Iterable[repository_config.FileDatastore], *, shared: bool) -> Iterator[Hold]:
    """Lock the files that jobs share; with those of `held` before, nobody else waits for both."""
    places = []
    with contextlib.ExitStack() as stack:
        for directory in directories(run, datastores):
            stack.enter_context(_made(directory))
            path = os.path.join(directory, _JOBS)
            lock = stack.enter_context(_take(path, shared=shared))
            stack.callback(lock.remove, path)
            places.append((directory, lock))
        yield _hold(places)


def _hold(places: Iterable[tuple[str, locks.Lock]]) -> Hold:
    descriptors, ownerships = [], []
    for directory, lock in places:
        descriptors.append(lock.descriptor)
        with durable_files.writing(directory):
            status = os.stat(directory)
        ownerships.append(locks.Ownership(directory, status.st_dev, status.st_ino, lock.claim))
    return Hold(tuple(descriptors), tuple(ownerships))


def _take(path: str, *, shared: bool) -> locks.Lock:
    """Lock a file that each of its holders may remove."""
    while True:
        with durable_files.writing(path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        lock = locks.take(path, fd, _ADVICE, shared=shared)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(lock.fd)):
                return lock
        lock.release()


@contextlib.contextmanager
def _made(directory: str) -> Iterator[None]:
    """Make a directory with those above it; remove those that were made and are empty in the end."""
    missing = []
    above = directory
    while not local_files.is_taken(above):
        missing.append(above)
        above = os.path.dirname(above)
    with durable_files.writing(directory):
        os.makedirs(directory, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for each in missing:
                os.rmdir(each)
