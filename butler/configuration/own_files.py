"""Files of a repository that are its own, and no dataset's, whatever records say: configuration, database."""

from __future__ import annotations

import os
from typing import Final

from aggregator.butler.configuration import repository_config, sqlite_urls, yaml_files
from aggregator.storage import uris

_BESIDE: Final = ("", "-journal", "-wal", "-shm")
"""Ends of the names of a SQLite database's files."""


def described(config: repository_config.RepositoryConfig) -> dict[str, str]:
    """Return what the files are, by path; they need not exist."""
    files = {
        config.path: "the configuration of the repository",
        os.path.join(config.root, yaml_files.REPOSITORY): "the configuration of the repository",
    }
    if database := sqlite_urls.path(config.database):
        files |= {f"{database}{end}": "the database of the repository" for end in _BESIDE}
    return files


class OwnFiles:
    """Knows the files of one repository, whatever directories lead to them.

    Parameters
    ----------
    config
        Configuration of the repository.
    """

    def __init__(self, config: repository_config.RepositoryConfig) -> None:
        paths = described(config)
        self._places = {*paths, *(_place(path) for path in paths if not uris.is_remote(path))}
        self._names = {os.path.basename(path) for path in self._places}

    def __contains__(self, location: str) -> bool:
        """Return whether an absolute path, or a URI, is one of them."""
        return location in self._places or (not uris.is_remote(location) and _place(location) in self._places)

    def may_have(self, path: str) -> bool:
        """Return whether a path may be that of one, by its name alone: there may be millions to look at."""
        return path.rpartition("/")[2] in self._names


def _place(path: str) -> str:
    """Return where a file is itself, and not what it may link to."""
    directory, name = os.path.split(path)
    return os.path.join(os.path.realpath(directory), name)
