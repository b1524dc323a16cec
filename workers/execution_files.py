"""Reads and looks for the files that execution leaves, at their predicted places."""

import dataclasses
import os

from butler import datastore
from schemas import predicted
from workers import catalog

Fingerprint = tuple[str, int, int, int]
"""Store and path, size (-1 if missing), modification time in ns, inode."""


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
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self.looked.append((name, -1, 0, 0))
            return None
        except OSError as exc:
            self.looked.append((name, 0, 0, 0))
            raise UnreadableError(path, f"can't open it ({exc.strerror})") from exc
        try:
            status = os.fstat(fd)
            self.looked.append((name, status.st_size, status.st_mtime_ns, status.st_ino))
            data = os.read(fd, status.st_size + 1)
            if len(data) != status.st_size:
                with os.fdopen(os.dup(fd), "rb") as stream:
                    stream.seek(0)
                    data = stream.read()
        except OSError as exc:
            raise UnreadableError(path, f"can't read it ({exc.strerror})") from exc
        finally:
            os.close(fd)
        return data

    def fingerprint(self, name: str) -> Fingerprint:
        """Return the fingerprint of a file as it is now, given the name in an earlier fingerprint."""
        store, _, relative = name.partition(":")
        try:
            status = os.stat(os.path.join(self._roots[int(store)], relative))
        except (FileNotFoundError, NotADirectoryError):
            return (name, -1, 0, 0)
        except OSError:
            return (name, 0, 0, 0)
        return (name, status.st_size, status.st_mtime_ns, status.st_ino)

    def exists(self, dataset: predicted.Dataset, values: catalog.Values) -> bool:
        """Return whether any file of a dataset exists (execution-files.md section 4.4).

        Raises
        ------
        UnreadableError
            If that can't be found out.
        """
        for file, relative in self.places(dataset, values):
            path = f"{self._roots[file.store]}/{relative}"
            name = f"{file.store}:{relative}"
            try:
                status = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                self.looked.append((name, -1, 0, 0))
                continue
            except OSError as exc:
                self.looked.append((name, 0, 0, 0))
                raise UnreadableError(path, f"can't look at it ({exc.strerror})") from exc
            self.looked.append((name, status.st_size, status.st_mtime_ns, status.st_ino))
            return True
        return False
