"""For how long quanta waited: from when all that they need was there until they began."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aggregator.reports import quanta

Seconds = npt.NDArray[np.float64]


def find(table: quanta.QuantumTable) -> Seconds:
    """Return how long each quantum waited for its first attempt that is on record.

    A quantum is ready when the last of the quanta that write its inputs has ended; without such quanta, or if
    their times are not on record, when the first quantum of the run began. Clocks of different machines can
    make a wait negative: that counts as none.

    Parameters
    ----------
    table
        All quanta.

    Returns
    -------
    waits
        Seconds, NaN for quanta whose times are not on record, shape (n,).
    """
    starts = table.rows["start"].copy()
    np.fmin.at(starts, table.earlier["row"], table.earlier["start"])
    if not len(starts) or np.isnan(starts).all():
        return starts
    ready = _last_ends(table)
    ready[np.isinf(ready)] = np.nanmin(starts)
    return np.maximum(starts - ready, 0.0)


def _last_ends(table: quanta.QuantumTable) -> Seconds:
    """Return when the last quantum ended that writes an input of each quantum, or minus infinity."""
    keys, ends = _written(table)
    last = np.full(len(table.rows), -np.inf)
    first = 0
    for part in table.inputs:
        n = len(part.counts)
        if len(keys):
            places = np.minimum(np.searchsorted(keys, part.keys), len(keys) - 1)
            known = (keys[places] == part.keys) & ~np.isnan(ends[places])
            rows = np.repeat(np.arange(first, first + n), part.counts)
            np.maximum.at(last, rows[known], ends[places[known]])
        first += n
    return last


def _written(table: quanta.QuantumTable) -> tuple[quanta.Keys, Seconds]:
    """Return the keys of all outputs, sorted, and when the quantum that writes each of them ended."""
    keys = np.concatenate([part.keys for part in table.outputs])
    counts = np.concatenate([part.counts for part in table.outputs])
    order = np.argsort(keys)
    return keys[order], np.repeat(table.end, counts)[order]
