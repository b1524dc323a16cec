"""Which files may leave where they were moved from, as the destination has its own (transfer.md 7.3)."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import Final

from aggregator.butler.transfers import file_placement
from aggregator.schemas import bundle
from aggregator.storage import local_files, opening, uris

_LONGEST_CHAIN: Final = 40
"""Links that systems follow one after the other, at most."""

Place = tuple[str, str]
"""Datastore and key of a file."""


class Arrival:
    """Judges files that were moved.

    Parameters
    ----------
    head
        Head of the bundle.
    placement
        What has brought the files.
    """

    def __init__(self, head: bundle.Head, placement: file_placement.Placement) -> None:
        self._head, self._placement = head, placement
        self._known: dict[Place, bool] = {}

    def complete(
        self,
        datasets: bundle.Datasets,
        planned: Sequence[file_placement.Planned],
        brought: Collection[file_placement.Planned],
    ) -> tuple[list[file_placement.Planned], set[str]]:
        """Return the files of datasets that may leave, and the ids of those that have to stay.

        A dataset has to stay if one of its files is not in the destination, or has other content there, or is
        there only by way of the file that would be removed: as a link to it, or below a root that both share.

        Parameters
        ----------
        datasets
            The datasets.
        planned
            Their files.
        brought
            Those among these that were brought, or compared with what was there, just now.

        Raises
        ------
        AggregatorError
            If nobody knows.
        """
        origins: dict[str, list[str]] = {}
        for record in datasets.files:
            origins.setdefault(record.dataset_id, []).append(bundle.location(self._head, record))
        compared = {(each.store.name, each.key) for each in brought}
        staying: set[str] = set()
        for each, is_there in zip(planned, self._placement.in_place(planned), strict=True):
            dataset_id, place = each.record.dataset_id, (each.store.name, each.key)
            if place not in self._known:
                is_good = is_there and self._is_own(each, origins[dataset_id])
                self._known[place] = is_good and (place in compared or self._is_equal(each, origins))
            if not self._known[place]:
                staying.add(dataset_id)
        self._known = {}
        return [each for each in planned if each.record.dataset_id not in staying], staying

    def _is_own(self, planned: file_placement.Planned, origins: Sequence[str]) -> bool:
        target = self._placement.target(planned)
        return not any(_leads_over(target, origin) for origin in origins)

    def _is_equal(self, planned: file_placement.Planned, origins: dict[str, list[str]]) -> bool:
        """Return whether what has been there for longer has the content of the file."""
        if planned.location not in origins[planned.record.dataset_id]:
            # A graph that was written anew, which tells when.
            return True
        return not opening.exists(planned.location) or self._placement.is_same(planned)


def _leads_over(target: str, origin: str) -> bool:
    """Return whether nothing would be at a place if a file were removed: it is the same, or a link to it."""
    if uris.is_remote(target) != uris.is_remote(origin):
        return False
    if uris.is_remote(target):
        return opening.is_same(target, origin)
    if not (local_files.exists(origin) and opening.is_same(target, origin)):
        return False
    entry, path = _entry(origin), target
    for _ in range(_LONGEST_CHAIN):
        if _entry(path) == entry:
            return True
        if not os.path.islink(path):
            return False
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    return True


def _entry(path: str) -> tuple[int, int, str]:
    """Return what a name in a directory is known by, however the way there is written."""
    directory, name = os.path.split(path)
    status = os.stat(directory)
    return status.st_dev, status.st_ino, name
