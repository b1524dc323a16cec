"""Which failures block which quanta, and how many: what to mend first."""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
import numpy.typing as npt

from aggregator.reading import blocking
from aggregator.reports import quanta
from aggregator.schemas.execution import statuses

NOT_COUNTED: Final = -1
"""Stands for a number of blocked quanta that was not counted, or a cause that is not there."""

_WORD: Final = 64
"""Failures that are counted at once."""

_MAX_WORK: Final = 1 << 28
"""Links that are followed for all words: about two seconds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """Failed quanta of one task with the same status and exception."""

    task: int
    """Position of the task in the pipeline."""

    status: int
    """The status."""

    exception: int
    """Position of the exception in the table, or `quanta.NO_EXCEPTION`."""

    n_quanta: int
    """How many they are."""

    n_blocked: int
    """How many quanta are blocked by any of them, or `NOT_COUNTED`."""

    by_task: dict[int, int]
    """These by their task's position in the pipeline."""

    n_alone: int
    """How many of them nothing else blocks."""

    worst: int
    """Row of the quantum that blocks most."""


@dataclasses.dataclass(frozen=True, slots=True)
class Blockers:
    """Which failures block which quanta."""

    kinds: list[Kind]
    """Kinds of failures: first what blocks most."""

    cause: npt.NDArray[np.int64]
    """For each row of a blocked quantum the row of its first cause; `NOT_COUNTED` elsewhere, shape (n,)."""

    n_blocked: npt.NDArray[np.int64]
    """For each row of a failed quantum how many it blocks; `NOT_COUNTED` elsewhere, shape (n,).

    If there are too many failures to count for each, it is those from which most ways lead to blocked quanta.
    """


def number(value: int) -> int | None:
    """Return a number; nothing for `NOT_COUNTED`."""
    return None if value == NOT_COUNTED else int(value)


def find(table: quanta.QuantumTable) -> Blockers:
    """Return which failures block which quanta.

    Besides the results it needs, while it works, about 30 bytes for each input of a blocked quantum.
    """
    status = table.rows["status"]
    fails = np.zeros(len(status), dtype=np.bool_)
    fails[table.failed] = True
    rows = np.flatnonzero(fails | (status == statuses.BLOCKED))
    fails = fails[rows]
    links = blocking.Blocking(len(rows), *_links(table, rows, fails))
    weights = links.weights(fails)[fails]
    tasks = table.rows["task"][rows].astype(np.int64)
    marks = np.full(links.n, blocking.NONE)
    marks[fails] = np.arange(len(table.failed))
    counts = _count(links, marks, weights, np.zeros_like(tasks))[0]
    n_blocked = np.full(len(status), NOT_COUNTED)
    n_blocked[table.failed] = counts
    cause = np.full(len(status), NOT_COUNTED)
    cause[rows] = _first_causes(links, fails, table)
    return Blockers(_kinds(table, links, fails, weights, tasks, counts), cause, n_blocked)


def _links(
    table: quanta.QuantumTable, rows: npt.NDArray[np.int64], fails: npt.NDArray[np.bool_]
) -> tuple[blocking.Numbers, blocking.Numbers]:
    """Return pairs of a blocked quantum and one that was to write an input of it, by positions in `rows`."""
    numbers = np.full(len(table.rows), -1, dtype=np.int32)
    numbers[rows] = np.arange(len(rows))
    keys, owners = _select(table.outputs, numbers)
    order = np.argsort(keys)
    keys, owners = keys[order], owners[order]
    numbers[rows[fails]] = -1
    children, parents = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    first = 0
    for part in table.inputs:
        n = len(part.counts)
        inputs, readers = _select([part], numbers[first : first + n])
        first += n
        if len(keys) and len(inputs):
            places = np.minimum(np.searchsorted(keys, inputs), len(keys) - 1)
            chosen = keys[places] == inputs
            pairs = np.unique(readers[chosen].astype(np.int64) << 32 | owners[places[chosen]])
            children.append(pairs >> 32)
            parents.append(pairs & 0xFFFFFFFF)
    return np.concatenate(children), np.concatenate(parents)


