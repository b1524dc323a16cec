"""What a transfer did, for its last words, for programs, and for callers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from aggregator.butler.transfers import account
from aggregator.schemas import summary_document


@dataclasses.dataclass(slots=True)
class TransferReport:
    """What a transfer did, or after a dry run would do.

    Attributes
    ----------
    source
        Configuration of the repository that things come from.
    destination
        Configuration of the repository that they go to.
    files
        What becomes of files.
    dry_run
        Whether nothing was to be written.
    selected
        Number of datasets that were selected.
    done
        Numbers, and what stands in the way.
    bytes_free
        Bytes that are free where files go; nothing if nobody knows, or files were brought.
    elapsed
        Seconds.
    phases
        Seconds that each phase took, in order.
    peak
        Largest memory in bytes.
    """

    source: str
    destination: str
    files: str
    dry_run: bool
    selected: int = 0
    done: account.Account = dataclasses.field(default_factory=account.Account)
    bytes_free: int | None = None
    elapsed: float = 0.0
    phases: dict[str, float] = dataclasses.field(default_factory=dict)
    peak: int = 0

    @property
    def outcome(self) -> str:
        """Whether something was written."""
        return "dry run" if self.dry_run else "complete"

    def document(self) -> summary_document.Transfer:
        """Return it as programs read it."""
        done = self.done
        return summary_document.Transfer(
            source=self.source,
            destination=self.destination,
            files=self.files,
            dry_run=self.dry_run,
            datasets_selected=self.selected,
            datasets_added=done.datasets_added,
            datasets_present=done.datasets_present,
            datasets_repaired=done.datasets_repaired,
            datasets_replaced=done.datasets_replaced,
            datasets_skipped=done.datasets_skipped,
            datasets_without_file=done.datasets_without_file,
            datasets_staying=done.datasets_staying,
            runs=done.by_run,
            fates=done.fates,
            bytes_free=self.bytes_free,
            dataset_types_added=done.dataset_types_added,
            collections_added=done.collections_added,
            chains_changed=done.chains_changed,
            records_added=done.records_added,
            records_present=done.records_present,
            records_differing=done.records_differing,
            associations_added=done.associations_added,
            associations_present=done.associations_present,
            associations_skipped=done.associations_skipped,
            files_brought=done.files_brought,
            files_present=done.files_present,
            bytes_brought=done.bytes_brought,
            replaced_ids=done.replaced_ids,
            old_ids=done.old_ids,
            notes=done.notes,
            conflicts={kind: self._number(kind) for kind in sorted({each.kind for each in done.conflicts})},
            phases=self.phases,
            peaks={"all": self.peak},
        )

    def _run_lines(self) -> list[str]:
        """Return what there is to say about runs; before a transfer, what becomes of each type."""
        if not self.done.fates:
            return [f"Run {run}: {_counts(types)}" for run, types in sorted(self.done.by_run.items())]
        return [
            f"Run {run}, {name}: {', '.join(f'{number} {fate}' for fate, number in sorted(fates.items()))}"
            for run, types in sorted(self.done.fates.items())
            for name, fates in sorted(types.items())
        ]

    def _number(self, kind: str) -> int:
        return sum(each.kind == kind for each in self.done.conflicts)

    def lines(self) -> list[str]:
        """Return it as text."""
        done = self.done
        head = "Would transfer" if self.dry_run else "Transferred"
        phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.phases.items())
        lines = [
            f"{head} from {self.source} to {self.destination}: {self.selected} datasets selected, "
            f"{done.datasets_added} added, {done.datasets_present} there before ({done.datasets_repaired} "
            f"of them lacked a file), {done.datasets_skipped} left out",
            *self._run_lines(),
            f"Files ({self.files}): {done.files_brought} brought, {done.files_present} there before; "
            f"{done.bytes_brought} bytes, as far as sizes are {'known' if self.dry_run else 'recorded'}"
            + ("" if self.bytes_free is None else f", of {self.bytes_free} that are free"),
            f"Added {done.dataset_types_added} dataset types, {done.collections_added} collections, "
            f"{done.records_added} dimension records, {done.associations_added} tags and certifications",
        ]
        if done.datasets_replaced:
            lines.append(
                f"Datasets of the destination that newer ones replace: {done.datasets_replaced}; tags and "
                "certifications of these are gone with them"
            )
        if done.datasets_staying:
            lines.append(
                f"Datasets whose files were not moved: {done.datasets_staying}; those in the destination are "
                "missing, others, or the same files in the same place"
            )
        if done.records_differing:
            lines.append(f"Dimension records that differ and stay as they are: {done.records_differing}")
        if done.old_ids:
            lines.append(
                f"Files that may tell of the ids that datasets had before: {_counts(done.old_ids)}; "
                "aggregator show --id finds these"
            )
        lines += done.notes[:_NOTES]
        lines += [f"... and {len(done.notes) - _NOTES} more"] if len(done.notes) > _NOTES else []
        lines += done.conflict_lines()
        lines.append(f"Elapsed: {self.elapsed:.1f} s ({phases}); peak memory: {self.peak / 1e6:.0f} MB")
        return lines


_NOTES = 10
"""Notes that are printed."""


def _counts(numbers: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(numbers.items()))


def combined(reports: Sequence[TransferReport]) -> TransferReport:
    """Return the report on transfers from several sources to one destination; there is one at least."""
    first = reports[0]
    sources = ", ".join(report.source for report in reports)
    result = TransferReport(sources, first.destination, first.files, first.dry_run)
    result.bytes_free = first.bytes_free
    for report in reports:
        result.selected += report.selected
        result.elapsed += report.elapsed
        result.peak = max(result.peak, report.peak)
        result.done.add(report.done)
        for phase, seconds in report.phases.items():
            result.phases[phase] = result.phases.get(phase, 0.0) + seconds
    return result
