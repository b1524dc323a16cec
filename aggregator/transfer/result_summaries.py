"""What `collect` and `deliver` did, for their last words and for callers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from aggregator.schemas import summary_document
from aggregator.transfer import named_lines


@dataclasses.dataclass(slots=True)
class CollectSummary:
    """What a job has left, and what of it is in the pack.

    Attributes
    ----------
    run
        The output run.
    directory
        The repository of the node.
    pack
        The pack.
    statuses
        Number of quanta by status.
    n_files, n_bytes
        Files in the pack, and their bytes.
    n_init_files
        Files of init outputs among them, which the job has written.
    held
        Quanta that are not in the pack because files of theirs can't be used, with the reason.
    pack_size
        Bytes of the pack.
    elapsed
        Seconds.
    phases
        Seconds that each phase took, in order.
    """

    run: str
    directory: str
    pack: str
    statuses: dict[str, int] = dataclasses.field(default_factory=dict)
    n_files: int = 0
    n_bytes: int = 0
    n_init_files: int = 0
    held: list[str] = dataclasses.field(default_factory=list)
    pack_size: int = 0
    elapsed: float = 0.0
    phases: Mapping[str, float] = dataclasses.field(default_factory=dict)

    outcome = "complete"

    def lines(self) -> list[str]:
        """Return it as text."""
        counts = ", ".join(f"{n} {status}" for status, n in self.statuses.items())
        return [
            f"Wrote {self.pack} ({named_lines.size(self.pack_size)}): {counts or 'no quanta'} of run "
            f"{self.run}, {self.n_files} files ({named_lines.size(self.n_bytes)}, {self.elapsed:.1f} s)",
            *named_lines.of("Left out, since files can't be used", self.held),
        ]

    def document(self) -> summary_document.Collect:
        """Return it as programs read it."""
        return summary_document.Collect(
            phases=dict(self.phases), peaks={}, run=self.run, directory=self.directory, pack=self.pack,
            pack_size=self.pack_size, statuses=self.statuses, files=self.n_files, bytes=self.n_bytes,
            init_files=self.n_init_files, quanta_held=len(self.held), held=self.held[:named_lines.N_NAMED],
        )  # fmt: skip


@dataclasses.dataclass(slots=True)
class DeliverSummary:
    """What of packs is in the repository now.

    Attributes
    ----------
    run
        The output run.
    repository
        Configuration of the repository.
    predicted_graph
        The predicted graph.
    n_packs
        Packs that were delivered.
    n_quanta
        Quanta whose files were brought.
    n_present
        Quanta whose files were there already.
    n_not_attempted
        Quanta that their jobs have not attempted.
    n_withheld
        Quanta that have failed, and of which nothing is in the packs.
    n_outdone
        Quanta of which the repository has a success, or a later attempt.
    n_files, n_bytes
        Files written, and their bytes.
    replaced
        Files of earlier attempts that were replaced or removed.
    kept
        Init outputs that differ from those of a pack, and stay as they are.
    missing
        Names of files that nobody has brought yet, whose quanta were not delivered.
    conflicts
        Files that are in the way, whose quanta were not delivered.
    n_ingested, n_skipped
        Datasets brought into the database, and those that were in it.
    elapsed
        Seconds.
    phases
        Seconds that each phase took, in order.
    """

    run: str
    repository: str
    predicted_graph: str
    n_packs: int = 0
    n_quanta: int = 0
    n_present: int = 0
    n_not_attempted: int = 0
    n_withheld: int = 0
    n_outdone: int = 0
    n_files: int = 0
    n_bytes: int = 0
    replaced: list[str] = dataclasses.field(default_factory=list)
    kept: list[str] = dataclasses.field(default_factory=list)
    missing: list[str] = dataclasses.field(default_factory=list)
    conflicts: list[str] = dataclasses.field(default_factory=list)
    n_ingested: int = 0
    n_skipped: int = 0
    elapsed: float = 0.0
    phases: Mapping[str, float] = dataclasses.field(default_factory=dict)

    outcome = "complete"

    def lines(self) -> list[str]:
        """Return it as text."""
        counts = {
            "delivered": self.n_quanta,
            "were there": self.n_present,
            "have a success or a later attempt in the repository": self.n_outdone,
            "were not attempted": self.n_not_attempted,
            "have failed, and left nothing in the packs": self.n_withheld,
        }
        told = ", ".join(f"{n} {title}" for title, n in counts.items() if n)
        lines = [
            f"Quanta of run {self.run} in {self.n_packs} packs: {told or 'none'}; {self.n_files} files "
            f"written ({named_lines.size(self.n_bytes)}, {self.elapsed:.1f} s)"
        ]
        if self.n_ingested or self.n_skipped:
            lines.append(f"Datasets: {self.n_ingested} ingested, {self.n_skipped} were there")
        lines += named_lines.of("Replaced or removed, being of earlier attempts", self.replaced)
        lines += named_lines.of(
            "Init outputs that differ from those of a pack, and stay as they are", self.kept
        )
        lines += named_lines.of("Missing, so that their quanta were not delivered", self.missing)
        return lines + named_lines.of("In the way, so that their quanta were not delivered", self.conflicts)

    def document(self) -> summary_document.Deliver:
        """Return it as programs read it."""
        return summary_document.Deliver(
            phases=dict(self.phases), peaks={}, run=self.run, repository=self.repository,
            predicted_graph=self.predicted_graph, packs=self.n_packs, quanta=self.n_quanta,
            quanta_present=self.n_present, quanta_not_attempted=self.n_not_attempted,
            quanta_withheld=self.n_withheld, quanta_outdone=self.n_outdone, files=self.n_files,
            bytes=self.n_bytes, files_replaced=len(self.replaced),
            replaced=self.replaced[:named_lines.N_NAMED], init_outputs_kept=self.kept[:named_lines.N_NAMED],
            files_missing=len(self.missing), missing=self.missing[:named_lines.N_NAMED],
            files_conflicting=len(self.conflicts), conflicts=self.conflicts[:named_lines.N_NAMED],
            datasets_ingested=self.n_ingested, datasets_skipped=self.n_skipped,
        )  # fmt: skip
