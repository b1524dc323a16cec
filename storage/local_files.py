"""Files that others make: opened without hanging, and told apart from trouble of the machine.

A path that somebody gives, or that a repository's templates make, can lead anywhere: to a pipe that nobody
writes to, through a link to a file system that is not mounted, over a server that has just been restarted.
Everything here says one of four things: here is the file; it is certainly not there; it is there and no use
(`UnusableError`); or nobody knows (`errors.MachineError`).
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from aggregator.storage import errors, machine_trouble

_PIECE = 1 << 23
"""Bytes of a large file that are in memory at a time."""

_TO_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a link",
}


class UnusableError(Exception):
    """There is something at a path that is no readable file; says what."""


def reason(exc: OSError | UnusableError) -> str:
    """Return what is wrong, without the path."""
    return exc.strerror or str(exc) if isinstance(exc, OSError) else str(exc)


def named(path: str) -> str:
    """Return a path, if it can be stored in graphs, databases and checkpoints.

    Raises
    ------
    RefusedError
        If it, or the working directory that it starts from, is no Unicode text.
    """
    whole = path
    if not os.path.isabs(path):
        with contextlib.suppress(OSError):
            whole = os.path.join(os.getcwd(), path)
    try:
        whole.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(whole).decode("ascii", "backslashreplace")
        raise errors.RefusedError(
            f"{shown}: a path that is not UTF-8 can't be stored; rename it, or give a link to it."
        ) from None
    return path


def open_file(path: str) -> int:
    """Return a descriptor of a regular file, open for reading; never waits for what is none.

    Raises
    ------
    FileNotFoundError
        If it is certainly not there.
    UnusableError
        If something else is there, or it can't be opened.
    MachineError
        If the machine is in trouble.
    """
    return open_with_status(path)[0]


def open_with_status(path: str) -> tuple[int, os.stat_result]:
    """Return what `open_file` returns, and the status of what was opened."""
    try:
        fd = machine_trouble.attempt(path, os.open, path, _TO_READ)
    except (FileNotFoundError, NotADirectoryError):
        check_missing(path)
        raise
    except OSError as exc:
        _check_way(path, exc)
        raise UnusableError(f"can't open it ({exc.strerror})") from exc
    try:
        status = machine_trouble.attempt(path, os.fstat, fd)
        check_regular(status)
    except BaseException:
        os.close(fd)
        raise
    return fd, status


def check_regular(status: os.stat_result) -> None:
    """Raise UnusableError if something is no regular file."""
    if not stat.S_ISREG(status.st_mode):
        raise UnusableError(f"is {kind(status)}")


def kind(status: os.stat_result) -> str:
    """Return what something is that is no regular file, for people."""
    return _KINDS.get(stat.S_IFMT(status.st_mode), "no file")


def read(path: str) -> bytes:
    """Return the content of a regular file.

    Raises
    ------
    FileNotFoundError, UnusableError, MachineError
        As for `open_file`.
    """
    fd, status = open_with_status(path)
    try:
        return read_all(fd, status.st_size, path)
    finally:
        os.close(fd)


def read_part(path: str) -> bytes:
    """Return the content of a file without which nothing can be done with what it is a part of.

    Raises
    ------
    FormatError
        If it is missing, or can't be read.
    MachineError
        If the machine is in trouble.
    """
    try:
        return read(path)
    except OSError as exc:
        raise errors.FormatError(path, "", f"can't read it ({exc.strerror})") from exc
    except UnusableError as exc:
        raise errors.FormatError(path, "", f"can't read it: {exc}") from exc


def read_pieces(path: str) -> Iterator[bytes]:
    """Yield the content of such a file in pieces of some megabytes; errors are those of `read_part`."""
    try:
        with os.fdopen(open_file(path), "rb") as stream:
            while piece := machine_trouble.watched(path, stream.read, _PIECE):
                yield piece
    except OSError as exc:
        raise errors.FormatError(path, "", f"can't read it ({exc.strerror})") from exc
    except UnusableError as exc:
        raise errors.FormatError(path, "", f"can't read it: {exc}") from exc


def read_all(fd: int, size: int, path: str) -> bytes:
    """Return the content of an open file from its beginning, whatever became of its size meanwhile.

    Raises
    ------
    UnusableError
        If it can't be read.
    MachineError
        If the machine is in trouble.
    """
    try:
        data = machine_trouble.attempt(path, os.pread, fd, size + 1, 0)
        return data if len(data) == size else machine_trouble.attempt(path, _read_changed, fd)
    except OSError as exc:
        raise UnusableError(f"can't read it ({exc.strerror})") from exc


def _read_changed(fd: int) -> bytes:
    with os.fdopen(os.dup(fd), "rb") as stream:
        stream.seek(0)
        return stream.read()


def status(path: str, ways: set[str] | None = None) -> os.stat_result | None:
    """Return the status of what is at a path, links followed; nothing if there is certainly nothing.

    Parameters
    ----------
    path
        The path.
    ways
        Directories of which others that share this set have seen that what can't be found below them is
        missing; those that this look sees are added.

    Raises
    ------
    UnusableError
        If it can't be looked at.
    MachineError
        If the machine is in trouble.
    """
    try:
        # Mostly there is no link, and then the first look tells all.
        found = machine_trouble.attempt(path, os.lstat, path)
        is_link = stat.S_ISLNK(found.st_mode)
    except (FileNotFoundError, NotADirectoryError):
        _check_missing(path, os.path.dirname(path), set() if ways is None else ways)
        return None
    except OSError as exc:
        _check_way(path, exc)
        raise UnusableError(f"can't look at it ({exc.strerror})") from exc
    return _status_of_target(path) if is_link else found


def _status_of_target(path: str) -> os.stat_result | None:
    try:
        return machine_trouble.attempt(path, os.stat, path)
    except (FileNotFoundError, NotADirectoryError):
        check_missing(path)
        return None
    except OSError as exc:
        _check_way(path, exc)
        raise UnusableError(f"can't look at it ({exc.strerror})") from exc


def _check_way(path: str, exc: OSError) -> None:
    """Raise MachineError if not the file refuses access, but the way to it.

    Then nobody knows whether there is a file. An expired ticket of a network file system looks like that.
    """
    if exc.errno not in (errno.EACCES, errno.EPERM):
        return
    try:
        machine_trouble.attempt(path, os.lstat, path)
    except (PermissionError, FileNotFoundError) as again:
        raise errors.MachineError(path, f"can't look there ({exc.strerror})") from again


def exists(path: str) -> bool:
    """Return whether there is anything at a path; unlike `os.path.exists`, only if that is certain.

    Raises
    ------
    AggregatorError
        If it can't be found out.
    """
    try:
        return status(path) is not None
    except UnusableError as exc:
        raise errors.AggregatorError(f"{path}: {exc}. Mend that, and run the same command again.") from exc


def is_there(path: str) -> bool:
    """Return whether there is anything at the end of a path; where links lead nowhere, there is nothing.

    Raises
    ------
    MachineError
        If the machine is in trouble.
    """
    try:
        return status(path) is not None
    except UnusableError:
        return False


def is_directory(path: str) -> bool:
    """Return whether a path leads to a directory.

    Raises
    ------
    MachineError
        If the machine is in trouble.
    """
    try:
        return stat.S_ISDIR(machine_trouble.attempt(path, os.stat, path).st_mode)
    except OSError:
        return False


def is_writeable(directory: str) -> bool:
    """Return whether files can be made in a directory.

    Raises
    ------
    MachineError
        If the machine is in trouble.
    """
    if os.access(directory, os.W_OK | os.X_OK):
        return True
    # That was for any reason; what can't be reached at the moment can't be opened either.
    try:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        os.close(machine_trouble.attempt(directory, os.open, directory, flags))
    except OSError:
        return False
    return os.access(directory, os.W_OK | os.X_OK)


def is_taken(path: str) -> bool:
    """Return whether there is something at a path, be it a link that leads nowhere.

    Raises
    ------
    MachineError
        If the machine is in trouble.
    """
    try:
        machine_trouble.attempt(path, os.lstat, path)
    except OSError:
        return False
    return True


def check_missing(path: str) -> None:
    """Make sure that a path, which could not be found, does not end at a link that leads nowhere.

    Raises
    ------
    UnusableError
        If it does, or if a directory on the way is none.
    MachineError
        If the machine is in trouble.
    """
    _check_missing(path, path, set())


def _check_missing(path: str, begin: str, ways: set[str]) -> None:
    """Do the same, given the first of the path and the directories above it that was not looked at yet."""
    passed = []
    place: str | None = begin
    while place is not None and place not in ways:
        try:
            mode = machine_trouble.attempt(place, os.lstat, place).st_mode
        except (FileNotFoundError, NotADirectoryError):
            passed.append(place)
            above = os.path.dirname(place)
            place = None if above in (place, "") else above
        except OSError as exc:
            _check_way(place, exc)
            raise UnusableError(f"can't look at {place} ({exc.strerror})") from exc
        else:
            _check_end(path, place, mode)
            passed.append(place)
            break
    ways.update(passed)


def _check_end(path: str, place: str, mode: int) -> None:
    """Make sure that what is there of a path is a directory, or the file that has come to be there."""
    if stat.S_ISLNK(mode):
        if _leads_somewhere(place, place != path):
            return
        which = "is" if place == path else f"{place} is"
        raise UnusableError(f"{which} a link to {os.readlink(place)}, which is not there")
    if place != path and not stat.S_ISDIR(mode):
        raise UnusableError(f"{place} is no directory")


def _leads_somewhere(link: str, directory: bool) -> bool:
    try:
        mode = machine_trouble.attempt(link, os.stat, link).st_mode
    except OSError:
        return False
    return stat.S_ISDIR(mode) or not directory
