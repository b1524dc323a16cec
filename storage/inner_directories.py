"""Directories below a root, and whether they really are: a link may lead out of it."""

from __future__ import annotations

import os
from typing import Final

from aggregator.storage import errors

_REMEMBERED: Final = 10_000
"""Directories that were looked at, at most: there may be millions, which come one after the other."""


class InnerDirectories:
    """Looks at directories, mostly at each once."""

    def __init__(self) -> None:
        self._inside: set[str] = set()

    def check(self, directory: str, root: str) -> None:
        """Refuse a directory that leads out of a root over a link, whether or not it is there.

        Parameters
        ----------
        directory
            The directory, by a path that begins with the root.
        root
            The root of a datastore.

        Raises
        ------
        RefusedError
            If it does.
        """
        if directory in self._inside or directory == root:
            return
        self.check(directory.rpartition("/")[0], root)
        if os.path.islink(directory):
            inside = os.path.realpath(root)
            if os.path.commonpath([inside, os.path.realpath(directory)]) != inside:
                raise errors.RefusedError(
                    f"{directory}: is a link that leads out of the datastore. Remove it."
                )
        if len(self._inside) >= _REMEMBERED:
            self._inside.clear()
        self._inside.add(directory)
