"""The index of files that were taken out of datastores, as the middleware writes and reads it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any, Final

import msgspec

NAME: Final = "_butler_zip_index.json"
"""Name of the index, beside the files or in the archive with them."""

_NAMESPACE: Final = uuid.UUID("840b31d9-05cd-5161-b2c8-00d32b280d0f")


class FileInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is on record of a file."""

    formatter: str
    path: str
    """Where it was, relative to the root of its datastore."""
    storage_class: str
    component: str | None
    checksum: str | None
    file_size: int
    """Bytes."""


class IndexedFile(msgspec.Struct, frozen=True):
    """A file."""

    info: FileInfo
    """What is on record of it."""
    ids: tuple[uuid.UUID, ...]
    """The datasets that it holds."""


class IndexedType(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A dataset type."""

    name: str
    storage_class: str
    dimensions: tuple[str, ...]
    """The required ones."""
    parent_storage_class: str | None = None
    is_calibration: bool = False


class IndexedRef(msgspec.Struct, frozen=True):
    """A dataset."""

    dataset_type_name: str
    run: str
    data_id: dict[str, int | str]
    """Values of all dimensions."""


class References(msgspec.Struct, frozen=True, kw_only=True):
    """Datasets, and what they have in common."""

    container_version: str = "V1"
    universe_version: int
    universe_namespace: str
    dataset_types: dict[str, IndexedType]
    """By name."""
    compact_refs: dict[uuid.UUID, IndexedRef]
    """By id."""
    dimension_records: dict[str, list[list[Any]]] | None = None
    """Records by element, each a list of the values of its columns, times as nanoseconds TAI and bytes as
    hexadecimal digits; nothing if they have to be known already."""


class ZipIndex(msgspec.Struct, frozen=True, kw_only=True):
    """The index."""

    index_version: str = "V1"
    refs: References
    """The datasets."""
    artifact_map: dict[str, IndexedFile]
    """The files, by their paths beside the index."""


def encode(index: ZipIndex) -> bytes:
    """Return the content of its file."""
    return msgspec.json.encode(index) + b"\n"


def decode(content: bytes) -> ZipIndex:
    """Return the index that its file has.

    Raises
    ------
    ValueError
        If it is none, or of a version that nobody here knows.
    """
    try:
        index = msgspec.json.decode(content, type=ZipIndex)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise ValueError(str(exc)) from exc
    if (index.index_version, index.refs.container_version) != ("V1", "V1"):
        raise ValueError(f"it has version {index.index_version}; this program knows V1")
    return index


def archive_name(paths: Iterable[str]) -> str:
    """Return the name of the archive that has some files, given their paths in it."""
    return f"{uuid.uuid5(_NAMESPACE, ','.join(sorted(paths)))}.zip"
