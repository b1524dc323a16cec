"""Runs without files, by one process and by several."""

from __future__ import annotations

import pytest

import aggregator
from tests.helpers import small_runs
from tests.unit.aggregation import test_empty_runs

clean_run, run = test_empty_runs.clean_run, test_empty_runs.run


@pytest.mark.ordering("D5")
@pytest.mark.parametrize("n_processes", [1, 2])
def test_nothing_is_concluded_from_a_run_without_files(run: small_runs.SmallRun, n_processes: int) -> None:
    directory = run.run_directory
    elsewhere = test_empty_runs.unmount(run)
    before = (run.root / "gen3.sqlite3").read_bytes()
    for options in ({}, {"unreadable": "failed"}, {"dry_run": True}, {"output_path": None}):
        with pytest.raises(
            aggregator.AggregatorError, match=r"not one file of .* --allow-empty-run"
        ) as caught:
            run.aggregate(n_processes=n_processes, **options)
        assert caught.value.exit_code == 1
    assert (run.root / "gen3.sqlite3").read_bytes() == before
    assert not run.output.exists()
    assert not list(run.root.glob("*checkpoint*"))
    elsewhere.rename(directory)
    done = run.aggregate(n_processes=n_processes)
    assert sum(count["Successful"] for count in done.counts.values()) == 60
