"""The run over time: how many attempts were under way, and how many ended."""

from __future__ import annotations

import dataclasses
import datetime

import numpy as np
import numpy.typing as npt

from aggregator.reports import document, quanta
from schemas import statuses

_MAX_BINS = 240
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


def attempts(table: quanta.QuantumTable) -> Attempts:
    """Return all attempts whose times are on record."""
    start = np.concatenate([table.rows["start"], table.earlier["start"]])
    end = np.concatenate([table.end, table.earlier["end"]])
    status = np.concatenate([table.rows["status"], table.earlier["status"]])
    known = np.isfinite(start) & np.isfinite(end)
    start = start[known]
    return Attempts(start, np.maximum(end[known], start), np.isin(status[known], _SUCCESSES))


def peak(found: Attempts) -> int:
    """Return the largest number of attempts at the same time."""
    if not len(found.start):
        return 0
    starts, ends = np.sort(found.start), np.sort(found.end)
    # Whoever begins when another ends takes its place.
    ended = np.minimum(np.searchsorted(ends, starts, side="right"), np.arange(len(starts)))
    return int((np.arange(1, len(starts) + 1) - ended).max())


def make(found: Attempts) -> document.Timeline | None:
    """Return the run over time; nothing if no times are on record."""
    if not len(found.start):
        return None
    first, last = float(found.start.min()), float(found.end.max())
    width = _width(last - first)
    first -= first % width
    n_bins = max(1, int(np.ceil((last - first) / width)))
    edges = (first + width * np.arange(n_bins + 1)).astype(np.float64)
    busy = np.diff(_seconds_until(edges, found.start) - _seconds_until(edges, found.end))
    places = np.clip(np.searchsorted(edges, found.end) - 1, 0, n_bins - 1)
    return document.Timeline(
        start=iso(first),
        bin_seconds=float(width),
        concurrency=np.round(busy / width, 3).tolist(),
        succeeded=np.bincount(places[found.succeeded], minlength=n_bins).tolist(),
        failed=np.bincount(places[~found.succeeded], minlength=n_bins).tolist(),
    )


def iso(seconds: float) -> str:
    """Return a time, POSIX seconds, as ISO 8601 UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat().replace("+00:00", "Z")


def _width(span: float) -> int:
    wanted = span / _MAX_BINS
    longest = _WIDTHS[-1]
    return next((width for width in _WIDTHS if width >= wanted), longest * int(np.ceil(wanted / longest)))


def _seconds_until(edges: Times, moments: Times) -> Times:
    """Return the sum of all times that have passed since the moments before each edge."""
    # Relative to the first edge, sums keep their precision.
    moments = np.sort(moments) - edges[0]
    sums = np.concatenate([[0.0], np.cumsum(moments)])
    places = np.searchsorted(moments, edges - edges[0])
    result: Times = places * (edges - edges[0]) - sums[places]
    return result
