"""The summary of an aggregation, which is printed at its end and returned to callers."""

import dataclasses
import os
from collections import Counter

import numpy as np
import numpy.typing as npt

from aggregator.aggregation import configuration, task_counts
from aggregator.schemas import messages, summary_document, verdicts
from aggregator.storage import errors

_N_NAMED = 10
"""Problems that an error names; there may be a million of them."""

_MANY = 10
"""Quanta of a task that hardly all die without a trace."""


@dataclasses.dataclass(slots=True)
class Summary(task_counts.TaskCounts):
    """What an aggregation did.

    Attributes
    ----------
    tasks
        Task labels in pipeline order.
    counts
        Number of quanta of each task by what became of them.
    run
        The run.
    predicted_graph
        The predicted graph.
    repository
        Configuration of the repository.
    dry_run
        Whether the database was to be left as it was.
    incomplete
        Whether execution goes on.
    unreadable_fails
        Whether quanta whose files can't be read are recorded as failed.
    wants_graph
        Whether a provenance graph was asked for.
    has_begun
        Whether scanning began; otherwise there is nothing to tell.
    n_shards
        Number of its shards.
    n_judged_shards
        Number of those that the run came to.
    n_quanta
        Number of quanta of the graph.
    n_ingested
        Datasets brought into the database; after a dry run, those that would have been.
    n_skipped
        Datasets that were there already.
    n_again
        Datasets that had gone from the database after they were committed, and are in it again.
    n_reused
        Quanta known from an earlier run.
    n_stale
        Datasets that are in the database, but would not be brought in any more.
    stale
        Ids of some of them.
    n_conflicts
        Datasets that the database refused.
    conflicts
        Why it did, for the first ones.
    n_problems
        Quanta with files that could not be read.
    problems
        The first ones of these files.
    n_absent
        Quanta of which neither log nor metadata exist.
    absent
        Those of each task that were to run.
    problem_list
        File that lists all of them.
    checkpoint
        Where the checkpoint is; nothing if it was removed, or is a temporary one.
    graph_path
        Where the provenance graph is; nothing if none was written.
    graph_size
        Its size in bytes.
    elapsed
        Seconds.
    phases
        Seconds that each phase took, in order.
    cpu
        CPU seconds of all processes.
    peaks
        Largest memory of each process in bytes; "all" if there is just one.
    """

    run: str = ""
    predicted_graph: str = ""
    repository: str = ""
    dry_run: bool = False
    incomplete: bool = False
    unreadable_fails: bool = False
    wants_graph: bool = False
    has_begun: bool = False
    n_shards: int = 0
    n_judged_shards: int = 0
    n_quanta: int = 0
    n_ingested: int = 0
    n_skipped: int = 0
    n_again: int = 0
    n_reused: int = 0
    n_stale: int = 0
    stale: list[str] = dataclasses.field(default_factory=list)
    n_conflicts: int = 0
    conflicts: list[str] = dataclasses.field(default_factory=list)
    n_problems: int = 0
    problems: list[messages.Problem] = dataclasses.field(default_factory=list)
    n_absent: int = 0
    absent: Counter[str] = dataclasses.field(default_factory=Counter)
    problem_list: str | None = None
    checkpoint: str | None = None
    graph_path: str | None = None
    graph_size: int = 0
    elapsed: float = 0.0
    phases: dict[str, float] = dataclasses.field(default_factory=dict)
    cpu: float = 0.0
    peaks: dict[str, int] = dataclasses.field(default_factory=dict)

    def note_absent(self, scanned: messages.ShardScanned, judged: npt.NDArray[np.int8]) -> None:
        """Count quanta that have left neither log nor metadata, given their verdicts."""
        absent = np.frombuffer(scanned.absent, dtype=bool)
        self.n_absent += int(absent.sum())
        chosen = tasks_of(scanned)[absent & (judged == verdicts.ACCEPTED)]
        for task, count in enumerate(np.bincount(chosen).tolist()):
            self.absent[self.tasks[task]] += count

    @property
    def warnings(self) -> list[str]:
        """What looks as if files were not where they should be."""
        if self.incomplete or not self.n_counted:
            return []
        if self.n_absent == self.n_counted:
            return [
                f"not one log or metadata file of {self.n_absent} quanta exists, so all of them are recorded "
                "as failed or blocked. Look whether every file system is mounted."
            ]
        result = []
        for task, count in self.counts.items():
            n_run = count.total() - count["Blocked"] - count["Held"]
            if n_run >= _MANY and self.absent[task] == n_run:
                result.append(
                    f"not one log or metadata file of the {n_run} quanta of {task} exists that were to run; "
                    "they are recorded as failed. Look whether every file system is mounted."
                )
        return result

    def add_problems(self, problems: list[messages.Problem]) -> None:
        """Count files that could not be read, and keep the first ones."""
        self.n_problems += len(problems)
        self.problems += problems[: _N_NAMED - len(self.problems)]

    def add_conflicts(self, reasons: list[str]) -> None:
        """Count datasets that the database refused, and keep the first reasons."""
        self.n_conflicts += len(reasons)
        self.conflicts += reasons[: _N_NAMED - len(self.conflicts)]

    @property
    def outcome(self) -> str:
        """What it is called if nothing went wrong."""
        return "dry run" if self.dry_run else "incomplete" if self.incomplete else "complete"

    def document(self) -> summary_document.Aggregation:
        """Return it as programs read it."""
        return summary_document.Aggregation(
            run=self.run,
            predicted_graph=self.predicted_graph,
            repository=self.repository,
            dry_run=self.dry_run,
            incomplete=self.incomplete,
            shards=self.n_shards,
            shards_judged=self.n_judged_shards,
            quanta=self.n_quanta,
            quanta_judged=self.n_counted,
            quanta_reused=self.n_reused,
            quanta_held=self.n_held,
            quanta_unreadable=self.n_problems,
            statuses=self.status_counts(),
            tasks=self.task_counts(),
            datasets_ingested=self.n_ingested,
            datasets_skipped=self.n_skipped,
            datasets_again=self.n_again,
            datasets_stale=self.n_stale,
            stale=self.stale,
            datasets_conflicting=self.n_conflicts,
            conflicts=self.conflicts,
            unreadable=[summary_document.Unreadable(p.path, p.reason) for p in self.problems],
            unreadable_list=self._listing(),
            warnings=self.warnings,
            provenance_graph=self.graph_path,
            provenance_graph_size=self.graph_size,
            checkpoint=self.checkpoint,
            phases=self.phases,
            peaks=self.peaks,
        )

    def _listing(self) -> str | None:
        """Return the list of files that can't be read, unless it has gone with the checkpoint."""
        return self.problem_list if self.problem_list and os.path.exists(self.problem_list) else None

    def lines(self) -> list[str]:
        """Return the table of tasks and the totals, as text."""
        result = [*self.task_lines(), ""]
        if n_left := self.n_quanta - self.n_counted:
            result.append(f"Quanta that were not come to: {n_left} of {self.n_quanta}")
        if self.dry_run:
            result.append(
                f"Datasets that would be ingested, unless they are there already: {self.n_ingested}"
            )
            result.append("This was a dry run: the database is as it was.")
        else:
            result.append(f"Datasets ingested: {self.n_ingested}; already there: {self.n_skipped}")
        if self.n_again:
            result.append(f"Datasets that had gone from the database, and are in it again: {self.n_again}")
        if self.n_stale:
            result.append(
                f"Datasets in the database that are judged not to belong there any more: {self.n_stale} "
                f"({', '.join(self.stale)}{', ...' if self.n_stale > len(self.stale) else ''})"
            )
        result += [f"Warning: {warning}" for warning in self.warnings]
        if self.n_reused:
            result.append(f"Quanta known from an earlier run: {self.n_reused}")
        if self.n_problems:
            result.append(f"Quanta whose files can't be read: {self.n_problems}")
        result.append(f"Provenance graph: {self._graph()}")
        phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.phases.items())
        result.append(f"Elapsed: {self.elapsed:.1f} s ({phases}), CPU: {self.cpu:.1f} s")
        if self.peaks:
            peaks = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in self.peaks.items())
            result.append(f"Peak memory in MB: {peaks}")
        return result

    def _graph(self) -> str:
        """Return where the graph is, or why there is none."""
        if self.graph_path is not None:
            return f"{self.graph_path} ({self.graph_size / 1e6:.1f} MB)"
        if self.incomplete:
            return "none yet, since not all quanta count as attempted"
        if not self.wants_graph:
            return "none was asked for (-o FILE)"
        return "not written, as quanta are held" if self.n_held else "not written"


