"""Where exports of the middleware are, and how they are told from repositories and packs."""

from __future__ import annotations

import os
import zipfile
from typing import Final

from aggregator.butler.configuration import yaml_files
from aggregator.schemas import pack_reader, repository_export, zip_index
from aggregator.storage import errors, local_files, uris

SEED: Final = "seed.yaml"
"""File beside an export that tells how its repository stores datasets."""

DIMENSIONS: Final = "dimensions.json"
"""File beside an export with the dimension universe, for whoever makes a repository for it."""

_HEAD_SIZE: Final = 64
_ZIP: Final = b"PK\x03\x04"


def file_of(path: str) -> str | None:
    """Return the file of the export that a path means; nothing if it means none."""
    if uris.scheme(path):
        return None
    if local_files.is_directory(path):
        names = [os.path.join(path, name) for name in (repository_export.NAME, yaml_files.REPOSITORY)]
        return os.path.abspath(names[0]) if list(map(local_files.exists, names)) == [True, False] else None
    if not local_files.is_taken(path):
        return None
    if repository_export.is_export(path):
        return os.path.abspath(path)
    return os.path.abspath(path) if _is_archive(path) else None


def _is_archive(path: str) -> bool:
    """Return whether a file is an archive of datasets, which may be damaged in its middle."""
    if not _begin(path).startswith(_ZIP):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return zip_index.NAME in archive.namelist()
    except Exception:
        # It tells of damage with errors of many kinds, down to struct.error.
        return False


def _begin(path: str) -> bytes:
    try:
        with open(local_files.open_file(path), "rb") as stream:
            return stream.read(_HEAD_SIZE)
    except (OSError, local_files.UnusableError):
        # Whoever needs it says what is wrong.
        return b""


def refuse_archive(path: str) -> None:
    """Refuse a pack, or an archive of other things, where a repository or an export is meant.

    Raises
    ------
    RefusedError
        If it is one.
    """
    head = b"" if uris.scheme(path) else _begin(path)
    if pack_reader.is_begin(head):
        raise errors.RefusedError(
            f"{path}: is a pack, which goes to a host of its own (unpack), or comes from there (deliver)."
        )
    if head.startswith(_ZIP):
        raise errors.RefusedError(
            f"{path}: is no archive of datasets of the middleware, or it is cut off; copy it again."
        )
