"""Bringing the file of a graph to its place in the repository, durably."""

import contextlib
import errno
import glob
import logging
import os
from collections.abc import Callable, Iterator

from aggregator.schemas import output_paths
from aggregator.schemas.graphs import container
from aggregator.storage import durable_files, errors, fault_points, local_files, locks

_log = logging.getLogger(__name__)

_ORIGIN = "user.aggregator.moved_from"
"""Extended attribute of a file that was moved: where it was. Not all file systems keep it."""

_NO_LINKS = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""Errors of file systems that have no hard links, or not for this file."""

_COPIED_AT_ONCE = 1 << 26
"""Bytes."""


def check(mode: str | None, source: str, targets: list[str], protection: output_paths.Protection) -> None:
    """Refuse a transfer that can't work, before anything is done.

    Raises
    ------
    RefusedError
        If so; says why.
    """
    directory = os.path.dirname(os.path.realpath(source))
    if mode == "move" and not os.access(directory, os.W_OK):
        raise errors.RefusedError(f"{source}: can't be moved, {directory} is not writeable; copy it instead.")
    for target in targets:
        output_paths.check(target, output_paths.Kind.GRAPH, protection)
        _check_free(source, target)
    if mode == "hardlink":
        for target in targets:
            existing = os.path.dirname(target)
            while not os.path.exists(existing):
                existing = os.path.dirname(existing)
            if os.stat(existing).st_dev != os.stat(source).st_dev:
                raise errors.RefusedError(
                    f"{source}: can't be hard-linked to {target}, which is on another file system."
                )


def _check_free(source: str, target: str) -> None:
    """Refuse to replace another graph, which may be all that is left of the files that it holds.

    The database has not recorded it. But it may have before a backup was put back, and so may that of another
    repository with the same datastore.
    """
    if local_files.is_there(target) and not (os.path.samefile(source, target) or _is_copy(source, target)):
        raise errors.RefusedError(
            f"{target}: is there already, and is another graph than {source}. The database does not know it: "
            "its ingestion was interrupted, or the database is older than the datastore, or another one. It "
            "may be all that is left of logs and metadata, so it is not replaced. Go on with it by giving "
            "--output-run instead of a graph; or, if all these files are there, move it away."
        )


def locked(path: str) -> locks.Lock:
    """Keep other processes from ingesting the same graph, until what is returned is released.

    Parameters
    ----------
    path
        Where the graph is, or goes. Its directory is locked, since graphs are not written.

    Raises
    ------
    InUseError
        If one is at it.
    AggregatorError
        If the directory can't be made or locked.
    """
    directory = os.path.dirname(path)
    with _explained(directory):
        os.makedirs(directory, exist_ok=True)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return locks.take(path, fd, "This graph is being ingested; try again when that has finished.")


def place(
    source: str, target: str, mode: str, tick: Callable[[], None], protection: output_paths.Protection
) -> None:
    """Bring a file to its place, where it appears complete or not at all.

    What is moved stays where it was, too, until `finish_move`, wherever the file system allows that.

    Parameters
    ----------
    source
        The file.
    target
        Where it goes; only a copy of it that is there is replaced.
    mode
        How: one of `MODES`, but not "direct".
    tick
        Called now and then; what it raises ends the work.
    protection
        What must stay as it is.

    Raises
    ------
    AggregatorError
        If it can't be done; nothing has changed then.
    """
    real = os.path.realpath(source)
    with _explained(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _remove_temporary_files(target)
        if not local_files.is_there(target) or os.path.islink(target) or not os.path.samefile(real, target):
            _check_again(real, target, protection)
            _replace(real, target, mode, tick, protection)
        _note_origin(target, os.path.abspath(source) if mode == "move" else None)


def _check_again(source: str, target: str, protection: output_paths.Protection) -> None:
    """Look again right before the graph comes to its place: somebody may have put something there."""
    output_paths.check_again(target, output_paths.Kind.GRAPH, protection)
    with errors.after_changes():
        _check_free(source, target)


def _remove_temporary_files(target: str) -> None:
    """Remove what processes left that were killed while they brought a graph to the same place."""
    for left in glob.glob(f"{glob.escape(target)}.*.tmp"):
        if durable_files.final_name(left) == target:
            os.unlink(left)


def _replace(
    source: str, target: str, mode: str, tick: Callable[[], None], protection: output_paths.Protection
) -> None:
    temporary = durable_files.temporary_name(target)
    try:
        if mode == "move":
            try:
                os.link(source, temporary)
            except OSError as exc:
                if exc.errno in _NO_LINKS:
                    # Then the file can't be in two places for a while.
                    durable_files.sync(source)
                    os.rename(source, target)
                    return
                if exc.errno != errno.EXDEV:
                    raise
                _copy(source, temporary, tick)
        else:
            _transfer(source, temporary, mode, tick)
        durable_files.sync(temporary)
        fault_points.reached("placing")
        _check_again(source, target, protection)
        os.rename(temporary, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _transfer(source: str, target: str, mode: str, tick: Callable[[], None]) -> None:
    if mode == "copy":
        _copy(source, target, tick)
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


def _copy(source: str, target: str, tick: Callable[[], None]) -> None:
    with open(source, "rb") as reader, open(target, "xb") as writer:
        while os.sendfile(writer.fileno(), reader.fileno(), None, _COPIED_AT_ONCE):
            tick()
        status = os.fstat(reader.fileno())
        os.fchmod(writer.fileno(), status.st_mode & 0o7777)
        os.utime(writer.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
        # After a loss of power, nothing half-written may have the graph's name.
        os.fsync(writer.fileno())


def make_durable(path: str, root: str) -> None:
    """Sync a file, and the directories that lead to it from the datastore's root.

    Raises
    ------
    AggregatorError
        If the file is missing, or the system reports an error.
    """
    with _explained(path):
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
    """Return where a graph was before it was moved to its place, if that is known."""
    try:
        return os.fsdecode(os.getxattr(path, _ORIGIN))
    except OSError:
        return None


def finish_move(source: str, target: str) -> bool:
    """Remove a file that was moved, if it is still there; return whether it was.

    Raises
    ------
    AggregatorError
        If it can't be removed.
    """
    real = os.path.realpath(source)
    if not local_files.exists(real) or real == os.path.realpath(target):
        return False
    with _explained(real):
        if not (os.path.samefile(real, target) or _is_copy(real, target)):
            _log.warning("%s: stays, since it is not the graph that was ingested", real)
            return False
        os.unlink(real)
        if os.path.islink(source):
            os.unlink(source)
    return True


def _is_copy(path: str, other: str) -> bool:
    try:
        with container.Container(path) as first, container.Container(other) as second:
            return first.fingerprint == second.fingerprint
    except errors.MachineError:
        # Nobody knows.
        raise
    except errors.AggregatorError:
        return False


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise errors.of_system(OSError(exc.errno, exc.strerror or str(exc), path)) from exc
