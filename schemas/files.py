"""Durable files: written aside, synced, renamed."""

import os
from collections.abc import Iterable

from schemas import fault_points


def read_range(fd: int, offset: int, size: int) -> bytes:
    """Return bytes of an open file; fewer if it ends before."""
    data = os.pread(fd, size, offset)
    if len(data) < size:
        pieces = [data]
        while (left := size - sum(map(len, pieces))) and pieces[-1]:
            pieces.append(os.pread(fd, left, offset + size - left))
        data = b"".join(pieces)
    return data


def sync_directory(path: str) -> None:
    """Make renames in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def temporary_name(path: str) -> str:
    """Return the name under which a file is written before it is renamed."""
    return f"{path}.{os.getpid()}.tmp"


def write_atomically(path: str, pieces: Iterable[bytes]) -> None:
    """Write a file so that it appears complete and synced, or not at all.

    Raises
    ------
    OSError
        If it can't be written; nothing is left behind then.
    """
    temporary = temporary_name(path)
    try:
        with open(temporary, "wb") as stream:
            for piece in pieces:
                stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())
        fault_points.reached(f"rename{os.path.splitext(path)[1]}")
        os.rename(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    sync_directory(os.path.dirname(path) or ".")


def publish(temporary: str, path: str) -> None:
    """Give a complete file its name: sync it, rename it, make that durable."""
    fd = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, path)
    sync_directory(os.path.dirname(path) or ".")
