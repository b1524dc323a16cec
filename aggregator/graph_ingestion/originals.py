"""Original files whose content the graph holds: deleting them, and the directories that they leave empty.

A file that was changed after the graph was made holds something that the graph does not. Whether it may have
been is told by its times, also by that of its inode, which nobody can set back. They are later than the graph
in a repository that was copied, too; so what counts in the end is the content, which costs reading the file.
"""

import concurrent.futures
import errno
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Self, TypeVar

from aggregator.graph_ingestion import contents
from aggregator.storage import fault_points, local_files

T = TypeVar("T")

_THREADS = 8
"""Threads that delete: most of the time is waiting for the file system."""

_TOGETHER = 128
"""Files that a thread takes at once."""

_NAMED = 10
"""Files that are named, of all that could not be deleted."""


_MARGIN_NS = 2_000_000_000
"""How much younger the graph has to be than a file that need not be read: file systems may round times."""


_SETTLED = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR)
"""Errors of removing a directory that has something in it, is gone, or is none."""


class Original(NamedTuple):
    """A file whose content the graph holds."""

    path: str
    """Where it is."""

    dataset_id: str
    """Id of its dataset, 32 hexadecimal digits."""

    dataset_type: str
    """Name of the dataset's type."""


class Originals:
    """Deletes files; a context manager that waits for what is under way.

    Parameters
    ----------
    run
        The run whose files they are.
    roots
        Roots of the datastores.
    spared
        Paths that are never deleted: those of the graph.
    held
        Tells whether the graph holds what is in a file.
    """

    def __init__(
        self, run: str, roots: Collection[str], spared: Collection[str], held: contents.Contents
    ) -> None:
        self._bases = [os.path.join(root, "") for root in roots]
        self._run = os.path.join(run, "")
        self._spared = frozenset(spared)
        self._held = held
        self._limit = min(os.stat(path).st_mtime_ns for path in spared) - _MARGIN_NS
        self._tops: set[str] = set()
        self._pool = concurrent.futures.ThreadPoolExecutor(_THREADS, "delete")
        self._jobs: list[concurrent.futures.Future[_Portion]] = []
        self.n_deleted = 0
        """Files deleted."""
        self.n_missing = 0
        """Files that were not there."""
        self.n_failed = 0
        """Files that could not be deleted."""
        self.failures: list[str] = []
        """Some of them, with the reason."""
        self.n_changed = 0
        """Files that were not deleted because they hold something that the graph does not."""
        self.changed: list[str] = []
        """Some of them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown()

    def delete(self, files: Mapping[str, Sequence[Original]]) -> None:
        """Begin to delete files; those of the call before are done when it returns.

        Parameters
        ----------
        files
            Files by dataset type.
        """
        self.wait()
        chosen: list[Original] = []
        for dataset_type, some in files.items():
            for directory in {file.path.rpartition("/")[0] for file in some}:
                self._note_top(directory, dataset_type)
            chosen += some
        # Those of a directory by one thread, as far as possible: a directory lets in one at a time.
        ordered = sorted(file for file in chosen if file.path not in self._spared)
        self._jobs = [self._pool.submit(_delete, portion, self._limit) for portion in _portions(ordered)]
        self.n_missing += len(ordered)

    def _note_top(self, directory: str, dataset_type: str) -> None:
        """Note the highest directory with a dataset type in its name: everything below is of that type."""
        base = next(base for base in self._bases if directory.startswith(base))
        if directory.startswith(base + self._run):
            # The run's name may contain the dataset type's.
            base += self._run
        parts = directory[len(base) :].split("/")
        for depth, part in enumerate(parts, 1):
            if dataset_type in part:
                self._tops.add(base + "/".join(parts[:depth]))
                return

    def wait(self) -> None:
        """Wait until everything is deleted that can be."""
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            done = job.result()
            self._count(done)
            # Graphs are not for several threads.
            for file in done.newer:
                self._compare(file)
        if jobs:
            fault_points.reached("deleted")

    def _compare(self, file: Original) -> None:
        """Delete a file if the graph holds what is in it."""
        try:
            is_held = self._held.holds(file.dataset_id, file.dataset_type, file.path)
        except (FileNotFoundError, NotADirectoryError):
            return
        except (OSError, local_files.UnusableError) as exc:
            # It may be what the graph was made from: nobody shall be told to delete it.
            self._count(_Portion(0, [f"{file.path} ({local_files.reason(exc)})"], []))
            return
        if is_held:
            self._count(_delete([file], None))
            return
        self.n_changed += 1
        self.n_missing -= 1
        self.changed += [file.path][: _NAMED - len(self.changed)]

    def _count(self, done: "_Portion") -> None:
        self.n_deleted += done.n_deleted
        self.n_failed += len(done.failures)
        self.n_missing -= done.n_deleted + len(done.failures)
        self.failures += done.failures[: _NAMED - len(self.failures)]

    def remove_directories(self, tick: Callable[[], None]) -> tuple[int, list[str]]:
        """Remove directories that are empty, or only have empty ones in them.

        Parameters
        ----------
        tick
            Called now and then; what it raises ends the work.

        Returns
        -------
        n_removed
            Number of directories removed.
        left
            Directories that could not be, with the reason.
        """
        n_removed, left = 0, []
        for top in sorted(self._tops):
            n_below, n_files, stuck = self._prune(top, tick)
            n_removed += n_below
            left += stuck
            if n_files:
                others = "1 other file is" if n_files == 1 else f"{n_files} other files are"
                left.append(f"{top}: {others} in there")
        return n_removed, left

    def _prune(self, top: str, tick: Callable[[], None]) -> tuple[int, int, list[str]]:
        """Remove a tree as far as it is empty.

        Returns
        -------
        n_removed, n_files
            Numbers of directories removed and of files.
        stuck
            Some of the directories that the system refuses to look into or remove, with the reason.
        """
        levels, n_files, n_removed = [[top]], 0, 0
        stuck: list[str] = []
        while levels[-1]:
            tick()
            below = []
            for directories, n_there, refused in self._pool.map(_look, _portions(levels[-1])):
                below += directories
                n_files += n_there
                stuck += refused
            levels.append(below)
        for level in reversed(levels):
            tick()
            for n_gone, refused in self._pool.map(_remove, _portions(level)):
                n_removed += n_gone
                stuck += refused
        return n_removed, n_files, stuck[:_NAMED]


def _portions(paths: Sequence[T]) -> list[Sequence[T]]:
    return [paths[begin : begin + _TOGETHER] for begin in range(0, len(paths), _TOGETHER)]


class _Portion(NamedTuple):
    n_deleted: int
    failures: list[str]
    newer: list[Original]


def _delete(files: Sequence[Original], limit: int | None) -> _Portion:
    """Delete files but those that have a time after a limit, nanoseconds."""
    n_deleted, failures, newer = 0, [], []
    for file in files:
        try:
            if limit is not None:
                status = os.stat(file.path)
                if max(status.st_mtime_ns, status.st_ctime_ns) > limit:
                    newer.append(file)
                    continue
            os.unlink(file.path)
            n_deleted += 1
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as exc:
            failures.append(f"{file.path} ({exc.strerror})")
    fault_points.reached("unlinked")
    return _Portion(n_deleted, failures, newer)


def _look(paths: Sequence[str]) -> tuple[list[str], int, list[str]]:
    """Return directories in directories, the number of other entries, and where none can be looked for."""
    directories, n_files, refused = [], 0, []
    for path in paths:
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        directories.append(entry.path)
                    else:
                        n_files += 1
        except (FileNotFoundError, NotADirectoryError):
            # One that is not there, or is none, needs no removal.
            pass
        except OSError as exc:
            refused.append(f"{path}: can't look into it ({exc.strerror})")
    return directories, n_files, refused


def _remove(paths: Sequence[str]) -> tuple[int, list[str]]:
    """Remove directories that are empty; return how many, and which the system refuses to remove."""
    n_removed, refused = 0, []
    for path in paths:
        try:
            os.rmdir(path)
            n_removed += 1
        except OSError as exc:
            # What has something in it, or is gone, is as it shall be.
            if exc.errno not in _SETTLED:
                refused.append(f"{path}: can't remove it ({exc.strerror})")
    return n_removed, refused
