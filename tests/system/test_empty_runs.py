"""Runs of which files are missing altogether, or in part."""

from __future__ import annotations

import pathlib
import shutil
from typing import Any

import pytest

import aggregator
from tests.helpers import small_runs, thinning


@pytest.fixture(scope="module")
def clean_run(tmp_path_factory: pytest.TempPathFactory) -> small_runs.SmallRun:
    return small_runs.make(tmp_path_factory.mktemp("clean") / "run")


@pytest.fixture
def run(clean_run: small_runs.SmallRun, tmp_path: pathlib.Path) -> small_runs.SmallRun:
    return small_runs.copy(clean_run, tmp_path / "run")


def unmount(run: small_runs.SmallRun) -> pathlib.Path:
    """Let all files of a run be elsewhere."""
    elsewhere = run.root.parent / "elsewhere"
    run.run_directory.rename(elsewhere)
    return elsewhere


def remove(run: small_runs.SmallRun, *patterns: str) -> None:
    for pattern in patterns:
        for path in run.files(pattern):
            path.unlink()


@pytest.mark.ordering("D5")
@pytest.mark.parametrize("n_processes", thinning.thinned([1, 2], [2]))
def test_nothing_is_concluded_from_a_run_without_files(run: small_runs.SmallRun, n_processes: int) -> None:
    directory = run.run_directory
    elsewhere = unmount(run)
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


@pytest.mark.ordering("D5")
def test_links_to_nowhere_are_no_files_either(run: small_runs.SmallRun) -> None:
    directory = run.run_directory
    unmount(run)
    directory.symlink_to("/nowhere/unmounted")
    with pytest.raises(aggregator.AggregatorError, match=r"not one file of .* is a link to /nowhere/"):
        run.aggregate(unreadable="failed")


def test_a_checkpoint_with_work_survives_a_file_system_that_goes(run: small_runs.SmallRun) -> None:
    run.aggregate(dry_run=True)
    directory = run.run_directory
    elsewhere = unmount(run)
    with pytest.raises(aggregator.AggregatorError, match="not one file of run"):
        run.aggregate()
    elsewhere.rename(directory)
    assert run.aggregate().n_reused == 60


def test_a_run_that_may_be_empty_is_recorded(run: small_runs.SmallRun) -> None:
    unmount(run)
    done = run.aggregate(allow_empty_run=True)
    assert run.output.exists()
    assert done.n_ingested == 0
    assert sum(count["Failed"] + count["Blocked"] for count in done.counts.values()) == 60
    assert any("not one log or metadata file of 60 quanta exists" in line for line in done.lines())


def test_a_run_that_has_not_begun_is_incomplete(run: small_runs.SmallRun) -> None:
    unmount(run)
    done = run.aggregate(incomplete=True)
    assert done.n_held == 60
    assert done.warnings == []


KEPT = ["*_config_*", "packages*", "isr_log_*", "isr_metadata_*", "post_isr_image_*", "*"]


@pytest.mark.parametrize("kept", thinning.thinned(KEPT, KEPT[::2]), ids=str)
def test_one_file_is_enough(run: small_runs.SmallRun, kept: str) -> None:
    files = run.files(kept)
    if not files:
        pytest.skip("a run without such files")
    chosen = files[-1]
    for path in run.files("*"):
        if path.is_file() and path != chosen:
            path.unlink()
    run.aggregate()
    assert run.output.exists()


def test_init_outputs_without_anything_else_are_warned_about(
    run: small_runs.SmallRun, caplog: pytest.LogCaptureFixture
) -> None:
    remove(run, "*_log_*", "*_metadata_*")
    done = run.aggregate()
    message = "not one log or metadata file of 60 quanta exists"
    assert message in caplog.text
    assert [line for line in done.lines() if message in line and line.startswith("Warning")]
    assert run.output.exists()


def test_a_task_without_any_file_is_warned_about(tmp_path: pathlib.Path) -> None:
    run = small_runs.make(tmp_path / "run", quanta=200)
    tasks = {path.name.partition("_log_")[0] for path in run.files("*_log_*")}
    counts = {task: len(run.files(f"{task}_log_*")) for task in tasks}
    task = max(tasks, key=lambda name: (name == "isr", counts[name]))
    remove(run, f"{task}_log_*", f"{task}_metadata_*")
    done = run.aggregate(keep_checkpoint=True)
    expected = f"not one log or metadata file of the {counts[task]} quanta of {task} exists"
    assert [warning for warning in done.warnings if warning.startswith(expected)] == done.warnings
    # Digests tell the same as files.
    assert run.aggregate().warnings == done.warnings


def test_a_single_log_is_no_reason_to_warn(run: small_runs.SmallRun) -> None:
    remove(run, "*_metadata_*")
    logs: list[Any] = run.files("*_log_*")
    for path in logs[1:]:
        path.unlink()
    assert not any("not one log or metadata file of 60" in warning for warning in run.aggregate().warnings)


def test_leftovers_are_removed(run: small_runs.SmallRun) -> None:
    """Directories may be there without files."""
    for path in run.files("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(aggregator.AggregatorError, match="not one file"):
        run.aggregate()
    shutil.rmtree(run.run_directory)
    with pytest.raises(aggregator.AggregatorError, match="not one file"):
        run.aggregate()
