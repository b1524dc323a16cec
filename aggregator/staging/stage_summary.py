"""What a run of a policy did, for its last words and for callers."""

from __future__ import annotations

import dataclasses
from collections import Counter

from aggregator.schemas import summary_document
from aggregator.stages import job_reports

_TITLES = {
    job_reports.Fate.DONE: "done",
    job_reports.Fate.LACKING: "done without all items",
    job_reports.Fate.EXISTING: "were there",
    job_reports.Fate.FAILED: "failed",
    job_reports.Fate.PENDING: "would be done",
}
_N_NAMED = 10
"""Failures that are named."""


@dataclasses.dataclass(slots=True)
class StageSummary:
    """What a run of a policy did.

    Attributes
    ----------
    policy
        The policy.
    repository
        Configuration of the repository.
    dry_run
        Whether nothing was to be done.
    n_jobs
        Data IDs, with one job each.
    counts
        Jobs by what became of them.
    failures
        The first failures.
    elapsed
        Seconds.
    phases
        Seconds that each phase took, in order.
    """

    policy: str
    repository: str
    dry_run: bool
    n_jobs: int = 0
    counts: Counter[job_reports.Fate] = dataclasses.field(default_factory=Counter)
    failures: list[job_reports.Report] = dataclasses.field(default_factory=list)
    elapsed: float = 0.0
    phases: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """Whether something was to be done."""
        return "dry run" if self.dry_run else "complete"

    @property
    def n_failed(self) -> int:
        """Number of jobs that failed."""
        return self.counts[job_reports.Fate.FAILED]

    @property
    def n_not_begun(self) -> int:
        """Number of jobs of which nothing is known."""
        return self.n_jobs - self.counts.total()

    def add(self, report: job_reports.Report) -> None:
        """Count a job."""
        self.counts[report.fate] += 1
        if report.fate is job_reports.Fate.FAILED and len(self.failures) < _N_NAMED:
            self.failures.append(report)

    def lines(self) -> list[str]:
        """Return it as text."""
        told = {title: self.counts[fate] for fate, title in _TITLES.items()}
        told["not begun"] = self.n_not_begun
        counts = ", ".join(f"{n} {title}" for title, n in told.items() if n) or "there is nothing to do"
        lines = [f"Jobs of {self.policy}: {counts} ({self.elapsed:.1f} s)"]
        for each in self.failures:
            lines.append(f"  {each.shown()}: {each.problem.partition(chr(10))[0]}")
        if self.n_failed > len(self.failures):
            lines.append(f"  ... and {self.n_failed - len(self.failures)} others")
        return lines

    def document(self) -> summary_document.Staging:
        """Return it as programs read it."""
        return summary_document.Staging(
            phases=self.phases,
            peaks={},
            policy=self.policy,
            repository=self.repository,
            dry_run=self.dry_run,
            jobs=self.n_jobs,
            fates={fate.value: n for fate, n in self.counts.items()},
            failures=[f"{each.shown()}: {each.problem}" for each in self.failures],
        )
