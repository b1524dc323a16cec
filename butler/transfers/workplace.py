"""Where files are made that a transfer brings: beside their places, so that a link is enough."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from typing import Final, Self

from aggregator.butler.configuration import repository_config
from aggregator.storage import durable_files, uris

_PREFIX: Final = ".aggregator-transfer-"
_LOCK: Final = "lock"
"""File in the directory that is locked as long as somebody works there."""


def is_within(path: str) -> bool:
    """Return whether a file is in such a directory, so that it will be removed soon."""
    return f"/{_PREFIX}" in path


class Workplace:
    """A directory that is there from `open` until the context ends.

    What killed transfers have left is removed by the next one.
    """

    def __init__(self) -> None:
        self._directory = ""
        self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)
            os.close(self._lock)
            self._directory = ""

    @property
    def is_open(self) -> bool:
        """Whether files can be made."""
        return bool(self._directory)

    @property
    def directory(self) -> str:
        """The directory."""
        if not self._directory:
            raise ValueError("the workplace is not open")
        return self._directory

    def open(self, config: repository_config.RepositoryConfig) -> None:
        """Make the directory.

        Parameters
        ----------
        config
            Configuration of the repository that the files go to.

        Raises
        ------
        AggregatorError
            If it can't be made.
        """
        root = config.datastores[0].root
        if uris.is_remote(root):
            self.open_temporary()
        else:
            self.open_in(root)

    def open_temporary(self) -> None:
        """Make the directory where temporary files are.

        Raises
        ------
        AggregatorError
            If it can't be made.
        """
        self.open_in(tempfile.gettempdir())

    def open_in(self, above: str) -> None:
        """Make the directory in another one.

        Parameters
        ----------
        above
            The other one, made if need be.

        Raises
        ------
        AggregatorError
            If it can't be made.
        """
        with durable_files.writing(above):
            os.makedirs(above, exist_ok=True)
            _remove_abandoned(above)
            self._directory = tempfile.mkdtemp(prefix=_PREFIX, dir=above)
            self._lock = os.open(os.path.join(self._directory, _LOCK), os.O_RDWR | os.O_CREAT | os.O_EXCL)
            with contextlib.suppress(OSError):
                # Without locks nothing is taken for abandoned.
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_abandoned(above: str) -> None:
    """Remove directories that nobody works in any more."""
    with os.scandir(above) as entries:
        left = [e.path for e in entries if e.name.startswith(_PREFIX) and e.is_dir(follow_symlinks=False)]
    for path in left:
        try:
            lock = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            # Somebody else's, or just being made.
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        else:
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)
