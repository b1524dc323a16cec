"""For how long quanta waited: from when all that they need was there until they began."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from aggregator.reports import quanta

Seconds = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Waits:
    """For how long each quantum waited for its first attempt that is on record; NaN if there is none."""

    after_inputs: Seconds
    """Since the last of its inputs was written; NaN if the run did not write any, shape (n,).

    What was there before the run began can't tell when a quantum could begin.
    """

    after_inputs_or_start: Seconds
    """The same, or since the first quantum of the run began, shape (n,)."""


def find(table: quanta.QuantumTable) -> Waits:
    """Return how long each quantum waited.

    It is ready when the last of the quanta that write its inputs has ended. Clocks of different machines can
    make a wait negative: that counts as none.

    Parameters
    ----------
    table
        All quanta.
    """
    starts = table.rows["start"].copy()
    np.fmin.at(starts, table.earlier["row"], table.earlier["start"])
    if not len(starts) or np.isnan(starts).all():
        return Waits(starts, starts)
    ready = _last_ends(table)
    is_known = np.isfinite(ready)
    waits = np.maximum(starts - np.where(is_known, ready, np.nanmin(starts)), 0.0)
    return Waits(np.where(is_known, waits, np.nan), waits)


def _last_ends(table: quanta.QuantumTable) -> Seconds:
    """Return when the last quantum ended that writes an input of each quantum, or minus infinity."""
    keys, ends = _written(table)
    last = np.full(len(table.rows), -np.inf)
    first = 0
    for part in table.inputs:
        n = len(part.counts)
        if len(keys):
            places = np.minimum(np.searchsorted(keys, part.keys), len(keys) - 1)
            has_end = (keys[places] == part.keys) & ~np.isnan(ends[places])
            rows = np.repeat(np.arange(first, first + n), part.counts)
            np.maximum.at(last, rows[has_end], ends[places[has_end]])
        first += n
    return last


def _written(table: quanta.QuantumTable) -> tuple[quanta.Keys, Seconds]:
    """Return the keys of all outputs, sorted, and when the quantum that writes each of them ended."""
    keys = np.concatenate([part.keys for part in table.outputs])
    counts = np.concatenate([part.counts for part in table.outputs])
    order = np.argsort(keys)
    return keys[order], np.repeat(table.end, counts)[order]
