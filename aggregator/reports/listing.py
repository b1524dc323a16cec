"""The quanta that a report lists one by one; each is read from the graph when its turn comes."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from aggregator.butler.dimensions import universe
from aggregator.reports import blockers, caveat_codes, quanta, selection
from aggregator.schemas.execution import statuses
from aggregator.schemas.graphs import nodes, pipeline, provenance_graph

NO_EXCEPTION = "None"
"""How the reference calls the group of quanta without exception."""


class LogPlace(msgspec.Struct, frozen=True):
    """Where the log of a quantum is: in the graph."""

    dataset_id: str
    """Id of the log dataset."""
    dataset_type: str
    """Its dataset type."""
    offset: int
    """Where its block begins in the member `logs.mb`, bytes."""
    size: int
    """Size of the block, bytes."""


class ListedQuantum(msgspec.Struct, frozen=True):
    """A quantum that is listed, with its last attempt."""

    task: str
    """Task label."""
    status: str
    """Name of its status."""
    quantum_id: str
    """UUID."""
    data_id: dict[str, int | str]
    """Values of the required dimensions."""
    n_attempts: int
    """Attempts, 0 if it is blocked."""
    caveats: list[str]
    """Names of the caveats of a success."""
    exception: str | None
    """Full name of the exception's class; nothing if none is on record."""
    message: str | None
    """Its text."""
    start: str | None
    """When the attempt began, ISO 8601."""
    run_time: float | None
    """Seconds that the task ran."""
    memory: float | None
    """Largest resident set of the process, bytes."""
    log: LogPlace | None
    """Where its log is; nothing if it left none."""
    n_blocked: int | None
    """How many quanta it blocks; nothing if it did not fail, or too many did to count for each."""
    cause: str | None
    """If it is blocked, the id of the failed quantum nearest above; nothing if none is on record."""


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Listed quanta of a task with the same status and exception."""

    task: pipeline.Task
    """The task."""

    status: str
    """Name of the status."""

    exception: str | None
    """Full name of the exception's class."""

    rows: npt.NDArray[np.int64]
    """Rows of the quanta in the table, in file order."""


class Listing:
    """The quanta that are listed: by task, status and exception, then in file order.

    Parameters
    ----------
    graph
        The graph, which stays open.
    table
        All its quanta.
    blocked
        Which failures block which of them.
    choice
        Which are listed.
    """

    def __init__(
        self,
        graph: provenance_graph.ProvenanceGraph,
        table: quanta.QuantumTable,
        blocked: blockers.Blockers,
        choice: selection.Selection,
    ) -> None:
        self.blocked = blocked
        self.choice = choice
        self._graph = graph
        self._table = table
        self._universe = universe.Universe.from_config(graph.pipeline.universe)
        self._tasks = {task.label: task for task in graph.pipeline.tasks}
        rows = choice.rows(table)
        fields = table.rows[rows]
        order = np.lexsort((rows, fields["exception"], fields["status"], fields["task"]))
        self._rows = rows[order]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[ListedQuantum]:
        return map(self.read, self._rows.tolist())

    def of(self, choice: selection.Selection) -> Listing:
        """Return the listing of other quanta of the same graph."""
        return Listing(self._graph, self._table, self.blocked, choice)

    def groups(self) -> Iterator[Group]:
        """Yield the groups, in order."""
        keys = self._table.rows[self._rows][["task", "status", "exception"]]
        bounds = [0, *(np.flatnonzero(keys[1:] != keys[:-1]) + 1).tolist(), len(keys)]
        for begin, end in itertools.pairwise(bounds):
            if begin < end:
                task, status, exception = keys[begin].item()
                yield Group(
                    self._graph.pipeline.tasks[task],
                    statuses.NAMES[status],
                    self._table.exception(exception),
                    self._rows[begin:end],
                )

    def dimensions(self, task: pipeline.Task) -> tuple[str, ...]:
        """Return the required dimensions of a task's data IDs."""
        return self._universe.group(task.dimensions).required

    def all_dimensions(self) -> list[str]:
        """Return the required dimensions of all tasks, in the order in which tasks bring them up."""
        return list(dict.fromkeys(name for task in self._tasks.values() for name in self.dimensions(task)))

    def quantum(self, row: int) -> nodes.Quantum:
        """Return a quantum as the graph has it."""
        return self._graph.quantum_at(*self._table.rows[["offset", "size"]][row].item())

    def data_id(self, quantum: nodes.Quantum) -> dict[str, int | str]:
        """Return the full data ID of a quantum, required dimensions first."""
        keys = self._universe.group(self._tasks[quantum.task_label].dimensions).keys
        return dict(zip(keys, nodes.coordinate_values(quantum.data_coordinate), strict=True))

    def read(self, row: int) -> ListedQuantum:
        """Return a listed quantum."""
        quantum = self.quantum(row)
        last = quantum.attempts[-1] if quantum.attempts else nodes.Attempt()
        exception, usage = last.exception, last.resource_usage
        data_id = self.data_id(quantum)
        task = self._tasks[quantum.task_label]
        return ListedQuantum(
            task=quantum.task_label,
            status=statuses.NAMES[quantum.status],
            quantum_id=quantum.quantum_id,
            data_id={name: data_id[name] for name in self.dimensions(task)},
            n_attempts=len(quantum.attempts),
            caveats=caveat_codes.names(last.caveats or 0),
            exception=None if exception is None else exception.type_name,
            message=None if exception is None else exception.message,
            start=None if usage is None else usage.start,
            run_time=None if usage is None else usage.run_time,
            memory=None if usage is None else usage.memory,
            log=self._log(task, quantum),
            n_blocked=blockers.number(self.blocked.n_blocked[row]),
            cause=None if (cause := self.cause(row)) is None else self._table.failed_id(cause),
        )

    def n_blocked(self, group: Group) -> npt.NDArray[np.int64]:
        """Return how many quanta each of a group blocks, or `blockers.NOT_COUNTED`."""
        chosen: npt.NDArray[np.int64] = self.blocked.n_blocked[group.rows]
        return chosen

    def cause(self, row: int) -> int | None:
        """Return the row of the first cause of a blocked quantum; nothing if there is none on record."""
        return blockers.number(self.blocked.cause[row])

    def _log(self, task: pipeline.Task, quantum: nodes.Quantum) -> LogPlace | None:
        ids = quantum.outputs.get(pipeline.LOG_CONNECTION)
        if not ids or not quantum.attempts or task.log_type is None:
            return None
        offset, size = self._graph.address(ids[0], nodes.LOGS)
        if not size or not self._graph.dataset(ids[0]).produced:
            return None
        return LogPlace(ids[0], task.log_type, offset, size)
