"""How run times, memory and waits are distributed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aggregator.reports import document

_N_BINS = 40
_QUANTILES = (5, 25, 50, 75, 95)


def measure(values: npt.NDArray[np.float64]) -> document.Distribution | None:
    """Return how values are distributed, those that are not finite aside; nothing if there are none."""
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    p05, p25, median, p75, p95 = np.percentile(values, _QUANTILES).tolist()
    return document.Distribution(
        count=len(values),
        total=float(values.sum()),
        mean=float(values.mean()),
        min=float(values.min()),
        p05=p05,
        p25=p25,
        median=median,
        p75=p75,
        p95=p95,
        max=float(values.max()),
        histogram=_histogram(values),
    )


def _histogram(values: npt.NDArray[np.float64]) -> document.Histogram:
    positive = values[values > 0]
    n_zero = len(values) - len(positive)
    if not len(positive):
        return document.Histogram(n_zero, [], [])
    # Times are known to a microsecond; bins are no narrower than 1 %.
    low, high = max(positive.min(), 1e-6), positive.max()
    n_bins = max(1, min(_N_BINS, int(np.log(high / low) / np.log(1.01))))
    edges = np.geomspace(low, max(high, low * 1.01), n_bins + 1)
    places = np.clip(np.searchsorted(edges, positive, side="right") - 1, 0, n_bins - 1)
    counts = np.bincount(places, minlength=n_bins)
    return document.Histogram(n_zero, edges.tolist(), counts.tolist())
