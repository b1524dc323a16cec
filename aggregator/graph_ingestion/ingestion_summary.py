"""The summary of an ingestion of a graph, which is printed at its end and returned to callers."""

import dataclasses

from aggregator.schemas import summary_document


@dataclasses.dataclass(slots=True)
class IngestionSummary:
    """What an ingestion of a graph did.

    Attributes
    ----------
    run
        The run.
    graph_path
        Where its graph is.
    repository
        Configuration of the repository.
    n_forgotten
        Datasets backed by files of their own that were taken out of the database.
    n_ingested
        Datasets that the graph backs now.
    n_present
        Datasets that it backed before.
    n_deleted
        Original files deleted.
    n_missing
        Original files that were not there.
    n_failed
        Original files that could not be deleted.
    failures
        Some of these, with the reason.
    n_changed
        Original files that stay because they are not what the graph was made from.
    changed
        Some of these.
    n_directories
        Directories removed.
    left
        Directories that stay, with the reason.
    conflicts
        Some of the datasets that the database refused; their files stay.
    n_conflicts
        Number of these datasets.
    elapsed
        Seconds.
    phases
        Seconds that each phase took, in order.
    peak
        Largest memory in bytes.
    """

    run: str
    graph_path: str
    repository: str
    n_forgotten: int = 0
    n_ingested: int = 0
    n_present: int = 0
    n_deleted: int = 0
    n_missing: int = 0
    n_failed: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)
    n_changed: int = 0
    changed: list[str] = dataclasses.field(default_factory=list)
    n_directories: int = 0
    left: list[str] = dataclasses.field(default_factory=list)
    conflicts: list[str] = dataclasses.field(default_factory=list)
    n_conflicts: int = 0
    elapsed: float = 0.0
    phases: dict[str, float] = dataclasses.field(default_factory=dict)
    peak: int = 0

    outcome = "complete"
    """If nothing goes wrong, everything that was asked for is done."""

    def document(self) -> summary_document.GraphIngestion:
        """Return it as programs read it."""
        return summary_document.GraphIngestion(
            run=self.run,
            repository=self.repository,
            provenance_graph=self.graph_path,
            datasets_forgotten=self.n_forgotten,
            datasets_ingested=self.n_ingested,
            datasets_present=self.n_present,
            datasets_conflicting=self.n_conflicts,
            conflicts=self.conflicts,
            files_deleted=self.n_deleted,
            files_missing=self.n_missing,
            files_failed=self.n_failed,
            failures=self.failures,
            files_changed=self.n_changed,
            changed=self.changed,
            directories_removed=self.n_directories,
            directories_left=self.left,
            phases=self.phases,
            peaks={"all": self.peak},
        )

    def lines(self) -> list[str]:
        """Return it as text."""
        phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.phases.items())
        return [
            f"Provenance graph of {self.run}: {self.graph_path}",
            f"Metadata, logs and configs: taken out of the database {self.n_forgotten}, "
            f"backed by the graph {self.n_ingested} now, {self.n_present} before",
            f"Original files deleted: {self.n_deleted}; not there any more: {self.n_missing}; "
            f"kept, as they were changed: {self.n_changed}",
            f"Directories removed: {self.n_directories}",
            *(f"Directory left: {reason}" for reason in self.left),
            f"Elapsed: {self.elapsed:.1f} s ({phases}); peak memory: {self.peak / 1e6:.0f} MB",
        ]
