"""Storages that are files (stages.md section 6)."""

from __future__ import annotations

import abc
import functools
import os
import re
import stat
from typing import Any, ClassVar, Final

from aggregator.butler.formatting import file_formats, pickles
from aggregator.schemas import item_archives, item_documents, output_kinds, output_paths
from aggregator.stages.policies import paf
from aggregator.stages.policies import policy as policy_module
from aggregator.stages.storages import content as content_module
from aggregator.storage import errors, local_files, opening, pending_files, uris

_NUMBER: Final = re.compile(r"(.+)#(\d+)\Z", re.DOTALL)
"""Location of a FITS file with the number of a unit."""

_PAF_HEAD: Final = b"#<?cfg paf policy ?>\n"


class FileStorage(content_module.ContentStorage):
    """A file, which appears complete when it is committed.

    Parameters
    ----------
    name
        Name of the storage.
    location
        Path of the file; a URI can be read only.
    settings
        ``overwrite``: whether a file is replaced that is there.
    protection
        What must not be written.
    visited
        Directories in which nothing is left of killed processes; this one's is added when it is written.
    writes
        Whether something is written.
    keeps
        Whether a file that is there stays, in place of an error, unless it is to be overwritten.

    Raises
    ------
    RefusedError
        If the file can't be written.
    """

    def __init__(
        self,
        name: str,
        location: str,
        settings: policy_module.Policy,
        protection: output_paths.Protection,
        visited: set[str],
        *,
        writes: bool,
        keeps: bool = False,
    ) -> None:
        super().__init__(name, location)
        self._overwrites = settings.get("overwrite", False)
        self._keeps = keeps and not self._overwrites
        self._protection = protection
        self._visited = visited
        self._file: pending_files.PendingFile | None = None
        is_uri = bool(uris.scheme(location))
        if writes and is_uri:
            raise errors.RefusedError(
                f"{location}: files are written by a path only; write it here, and copy it."
            )
        self.path = location if is_uri else uris.absolute(location)

    def start(self) -> None:
        """Do nothing: `put` is the first that can be wrong."""

    def put(self, content: Any, type_name: str) -> None:
        """Write the file beside its place, unless one stays that is there."""
        if self._keeps and self.is_there():
            return
        data = self._explained(functools.partial(self._encode, content, type_name), "can't be written")
        if not self._keeps:
            self._check()
        directory = os.path.dirname(self.path)
        if directory not in self._visited:
            self._visited.add(directory)
            pending_files.remove_abandoned(directory)
        self._file = pending_files.PendingFile(self.path, replaces=self._overwrites, look=self._check)
        self._file.write([data])

    def get(self, request: Any = None) -> Any:
        """Return the content of the file."""
        try:
            data = opening.read(self.path)
        except FileNotFoundError:
            raise errors.RefusedError(f"{self.path}: there is no such file.") from None
        except local_files.UnusableError as exc:
            raise errors.RefusedError(f"{self.path}: can't be read ({local_files.reason(exc)}).") from exc
        return self._explained(functools.partial(self._decode, data), "can't be read")

    def commit(self) -> None:
        """Give the file its name."""
        if self._file is None:
            return
        try:
            self._file.commit()
        except pending_files.OccupiedError:
            if not self._keeps or not self.is_there():
                raise
            # Another process was faster.
            file, self._file = self._file, None
            file.rollback()

    def rollback(self) -> None:
        """Leave the file as it was."""
        if self._file is not None:
            self._file.rollback()

    def close(self) -> None:
        """Keep nothing to undo it."""
        if self._file is not None:
            self._file.close()

    def is_there(self) -> bool:
        """Return whether there is a file, and not an empty one; raises MachineError if nobody knows."""
        try:
            status = local_files.status(self.path)
        except local_files.UnusableError:
            return False
        return status is not None and stat.S_ISREG(status.st_mode) and status.st_size > 0

    def check(self) -> None:
        """Refuse a path that must not be written, whether or not something is there.

        Raises
        ------
        RefusedError
            If that is so.
        """
        if self._overwrites or not local_files.is_taken(self.path):
            output_paths.check(self.path, output_kinds.Kind.PRODUCT, self._protection)

    def _check(self) -> None:
        """Refuse to write where something is that is not to be replaced."""
        if not self._overwrites and local_files.is_taken(self.path):
            raise pending_files.taken(self.path)
        output_paths.check(self.path, output_kinds.Kind.PRODUCT, self._protection)

    def _explained(self, action: Any, problem: str) -> Any:
        try:
            return action()
        except (errors.RefusedError, errors.FormatError):
            raise
        except Exception as exc:
            text = str(exc) or type(exc).__name__
            raise errors.RefusedError(f"{self.location}: {problem} by {self.name}: {text}.") from exc

    @abc.abstractmethod
    def _encode(self, content: Any, type_name: str) -> bytes:
        """Return the content of the file."""

    @abc.abstractmethod
    def _decode(self, data: bytes) -> Any:
        """Return what the content of the file stands for."""


