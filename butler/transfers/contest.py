"""Datasets that two repositories have under different ids: which one stays (transfer.md section 7.4, C3)."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from aggregator.butler.registry import additions, batch, run_provenance
from aggregator.butler.transfers import account, file_placement
from aggregator.schemas import bundle

_KINDS: Final = {
    batch.ConflictKind.ID: "C2",
    batch.ConflictKind.DATA_ID: "C3",
    batch.ConflictKind.DIMENSION: "C6",
    batch.ConflictKind.RECORD: "C2",
}
"""Kinds of conflicts as the documentation lists them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the datasets of a batch that the destination contradicts."""

    left_out: Mapping[str, str]
    """Id of the dataset that stays, by that of the one that is left out."""

    replacing: Mapping[str, str]
    """Id of the dataset that goes, by that of the one that takes its place."""

    conflicts: Sequence[account.Conflict]
    """What stands in the way."""


def judge(
    datasets: bundle.Datasets,
    found: Iterable[batch.Conflict],
    on_conflict: str,
    adding: additions.Additions,
) -> Verdict:
    """Return what becomes of datasets that a repository contradicts.

    Parameters
    ----------
    datasets
        The batch.
    found
        What contradicts it.
    on_conflict
        The policy.
    adding
        Database of the repository.
    """
    taken = {each.dataset_id: each.other_id for each in found if each.kind is batch.ConflictKind.DATA_ID}
    others = sorted({other for other in taken.values() if other is not None})
    theirs = adding.ingest_dates(others) if on_conflict == "newest" else {}
    ours = {row.id: row.ingest_date for row in datasets.rows if row.id in taken}
    left_out: dict[str, str] = {}
    replacing: dict[str, str] = {}
    conflicts: list[account.Conflict] = []
    for each in found:
        other = taken.get(each.dataset_id) or ""
        # A graph is that of all datasets of its run; and who has no date is one of this same batch.
        is_open = each.dataset_type != run_provenance.DATASET_TYPE and other in theirs
        if each.kind is batch.ConflictKind.DATA_ID and on_conflict == "skip":
            left_out[each.dataset_id] = other
        elif each.kind is batch.ConflictKind.DATA_ID and is_open:
            is_newer = (ours[each.dataset_id] or 0) > theirs[other]
            (replacing if is_newer else left_out)[each.dataset_id] = other
        else:
            conflicts.append(account.Conflict(_KINDS[each.kind], str(each), each.dataset_id, each.other_id))
    return Verdict(left_out, replacing, conflicts)


def set_aside(
    planned: Sequence[file_placement.Planned],
    replacing: Mapping[str, str],
    recorded: Iterable[bundle.FileRecord],
) -> list[file_placement.Planned]:
    """Return where files go: not to the places of the datasets that they replace, which are still needed.

    Parameters
    ----------
    planned
        The files.
    replacing
        Id of the dataset that goes, by that of the one that takes its place.
    recorded
        Files of those that go.
    """
    taken = {(each.datastore, each.dataset_id, each.path) for each in recorded}
    result = []
    for each in planned:
        dataset_id = each.record.dataset_id
        if (each.store.name, replacing.get(dataset_id, ""), each.path) in taken:
            directory, name = posixpath.split(each.path)
            # The end of an id is its random part.
            each = each._replace(path=posixpath.join(directory, f"{dataset_id[-12:]}-{name}"))
        result.append(each)
    return result
