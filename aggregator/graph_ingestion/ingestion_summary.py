"""What an ingestion of a graph did, for its last words and for callers."""

import dataclasses


@dataclasses.dataclass(slots=True)
class Summary:
    """What an ingestion of a graph did."""

    run: str
    """The run."""

    graph_path: str
    """Where its graph is."""

    n_forgotten: int = 0
    """Datasets backed by files of their own that were taken out of the database."""

    n_ingested: int = 0
    """Datasets that the graph backs now."""

    n_present: int = 0
    """Datasets that it backed before."""

    n_deleted: int = 0
    """Original files deleted."""

    n_missing: int = 0
    """Original files that were not there."""

    n_failed: int = 0
    """Original files that could not be deleted."""

    failures: list[str] = dataclasses.field(default_factory=list)
    """Some of these, with the reason."""

    n_changed: int = 0
    """Original files that stay because they are not what the graph was made from."""

    changed: list[str] = dataclasses.field(default_factory=list)
    """Some of these."""

    n_directories: int = 0
    """Directories removed."""

    left: list[str] = dataclasses.field(default_factory=list)
    """Directories that stay, with the reason."""

    conflicts: list[str] = dataclasses.field(default_factory=list)
    """Some of the datasets that the database refused; their files stay."""

    n_conflicts: int = 0
    """Number of these datasets."""

    elapsed: float = 0.0
    """Seconds."""

    phases: dict[str, float] = dataclasses.field(default_factory=dict)
    """Seconds that each phase took, in order."""

    peak: int = 0
    """Largest memory in bytes."""

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
