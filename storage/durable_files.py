"""Durable files: written aside, synced, renamed."""

import contextlib
import ctypes
import errno
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator

from aggregator.storage import errors, fault_points

NO_LINKS = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""Errors of file systems that have no hard links, or not for this file."""


def read_range(fd: int, offset: int, size: int) -> bytes:
    """Return bytes of an open file; fewer if it ends before."""
    data = os.pread(fd, size, offset)
    if len(data) < size:
        pieces = [data]
        while (left := size - sum(map(len, pieces))) and pieces[-1]:
            pieces.append(os.pread(fd, left, offset + size - left))
        data = b"".join(pieces)
    return data


def sync(path: str) -> None:
    """Make the content of a file durable."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_directory(path: str) -> None:
    """Make renames in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_TOKEN_SIZE = 6
_TEMPORARY = re.compile(rf"\.[0-9a-f]{{{2 * _TOKEN_SIZE}}}\.(?:tmp|partial|pending)$")
_SHORTEST_LIMIT = 143
"""Bytes that a name may have on every file system that is in use."""


def sync_file_system(path: str) -> None:
    """Make all durable that was written to the file system of a directory, by whomever.

    Raises
    ------
    OSError
        If the system reports an error.
    AttributeError
        If it can't do that.
    """
    library = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if library.syncfs(fd):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    finally:
        os.close(fd)


def temporary_name(path: str, ending: str = "tmp") -> str:
    """Return a name under which a file is written before it is renamed: no other process has the same.

    Parameters
    ----------
    path
        The file; its name may be as long as the file system allows.
    ending
        How the name ends: "tmp", "partial" or "pending".
    """
    directory, name = os.path.split(path)
    tail = f".{secrets.token_hex(_TOKEN_SIZE)}.{ending}"
    encoded = os.fsencode(name)
    if len(encoded) + len(tail) > _SHORTEST_LIMIT:
        with contextlib.suppress(OSError):
            encoded = encoded[: os.pathconf(directory or ".", "PC_NAME_MAX") - len(tail)]
    return os.path.join(directory, os.fsdecode(encoded) + tail)


def final_name(name: str) -> str:
    """Return the name that a file gets in the end whose temporary name this is; any other as it is."""
    return _TEMPORARY.sub("", name)


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
    """Turn errors of writing a file into one that says which, and what to do.

    Raises
    ------
    AggregatorError
        If the file can't be written.
    """
    try:
        yield
    except OSError as exc:
        raise errors.AggregatorError(
            f"{path}: can't write it ({exc.strerror}). Make room there, or mend what is wrong, and run the "
            "same command again."
        ) from exc


def write_atomically(
    path: str,
    pieces: Iterable[bytes | memoryview],
    look: Callable[[], object] | None = None,
    *,
    sync: bool = True,
) -> None:
    """Write a file so that it appears complete and synced, or not at all.

    If the machine loses power right after, the rename may be lost; for parts of a checkpoint that costs a
    scan, and syncing the directory as well would double the waiting.

    Parameters
    ----------
    path
        The file.
    pieces
        Its content.
    look
        Called right before it gets its name; what it raises prevents that.
    sync
        Whether it has to survive a loss of power; what is replaced every few seconds has not.

    Raises
    ------
    AggregatorError
        If it can't be written; nothing is left behind then.
    """
    temporary = temporary_name(path)
    with writing(path):
        stream = open(temporary, "xb")  # noqa: SIM115  (what could not be made must not be removed)
    try:
        with writing(path), stream:
            for piece in pieces:
                stream.write(piece)
            stream.flush()
            if sync:
                os.fsync(stream.fileno())
        fault_points.reached(f"rename{os.path.splitext(path)[1]}")
        if look is not None:
            look()
        with writing(path):
            os.rename(temporary, path)
    except BaseException:
        # What can't be removed either must not hide what went wrong.
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def publish(temporary: str, path: str) -> None:
    """Give a complete file its name: sync it, rename it, make that durable."""
    sync(temporary)
    os.rename(temporary, path)
    sync_directory(os.path.dirname(path) or ".")


def rename_new(temporary: str, path: str) -> None:
    """Give a file its name, unless something has that.

    Raises
    ------
    FileExistsError
        If so.
    """
    try:
        os.link(temporary, path)
    except OSError as exc:
        if exc.errno not in NO_LINKS:
            raise
        # Whoever makes the name has it; an empty file stays if this process is killed right here.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        os.rename(temporary, path)
    else:
        os.unlink(temporary)
