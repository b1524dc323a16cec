"""Cancelling what works in several processes."""

import pathlib

import pytest

import aggregator
from tests.helpers import kills, small_runs


def test_a_synthesis_in_processes_is_cancelled_and_goes_on(tmp_path: pathlib.Path) -> None:
    small_runs.check_cancelled_synthesis(tmp_path / "run", n_processes=2)
    assert kills.workers() == []


def test_an_aggregation_in_processes_is_cancelled_and_goes_on(tmp_path: pathlib.Path) -> None:
    run, cancellation = small_runs.make(tmp_path / "run", 600), aggregator.Cancellation()

    def cancel(update: aggregator.ProgressUpdate) -> None:
        if update.done["scanned"]:
            cancellation.cancel()

    config = aggregator.AggregatorConfig(output_path=run.output, n_processes=2)
    with pytest.raises(aggregator.Interrupted, match="cancelled"):
        aggregator.aggregate_graph(
            run.predicted, run.root, config, on_progress=cancel, cancellation=cancellation
        )
    assert kills.workers() == []
    assert not run.output.exists()
    done = run.aggregate(n_processes=2)
    assert done.n_reused > 0
    assert run.output.exists()
