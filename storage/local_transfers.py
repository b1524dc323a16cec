"""Bringing a local file to a place in a directory tree, where it appears complete or not at all, durably."""

import contextlib
import errno
import glob
import os
from collections.abc import Callable

from aggregator.storage import durable_files, fault_points, local_files

_ORIGIN = "user.aggregator.moved_from"
"""Extended attribute of a file that was moved: where it was. Not all file systems keep it."""

_COPIED_AT_ONCE = 1 << 26
"""Bytes."""


def place(source: str, target: str, mode: str, tick: Callable[[], None], look: Callable[[], object]) -> None:
    """Bring a file to its place; parameters as for `stores.Store.adopt`.

    Raises
    ------
    OSError
        If it can't be done; nothing has changed then.
    """
    real = os.path.realpath(source)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    _remove_temporary_files(target)
    if not local_files.is_there(target) or os.path.islink(target) or not os.path.samefile(real, target):
        look()
        _replace(real, target, mode, tick, look)
    _note_origin(target, os.path.abspath(source) if mode == "move" else None)


def _remove_temporary_files(target: str) -> None:
    """Remove what processes left that were killed while they brought a file to the same place."""
    for left in glob.glob(f"{glob.escape(target)}.*.tmp"):
        if durable_files.final_name(left) == target:
            os.unlink(left)


def _replace(
    source: str, target: str, mode: str, tick: Callable[[], None], look: Callable[[], object]
) -> None:
    temporary = durable_files.temporary_name(target)
    try:
        if mode == "move":
            try:
                os.link(source, temporary)
            except OSError as exc:
                if exc.errno in durable_files.NO_LINKS:
                    # Then the file can't be in two places for a while.
                    durable_files.sync(source)
                    os.rename(source, target)
                    return
                if exc.errno != errno.EXDEV:
                    raise
                copy(source, temporary, tick)
        else:
            _transfer(source, temporary, mode, tick)
        durable_files.sync(temporary)
        fault_points.reached("placing")
        look()
        os.rename(temporary, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _transfer(source: str, target: str, mode: str, tick: Callable[[], None]) -> None:
    if mode == "copy":
        copy(source, target, tick)
    elif mode == "hardlink":
        os.link(source, target)
    elif mode == "symlink":
        os.symlink(source, target)
    elif mode == "relsymlink":
        os.symlink(os.path.relpath(source, os.path.realpath(os.path.dirname(target))), target)
    else:
        try:
            os.link(source, target)
        except OSError:
            os.symlink(source, target)


def copy(source: str, target: str, tick: Callable[[], None]) -> None:
    """Copy a local file to a place where nothing is, with its mode and times, durably.

    Raises
    ------
    OSError
        If it can't be done; a part may be left.
    """
    with open(source, "rb") as reader, open(target, "xb") as writer:
        while os.sendfile(writer.fileno(), reader.fileno(), None, _COPIED_AT_ONCE):
            tick()
        status = os.fstat(reader.fileno())
        os.fchmod(writer.fileno(), status.st_mode & 0o7777)
        os.utime(writer.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
        # After a loss of power, nothing half-written may have the file's name.
        os.fsync(writer.fileno())


def make_durable(path: str, root: str) -> None:
    """Sync a file, and the directories that lead to it from a root.

    Raises
    ------
    OSError
        If the file is missing, or the system reports an error.
    """
    for each in {path, os.path.realpath(path)}:
        durable_files.sync(each)
        durable_files.sync_directory(os.path.dirname(each))
    directory = os.path.dirname(path)
    while directory.startswith(os.path.join(root, "")):
        directory = os.path.dirname(directory)
        durable_files.sync_directory(directory)


def _note_origin(path: str, origin: str | None) -> None:
    with contextlib.suppress(OSError):
        if origin is not None:
            os.setxattr(path, _ORIGIN, os.fsencode(origin))
        else:
            os.removexattr(path, _ORIGIN)


def origin(path: str) -> str | None:
    """Return where a file was before it was moved to its place, if that is known."""
    try:
        return os.fsdecode(os.getxattr(path, _ORIGIN))
    except OSError:
        return None
