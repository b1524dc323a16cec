"""Keeps writers of a SQLite file apart where its file system has no locks (docs/design.md, Locks)."""

from __future__ import annotations

import logging
import os
from typing import Final

from aggregator.storage import durable_files, errors, leases, locks

_log = logging.getLogger(__name__)

_held: Final[dict[str, tuple[leases.Lease, int]]] = {}
"""Leases of this process by file, and how many hold each."""

_ADVICE: Final = "Try again when it has finished."


class Protection:
    """What protects a file; the file's own locks, wherever they work.

    Parameters
    ----------
    path
        The file, which need not exist.
    writeable
        Whether it is going to be written.

    Raises
    ------
    InUseError
        If another process holds a lease and this one wants to write.
    AggregatorError
        If a lease is needed and can't be written.
    """

    def __init__(self, path: str, *, writeable: bool) -> None:
        self._path = os.path.realpath(path)
        self.has_locks = locks.has_record_locks(os.path.dirname(self._path))
        """Whether the file's own locks work."""
        self._lease: leases.Lease | None = None
        if not self.has_locks:
            self._take() if writeable else self._tell()
        elif writeable and (who := leases.holder(self._path)):
            # A host that has no locks there.
            raise errors.InUseError(f"{self._path}: in use by {who}. {_ADVICE}")

    def _take(self) -> None:
        lease, n_holders = _held.get(self._path, (None, 0))
        if lease is None:
            with durable_files.writing(self._path):
                lease = leases.take(self._path, _ADVICE)
            _log.warning(
                "%s: its file system has no locks. Instead, a lease file beside it keeps other processes "
                "of this program away from writing, and nobody else.",
                self._path,
            )
        self._lease = lease
        _held[self._path] = lease, n_holders + 1

    def _tell(self) -> None:
        if self._path not in _held and (who := leases.holder(self._path)):
            _log.warning(
                "%s: its file system has no locks, and it is being written by %s. What is read may be half "
                "of what is being changed; if that shows, try again.",
                self._path,
                who,
            )

    def check(self) -> None:
        """Make sure that a lease is still held, if there has to be one.

        Raises
        ------
        AggregatorError
            If somebody has taken it over.
        """
        if self._lease is not None:
            leases.check(self._lease.claim)

    def release(self) -> None:
        """Give it back; can be repeated."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        n_holders = _held.pop(self._path)[1] - 1
        if n_holders:
            _held[self._path] = lease, n_holders
        else:
            lease.release()
