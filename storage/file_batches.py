"""Many local files brought to places in a directory tree, where nothing is replaced, durably."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from aggregator.storage import durable_files, errors, fault_points, in_flight, local_transfers

MODES: Final = ("auto", "link", "hardlink", "symlink", "relsymlink", "copy")
"""How files are brought: "auto" links within a file system and copies otherwise."""

ABANDONED_SECONDS = 3600.0
"""A part of a copy that nobody has written to for so long is nobody's any more."""

_FEW: Final = 100
"""Directories that are synced one by one: more take longer than all that waits to be written."""

_PATIENCE: Final = 0.2
"""Seconds between two looks at whether to stop, while copies are under way."""

_ANY_DIRECTORY: Final = 0
"""Descriptor that does not matter, as all paths are absolute."""

_NOT_LINKED: Final = (errno.EXDEV, *durable_files.NO_LINKS)
"""Errors after which another way than a hard link is tried."""


def bring(
    pairs: Sequence[tuple[str, str]], mode: str, tick: Callable[[], None], n_at_once: int = 1
) -> list[int]:
    """Bring local files to their places, each of which appears complete or not at all.

    When this returns, the files and the way to them outlive a loss of power.

    Parameters
    ----------
    pairs
        Path of each file, and of its place.
    mode
        One of `MODES`.
    tick
        Called now and then; what it raises ends the work.
    n_at_once
        Files that are copied at a time; links take no time.

    Returns
    -------
    taken
        Indices of the pairs in whose place there was something already; it stays as it is.

    Raises
    ------
    AggregatorError
        If a file can't be brought; those before it are in their places.
    """
    taken: list[int] = []
    directories: dict[str, None] = {}
    with in_flight.Requests(n_at_once) as requests:
        copies = _Copies({target for _, target in pairs}, tick, requests)
        for index, (source, target) in enumerate(pairs):
            if not index % 100:
                tick()
            directory = target.rpartition("/")[0]
            with _explained(source, target, index, taken):
                if directory not in directories:
                    _make(directory, directories)
                if (job := _bring(source, target, mode, copies)) is not None:
                    copies.under_way.append((index, job))
            fault_points.reached("file")
        for index, job in copies.under_way:
            with _explained(*pairs[index], index, taken):
                _wait(job, tick)
    _sync(list(directories))
    return sorted(taken)


@contextlib.contextmanager
def _explained(source: str, target: str, index: int, taken: list[int]) -> Iterator[None]:
    """Note that there is something in a place already; tell which file can't be brought."""
    try:
        yield
    except FileExistsError:
        taken.append(index)
    except OSError as exc:
        raise errors.AggregatorError(
            f"{source}: can't be brought to {target} ({exc.strerror}). Mend that, and run the same "
            "command again; what was brought before is kept."
        ) from exc


def _wait(job: in_flight.Job[None], tick: Callable[[], None]) -> None:
    """Wait for a copy; raise what it raises."""
    while not job.done():
        tick()
        concurrent.futures.wait([job], timeout=_PATIENCE)
    job.result()


def _make(directory: str, directories: dict[str, None]) -> None:
    """Make a directory and those above it, and note all whose entries have to be synced."""
    try:
        os.mkdir(directory)
    except FileExistsError:
        pass
    except FileNotFoundError:
        _make(os.path.dirname(directory), directories)
        _make(directory, directories)
    else:
        directories[os.path.dirname(directory)] = None
    directories[directory] = None


def _sync(directories: Sequence[str]) -> None:
    """Make what is in directories durable: one by one, or at once if they are many on one file system."""
    if len(directories) > _FEW and len({os.stat(each).st_dev for each in directories}) == 1:
        with contextlib.suppress(OSError, AttributeError):
            durable_files.sync_file_system(directories[0])
            return
    for directory in directories:
        with durable_files.writing(directory):
            durable_files.sync_directory(directory)


def _bring(source: str, target: str, mode: str, copies: _Copies) -> in_flight.Job[None] | None:
    """Bring a file, or begin to copy it."""
    if mode in ("symlink", "relsymlink"):
        directory, source = os.path.realpath(os.path.dirname(target)), _itself(source)
        os.symlink(source if mode == "symlink" else os.path.relpath(source, directory), target)
        return None
    if mode != "copy":
        try:
            # A hard link to a link would be one. Python only has links followed where a directory is given.
            os.link(source, target, src_dir_fd=_ANY_DIRECTORY, follow_symlinks=True)
            return None
        except OSError as exc:
            if mode == "hardlink" or exc.errno not in _NOT_LINKED:
                raise
    if mode == "link":
        os.symlink(_itself(source), target)
        return None
    return copies.add(source, target)


def _itself(path: str) -> str:
    """Return the path of a file itself: a link to a link would lead over that."""
    return os.path.realpath(path) if os.path.islink(path) else path


class _Copies:
    """Copies files, and removes what others left that were killed while they copied the same.

    Parameters
    ----------
    targets
        Places of all files.
    tick
        Called now and then; what it raises ends the work.
    requests
        Copies them, if it does several at a time.
    """

    def __init__(self, targets: set[str], tick: Callable[[], None], requests: in_flight.Requests) -> None:
        self._targets, self._tick, self._requests = targets, tick, requests
        self._directories: set[str] = set()
        self.under_way: list[tuple[int, in_flight.Job[None]]] = []
        """Copies that were begun, with the numbers of their files."""

    def add(self, source: str, target: str) -> in_flight.Job[None] | None:
        """Copy a file, or begin to."""
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        directory = target.rpartition("/")[0]
        if directory not in self._directories:
            self._directories.add(directory)
            self._remove_abandoned(directory)
        if self._requests.at_once > 1:
            # What `tick` does is for the thread that waits.
            return self._requests.begin(_copy, source, target, _nothing)
        _copy(source, target, self._tick)
        return None

    def _remove_abandoned(self, directory: str) -> None:
        # Another process that is at it writes all the time.
        oldest = time.time() - ABANDONED_SECONDS
        for name in os.listdir(directory):
            path = f"{directory}/{name}"
            is_temporary = path not in self._targets and durable_files.final_name(path) in self._targets
            with contextlib.suppress(FileNotFoundError):
                if is_temporary and os.stat(path).st_ctime <= oldest:
                    os.unlink(path)


def _nothing() -> None:
    """Do nothing."""


def _copy(source: str, target: str, tick: Callable[[], None]) -> None:
    temporary = durable_files.temporary_name(target)
    try:
        local_transfers.copy(source, temporary, tick)
        fault_points.reached("copied")
        durable_files.rename_new(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
