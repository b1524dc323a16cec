"""Writes a manifest of the files that another system has to bring (transfer.md section 7.6)."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from typing import Self

from aggregator.butler.transfers import file_placement, workplace
from aggregator.schemas import transfer_manifest
from aggregator.storage import uris


class ManifestWriter:
    """Writes a manifest that appears complete, and synced, or not at all; a context manager.

    Parameters
    ----------
    path
        The file.
    source, destination
        Configurations of the repositories.
    form
        One of `transfer_manifest.FORMATS`.
    """

    def __init__(self, path: str, source: str, destination: str, form: str) -> None:
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        head = transfer_manifest.Head(source=source, destination=destination, created=created)
        self._writer = transfer_manifest.Writer(path, head, form)

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def add(self, run: str, planned: Sequence[file_placement.Planned]) -> list[file_placement.Planned]:
        """Add files of datasets of a RUN collection, in the order of their places.

        Returns
        -------
        passing
            Those that were made just now, will soon be gone, and are not in the manifest.
        """
        passing = [each for each in planned if workplace.is_within(each.location)]
        gone = {each.location for each in passing}
        entries = [(e.record.dataset_id, _entry(run, e)) for e in planned if e.location not in gone]
        for entry in transfer_manifest.grouped(entries):
            self._writer.add(entry)
        return passing

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        try:
            if kind is None:
                self._writer.publish()
        finally:
            self._writer.__exit__()


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
