"""What a quantum read and wrote, and the records of what it wrote: today's JSON, and the form of 2022."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final, Self

import msgspec
from aggregator.schemas import datastore_records
from aggregator.storage import errors

SETS: Final = (
    "predicted_inputs",
    "available_inputs",
    "actual_inputs",
    "predicted_outputs",
    "actual_outputs",
)
"""The sets of dataset ids, in the order of the documents."""

_URN: Final = "urn:uuid:"


@dataclasses.dataclass(frozen=True, slots=True)
class QuantumProvenance:
    """What a quantum read and wrote."""

    predicted_inputs: frozenset[uuid.UUID]
    """Ids of datasets that it was to read."""

    available_inputs: frozenset[uuid.UUID]
    """Those of them that were there."""

    actual_inputs: frozenset[uuid.UUID]
    """Those of them that were used."""

    predicted_outputs: frozenset[uuid.UUID]
    """Ids of datasets that it was to write."""

    actual_outputs: frozenset[uuid.UUID]
    """Those of them that were written."""

    datastore_records: datastore_records.Records
    """Records of what was written; each datastore is listed, be it with none."""

    def to_json(self) -> str:
        """Return the document that ``QuantumProvenanceData`` of the reference is made from."""
        document: dict[str, Any] = {name: sorted(map(str, getattr(self, name))) for name in SETS}
        document["datastore_records"] = datastore_records.document(self.datastore_records)
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes, place: str = "provenance of a quantum") -> Self:
        """Return what such a document tells.

        Parameters
        ----------
        text
            The document.
        place
            Where it is from, for messages.

        Raises
        ------
        FormatError
            If it has another form.
        """
        try:
            content = msgspec.json.decode(text)
            records = datastore_records.parse(content["datastore_records"], place)
            return cls(**{name: _ids(content[name]) for name in SETS}, datastore_records=records)
        except (ValueError, LookupError, TypeError) as exc:
            raise errors.FormatError(place, "", f"is no provenance of a quantum ({exc})") from exc

    def to_simple(self) -> dict[str, Any]:
        """Return the form that the reference had in 2022: locations by datastore, rows by table."""
        document: dict[str, Any] = {name: sorted(map(_urn, getattr(self, name))) for name in SETS}
        rows: dict[str, dict[tuple[uuid.UUID, str | None], dict[str, Any]]] = {}
        locations: dict[str, list[str]] = {}
        for datastore, records in self.datastore_records.items():
            locations[datastore] = sorted({_urn(record.dataset_id) for record in records})
            for record in sorted(records, key=lambda each: (each.dataset_id.hex, each.component or "")):
                row = {"dataset_id": _urn(record.dataset_id), **datastore_records.columns(record)}
                row["__class__"] = datastore_records.RECORD_CLASS
                rows.setdefault(record.table, {})[record.dataset_id, record.component] = row
        document["locations"] = locations
        document["records"] = {table: list(by_key.values()) for table, by_key in rows.items()}
        return document

    @classmethod
    def from_simple(cls, document: Mapping[str, Any], place: str = "provenance of a quantum") -> Self:
        """Return what a document in the form of 2022 tells; the document stays as it is.

        Datastores that share a table can't be told apart in it: a record is taken for one of each datastore
        that has the dataset.

        Raises
        ------
        FormatError
            If it has another form.
        """
        try:
            rows = [_row(table, row) for table, rows in document["records"].items() for row in rows]
            locations = {name: _ids(ids) for name, ids in document["locations"].items()}
            records = {
                name: frozenset(row for row in rows if row.dataset_id in ids)
                for name, ids in locations.items()
            }
            return cls(**{name: _ids(document[name]) for name in SETS}, datastore_records=records)
        except (ValueError, LookupError, TypeError, AttributeError) as exc:
            raise errors.FormatError(place, "", f"is no provenance of a quantum ({exc})") from exc


def _urn(dataset_id: uuid.UUID) -> str:
    return f"{_URN}{dataset_id}"


def _ids(texts: Iterable[str]) -> frozenset[uuid.UUID]:
    return frozenset(map(uuid.UUID, texts))


def _row(table: str, row: Mapping[str, Any]) -> datastore_records.FileRecord:
    component = row.get("component")
    return datastore_records.FileRecord(
        dataset_id=uuid.UUID(row["dataset_id"]),
        path=row["path"],
        formatter=row["formatter"],
        storage_class=row["storage_class"],
        component=None if component == datastore_records.NO_COMPONENT else component,
        checksum=row.get("checksum"),
        file_size=row.get("file_size", datastore_records.UNKNOWN_SIZE),
        table=table,
    )
