"""A run of which engines and arrays of jobs scan parts, and what a local aggregation makes of it."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Final

from tests.helpers import graph_files, small_runs

N_QUANTA: Final = 600
N_SHARDS: Final = 13


@dataclasses.dataclass(frozen=True, slots=True)
class DividedRun:
    """The run before anything has been scanned, and the graph that it gets."""

    run: small_runs.SmallRun
    """To be copied."""

    expected: dict[str, bytes]
    """Members of its provenance graph."""


def make(directory: pathlib.Path) -> DividedRun:
    """Make a run in which some quanta fail."""
    run = small_runs.make(directory / "template", N_QUANTA, failed=0.02)
    aggregated = small_runs.copy(run, directory / "aggregated")
    aggregated.aggregate()
    return DividedRun(run, graph_files.members(aggregated.output))