def _select(
    parts: list[quanta.Links], numbers: npt.NDArray[np.int32]
) -> tuple[quanta.Keys, npt.NDArray[np.int32]]:
    """Return the keys of the datasets of those quanta that have a number, and whose each is."""
    keys, owners = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.int32)]
    first = 0
    for part in parts:
        n = len(part.counts)
        owner = np.repeat(numbers[first : first + n], part.counts)
        chosen = owner >= 0
        keys.append(part.keys[chosen])
        owners.append(owner[chosen])
        first += n
    return np.concatenate(keys), np.concatenate(owners)


def _first_causes(
    links: blocking.Blocking, fails: npt.NDArray[np.bool_], table: quanta.QuantumTable
) -> npt.NDArray[np.int64]:
    """Return the row of the first cause of each blocked quantum; of several, that with the lowest id."""
    order = np.argsort(table.failed_ids)
    marks = np.full(links.n, blocking.NONE)
    marks[np.flatnonzero(fails)[order]] = np.arange(len(order))
    nearest = links.first_causes(marks)
    result = np.full(links.n, NOT_COUNTED)
    chosen = ~fails & (nearest != blocking.NONE)
    result[chosen] = table.failed[order[nearest[chosen]]]
    return result


def _count(
    links: blocking.Blocking,
    marks: blocking.Numbers,
    weights: npt.NDArray[np.float64],
    tasks: blocking.Numbers,
) -> blocking.Numbers:
    """Return how many quanta of each task are blocked by failures with each mark.

    Parameters
    ----------
    links
        What leads from failures to blocked quanta.
    marks
        Marks of failures.
    weights
        Which marks are counted if there are too many for all: those with large ones; shape (m,).
    tasks
        Task of each quantum, or zeros.

    Returns
    -------
    counts
        Numbers of quanta, or `NOT_COUNTED`, shape (tasks, m).
    """
    n_most = _WORD * max(1, _MAX_WORK // (links.n_links + links.n + 1))
    chosen = np.argsort(-weights, kind="stable")[:n_most]
    numbers = np.full(len(weights), blocking.NONE)
    numbers[chosen] = np.arange(len(chosen))
    n_tasks = int(tasks.max(initial=0)) + 1
    result = np.full((n_tasks, len(weights)), NOT_COUNTED)
    if len(chosen):
        counted = np.where(marks == blocking.NONE, blocking.NONE, numbers[marks])
        result[:, chosen] = links.count(counted, len(chosen), tasks, n_tasks)
    return result


def _kinds(
    table: quanta.QuantumTable,
    links: blocking.Blocking,
    fails: npt.NDArray[np.bool_],
    weights: npt.NDArray[np.float64],
    tasks: blocking.Numbers,
    n_blocked: blocking.Numbers,
) -> list[Kind]:
    """Return the kinds of failures, first what blocks most."""
    names, kind_of = np.unique(table.rows[table.failed][["task", "status", "exception"]], return_inverse=True)
    n = len(names)
    marks = np.full(links.n, blocking.NONE)
    marks[fails] = kind_of
    kind_weights = np.bincount(kind_of, weights, minlength=n).astype(np.float64)
    by_task = _count(links, marks, kind_weights, tasks)
    only = links.only_causes(marks)
    n_alone = np.bincount(only[only != blocking.NONE], minlength=n).tolist()
    # The last of each kind in this order blocks most; of several, it is the first in the file.
    order = np.lexsort((-np.arange(len(kind_of)), n_blocked, kind_of))
    worst = order[np.searchsorted(kind_of[order], np.arange(n), side="right") - 1]
    kinds = [
        Kind(
            task=int(names["task"][i]),
            status=int(names["status"][i]),
            exception=int(names["exception"][i]),
            n_quanta=int(count),
            n_blocked=int(by_task[:, i].sum()) if by_task[0, i] != NOT_COUNTED else NOT_COUNTED,
            by_task={task: int(by_task[task, i]) for task in np.flatnonzero(by_task[:, i] > 0).tolist()},
            n_alone=n_alone[i],
            worst=int(table.failed[worst[i]]),
        )
        for i, count in enumerate(np.bincount(kind_of, minlength=n))
    ]
    return sorted(kinds, key=lambda kind: (-kind.n_blocked, -kind.n_quanta))
