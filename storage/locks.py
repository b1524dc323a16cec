"""Locks of files and directories; where the file system has none, a lease stands in (docs/design.md)."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import time
from typing import Self

import msgspec
from aggregator.storage import durable_files, errors, leases, machine_trouble, mounts

_log = logging.getLogger(__name__)

_MISSING = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)
"""Errors of file systems that have no locks, or none for directories or for files opened for reading."""

_PATIENCE = 0.5
"""Seconds to wait for a lock: who only looks whether it is held has it for a moment."""


class Ownership(msgspec.Struct, frozen=True):
    """What a process needs to see whether what was locked is still in its place, and still its own."""

    path: str
    """The file that was locked."""
    device: int
    inode: int
    """Which file that is."""
    claim: leases.Claim | None
    """What shows whether a lease is still held, if there is one."""


class Lock:
    """A lock that this process holds; a context manager that releases it.

    Parameters
    ----------
    fd
        What is locked, open; closed when the lock is released.
    lease
        What protects it instead of a lock, if anything does.
    """

    def __init__(self, fd: int, lease: leases.Lease | None) -> None:
        self.fd = fd
        self._lease = lease
        self._has_name = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    @property
    def descriptor(self) -> int:
        """Descriptor that keeps the lock held as long as any process has it."""
        return self.fd if self._lease is None else self._lease.descriptor

    @property
    def claim(self) -> leases.Claim | None:
        """What shows whether it is still held; nothing for a lock, which can't be lost."""
        return None if self._lease is None else self._lease.claim

    def ownership(self, path: str) -> Ownership:
        """Return what shows whether what is locked is still at a path, and still ours."""
        status = os.fstat(self.fd)
        return Ownership(path, status.st_dev, status.st_ino, self.claim)

    def sign(self) -> None:
        """Write who holds it into the file, if that can be written."""
        text = msgspec.json.encode(leases.this_process())
        with contextlib.suppress(OSError):
            os.ftruncate(self.fd, os.pwrite(self.fd, text, 0))
            self._has_name = True

    def remove(self, path: str) -> None:
        """Remove the file that is locked, unless others share its lock; only to be released after that.

        Whoever locks such a file has to see whether it still has its name then.
        """
        if self._lease is None:
            with contextlib.suppress(OSError):
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.stat(path), os.fstat(self.fd)):
                    os.unlink(path)

    def release(self) -> None:
        """Give it back."""
        if self._has_name and self._lease is None:
            # The next one may not be able to write its own.
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, 0)
        if self._lease is not None:
            self._lease.release()
        os.close(self.fd)


def take(path: str, fd: int, advice: str, *, shared: bool = False) -> Lock:
    """Lock an open file or directory.

    Parameters
    ----------
    path, fd
        What is locked. If that fails, it is closed.
    advice
        What to do if another process has it, for the message.
    shared
        Whether others may have it, too, that share it.

    Raises
    ------
    InUseError
        If another process has it.
    FileNotFoundError
        If it is gone, and needs a lease.
    AggregatorError
        If it can't be locked.
    """
    try:
        lease = _lease(path, advice, shared=shared) if not _lock(path, fd, advice, shared=shared) else None
        return Lock(fd, lease)
    except BaseException:
        os.close(fd)
        raise


def check(ownership: Ownership) -> None:
    """Make sure that what was locked is where it was, and nobody else's.

    Raises
    ------
    AggregatorError
        If it was moved or removed, or its lease taken over.
    """
    try:
        status = os.stat(ownership.path)
        is_there = (status.st_dev, status.st_ino) == (ownership.device, ownership.inode)
    except FileNotFoundError:
        is_there = False
    except OSError as exc:
        raise errors.MachineError(ownership.path, exc.strerror or str(exc)) from exc
    # Whoever takes a lease over leaves the file, or removes it when all is done.
    leases.check(ownership.claim)
    if not is_there:
        raise errors.AggregatorError(
            f"{ownership.path}: was moved or removed while this process worked with it; what is there now "
            "is left alone. Bring it back or do without, and run the same command again."
        )


def _lock(path: str, fd: int, advice: str, *, shared: bool) -> bool:
    """Lock what is open; return False if its file system has no locks."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            if mounts.has_local_locks(path):
                return _without_locks(path, "as it is mounted, other hosts do not see them")
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise errors.InUseError(f"{path}: in use by {_recorded(fd)}. {advice}") from None
            time.sleep(0.02)
        except OSError as exc:
            if exc.errno in _MISSING:
                return _without_locks(path, exc.strerror or str(exc))
            raise errors.AggregatorError(
                f"{path}: can't lock it ({exc.strerror}). Mend that, and run the same command again."
            ) from exc
    # A host that has no locks there may hold a lease.
    if who := leases.holder(path, shared=not shared):
        raise errors.InUseError(f"{path}: in use by {who}. {advice}")
    return True


def _without_locks(path: str, reason: str) -> bool:
    _log.warning(
        "%s: its file system has no locks (%s). Instead, a lease file beside it keeps other processes away; "
        "it is renewed every %g s.",
        path,
        reason,
        leases.RENEWAL_SECONDS,
    )
    return False


def _lease(path: str, advice: str, *, shared: bool) -> leases.Lease:
    try:
        return leases.take_shared(path, advice) if shared else leases.take(path, advice)
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise errors.AggregatorError(
            f"{path}: can't write a lease beside it ({exc.strerror}). Mend that, and run the same command "
            "again."
        ) from exc


def has_record_locks(directory: str) -> bool:
    """Return whether parts of files can be locked, for all hosts; True if that can't be tried there."""
    if mounts.has_local_record_locks(directory):
        return False
    # Not in a file of somebody: closing it would give back all the locks that this process has on it.
    path = durable_files.temporary_name(os.path.join(directory, "lock"))
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError:
        return True
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        return exc.errno not in _MISSING
    finally:
        os.close(fd)
        os.unlink(path)
    return True


def holder(path: str, *, shared: bool = False) -> str:
    """Return who holds the lock of a file or directory; empty if nobody does. Nothing is changed.

    Parameters
    ----------
    path
        The file or directory.
    shared
        Whether those count, too, who share the lock of a file.

    Raises
    ------
    MachineError
        If the machine is in trouble.
    """
    if who := leases.holder(path, shared=shared):
        return who
    try:
        # Some file systems let only those lock a file alone who may write it.
        access = os.O_RDWR if shared else os.O_RDONLY
        fd = machine_trouble.attempt(path, os.open, path, access | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if shared else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return _recorded(fd)
    except OSError:
        return ""
    finally:
        os.close(fd)
    return ""


def _recorded(fd: int) -> str:
    """Return who has written into a file that it holds it."""
    try:
        return msgspec.json.decode(os.pread(fd, 4096, 0), type=leases.Holder).text
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return "another process"
