"""Files that are complete beside their places before any of several gets its name: all do, or none."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterable
from typing import IO, Final

from aggregator.storage import durable_files, errors, fault_points, local_files, mounts

_ENDING: Final = "pending"
"""How names of files end that wait for their own; whoever is at one has it locked."""


class OccupiedError(errors.RefusedError):
    """Something has the name of a file already."""


class PendingFile:
    """A file that gets its name when it is committed, which can be undone until it is closed.

    Parameters
    ----------
    path
        The file.
    replaces
        Whether it takes the place of one that is there.
    look
        Called right before it gets its name; what it raises prevents that.
    """

    def __init__(self, path: str, *, replaces: bool, look: Callable[[], object]) -> None:
        self.path = path
        self._replaces = replaces
        self._look = look
        self._made: list[str] = []
        self._temporary = ""
        self._kept = ""
        self._open = contextlib.ExitStack()
        self._identity: tuple[int, int] | None = None

    def write(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Write and sync the content beside the place; missing directories are made.

        Raises
        ------
        AggregatorError
            If it can't be written.
        """
        with durable_files.writing(self.path):
            self._make_directories(os.path.dirname(self.path))
            stream = self._begun()
            for piece in pieces:
                stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())
            status = os.fstat(stream.fileno())
        self._identity = status.st_dev, status.st_ino
        fault_points.reached("pending")

    def commit(self) -> None:
        """Give it its name.

        Raises
        ------
        OccupiedError
            If something has that name already which is not to be replaced.
        AggregatorError
            If it can't be renamed.
        """
        self._look()
        with durable_files.writing(self.path):
            if self._replaces and local_files.is_taken(self.path):
                self._keep()
                os.rename(self._temporary, self.path)
            else:
                try:
                    durable_files.rename_new(self._temporary, self.path)
                except FileExistsError:
                    raise taken(self.path) from None
            self._temporary = ""
            for directory in (self.path, *self._made):
                durable_files.sync_directory(os.path.dirname(directory))
        fault_points.reached("pending_renamed")

    def rollback(self) -> None:
        """Leave everything as it was before, also after `commit`; what others did since then stays."""
        if self._temporary:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary)
        elif self._is_ours():
            with durable_files.writing(self.path):
                if self._kept:
                    os.rename(self._kept, self.path)
                    self._kept = ""
                else:
                    os.unlink(self.path)
        self.close()
        for directory in reversed(self._made):
            with contextlib.suppress(OSError):
                os.rmdir(directory)

    def close(self) -> None:
        """Give up what `rollback` would need."""
        if self._kept:
            with contextlib.suppress(OSError):
                os.unlink(self._kept)
        self._temporary = self._kept = ""
        self._identity = None
        self._open.close()

    def _begun(self) -> IO[bytes]:
        """Return a new file beside the place, locked."""
        while True:
            temporary = durable_files.temporary_name(self.path, _ENDING)
            stream = open(temporary, "xb")  # noqa: SIM115  (open until it is closed)
            self._open.callback(stream.close)
            _lock(stream.fileno())
            # Before it was locked it may have been taken for one that nobody is at.
            if local_files.is_taken(temporary):
                self._temporary = temporary
                return stream

    def _make_directories(self, directory: str) -> None:
        missing = []
        while directory and not local_files.is_taken(directory):
            missing.append(directory)
            directory = os.path.dirname(directory)
        for each in reversed(missing):
            # Another process may be at the same.
            with contextlib.suppress(FileExistsError):
                os.mkdir(each)
                self._made.append(each)

    def _keep(self) -> None:
        """Keep what is going to be replaced under another name."""
        kept = durable_files.temporary_name(self.path, _ENDING)
        # What is there has its name all the time, whenever this process is killed.
        try:
            os.link(self.path, kept)
        except OSError as exc:
            if exc.errno not in durable_files.NO_LINKS:
                raise
            shutil.copy2(self.path, kept, follow_symlinks=False)
        self._kept = kept
        descriptor = os.open(kept, os.O_RDONLY | os.O_CLOEXEC)
        self._open.callback(os.close, descriptor)
        _lock(descriptor)

    def _is_ours(self) -> bool:
        if self._identity is None:
            return False
        try:
            status = os.lstat(self.path)
        except FileNotFoundError:
            return False
        return (status.st_dev, status.st_ino) == self._identity


def _lock(descriptor: int) -> None:
    # A file system that has no locks keeps what killed processes leave there.
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_abandoned(directory: str) -> None:
    """Remove what killed processes have left in a directory: files that wait for their names for ever.

    Where locks do not tell that for sure, nothing is removed.

    Parameters
    ----------
    directory
        The directory, which need not exist.
    """
    with contextlib.suppress(OSError):
        left = [
            entry.path
            for entry in os.scandir(directory)
            if entry.name.endswith(f".{_ENDING}") and durable_files.final_name(entry.name) != entry.name
        ]
        if left and mounts.has_local_locks(directory):
            return
        for path in left:
            with contextlib.suppress(OSError), open(path, "rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)


def taken(path: str) -> OccupiedError:
    """Return the error for a file whose name something has already."""
    return OccupiedError(
        f"{path}: is there already, and is not replaced. Move it away, choose another location, or set "
        "'overwrite: true' for its storage."
    )
