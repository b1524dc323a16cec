"""A bundle in which datasets have files of their own: a producer made of another one.

Implements ``loose`` of transfer.md section 7.3, for what archives hold and, if asked for, for configs, logs
and metadata that a graph stands in for.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
from collections.abc import Collection, Iterator
from typing import IO, Final, Self, cast

from aggregator.butler.registry import run_provenance
from aggregator.butler.transfers import workplace
from aggregator.schemas import bundle
from aggregator.schemas.graphs import backed_contents, provenance_graph
from aggregator.storage import durable_files, opening

_FORMATTERS: Final = {
    "Config": ("lsst.pipe.base.formatters.pexConfig.PexConfigFormatter", ".py"),
    "ButlerLogRecords": ("lsst.daf.butler.formatters.logs.ButlerLogRecordsFormatter", ".json"),
    "TaskMetadata": ("lsst.daf.butler.formatters.json.JsonFormatter", ".json"),
    "PropertySet": ("lsst.daf.butler.formatters.json.JsonFormatter", ".json"),
}
"""Formatter of the files, and their extension, by storage class."""


class LooseFiles:
    """Produces a bundle in which files of their own stand for what others hold.

    Parameters
    ----------
    producer
        The bundle as it is.
    place
        Where files are written, each until the batch that it belongs to was taken; before there is such a
        place, files are only looked for.
    frees_graphs
        Whether datasets that a graph backs get files; then the bundle has no graph any more.
    archives
        Datastore and path of the archives whose members get files; by default all.
    """

    def __init__(
        self,
        producer: bundle.Producer,
        place: workplace.Workplace,
        *,
        frees_graphs: bool,
        archives: Collection[tuple[str, str]] | None = None,
    ) -> None:
        self._producer = producer
        self._archives = archives
        self._place = place
        self._frees_graphs = frees_graphs

    @property
    def head(self) -> bundle.Head:
        """What all batches depend on."""
        return self._producer.head

    def batches(self) -> Iterator[bundle.Batch]:
        """Iterate over the bundle; see `bundle.Producer`.

        Raises
        ------
        FormatError
            If a graph or an archive does not have what it should stand in for.
        """
        with contextlib.ExitStack() as stack:
            graphs: dict[str, _Graph] = {}
            for batch in self._producer.batches():
                match batch:
                    case bundle.Graph(kind="provenance") if self._frees_graphs:
                        graphs[batch.path] = stack.enter_context(_Graph(batch.location))
                    case bundle.Datasets():
                        yield from self._datasets(batch, graphs)
                    case _:
                        yield batch

    def _datasets(self, batch: bundle.Datasets, graphs: dict[str, _Graph]) -> Iterator[bundle.Datasets]:
        rows = [
            row
            for row in batch.rows
            if not self._frees_graphs or row.dataset_type != run_provenance.DATASET_TYPE
        ]
        if not rows:
            return
        types = {row.id: row.dataset_type for row in rows}
        with contextlib.ExitStack() as stack:
            maker = _Maker(self.head, self._place, stack)
            files = [
                maker.from_graph(record, types[record.dataset_id], graphs[record.path])
                if record.path in graphs
                else (maker.from_archive(record) if self._is_freed(record) else record)
                for record in batch.files
                if record.dataset_id in types
            ]
            yield bundle.Datasets(batch.run, rows, files, batch.is_renamed)

    def _is_freed(self, record: bundle.FileRecord) -> bool:
        """Return whether a record, if it is of a member of an archive, gets a file."""
        if self._archives is None:
            return True
        return bool(self._archives) and (record.datastore, bundle.file_path(record.path)) in self._archives


class _Maker:
    """Makes the files of one batch.

    Parameters
    ----------
    head
        Head of the bundle.
    place
        Where they are made.
    stack
        Removes them.
    """

    def __init__(self, head: bundle.Head, place: workplace.Workplace, stack: contextlib.ExitStack) -> None:
        self._head = head
        self._place = place
        self._stack = stack
        self._directory = ""
        self._archives: dict[str, zipfile.ZipFile] = {}

    def from_graph(self, record: bundle.FileRecord, dataset_type: str, graph: _Graph) -> bundle.FileRecord:
        """Return the record of a file with what a graph holds of a dataset."""
        content = graph.contents.read(record.dataset_id, dataset_type, record.storage_class)
        formatter, extension = _FORMATTERS[record.storage_class]
        path = self._write(record.dataset_id + extension, content) or graph.location
        return record._replace(path=path, formatter=formatter, checksum=None, size=len(content))

    def from_archive(self, record: bundle.FileRecord) -> bundle.FileRecord:
        """Return the record of a file that an archive has; any other record as it is."""
        member = bundle.archive_member(record.path)
        if not member:
            return record
        location = bundle.location(self._head, record)
        if not self._place.is_open:
            return record._replace(path=location)
        content = self._archive(location).read(member)
        name = f"{record.dataset_id}-{record.component or ''}{os.path.splitext(member)[1]}"
        return record._replace(path=self._write(name, content), size=len(content))

    def _archive(self, location: str) -> zipfile.ZipFile:
        if location not in self._archives:
            file = self._stack.enter_context(opening.open_file(location))
            self._archives[location] = zipfile.ZipFile(cast(IO[bytes], file.stream()))
        return self._archives[location]

    def _write(self, name: str, content: bytes) -> str:
        """Write a file; return its path, or nothing if there is no place for it yet."""
        if not self._place.is_open:
            return ""
        if not self._directory:
            self._directory = self._stack.enter_context(
                tempfile.TemporaryDirectory(dir=self._place.directory)
            )
        path = os.path.join(self._directory, name)
        with durable_files.writing(path), open(path, "xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        return path


class _Graph:
    """A graph, open as long as files are made of it."""

    def __init__(self, location: str) -> None:
        self.location = location
        self._graph = provenance_graph.ProvenanceGraph(location)
        self.contents = backed_contents.BackedContents(self._graph)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._graph.close()
