"""The run over time: how many attempts were under way, and how many ended."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from aggregator.reports import document, quanta
from aggregator.schemas.execution import statuses

_MAX_BINS = 600
_MIN_BINS = 240
_MAX_TASK_BINS = 24_000
"""Bins of all tasks together, unless there are so many tasks that each has the least number."""

_WIDTHS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
"""Lengths of bins in seconds; longer ones are multiples of the last."""

_SUCCESSES = (statuses.SUCCESSFUL, statuses.ABORTED_SUCCESS)

Times = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Attempts:
    """All attempts whose times are on record."""

    start: Times
    """When each began, POSIX seconds, shape (n,)."""

    end: Times
    """When each ended, shape (n,)."""

    succeeded: npt.NDArray[np.bool_]
    """Whether it was successful, shape (n,)."""

    task: npt.NDArray[np.uint16]
    """Position of its task in the pipeline, shape (n,)."""


def attempts(table: quanta.QuantumTable) -> Attempts:
    """Return all attempts whose times are on record."""
    start = np.concatenate([table.rows["start"], table.earlier["start"]])
    end = np.concatenate([table.end, table.earlier["end"]])
    status = np.concatenate([table.rows["status"], table.earlier["status"]])
    task = np.concatenate([table.rows["task"], table.rows["task"][table.earlier["row"]]])
    has_times = np.isfinite(start) & np.isfinite(end)
    start = start[has_times]
    return Attempts(
        start, np.maximum(end[has_times], start), np.isin(status[has_times], _SUCCESSES), task[has_times]
    )


def peak(times: Attempts) -> int:
    """Return the largest number of attempts at the same time."""
    if not len(times.start):
        return 0
    starts, ends = np.sort(times.start), np.sort(times.end)
    # Whoever begins when another ends takes its place.
    ended = np.minimum(np.searchsorted(ends, starts, side="right"), np.arange(len(starts)))
    return int((np.arange(1, len(starts) + 1) - ended).max())


def make(times: Attempts, labels: list[str]) -> document.Timeline | None:
    """Return the run over time; nothing if no times are on record.

    Parameters
    ----------
    times
        All attempts.
    labels
        Labels of all tasks.
    """
    if not len(times.start):
        return None
    tasks = np.unique(times.task)
    first, last = float(times.start.min()), float(times.end.max())
    width = _width(last - first, max(_MIN_BINS, min(_MAX_BINS, _MAX_TASK_BINS // len(tasks))))
    first -= first % width
    n_bins = max(1, int(np.ceil((last - first) / width)))
    edges = (first + width * np.arange(n_bins + 1)).astype(np.float64)
    order = np.argsort(times.task, kind="stable")
    bounds = np.searchsorted(times.task[order], tasks)
    return document.Timeline(
        iso(first),
        float(width),
        *_count(times, slice(None), edges),
        [_of_task(labels[i], *_count(times, chosen, edges)) for i, chosen in _split(tasks, order, bounds)],
    )


def _split(
    tasks: npt.NDArray[np.uint16], order: npt.NDArray[np.int64], bounds: npt.NDArray[np.int64]
) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    return zip(tasks.tolist(), np.split(order, bounds[1:]), strict=True)


def _count(
    times: Attempts, chosen: slice | npt.NDArray[np.int64], edges: Times
) -> tuple[list[float], list[int], list[int]]:
    """Return concurrency, ends of successes, and other ends in each bin."""
    starts, ends, succeeded = times.start[chosen], times.end[chosen], times.succeeded[chosen]
    n_bins = len(edges) - 1
    busy = np.diff(_seconds_until(edges, starts) - _seconds_until(edges, ends))
    places = np.clip(np.searchsorted(edges, ends) - 1, 0, n_bins - 1)
    return (
        np.round(busy / (edges[1] - edges[0]), 3).tolist(),
        np.bincount(places[succeeded], minlength=n_bins).tolist(),
        np.bincount(places[~succeeded], minlength=n_bins).tolist(),
    )


def _of_task(
    label: str, concurrency: list[float], succeeded: list[int], failed: list[int]
) -> document.TaskTimeline:
    """Return a task's timeline without the bins before and after it ran."""
    used = [i for i, values in enumerate(zip(concurrency, succeeded, failed, strict=True)) if any(values)]
    part = slice(used[0], used[-1] + 1)
    return document.TaskTimeline(label, used[0], concurrency[part], succeeded[part], failed[part])


def iso(seconds: float) -> str:
    """Return a time, POSIX seconds, as ISO 8601 UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat().replace("+00:00", "Z")


def _width(span: float, n_bins: int) -> int:
    least = span / n_bins
    longest = _WIDTHS[-1]
    return next((width for width in _WIDTHS if width >= least), longest * int(np.ceil(least / longest)))


def _seconds_until(edges: Times, moments: Times) -> Times:
    """Return the sum of all times that have passed since the moments before each edge."""
    # Relative to the first edge, sums keep their precision.
    moments = np.sort(moments) - edges[0]
    sums = np.concatenate([[0.0], np.cumsum(moments)])
    places = np.searchsorted(moments, edges - edges[0])
    result: Times = places * (edges - edges[0]) - sums[places]
    return result
