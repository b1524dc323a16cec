"""Where exports of the middleware are, and how they are told from repositories and packs."""

from __future__ import annotations

import os
from typing import Final

from aggregator.butler.configuration import yaml_files
from aggregator.schemas import pack_reader, repository_export
from aggregator.storage import errors, local_files, uris

SEED: Final = "seed.yaml"
"""File beside an export that tells how its repository stores datasets."""

DIMENSIONS: Final = "dimensions.json"
"""File beside an export with the dimension universe, for whoever makes a repository for it."""

_HEAD_SIZE: Final = 64


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
    head = _begin(path)
    return (
        os.path.abspath(path) if head.startswith(b"PK\x03\x04") and not pack_reader.is_begin(head) else None
    )


def _begin(path: str) -> bytes:
    try:
        with open(local_files.open_file(path), "rb") as stream:
            return stream.read(_HEAD_SIZE)
    except (OSError, local_files.UnusableError):
        # Whoever needs it says what is wrong.
        return b""


def refuse_pack(path: str) -> None:
    """Refuse a pack where a repository or an export is meant.

    Raises
    ------
    RefusedError
        If it is one.
    """
    if not uris.scheme(path) and pack_reader.is_begin(_begin(path)):
        raise errors.RefusedError(
            f"{path}: is a pack, which goes to a host of its own (unpack), or comes from there (deliver)."
        )
