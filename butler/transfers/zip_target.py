"""An archive of datasets that the middleware ingests, as the consumer of a bundle (transfer.md section 4)."""

from __future__ import annotations

import os
import uuid
import zipfile
from collections.abc import Callable
from typing import Any

from aggregator.butler.dimensions import universe
from aggregator.butler.transfers import foreign_files
from aggregator.schemas import bundle, zip_index
from aggregator.storage import durable_files


class ZipTarget:
    """Writes an archive of datasets with an index, as the middleware ingests them.

    Parameters
    ----------
    path
        The archive, which is not there.
    tick
        Called for each file; what it raises ends the work.
    """

    def __init__(self, path: str, tick: Callable[[], None]) -> None:
        self._path, self._tick = path, tick
        self._head: bundle.Head
        self._universe: universe.Universe
        self._kinds: dict[str, bundle.DatasetType] = {}
        self._refs: dict[uuid.UUID, zip_index.IndexedRef] = {}
        self._records: dict[str, list[list[Any]]] = {}
        self._members: dict[tuple[str, str], str] = {}
        self._files: dict[str, tuple[zip_index.FileInfo, list[uuid.UUID]]] = {}
        self._archive: zipfile.ZipFile

    @property
    def n_datasets(self) -> int:
        """Number of datasets."""
        return len(self._refs)

    def begin(self, head: bundle.Head) -> None:
        """Begin the archive."""
        self._head = head
        with durable_files.writing(self._path):
            self._archive = zipfile.ZipFile(self._path, "x", zipfile.ZIP_STORED)
        self._universe = universe.Universe.from_config(head.universe)

    def take(self, batch: bundle.Batch) -> None:
        """Add the files of a batch, and note what the index tells."""
        match batch:
            case bundle.DatasetTypes():
                self._kinds |= {row.name: row for row in batch.rows}
            case bundle.DimensionRecords():
                rows = self._records.setdefault(batch.element, [])
                rows += [[_plain(value) for value in row] for row in batch.rows]
            case bundle.Datasets():
                self._note(batch)
            case bundle.Graph():
                raise ValueError("graphs have to be freed before")
            case _:
                # An archive has no collections but runs.
                pass

    def _note(self, batch: bundle.Datasets) -> None:
        for row in batch.rows:
            values = dict(zip(self._kinds[row.dataset_type].dimensions, row.values, strict=True))
            self._refs[uuid.UUID(row.id)] = zip_index.IndexedRef(row.dataset_type, batch.run, values)
        for record in foreign_files.one_place(self._head, batch.files):
            key = record.datastore, record.path
            if key not in self._members:
                self._members[key] = self._add(record)
            self._files[self._members[key]][1].append(uuid.UUID(record.dataset_id))

    def _add(self, record: bundle.FileRecord) -> str:
        """Add a file; return its name in the archive."""
        self._tick()
        location = bundle.location(self._head, record)
        name = f"{record.dataset_id[:8]}-{os.path.basename(location)}"
        if name in self._files:
            name = f"{record.dataset_id}-{record.component or ''}{os.path.basename(location)}"
        size = 0
        with (
            durable_files.writing(self._path),
            self._archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as out,
        ):
            for piece in foreign_files.pieces(location):
                out.write(piece)
                size += len(piece)
        path = os.path.basename(location) if record.path.startswith("/") else record.path
        info = zip_index.FileInfo(
            formatter=record.formatter, path=path, storage_class=record.storage_class,
            component=record.component, checksum=record.checksum, file_size=size,
        )  # fmt: skip
        self._files[name] = info, []
        return name

    def _all_records(self) -> dict[str, list[list[Any]]]:
        """Return the records with those of dimensions that have no table: all values that another one has."""
        records = dict(self._records)
        for name in self._universe.elements:
            element = self._universe.element(name)
            if element.union_of in records:
                place = self._universe.record_columns(element.union_of).index(name)
                values = {row[place] for row in records[element.union_of]}
                records[name] = [[value] for value in sorted(values)]
        return records

    def finish(self) -> None:
        """Add the index, and make the archive durable."""
        used = {ref.dataset_type_name for ref in self._refs.values()}
        refs = zip_index.References(
            universe_version=self._universe.version,
            universe_namespace=self._universe.namespace,
            dataset_types={
                name: zip_index.IndexedType(
                    name=name, storage_class=kind.storage_class, dimensions=kind.dimensions,
                    is_calibration=kind.is_calibration,
                )
                for name, kind in self._kinds.items() if name in used
            },
            compact_refs=self._refs,
            dimension_records=self._all_records(),
        )  # fmt: skip
        files = {name: zip_index.IndexedFile(info, tuple(ids)) for name, (info, ids) in self._files.items()}
        index = zip_index.encode(zip_index.ZipIndex(refs=refs, artifact_map=files))
        with durable_files.writing(self._path):
            self._archive.writestr(zip_index.NAME, index, zipfile.ZIP_DEFLATED)
            self._archive.close()
            durable_files.sync(self._path)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return list(value) if isinstance(value, tuple) else value
