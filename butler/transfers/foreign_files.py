"""Files of a bundle on their way to other tools."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aggregator.schemas import bundle
from aggregator.storage import errors, opening, random_access


def one_place(head: bundle.Head, records: Iterable[bundle.FileRecord]) -> Iterator[bundle.FileRecord]:
    """Yield those records of each dataset that are of the first datastore which has it."""
    ranks = {store.name: rank for rank, store in enumerate(head.datastores)}
    chosen: dict[str, str] = {}
    for record in sorted(records, key=lambda each: (each.dataset_id, ranks[each.datastore])):
        if chosen.setdefault(record.dataset_id, record.datastore) == record.datastore:
            yield record


def pieces(location: str) -> Iterator[bytes]:
    """Yield the content of a file.

    Raises
    ------
    AggregatorError
        If it can't be read.
    """
    try:
        with opening.open_file(location) as file:
            yield from random_access.pieces(file)
    except OSError as exc:
        raise errors.FormatError(location, "", f"can't read it ({exc})") from exc
