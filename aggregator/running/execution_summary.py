"""What an execution did, for its last words and for callers."""

from __future__ import annotations

import dataclasses
import signal
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from aggregator.execution import quantum_attempts, task_errors
from aggregator.schemas import summary_document

if TYPE_CHECKING:
    from aggregator.aggregation import aggregation_summary

_TITLES = {
    quantum_attempts.Fate.SUCCEEDED: "succeeded",
    quantum_attempts.Fate.EXISTING: "had succeeded before",
    quantum_attempts.Fate.FAILED: "failed",
    quantum_attempts.Fate.TIMED_OUT: "took too long",
    quantum_attempts.Fate.BLOCKED: "blocked",
}

_N_NAMED = 10
"""Failures that are named."""


@dataclasses.dataclass(slots=True)
class ExecutionSummary:
    """What an execution did.

    Attributes
    ----------
    run
        The run.
    predicted_graph
        The predicted graph.
    repository
        Configuration of the repository.
    n_quanta
        Quanta that were to be executed.
    counts
        Number of quanta of each task by what became of them.
    failures
        The first failures.
    n_killed
        Quanta whose process was killed by another one, or for want of memory.
    n_in_use
        Quanta that another process executes, too; nothing was put on record here.
    n_init_written
        Init outputs written.
    n_init_kept
        Init outputs that were there.
    elapsed
        Seconds.
    phases
        Seconds that each phase took, in order.
    peaks
        Largest memory of each process in bytes.
    aggregation
        What an aggregation did that has followed it.
    """

    run: str
    predicted_graph: str
    repository: str
    n_quanta: int = 0
    counts: dict[str, Counter[quantum_attempts.Fate]] = dataclasses.field(default_factory=dict)
    failures: list[quantum_attempts.Report] = dataclasses.field(default_factory=list)
    n_killed: int = 0
    n_in_use: int = 0
    n_init_written: int = 0
    n_init_kept: int = 0
    elapsed: float = 0.0
    phases: dict[str, float] = dataclasses.field(default_factory=dict)
    peaks: Mapping[str, int] = dataclasses.field(default_factory=dict)
    aggregation: aggregation_summary.Summary | None = None

    outcome = "complete"

    def add(self, report: quantum_attempts.Report) -> None:
        """Count a quantum."""
        self.counts.setdefault(report.task_label, Counter())[report.fate] += 1
        self.n_killed += report.fate is quantum_attempts.Fate.FAILED and report.exit_code == -signal.SIGKILL
        self.n_in_use += report.exception is not None and report.exception.type_name == task_errors.IN_USE
        if report.exception is not None and len(self.failures) < _N_NAMED:
            self.failures.append(report)

    def total(self, *fates: quantum_attempts.Fate) -> int:
        """Return the number of quanta of which this became, or of all that something became of."""
        return sum(each[fate] for each in self.counts.values() for fate in fates or _TITLES)

    @property
    def n_failed(self) -> int:
        """Number of quanta that failed or took too long."""
        return self.total(quantum_attempts.Fate.FAILED, quantum_attempts.Fate.TIMED_OUT)

    def lines(self) -> list[str]:
        """Return it as text."""
        lines = []
        if self.n_init_written or self.n_init_kept:
            lines.append(f"Init outputs: {self.n_init_written} written, {self.n_init_kept} were there")
        if self.n_quanta:
            told = {title: self.total(fate) for fate, title in _TITLES.items()}
            told["not begun"] = self.n_quanta - self.total()
            counts = ", ".join(f"{n} {title}" for title, n in told.items() if n)
            lines.append(f"Quanta of run {self.run}: {counts} ({self.elapsed:.1f} s)")
        for each in self.failures:
            assert each.exception is not None
            values = ", ".join(f"{name}={value}" for name, value in each.data_id.items())
            text = each.exception.message.partition("\n")[0]
            lines.append(f"  {each.task_label} ({values}): {each.exception.type_name}: {text}")
        if self.n_failed > len(self.failures) > 0:
            lines.append(f"  ... and {self.n_failed - len(self.failures)} others")
        return lines + (self.aggregation.lines() if self.aggregation else [])

    def document(self) -> summary_document.Execution:
        """Return it as programs read it."""
        return summary_document.Execution(
            phases=self.phases,
            peaks=dict(self.peaks),
            run=self.run,
            predicted_graph=self.predicted_graph,
            repository=self.repository,
            quanta=self.n_quanta,
            fates={
                label: {fate.value: n for fate, n in counts.items()} for label, counts in self.counts.items()
            },
            init_outputs_written=self.n_init_written,
            init_outputs_kept=self.n_init_kept,
            aggregation=self.aggregation.document() if self.aggregation else None,
        )
