"""Original files whose content the graph holds: deleting them, and the directories that they leave empty.

A file that was changed after it was read for the graph holds something that the graph does not. Whether it
may have been is told by its times, also by that of its inode, which nobody can set back. They are later than
that in a repository that was copied, too; so what counts in the end is the content, which costs reading it.
"""

import collections
import concurrent.futures
import itertools
import time
from collections.abc import Callable, Mapping, Sequence, Set
from typing import NamedTuple, Self

from aggregator.butler.registry import ingested_graphs
from aggregator.graph_ingestion import contents
from aggregator.storage import errors, fault_points, in_flight, local_files, stores

_AT_ONCE = 8
"""Portions that are deleted at a time, until it shows how long a file takes: most of that is waiting."""

_NAMED = 10
"""Files that are named, of all that could not be deleted."""


_MARGIN_NS = 2_000_000_000
"""How much later the graph's files were read than one was changed that need not be read now: file systems may
round times."""


class Original(NamedTuple):
    """A file whose content the graph holds."""

    store: int
    """Number of its store."""

    key: str
    """Its key there."""

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
        Where the datastores have their files.
    where
        The files of the graph, which are never deleted.
    held
        Tells whether the graph holds what is in a file.
    since
        Time before which none of the files was read for the graph, in nanoseconds, if it says so.
    """

    def __init__(
        self,
        run: str,
        roots: Sequence[stores.Store],
        where: ingested_graphs.Places,
        held: contents.Contents,
        since: int | None,
    ) -> None:
        self._stores = roots
        self._run = f"{run}/"
        self._spared = frozenset(place.file for place in where)
        self._held = held
        times = [written(place).modified for place in where]
        self._limit = min(times if since is None else [since, *times]) - _MARGIN_NS
        self._tops: set[tuple[int, str]] = set()
        self._n_directories = 0
        self._requests = in_flight.Requests(_AT_ONCE)
        self._jobs: collections.deque[in_flight.Job[_Portion]] = collections.deque()
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
        # Nothing is deleted any more when the graph is no longer locked.
        concurrent.futures.wait([job for job in self._jobs if not job.cancel()])
        self._requests.close()

    def delete(self, files: Mapping[str, Sequence[Original]]) -> None:
        """Begin to delete files; those of the call before are done when it returns.

        Parameters
        ----------
        files
            Files by dataset type.
        """
        self.wait()
        chosen = itertools.chain.from_iterable(files.values())
        # Those of a directory by one thread, as far as possible: a directory lets in one at a time.
        ordered = sorted(file for file in chosen if self._location(file) not in self._spared)
        for number, store in enumerate(self._stores):
            own = [file for file in ordered if file.store == number]
            for begin in range(0, len(own), store.deleted_at_once):
                portion = own[begin : begin + store.deleted_at_once]
                self._jobs.append(self._requests.begin(self._delete, number, portion, self._limit))
        self.n_missing += len(ordered)

    def _location(self, file: Original) -> str:
        return self._stores[file.store].location(file.key)

    def _delete(self, number: int, files: Sequence[Original], limit: int | None) -> "_Portion":
        """Delete files of a store but those that have a time after a limit, ns; any thread may do it."""
        store, began = self._stores[number], time.monotonic()
        done = store.delete_many([file.key for file in files], limit)
        seconds = (time.monotonic() - began) / len(files)
        changed = set(done.changed)
        kinds = dict.fromkeys((file.key.rpartition("/")[0], file.dataset_type) for file in files)
        top_of = {directory: top for directory, kind in kinds if (top := self._top(directory, kind))}
        newer = [file for file in files if file.key in changed]
        n_directories = _remove_directories(store, top_of)
        tops = {(number, top) for top in top_of.values()}
        return _Portion(done.n_deleted, done.failures, newer, n_directories, tops, seconds)

    def _top(self, directory: str, dataset_type: str) -> str:
        """Return the highest directory with a dataset type in its name: everything below is of that type.

        It is empty if there is none.
        """
        # The run's name may contain the dataset type's.
        base = self._run if directory.startswith(self._run) else ""
        parts = directory[len(base) :].split("/")
        for depth, part in enumerate(parts, 1):
            if dataset_type in part:
                return base + "/".join(parts[:depth])
        return ""

    def wait(self) -> None:
        """Wait until everything is deleted that can be."""
        is_any = bool(self._jobs)
        while self._jobs:
            # One whose wait is interrupted stays, to be waited for at the end.
            concurrent.futures.wait([self._jobs[0]])
            done = self._jobs.popleft().result()
            self._count(done)
            # Graphs are not for several threads.
            for file in done.newer:
                self._compare(file)
        if is_any:
            fault_points.reached("deleted")

    def _compare(self, file: Original) -> None:
        """Delete a file if the graph holds what is in it."""
        store = self._stores[file.store]
        try:
            is_held = self._held.holds(file.dataset_id, file.dataset_type, store, file.key)
        except FileNotFoundError:
            return
        except local_files.UnusableError as exc:
            # It may be what the graph was made from: nobody shall be told to delete it.
            self._count(_Portion(0, [f"{store.location(file.key)} ({exc})"], []))
            return
        if is_held:
            self._count(self._delete(file.store, [file], None))
            return
        self.n_changed += 1
        self.n_missing -= 1
        self.changed += [store.location(file.key)][: _NAMED - len(self.changed)]

    def _count(self, done: "_Portion") -> None:
        self._requests.suit(done.seconds)
        self.n_deleted += done.n_deleted
        self.n_failed += len(done.failures)
        self.n_missing -= done.n_deleted + len(done.failures)
        self.failures += done.failures[: _NAMED - len(self.failures)]
        self._n_directories += done.n_directories
        self._tops |= done.tops

    def remove_directories(self, tick: Callable[[], None]) -> tuple[int, list[str]]:
        """Remove directories that are empty, or only have empty ones in them; some are gone already.

        Parameters
        ----------
        tick
            Called now and then; what it raises ends the work.

        Returns
        -------
        n_removed
            Number of directories removed, now and before.
        left
            Directories that could not be, with the reason.
        """
        n_removed, left = self._n_directories, []
        for number, top in sorted(self._tops):
            store = self._stores[number]
            n_below, n_files, stuck = store.prune(top, tick)
            n_removed += n_below
            left += stuck[:_NAMED]
            if n_files:
                others = "1 other file is" if n_files == 1 else f"{n_files} other files are"
                left.append(f"{store.location(top)}: {others} in there")
        return n_removed, left


class _Portion(NamedTuple):
    n_deleted: int
    failures: list[str]
    newer: list[Original]
    n_directories: int = 0
    tops: Set[tuple[int, str]] = frozenset()
    seconds: float = 0.0
    """What each file took."""


def _remove_directories(store: stores.Store, top_of: Mapping[str, str]) -> int:
    """Remove directories that are empty now, and those above them up to some top; return how many there were.

    To look for them afterwards takes longer.
    """
    n_removed = 0
    while top_of:
        removed = store.remove_directories(top_of)
        n_removed += len(removed)
        top_of = {
            directory.rpartition("/")[0]: top_of[directory]
            for directory in removed
            if directory != top_of[directory]
        }
    return n_removed


def written(place: ingested_graphs.Place) -> stores.Mark:
    """Return what is known of a graph in its place.

    Raises
    ------
    AggregatorError
        If it is not there.
    """
    mark = place.mark()
    if mark is None:
        raise errors.AggregatorError(
            f"{place.file}: the graph is not there any more. Put it back, and run the same command again."
        )
    return mark
