"""Datastore records as JSON: in predicted quanta, and in what a quantum leaves of its accesses.

Both have the same form (quantum-graph-format.md section 6.4).
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from aggregator.storage import errors

NO_COMPONENT: Final = "__NULL_STRING__"
"""How an absent component is stored, being part of a key."""

RECORD_CLASS: Final = "lsst.daf.butler.datastore.stored_file_info.StoredFileInfo"
"""How the reference calls records of files."""

UNKNOWN_SIZE: Final = -1
"""File size of a dataset that was predicted, not looked at."""


@dataclasses.dataclass(frozen=True, slots=True)
class FileRecord:
    """What a datastore knows of a file."""

    dataset_id: uuid.UUID
    """Dataset that the file is of."""

    path: str
    """Where it is: relative to the datastore's root, absolute, or a URI."""

    formatter: str
    """Qualified name of the formatter class."""

    storage_class: str
    """Storage class of what it holds."""

    component: str | None
    """Component that it holds; nothing if it holds the whole dataset."""

    checksum: str | None
    """Checksum, if the datastore makes any."""

    file_size: int
    """Size in bytes, or `UNKNOWN_SIZE`."""

    table: str
    """Table of the database that it is in."""


Records = Mapping[str, frozenset[FileRecord]]
"""Records by name of the datastore."""


class _Row(msgspec.Struct):
    formatter: str
    path: str
    storage_class: str
    component: str = NO_COMPONENT
    checksum: str | None = None
    file_size: int = UNKNOWN_SIZE


class _Datastore(msgspec.Struct):
    dataset_ids: list[uuid.UUID]
    records: dict[str, dict[uuid.UUID, dict[str, list[_Row]]]]


def parse(document: Any, place: str) -> dict[str, frozenset[FileRecord]]:
    """Return the records of a document.

    Parameters
    ----------
    document
        The document, decoded.
    place
        Where it is from, for messages.

    Raises
    ------
    FormatError
        If it has another form.
    """
    try:
        datastores = msgspec.convert(document, dict[str, _Datastore])
    except msgspec.ValidationError as exc:
        raise errors.FormatError(place, "datastore_records", str(exc)) from exc
    return {
        name: frozenset(
            _record(dataset_id, table, row)
            for by_id in datastore.records.values()
            for dataset_id, tables in by_id.items()
            for table, rows in tables.items()
            for row in rows
        )
        for name, datastore in datastores.items()
    }


def _record(dataset_id: uuid.UUID, table: str, row: _Row) -> FileRecord:
    component = None if row.component == NO_COMPONENT else row.component
    return FileRecord(
        dataset_id, row.path, row.formatter, row.storage_class, component, row.checksum, row.file_size, table
    )


def columns(record: FileRecord) -> dict[str, Any]:
    """Return what a record has in its columns, but for the dataset's id."""
    return {
        "formatter": record.formatter,
        "path": record.path,
        "storage_class": record.storage_class,
        "component": record.component or NO_COMPONENT,
        "checksum": record.checksum,
        "file_size": record.file_size,
    }


def document(records: Records) -> dict[str, Any]:
    """Return the document of some records: the inverse of `parse`."""
    # In order, so that equal records have equal documents.
    return {name: _datastore(sorted(rows, key=_key)) for name, rows in records.items()}


def _key(record: FileRecord) -> tuple[str, str, str]:
    return record.dataset_id.hex, record.table, record.component or ""


def _datastore(rows: Iterable[FileRecord]) -> dict[str, Any]:
    by_id: dict[str, dict[str, list[dict[str, Any]]]] = {}
    ids = dict.fromkeys(str(record.dataset_id) for record in rows)
    for record in rows:
        by_id.setdefault(record.dataset_id.hex, {}).setdefault(record.table, []).append(columns(record))
    return {"dataset_ids": list(ids), "records": {RECORD_CLASS: by_id} if by_id else {}}