class FitsStorage(FileStorage):
    """A FITS file; ``path#NUMBER`` is one of its units."""

    form = content_module.Form.UNITS

    def __init__(self, *arguments: Any, writes: bool, keeps: bool = False) -> None:
        super().__init__(*arguments, writes=writes, keeps=keeps)
        self._format = _fits(self.location)
        self._number: int | None = None
        if match := _NUMBER.match(self.path):
            if writes:
                raise errors.RefusedError(
                    f"{self.location}: a FITS file is written as a whole; leave out '#{match[2]}'."
                )
            self.path, self._number = match[1], int(match[2])

    def _encode(self, content: Any, type_name: str) -> bytes:
        return self._format.encode(content, {})

    def _decode(self, data: bytes) -> content_module.Units:
        units = self._format.decode(data, {})
        if self._number is not None and self._number >= len(units):
            raise errors.RefusedError(f"{self.location}: the file has only {len(units)} units.")
        return content_module.Units(units, self._number)


def _fits(location: str) -> file_formats.Format:
    try:
        # Few need its library, which takes long to import.
        from aggregator.butler.formatting import astropy_files
    except ImportError as exc:
        raise errors.RefusedError(
            f"{location}: FITS files need {exc.name}; install this package with its extra 'formats'."
        ) from exc
    return astropy_files.FitsFormat()


class BoostStorage(FileStorage):
    """An archive of ours (`item_archives`); those that Boost makes are refused."""

    form = content_module.Form.VALUES

    def _encode(self, content: Any, type_name: str) -> bytes:
        return item_archives.encode(type_name, content)

    def _decode(self, data: bytes) -> Any:
        return item_archives.decode(data, self.path)[1]


class XmlStorage(FileStorage):
    """A JSON document with types (`item_documents`), which took the place of XML."""

    form = content_module.Form.VALUES

    def _encode(self, content: Any, type_name: str) -> bytes:
        return item_documents.encode(type_name, content)

    def _decode(self, data: bytes) -> Any:
        return item_documents.decode(data, self.path)[1]


class PafStorage(FileStorage):
    """A policy file."""

    form = content_module.Form.POLICY

    def _encode(self, content: Any, type_name: str) -> bytes:
        return _PAF_HEAD + paf.text_of(content).encode()

    def _decode(self, data: bytes) -> Any:
        policy = policy_module.Policy(policy_module.Origin(self.path))
        paf.parse(data.decode(), policy)
        return policy


class PickleStorage(FileStorage):
    """A pickle: of arrays without any danger, of other objects where the policy says ``allow: true``."""

    form = content_module.Form.OBJECT
    _forms: ClassVar[dict[bool, file_formats.Format]] = {
        False: pickles.ArrayFormat(),
        True: pickles.PickleFormat(),
    }

    def __init__(
        self,
        name: str,
        location: str,
        settings: policy_module.Policy,
        *arguments: Any,
        writes: bool,
        keeps: bool = False,
    ) -> None:
        super().__init__(name, location, settings, *arguments, writes=writes, keeps=keeps)
        self._format = self._forms[settings.get("allow", False)]

    def _encode(self, content: Any, type_name: str) -> bytes:
        return self._format.encode(content, {})

    def _decode(self, data: bytes) -> Any:
        return self._format.decode(data, {})
