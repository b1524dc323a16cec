"""Small synthetic runs that are aggregated in this process."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shutil
from typing import Any

import pytest

import aggregator
from aggregator.synthesis import campaign, parameters

CLEAN = dict.fromkeys(parameters.SHARES, 0.0)


@dataclasses.dataclass(frozen=True, slots=True)
class SmallRun:
    """An executed run, and where its graph goes."""

    root: pathlib.Path
    """The repository; the predicted graph is in it, too."""

    @property
    def predicted(self) -> pathlib.Path:
        return self.root / "predicted.qg"

    @property
    def output(self) -> pathlib.Path:
        return self.root / "out.qg"

    @property
    def run_directory(self) -> pathlib.Path:
        """The directory of the run's files."""
        return next(self.root.glob("u/*/*/*"))

    def files(self, pattern: str) -> list[pathlib.Path]:
        """Return files of the run by name."""
        return sorted(self.run_directory.rglob(pattern))

    def aggregate(self, **options: Any) -> Any:
        config = {"output_path": str(self.output)} | options
        return aggregator.aggregate_graph(
            str(self.predicted), str(self.root), aggregator.AggregatorConfig(**config)
        )

    def n_datasets(self) -> int:
        """Return the number of datasets in the database."""
        import sqlite3

        with contextlib.closing(sqlite3.connect(self.root / "gen3.sqlite3")) as connection, connection:
            (count,) = connection.execute("SELECT count(*) FROM dataset").fetchone()
            return int(count)


def make(root: pathlib.Path, quanta: int = 60, **changes: Any) -> SmallRun:
    """Make a run in which everything succeeds."""
    asked = parameters.SynthesisParameters(quanta=quanta, **{**parameters.SMALL, **CLEAN, **changes})
    campaign.synthesize(str(root), asked, n_processes=1, interactive_status=False)
    return SmallRun(root)


def copy(run: SmallRun, root: pathlib.Path) -> SmallRun:
    """Return a copy, links and times included."""
    shutil.copytree(run.root, root, symlinks=True)
    return SmallRun(root)


def check_cancelled_synthesis(root: pathlib.Path, n_processes: int) -> None:
    """Cancel the making of a run, and go on with it."""
    cancellation = aggregator.Cancellation()
    options = aggregator.SynthesisParameters(quanta=2000, log_size=500, metadata_size=500)

    def cancel(update: aggregator.ProgressUpdate) -> None:
        if update.stage == "writing files":
            cancellation.cancel()

    with pytest.raises(aggregator.Interrupted, match="cancelled"):
        aggregator.synthesize(
            root,
            options,
            n_processes=n_processes,
            on_progress=cancel,
            cancellation=cancellation,
        )
    assert not (root / "predicted.qg").exists()
    updates: list[aggregator.ProgressUpdate] = []
    made = aggregator.synthesize(root, options, on_progress=updates.append)
    assert made.counts["quanta"] == 2000
    assert updates[-1].done["quanta"] == 2000
    assert pathlib.Path(made.predicted).exists()
