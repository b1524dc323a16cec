"""Directories below a root, and whether they really are: a link may lead out of it."""

from __future__ import annotations

import os

from aggregator.storage import errors


class InnerDirectories:
    """Looks at directories, at each once."""

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
        self._inside.add(directory)
