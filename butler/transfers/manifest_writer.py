"""Writes a manifest of the files that another system has to bring (transfer.md section 7.6)."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Sequence
from typing import IO, Self

from aggregator.butler.transfers import file_placement
from aggregator.schemas import transfer_manifest
from aggregator.storage import durable_files, uris


class ManifestWriter:
    """Writes a manifest that appears complete, and synced, or not at all; a context manager.

    Parameters
    ----------
    path
        The file.
    source, destination
        Configurations of the repositories.
    """

    def __init__(self, path: str, source: str, destination: str) -> None:
        self._path = path
        self._temporary = durable_files.temporary_name(path)
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._head = transfer_manifest.Head(source=source, destination=destination, created=created)
        self._file: IO[bytes]
        self._stream: IO[bytes]

    def __enter__(self) -> Self:
        with durable_files.writing(self._path):
            self._file = open(self._temporary, "xb")
            self._stream = transfer_manifest.opened_for_writing(self._file, self._path)
            self._stream.write(transfer_manifest.encode(self._head))
        return self

    def add(self, run: str, planned: Sequence[file_placement.Planned]) -> None:
        """Add files of datasets of a RUN collection, in the order of their places."""
        entries = [(each.record.dataset_id, _entry(run, each)) for each in planned]
        with durable_files.writing(self._path):
            for entry in transfer_manifest.grouped(entries):
                self._stream.write(transfer_manifest.encode(entry))

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        try:
            with durable_files.writing(self._path):
                if self._stream is not self._file:
                    self._stream.close()
                self._file.flush()
                self._file.close()
                if kind is None:
                    durable_files.publish(self._temporary, self._path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary)


def _entry(run: str, planned: file_placement.Planned) -> transfer_manifest.Entry:
    record = planned.record
    root = planned.store.root
    return transfer_manifest.Entry(
        ids=(),
        run=run,
        origin=planned.location,
        target=uris.join(root, planned.key) if uris.is_remote(root) else os.path.join(root, planned.key),
        path=planned.path,
        size=record.size if record.size >= 0 else None,
        checksum=record.checksum,
        datastore=planned.store.name,
        formatter=record.formatter,
        storage_class=record.storage_class,
        component=record.component,
    )