def empty(tasks: tuple[str, ...], config: configuration.AggregatorConfig | None = None) -> Summary:
    """Return a summary in which nothing has happened yet.

    Parameters
    ----------
    tasks
        Task labels in pipeline order.
    config
        Options of the run.
    """
    config = config or configuration.AggregatorConfig()
    return Summary(
        tasks,
        {task: Counter() for task in tasks},
        dry_run=config.dry_run,
        incomplete=config.incomplete,
        unreadable_fails=config.unreadable == "failed",
        wants_graph=config.output_path is not None,
    )


def statuses_of(scanned: messages.ShardScanned) -> npt.NDArray[np.int8]:
    """Return the statuses in a scanner's report."""
    return np.frombuffer(scanned.statuses, dtype=np.int8)


def tasks_of(scanned: messages.ShardScanned) -> npt.NDArray[np.uint16]:
    """Return the task indices in a scanner's report."""
    return np.frombuffer(scanned.tasks, dtype="<u2")


def check_complete(done: Summary) -> None:
    """Raise an error if something was left that another run must do.

    Raises
    ------
    HeldError
        If quanta are held.
    ConflictError
        If there are conflicts.
    """
    if done.n_conflicts:
        what = "1 dataset" if done.n_conflicts == 1 else f"{done.n_conflicts} datasets"
        raise errors.ConflictError(
            "\n  ".join([f"{what} could not be ingested, all others were.", *done.conflicts])
        )
    if done.n_problems and not done.unreadable_fails and not done.incomplete:
        what = "1 quantum has" if done.n_problems == 1 else f"{done.n_problems} quanta have"
        others = "would be ingested" if done.dry_run else "is saved"
        # The first line tells all, since `status` has no more of it.
        text = (
            f"{what} files that can't be read. Quanta held for that, with those that come after: "
            f"{done.n_held}; everything else {others}. Repair the files and run again, or record such quanta "
            f"as failed with --unreadable=failed. The files are listed in {done.problem_list}"
        )
        raise errors.HeldError("\n  ".join([text, *(f"{p.path}: {p.reason}" for p in done.problems)]))
