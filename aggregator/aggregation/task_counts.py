"""Numbers of quanta by task and outcome, and the table that shows them."""

import dataclasses
from collections import Counter

import numpy as np
import numpy.typing as npt

from aggregator.schemas import verdicts
from aggregator.schemas.checkpoints import digest
from aggregator.schemas.execution import statuses as status_codes

_HELD = "Held"
_COLUMNS = {
    title: (verdicts.BLOCKED, None) if status == status_codes.BLOCKED else (verdicts.ACCEPTED, status)
    for status, title in status_codes.TITLES.items()
} | {_HELD: (verdicts.HELD, None)}
_RARE = {_HELD, *(status_codes.TITLES[status] for status in status_codes.RARE)}
"""Columns that are left out if no quantum is in them."""


@dataclasses.dataclass(slots=True)
class TaskCounts:
    """Numbers of quanta.

    Attributes
    ----------
    tasks
        Task labels in pipeline order.
    counts
        Number of quanta of each task by what became of them.
    """

    tasks: tuple[str, ...]
    counts: dict[str, Counter[str]]

    def add(
        self, tasks: npt.NDArray[np.uint16], statuses: npt.NDArray[np.int8], judged: npt.NDArray[np.int8]
    ) -> None:
        """Count quanta, given the task, status and verdict of each."""
        # An accepted quantum that can't be read is recorded as failed.
        statuses = np.where(statuses == digest.UNREADABLE, np.int8(status_codes.FAILED), statuses)
        for name, (verdict, status) in _COLUMNS.items():
            chosen = judged == verdict
            if status is not None:
                chosen &= statuses == status
            for task, count in enumerate(np.bincount(tasks[chosen]).tolist()):
                if count:
                    self.counts[self.tasks[task]][name] += count

    @property
    def n_counted(self) -> int:
        """Number of quanta that were judged."""
        return sum(count.total() for count in self.counts.values())

    @property
    def n_held(self) -> int:
        """Number of quanta that were left for another run."""
        return sum(count[_HELD] for count in self.counts.values())

    @property
    def n_failed(self) -> int:
        """Number of quanta that are recorded as not successful."""
        return sum(count["Failed"] + count["Aborted"] + count["Blocked"] for count in self.counts.values())

    def task_lines(self) -> list[str]:
        """Return the table of tasks as text."""
        columns = [c for c in _COLUMNS if c not in _RARE or self._total(c)]
        width = max([len("Task"), *map(len, self.tasks)])
        result = ["  ".join(["Task".ljust(width), *columns, "Total"])]
        for task in self.tasks:
            count = self.counts[task]
            cells = [str(count[c]).rjust(len(c)) for c in columns]
            result.append("  ".join([task.ljust(width), *cells, str(count.total()).rjust(len("Total"))]))
        return result

    def task_counts(self) -> dict[str, dict[str, int]]:
        """Return the number of quanta of each task by status or verdict, by the names that programs read."""
        return {
            task: {
                title.upper().replace(" ", "_"): n for title in _COLUMNS if (n := self.counts[task][title])
            }
            for task in self.tasks
        }

    def status_counts(self) -> dict[str, int]:
        """Return the same for all tasks together."""
        return dict(sum(map(Counter, self.task_counts().values()), Counter()))

    def _total(self, column: str) -> int:
        return sum(count[column] for count in self.counts.values())
