"""Synthetic runs as runs of the oracle, whose helpers compare the results of both tools."""

from __future__ import annotations

import pathlib
from typing import Any

from oracle import runs

from aggregator.synthesis import pipeline
from benchmarks import campaigns


def make(workdir: pathlib.Path, *, quanta: int = 2000) -> runs.OracleRun:
    """Make a run, or return the one made earlier.

    Parameters
    ----------
    workdir
        Directory for any number of runs.
    quanta
        Number of quanta.

    Returns
    -------
    run
        The executed run, not aggregated; its manifest only has as many entries as there are quanta, and its
        marks are numbers.
    """
    made = campaigns.make(workdir, quanta)
    manifest = {"quanta": range(made.quanta)}
    return runs.OracleRun(
        workdir, made.root, pipeline.OUTPUT_RUN, pipeline.OUTPUT_CHAIN, manifest, made.counts
    )


def describe(run: runs.OracleRun) -> dict[str, Any]:
    """Return counts and mean file sizes of a run."""
    sizes: dict[str, list[int]] = {"log": [], "metadata": []}
    for path in (run.root / run.run).rglob("*.json"):
        kind = path.relative_to(run.root / run.run).parts[0].rpartition("_")[2]
        if kind in sizes:
            sizes[kind].append(path.stat().st_size)
    return {
        **run.marks,
        **{f"mean_{kind}_bytes": round(sum(found) / len(found)) for kind, found in sizes.items()},
        "predicted_bytes": run.predicted_path.stat().st_size,
    }
