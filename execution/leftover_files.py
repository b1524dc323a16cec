"""Temporary files of attempts that were killed while they wrote an output."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from aggregator.butler import artifacts
from aggregator.storage import durable_files, uris

_MOST_DIRECTORIES = 10_000
"""Directories that are remembered at most; with more, they are listed again."""


class LeftoverFiles:
    """Temporary files that were there when this process came to their directory for the first time.

    Those that it makes itself later, it renames or removes itself. So each directory is listed once, when
    there is hardly anything in it if the run is new.
    """

    def __init__(self) -> None:
        self._names: dict[str, dict[str, list[str]]] = {}

    def remove(self, files: Iterable[artifacts.Artifact]) -> None:
        """Remove what is left of attempts to write some files, which nobody else writes now."""
        for file in files:
            path = file.store.location(file.key)
            if uris.is_remote(path):
                # A store of objects has none.
                continue
            directory, name = os.path.split(path)
            for each in self._of(directory).pop(name, ()):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(directory, each))

    def _of(self, directory: str) -> dict[str, list[str]]:
        """Return the temporary files in a directory by the name that each was to get."""
        if directory not in self._names:
            if len(self._names) >= _MOST_DIRECTORIES:
                self._names.clear()
            found: dict[str, list[str]] = {}
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                for each in os.listdir(directory):
                    name = durable_files.final_name(each)
                    if name != each:
                        found.setdefault(name, []).append(each)
            self._names[directory] = found
        return self._names[directory]
