"""Opens a checkpoint: locked, identified, and emptied of what does not fit (docs/design.md, Checkpoint)."""

import contextlib
import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from typing import Self

from aggregator.aggregation import configuration
from aggregator.schemas.checkpoints import checkpoint, exchanges, last_run, superseded
from aggregator.storage import (
    durable_files,
    errors,
    leases,
    local_files,
    locks,
    machine_trouble,
    partial_files,
    uris,
)

_log = logging.getLogger(__name__)

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW
_ATTEMPTS = 20
"""How often to begin anew because somebody has removed the checkpoint in the meantime."""


class Checkpoint:
    """A checkpoint that this process has locked.

    Parameters
    ----------
    directory
        Where it lies; made if it does not exist, within a directory that does. An empty one becomes a
        checkpoint.
    temporary
        Whether to remove it when it is closed.

    Raises
    ------
    RefusedError
        If it can't be written, or is a directory with other things in it.
    InUseError
        If another aggregation works on it.
    """

    def __init__(self, directory: str, temporary: bool = False) -> None:
        self.layout = checkpoint.Layout(directory)
        self._temporary = temporary
        self._is_made = self._is_new = self._is_set_aside = False
        try:
            self.lock = self._take()
            self.ownership = self.lock.ownership(self.layout.lock)
        except BaseException:
            if temporary:
                shutil.rmtree(directory, ignore_errors=True)
            raise

    def _take(self) -> locks.Lock:
        """Make the directory unless it is there, and lock it."""
        advice = "Wait until it and its workers have gone, or give another --checkpoint-dir."
        for _ in range(_ATTEMPTS):
            try:
                lock = locks.take(self.layout.lock, self._open(advice), advice)
            except FileNotFoundError:
                # Its last user has just removed it.
                continue
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock.fd), os.stat(self.layout.lock)):
                    lock.sign()
                    return lock
            lock.release()
        raise errors.InUseError(f"{self.layout.directory}: made and removed again and again. {advice}")

    def _open(self, advice: str) -> int:
        """Return the open lock file, which is made as the first one in a directory."""
        directory = self.layout.directory
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory)
                self._is_made = True
            names = os.listdir(directory)
            self._is_new = self._is_unused(names, advice)
            if not self._is_new:
                checkpoint.check_files(directory)
            try:
                return os.open(self.layout.lock, _FLAGS | os.O_RDWR | os.O_CREAT, 0o666)
            except PermissionError:
                if self._is_new:
                    raise
                # Somebody's else, who lets us read it; that will do for a lock.
                return os.open(self.layout.lock, _FLAGS | os.O_RDONLY)
        except FileNotFoundError:
            if local_files.is_directory(os.path.dirname(directory)) and not os.path.islink(directory):
                raise
            raise self._unwritable(os.strerror(errno.ENOENT)) from None
        except OSError as exc:
            if self._is_made:
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
            refused = self._unwritable(exc.strerror or str(exc))
            raise machine_trouble.refusal(directory, exc, str(refused)) from exc

    def _is_unused(self, names: list[str], advice: str) -> bool:
        """Return whether a directory with these names has to become a checkpoint; refuse what is none."""
        directory, lock = self.layout.directory, self.layout.lock
        mine = os.path.basename(lock)
        if mine in names:
            return False
        foreign = [name for name in names if not self._is_left(name)]
        if foreign:
            raise errors.RefusedError(
                f"{directory}: is no checkpoint, but has {foreign[0]!r} in it. A checkpoint is a directory "
                "that aggregation has made, or an empty one; give another --checkpoint-dir, or remove "
                "that directory if it can go."
            )
        if names and (who := leases.holder(lock)):
            # A lease goes after the file that it is for.
            raise errors.InUseError(f"{directory}: is being removed by {who}. {advice}")
        return True

    def _is_left(self, name: str) -> bool:
        """Return whether a file is nobody's: of a lease, or of a scanner that came when all else went."""
        is_of_lock = name.startswith(f"{os.path.basename(self.layout.lock)}.")
        return checkpoint.knows(name) and (is_of_lock or checkpoint.is_late_digest(name))

    def _unwritable(self, reason: str) -> errors.RefusedError:
        return errors.RefusedError(
            f"{self.layout.directory}: can't write the checkpoint ({reason}). The directory above must "
            "exist; --checkpoint-dir gives another place, --no-checkpoint keeps none."
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._temporary and local_files.is_taken(self.layout.lock):
            self.remove()
        self.lock.release()

    def clear(self) -> None:
        """Remove all files that a checkpoint has, but the lock, and copies of graphs."""
        self._remove_files(lambda name: not checkpoint.is_graph_copy(name))

    @property
    def results(self) -> list[int]:
        """Shards of which it has digests that are going to be used."""
        return [] if self._is_set_aside else self.layout.shards()

    def set_aside(self) -> None:
        """Make room for another manifest; what was found out stays until it is forgotten or taken back."""
        self._is_set_aside = True
        superseded.set_aside(self.layout)

    def forget(self) -> None:
        """Remove what was set aside, and what was found out with it."""
        if self._is_set_aside:
            locks.check(self.ownership)
            self._remove_files(superseded.is_result)
            self._remove_files(superseded.is_aside)
            self._is_set_aside = False

    def _take_back(self) -> None:
        with durable_files.writing(self.layout.directory):
            superseded.take_back(self.layout)
        self._is_set_aside = False

    def remove_temporary_files(self) -> None:
        """Remove what processes left that were killed while they wrote, also outside of the checkpoint.

        What they had set aside for a run that did not come to its first change is taken back.
        """
        self._take_back()
        partial_files.remove(self.layout.partial_files)
        try:
            exchanges.close_all(self.layout)
        except (OSError, errors.AggregatorError) as exc:
            _log.warning("Something is left of an earlier run: %s", exc)
        self._remove_files(lambda name: name.endswith((".tmp", ".part")))

    def leave(self) -> None:
        """Remove what is left of a run that ends early; what can't be removed now, the next run will."""
        with contextlib.suppress(OSError, errors.AggregatorError):
            locks.check(self.ownership)
            self.remove_temporary_files()

    def remove(self, keeps_directory: bool = False) -> None:
        """Remove the checkpoint as a whole; if others have put something into it, only what is its own.

        Parameters
        ----------
        keeps_directory
            Whether to leave the empty directory.
        """
        try:
            locks.check(self.ownership)
            if foreign := self._remove_files(lambda name: True):
                _log.warning(
                    "%s: is not removed, since there is something in it that is not of a checkpoint: %s",
                    self.layout.directory,
                    ", ".join(foreign[:10]),
                )
                return
            # The lock goes last: a directory without it is nobody's, and one that is empty anybody's.
            os.unlink(self.layout.lock)
            if self.lock.claim is not None:
                os.unlink(self.lock.claim.path)
            if not keeps_directory:
                self._remove_directory()
        except (OSError, errors.AggregatorError) as exc:
            _log.warning("%s: can't remove the checkpoint (%s)", self.layout.directory, exc)

    def _remove_directory(self) -> None:
        try:
            os.rmdir(self.layout.directory)
        except OSError as exc:
            # Another process may have begun there.
            if exc.errno != errno.ENOTEMPTY:
                raise

    def note_run(self, config: configuration.AggregatorConfig, output: str | None, end: str = "") -> None:
        """Note how the checkpoint is used by a run that has come as far as scanning, and how that ended.

        Raises
        ------
        AggregatorError
            If it can't be written, or is not ours any more.
        """
        locks.check(self.ownership)
        fails = config.unreadable == "failed"
        record = last_run.LastRun(config.incomplete, config.dry_run, fails, output, end)
        last_run.write(self.layout.last_run, record)

    def undo(self) -> bool:
        """Remove the checkpoint if it is new and has no work in it; return whether all is as it was."""
        if not self._is_new:
            return not self._is_set_aside
        if self._has_work():
            return False
        self.remove(keeps_directory=not self._is_made)
        return True

    def _has_work(self) -> bool:
        return any(name.endswith(".digest") for name in os.listdir(self.layout.directory))

    def _remove_files(self, chosen: Callable[[str], bool]) -> list[str]:
        """Remove files that a checkpoint has; return the names of all that is there besides.

        Raises
        ------
        AggregatorError
            If a file can't be removed.
        """
        foreign = []
        kept = {self.layout.lock} | ({self.lock.claim.path} if self.lock.claim else set())
        with os.scandir(self.layout.directory) as entries:
            files = list(entries)
        for entry in files:
            if not checkpoint.knows(entry.name) or entry.is_dir(follow_symlinks=False):
                foreign.append(entry.name)
            elif entry.path not in kept and chosen(entry.name):
                with durable_files.writing(entry.path):
                    os.unlink(entry.path)
        return sorted(foreign)


def directory_for(graph_path: str, output: str | None, chosen: str | None) -> str:
    """Return where a checkpoint goes: where one says, else beside the graph, else beside the output."""
    if chosen is not None:
        return os.path.abspath(chosen)
    beside_graph = directory_beside(graph_path)
    if output is None or local_files.is_writeable(os.path.dirname(beside_graph)):
        return beside_graph
    return directory_beside(output)


def directory_beside(graph_path: str) -> str:
    """Return the checkpoint beside a graph; in the working directory for one that is on another host."""
    name = uris.split(graph_path)[1] if uris.is_remote(graph_path) else graph_path
    return f"{os.path.abspath(name)}.checkpoint"


def temporary_directory() -> str:
    """Return a new directory for a checkpoint that nobody wants to keep."""
    return tempfile.mkdtemp(prefix="aggregation-")
