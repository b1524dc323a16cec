"""Reads and looks for the files that execution leaves, at their predicted places."""

import dataclasses
import os
import stat

from aggregator.butler.datastores import catalog, datastore
from aggregator.schemas.graphs import predicted
from aggregator.storage import local_files

Fingerprint = tuple[str, int, int, int]
"""Store and path, size (-1 if missing), modification time in ns (of 64 bits), inode."""

_MISSING = (-1, 0, 0)
_UNKNOWN = (0, 0, 0)

_HALF = 1 << 63


class UnreadableError(Exception):
    """A file exists and can't be read, parsed or validated.

    Parameters
    ----------
    path
        The file.
    reason
        What is wrong with it.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


Place = tuple[datastore.PlannedFile, str]
"""A file of a dataset, and its path below its store's root."""


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A file that was looked for."""

    path: str
    """Where it is, or would be."""

    data: bytes | None
    """Its content; nothing if it does not exist."""


class ExecutionFiles:
    """Finds files of a repository.

    Parameters
    ----------
    types
        Knows where datasets lie.
    """

    def __init__(self, types: catalog.Catalog) -> None:
        self._types = types
        self._roots = [child.root for child in types.store.stores]
        self._places: dict[str, list[Place]] = {}
        self.looked: list[Fingerprint] = []
        """What was looked at; the caller takes the fingerprints out."""

    def take_looked(self) -> list[Fingerprint]:
        """Return the fingerprints since the last call."""
        looked, self.looked = self.looked, []
        return looked

    def places(self, dataset: predicted.Dataset, values: catalog.Values) -> list[Place]:
        """Return where the files of a dataset are, or would be."""
        found = self._places.get(dataset.dataset_id)
        if found is None:
            plan = self._types.plan(self._types.entry(dataset), values)
            found = [(f, f.path(values, dataset.run, dataset.dataset_id)) for f in plan.files]
            self._places[dataset.dataset_id] = found
        return found

    def forget(self) -> None:
        """Forget places that were worked out; to be called between shards."""
        self._places.clear()

    def read(self, dataset: predicted.Dataset, values: catalog.Values) -> Found:
        """Return the content of a dataset's file, from the first store that has it.

        Raises
        ------
        UnreadableError
            If it exists and can't be read.
        MachineError
            If the machine is in trouble.
        """
        path = ""
        for file, relative in self.places(dataset, values):
            path = f"{self._roots[file.store]}/{relative}"
            data = self._read(path, f"{file.store}:{relative}")
            if data is not None:
                return Found(path, data)
        return Found(path, None)

    def _read(self, path: str, name: str) -> bytes | None:
        try:
            fd, status = local_files.open_with_status(path)
        except (FileNotFoundError, NotADirectoryError):
            self.looked.append((name, *_MISSING))
            return None
        except local_files.UnusableError as exc:
            self.looked.append((name, *_UNKNOWN))
            raise UnreadableError(path, str(exc)) from exc
        try:
            self.looked.append((name, *_numbers(status)))
            return local_files.read_all(fd, status.st_size, path)
        except local_files.UnusableError as exc:
            raise UnreadableError(path, str(exc)) from exc
        finally:
            os.close(fd)

    def fingerprint(self, name: str) -> Fingerprint:
        """Return the fingerprint of a file as it is now, given the name in an earlier fingerprint.

        Raises
        ------
        MachineError
            If the machine is in trouble.
        """
        store, _, relative = name.partition(":")
        try:
            status = local_files.status(os.path.join(self._roots[int(store)], relative))
        except local_files.UnusableError:
            return (name, *_UNKNOWN)
        return (name, *(_MISSING if status is None else _numbers(status)))

    def exists(self, dataset: predicted.Dataset, values: catalog.Values) -> bool:
        """Return whether any file of a dataset exists (execution-files.md section 4.4).

        Raises
        ------
        UnreadableError
            If that can't be found out.
        MachineError
            If the machine is in trouble.
        """
        for file, relative in self.places(dataset, values):
            path = f"{self._roots[file.store]}/{relative}"
            name = f"{file.store}:{relative}"
            try:
                status = local_files.status(path)
                if status is not None and not stat.S_ISDIR(status.st_mode):
                    local_files.check_regular(status)
            except local_files.UnusableError as exc:
                self.looked.append((name, *_UNKNOWN))
                raise UnreadableError(path, str(exc)) from exc
            if status is not None:
                self.looked.append((name, *_numbers(status)))
                return True
            self.looked.append((name, *_MISSING))
        return False


def _numbers(status: os.stat_result) -> tuple[int, int, int]:
    """Return size, time and inode as a digest has room for them: times far off wrap around."""
    time = status.st_mtime_ns
    if not -_HALF <= time < _HALF:
        time = (time + _HALF) % (2 * _HALF) - _HALF
    return status.st_size, time, status.st_ino
