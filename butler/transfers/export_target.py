"""A directory with an export that the middleware imports, as the consumer of a bundle (transfer.md 2.1)."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from typing import IO, Any, Final

from aggregator.butler.databases import database
from aggregator.butler.dimensions import universe
from aggregator.butler.transfers import foreign_files
from aggregator.schemas import bundle, repository_export
from aggregator.storage import durable_files, errors, uris

_OWN: Final = "other"
"""Directory of files that have no path of their own in a datastore."""


class ExportTarget:
    """Writes an export into a directory, with the files of its datasets.

    Parameters
    ----------
    directory
        The directory, which nobody else writes to.
    tick
        Called for each file; what it raises ends the work.
    """

    def __init__(self, directory: str, tick: Callable[[], None]) -> None:
        self._directory, self._tick = directory, tick
        self._stream: IO[bytes]
        self._writer: repository_export.Writer
        self._head: bundle.Head
        self._universe: universe.Universe
        self._types: dict[str, bundle.DatasetType] = {}
        self._collections: dict[str, bundle.Collection] = {}
        self._places: dict[tuple[str, str], str] = {}
        self.n_datasets = 0
        """Number of datasets."""

    def begin(self, head: bundle.Head) -> None:
        """Begin the file."""
        self._head = head
        self._universe = universe.Universe.from_config(head.universe)
        self._stream = open(os.path.join(self._directory, repository_export.NAME), "xb")  # noqa: SIM115
        about = repository_export.Head(self._universe.version, self._universe.namespace)
        self._writer = repository_export.Writer(self._stream, about)

    def take(self, batch: bundle.Batch) -> None:
        """Write a batch, and copy its files."""
        match batch:
            case bundle.DatasetTypes():
                self._types |= {row.name: row for row in batch.rows}
                for row in batch.rows:
                    self._writer.add(self._dataset_type(row))
            case bundle.Collections():
                self._collections |= {row.name: row for row in batch.rows}
                for collection in batch.rows:
                    if collection.type != "CHAINED":
                        self._writer.add(_collection(collection))
            case bundle.DimensionRecords():
                self._writer.add(self._records(batch))
            case bundle.Datasets():
                self._add_datasets(batch)
            case bundle.Associations():
                self._writer.add(self._associations(batch))
            case bundle.Chain():
                # Whoever imports it looks for all of them.
                children = [name for name in batch.children if name in self._collections]
                self._writer.add({**_collection(self._collections[batch.name]), "children": children})
            case bundle.Graph():
                raise ValueError("graphs have to be freed before")

    def finish(self) -> None:
        """End the file, durably."""
        with durable_files.writing(self._stream.name):
            self._writer.finish()
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()

    def _dataset_type(self, row: bundle.DatasetType) -> dict[str, Any]:
        return {
            "type": "dataset_type",
            "name": row.name,
            "dimensions": list(self._universe.group(row.dimensions).names),
            "storage_class": row.storage_class,
            "is_calibration": row.is_calibration,
        }

    def _records(self, batch: bundle.DimensionRecords) -> dict[str, Any]:
        columns = self._universe.element(batch.element).columns
        records = []
        for row in batch.rows:
            record: dict[str, Any] = {}
            for value, column in zip(row, columns, strict=True):
                if column.type == "timespan":
                    if value is not None:
                        span = _timespan(value)
                        record |= {"datetime_begin": span.begin, "datetime_end": span.end}
                elif column.type == "region" and value is not None:
                    record[column.name] = repository_export.Region(value)
                else:
                    record[column.name] = value
            records.append(record)
        return {"type": "dimension", "element": batch.element, "records": records}

    def _add_datasets(self, batch: bundle.Datasets) -> None:
        rows = {row.id: row for row in batch.rows}
        by_type: dict[str, dict[tuple[str, str], list[bundle.Dataset]]] = {}
        for record in foreign_files.one_place(self._head, batch.files):
            self._tick()
            if record.component is not None:
                raise errors.RefusedError(
                    f"Dataset {record.dataset_id} is stored in several files, which no export of the "
                    "middleware can tell. Make a pack of the usual format, or a zip."
                )
            row = rows[record.dataset_id]
            files = by_type.setdefault(row.dataset_type, {})
            files.setdefault((self._bring(record), record.formatter), []).append(row)
        for name, files in sorted(by_type.items()):
            self._writer.add(self._datasets(batch.run, self._types[name], files))
        self.n_datasets += len(rows)

    def _datasets(
        self, run: str, kind: bundle.DatasetType, files: dict[tuple[str, str], list[bundle.Dataset]]
    ) -> dict[str, Any]:
        records = [
            {
                "dataset_id": [uuid.UUID(row.id) for row in rows],
                "data_id": [dict(zip(kind.dimensions, row.values, strict=True)) for row in rows],
                "path": path,
                "formatter": formatter,
            }
            for (path, formatter), rows in files.items()
        ]
        return {"type": "dataset", "dataset_type": kind.name, "run": run, "records": records}

    def _bring(self, record: bundle.FileRecord) -> str:
        """Copy a file, unless that is done; return its path."""
        key = record.datastore, record.path
        if key not in self._places:
            location = bundle.location(self._head, record)
            self._places[key] = path = self._place(record, location)
            with errors.explained():
                durable_files.write_atomically(
                    os.path.join(self._directory, path), foreign_files.pieces(location)
                )
        return self._places[key]

    def _place(self, record: bundle.FileRecord, location: str) -> str:
        path = record.path
        is_inside = not uris.is_absolute(path) and {"", ".", ".."}.isdisjoint(path.split("/"))
        if not is_inside or "#" in path or path in self._places.values() or "/" not in path:
            path = f"{_OWN}/{record.dataset_id}-{os.path.basename(location)}"
        with durable_files.writing(path):
            os.makedirs(os.path.join(self._directory, os.path.dirname(path)), exist_ok=True)
        return path

    def _associations(self, batch: bundle.Associations) -> dict[str, Any]:
        kind = self._collections[batch.collection].type
        entry = {"type": "associations", "collection": batch.collection, "collection_type": kind}
        if kind == "TAGGED":
            return {**entry, "dataset_ids": [uuid.UUID(row.dataset_id) for row in batch.rows]}
        spans: dict[tuple[int, int], list[uuid.UUID]] = {}
        for row in batch.rows:
            assert row.timespan is not None
            spans.setdefault(row.timespan, []).append(uuid.UUID(row.dataset_id))
        ranges = [{"timespan": _timespan(span), "dataset_ids": ids} for span, ids in spans.items()]
        return {**entry, "validity_ranges": ranges}


def _collection(row: bundle.Collection) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "collection", "collection_type": row.type, "name": row.name}
    if row.doc is not None:
        entry["doc"] = row.doc
    if row.type == "RUN":
        entry |= {"host": None, "timespan_begin": None, "timespan_end": None}
    return entry


def _timespan(ends: Sequence[int]) -> repository_export.Timespan:
    begin, end = ends
    return repository_export.Timespan(
        repository_export.Time(begin) if begin > 0 else None,
        repository_export.Time(end) if end < database.MAX_TIMESPAN else None,
    )
