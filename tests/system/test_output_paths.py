"""Paths that worker processes write, and those that permissions forbid."""

from __future__ import annotations

import os
import pathlib

import pytest

import aggregator
from tests.helpers import samples
from tests.unit.aggregation import test_output_paths

graph = test_output_paths.graph


@pytest.mark.parametrize("which", ["output_path", "worker_log_dir", "worker_profile_dir"])
@pytest.mark.parametrize("place", ["", "deep"])
@pytest.mark.ordering("W3", "W5")
def test_nothing_else_is_written_into_the_checkpoint(sample: samples.Sample, which: str, place: str) -> None:
    path = sample.repo / "predicted.qg.checkpoint" / place
    if which == "output_path":
        path.mkdir(parents=True)
        path /= "out.qg"
    before = test_output_paths.everything(sample.root)
    with pytest.raises(aggregator.RefusedError, match="the checkpoint"):
        samples.aggregate(sample, **{which: str(path)}, n_processes=2)
    assert test_output_paths.everything(sample.root) == before


@pytest.mark.ordering("W3", "W5")
@pytest.mark.parametrize("name", ["scanner-000.log", "writer.profile"])
@pytest.mark.parametrize("what", ["database", "notes"])
def test_logs_and_profiles_of_workers(sample: samples.Sample, name: str, what: str) -> None:
    place = sample.root / "workers"
    place.mkdir()
    if what == "database":
        os.link(sample.repo / "gen3.sqlite3", place / name)
    else:
        (place / name).write_bytes(b"my\0notes")
    before = test_output_paths.everything(sample.root)
    option = "worker_log_dir" if name.endswith(".log") else "worker_profile_dir"
    with pytest.raises(aggregator.RefusedError, match=name):
        samples.aggregate(sample, **{option: str(place)}, n_processes=2)
    assert test_output_paths.everything(sample.root) == before


def test_logs_and_profiles_are_written_again(sample: samples.Sample) -> None:
    place = str(sample.root / "workers")
    for _ in range(2):
        samples.aggregate(sample, worker_log_dir=place, worker_profile_dir=place, n_processes=2, dry_run=True)
    assert (sample.root / "workers" / "writer.profile").exists()


@pytest.mark.parametrize("place", ["file", "file/below", "closed", "closed/below"])
def test_directories_that_nothing_can_be_written_in(
    sample: samples.Sample, graph: pathlib.Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Whatever a command would make there, it is refused before anything else."""
    (sample.root / "file").write_text("thesis")
    closed = sample.root / "closed"
    closed.mkdir()
    original = os.access
    # Nothing is closed to root.
    monkeypatch.setattr(os, "access", lambda path, mode: path != str(closed) and original(path, mode))
    before = test_output_paths.everything(sample.root)
    path = sample.root / place
    aggregation = ["aggregate-graph", sample.repo / "predicted.qg", sample.repo, "--mock-storage-classes"]
    for command in (
        ["create", path],
        ["synthesize", path, "--quanta", "300", "--small-files"],
        ["provenance-report", graph, "-o", path / "report.txt"],
        ["provenance-report", graph, "--status-report", path / "report.json"],
        ["provenance-report", graph, "--data-id-table-dir", path],
        [*aggregation, "--worker-log-dir", path],
        [*aggregation, "--worker-profile-dir", path, "-j", "2"],
    ):
        done = test_output_paths.run(*command)
        assert done.exit_code == 2, (command, done.output)
        assert "Choose another path" in done.output
        assert test_output_paths.everything(sample.root) == before
