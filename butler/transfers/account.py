"""What a transfer has done, or would do: numbers, and what contradicts the destination."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import msgspec
from aggregator.schemas import bundle

_SHOWN: Final = 10
"""Conflicts of a kind that a message lists."""


class Conflict(msgspec.Struct, frozen=True):
    """What contradicts the destination, or can't be transferred."""

    kind: str
    """Its kind: C2 to C14, F1 or F2, as the documentation lists them."""

    text: str
    """What it is, in words."""

    dataset_id: str | None = None
    """Dataset concerned, 32 hexadecimal digits."""

    other_id: str | None = None
    """Dataset of the destination that it meets."""


@dataclasses.dataclass(slots=True)
class Account:
    """Numbers of a transfer."""

    dataset_types_added: int = 0
    """Dataset types that were registered."""

    collections_added: int = 0
    """Collections that were registered."""

    records_added: int = 0
    """Dimension records that were inserted."""

    records_present: int = 0
    """Dimension records that were there."""

    records_differing: int = 0
    """Those of them with other values, which stay."""

    datasets_added: int = 0
    """Datasets that were ingested."""

    datasets_present: int = 0
    """Datasets that were there."""

    datasets_repaired: int = 0
    """Those of them that had no file, or whose file was gone."""

    datasets_replaced: int = 0
    """Datasets of the destination that were deleted, since newer ones took their places."""

    datasets_skipped: int = 0
    """Datasets that were left out since a policy says so."""

    datasets_without_file: int = 0
    """Datasets that came without a file."""

    datasets_staying: int = 0
    """Datasets that were to be moved and keep their files where they are: the destination has none of its
    own."""

    files_brought: int = 0
    """Files that were brought."""

    files_present: int = 0
    """Files that were in their places already."""

    bytes_brought: int = 0
    """Bytes of the files that were brought, linked or copied, as far as known."""

    associations_added: int = 0
    """Tags and certifications that were added."""

    associations_present: int = 0
    """Tags and certifications that were there."""

    associations_skipped: int = 0
    """Tags and certifications that were left out since a policy says so."""

    chains_changed: int = 0
    """Chains that were given children."""

    by_run: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    """Datasets added, by RUN collection and dataset type."""

    fates: dict[str, dict[str, dict[str, int]]] = dataclasses.field(default_factory=dict)
    """What would become of datasets, by RUN collection, dataset type and fate: "added", "present",
    "left out", "conflicting", "without record", "without file"; only a rehearsal tells."""

    notes: list[str] = dataclasses.field(default_factory=list)
    """What whoever asked for the transfer should know."""

    conflicts: list[Conflict] = dataclasses.field(default_factory=list)
    """What stands in the way."""

    replaced_ids: dict[str, str] = dataclasses.field(default_factory=dict)
    """Id of the dataset in the destination, by id of a dataset that was left out for it."""

    old_ids: dict[str, int] = dataclasses.field(default_factory=dict)
    """Datasets with new ids whose files may have the old ones in them, by formatter."""

    def add(self, other: Account) -> None:
        """Add the numbers of another transfer."""
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if isinstance(mine, dict):
                _add(mine, theirs)
            elif field.name == "notes":
                mine += [note for note in theirs if note not in mine]
            else:
                setattr(self, field.name, mine + theirs)

    def count_without_file(self, datasets: bundle.Datasets) -> None:
        """Count datasets that have no file where they come from."""
        with_files = {record.dataset_id for record in datasets.files}
        self.datasets_without_file += sum(row.id not in with_files for row in datasets.rows)

    def count(self, run: str, dataset_type: str, number: int) -> None:
        """Count datasets added."""
        types = self.by_run.setdefault(run, {})
        types[dataset_type] = types.get(dataset_type, 0) + number

    def meet(self, run: str, dataset_type: str, fate: str) -> None:
        """Count what would become of a dataset."""
        fates = self.fates.setdefault(run, {}).setdefault(dataset_type, {})
        fates[fate] = fates.get(fate, 0) + 1

    def add_conflict(
        self, kind: str, text: str, dataset_id: str | None = None, other_id: str | None = None
    ) -> None:
        """Note what stands in the way."""
        self.conflicts.append(Conflict(kind, text, dataset_id, other_id))

    def note(self, text: str) -> None:
        """Note what should be known, once."""
        if text not in self.notes:
            self.notes.append(text)

    def conflict_lines(self) -> list[str]:
        """Return the first conflicts of each kind as text."""
        lines: list[str] = []
        for kind in sorted({each.kind for each in self.conflicts}):
            some = [each for each in self.conflicts if each.kind == kind]
            lines += [f"{kind}: {each.text}" for each in some[:_SHOWN]]
            if len(some) > _SHOWN:
                lines.append(f"{kind}: ... and {len(some) - _SHOWN} more")
        return lines


def _add(numbers: dict[str, Any], others: dict[str, Any]) -> None:
    """Add numbers by name, also those of dictionaries in it; of what is no number, the last counts."""
    for name, other in others.items():
        if isinstance(other, dict):
            _add(numbers.setdefault(name, {}), other)
        else:
            numbers[name] = numbers.get(name, 0) + other if isinstance(other, int) else other
