"""Synthetic runs as benchmarks use them: made once for the same parameters, with files of realistic size."""

from __future__ import annotations

import os
import pathlib
from typing import Any

from oracle import runs

from aggregator.synthesis import campaign, parameters, pipeline


def make(workdir: pathlib.Path, *, quanta: int = 2000, seed: int = 1) -> runs.OracleRun:
    """Make a run, or return the one made earlier with the same parameters.

    Parameters
    ----------
    workdir
        Directory for any number of runs.
    quanta
        Number of quanta.
    seed
        Seed of everything.

    Returns
    -------
    run
        The executed run, not aggregated; its manifest only has as many entries as there are quanta, and its
        marks tell how many quanta share a fate.
    """
    directory = workdir / f"run-{quanta}-{seed}"
    asked = parameters.Parameters(quanta=quanta, seed=seed)
    made = campaign.synthesize(str(directory / "repo"), asked, n_processes=os.cpu_count() or 1)
    marks = {
        "fates": made.counts["fates"],
        "datasets": made.counts["datasets"],
        "edges": made.counts["edges"],
    }
    root = pathlib.Path(made.root)
    return runs.OracleRun(
        directory, root, pipeline.OUTPUT_RUN, pipeline.OUTPUT_CHAIN, {"quanta": range(quanta)}, marks
    )


def describe(run: runs.OracleRun) -> dict[str, Any]:
    """Return counts and mean file sizes of a run."""
    sizes: dict[str, list[int]] = {"log": [], "metadata": []}
    for path in (run.root / run.run).rglob("*.json"):
        kind = path.relative_to(run.root / run.run).parts[0].rpartition("_")[2]
        if kind in sizes:
            sizes[kind].append(path.stat().st_size)
    return {
        "quanta": len(run.manifest["quanta"]),
        **run.marks,
        **{f"mean_{kind}_bytes": round(sum(found) / len(found)) for kind, found in sizes.items()},
        "predicted_bytes": run.predicted_path.stat().st_size,
    }
