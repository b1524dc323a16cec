"""What a build did, for its last words and for callers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from aggregator.schemas import summary_document


@dataclasses.dataclass(frozen=True, slots=True)
class BuildSummary:
    """What a build did.

    Attributes
    ----------
    run
        The output run.
    pipeline
        The pipeline.
    repository
        Configuration of the repository.
    predicted_graph
        Where the graph is, or would be.
    dry_run
        Whether no graph was to be written.
    task_counts
        Number of quanta of each task.
    n_skipped
        Quanta of each task that are left out because they have succeeded before.
    n_without_work
        Quanta of each task that are left out because they lack inputs.
    n_kept
        Outputs of earlier attempts that are to be replaced.
    n_datasets
        Number of datasets.
    n_edges
        Pairs of quanta of which one reads what the other writes.
    elapsed
        Seconds.
    """

    run: str
    pipeline: str
    repository: str
    predicted_graph: str
    dry_run: bool
    task_counts: Mapping[str, int]
    n_skipped: Mapping[str, int]
    n_without_work: Mapping[str, int]
    n_kept: int
    n_datasets: int
    n_edges: int
    elapsed: float

    @property
    def outcome(self) -> str:
        """Whether a graph was written."""
        return "dry run" if self.dry_run else "complete"

    @property
    def n_quanta(self) -> int:
        """Number of quanta."""
        return sum(self.task_counts.values())

    def lines(self) -> list[str]:
        """Return it as text."""
        counts = ", ".join(f"{label} {n}" for label, n in self.task_counts.items())
        verb = "Would write" if self.dry_run else "Wrote"
        head = (
            f"{verb} {self.predicted_graph}: {self.n_quanta} quanta ({counts}), {self.n_datasets} datasets, "
        )
        lines = [f"{head}{self.n_edges} edges, for run {self.run} ({self.elapsed:.1f} s)"]
        lines += _left_out(self.n_skipped, "have succeeded before")
        lines += _left_out(self.n_without_work, "lack inputs")
        if self.n_kept:
            lines.append(f"To be replaced: {self.n_kept} outputs of earlier attempts")
        if not self.n_quanta:
            lines.append(self._emptiness())
        return lines

    def _emptiness(self) -> str:
        if any(self.n_without_work.values()):
            return "There is nothing to do: all quanta that the query leaves lack inputs."
        if any(self.n_skipped.values()):
            return "There is nothing to do: all quanta have succeeded before."
        return (
            "There is nothing to do: no data ID has all inputs that the pipeline begins with and fulfils the "
            "data "
            "query. Look at the input collections, and try parts of the query."
        )

    def document(self) -> summary_document.Build:
        """Return it as programs read it."""
        return summary_document.Build(
            phases={"building": self.elapsed},
            peaks={},
            run=self.run,
            pipeline=self.pipeline,
            repository=self.repository,
            predicted_graph=self.predicted_graph,
            dry_run=self.dry_run,
            quanta=self.n_quanta,
            tasks=dict(self.task_counts),
            skipped=dict(self.n_skipped),
            without_work=dict(self.n_without_work),
            datasets=self.n_datasets,
            edges=self.n_edges,
        )


def _left_out(counts: Mapping[str, int], reason: str) -> list[str]:
    texts = [f"{label} {n}" for label, n in counts.items() if n]
    return [f"Left out since they {reason}: {', '.join(texts)}"] if texts else []
