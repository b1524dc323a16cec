"""Runs of policies that are killed at each step of an item: the same command goes on, nothing comes twice."""

from __future__ import annotations

import os
import pathlib
import signal

import pytest
from click import testing

from aggregator.command_line import main
from tests.helpers import kills, stage_runs

POINTS = [
    "pending:1",
    "pending:4",
    "pending_renamed:1",
    "pending_renamed:2",
    "rows_written:1",
    "rows_committed:1",
]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> stage_runs.StageRun:
    return stage_runs.make(tmp_path_factory.mktemp("stage") / "run")


@pytest.mark.ordering("P1", "P4")
@pytest.mark.parametrize("rows", [pytest.param("DbStorage", marks=pytest.mark.exhaustive), "DbTsvStorage"])
@pytest.mark.parametrize("point", POINTS)
def test_killed_and_restarted(
    template: stage_runs.StageRun, tmp_path: pathlib.Path, point: str, rows: str
) -> None:
    run, marker = template.copy(tmp_path / "run"), tmp_path / "marker"
    (run.root / "temporary").mkdir()
    settings = f"persistence:\n    DbTsvStorage: {{{{TempPath: {run.root}/temporary}}}}"
    run.write_policy(stage_runs.EXPORT.replace("persistence:", settings), rows)
    with kills.start(run.arguments(), point, marker) as running:
        worker = kills.wait_for(marker, running)
        running.kill()
        os.kill(worker, signal.SIGKILL)
        running.communicate(timeout=120)
    before = run.files()
    # What has its name is whole, and no row is there before the files of its job.
    assert all(len(content) > 100 for content in before.values())
    assert 2 * len(run.rows()) <= len(before)
    done = testing.CliRunner().invoke(main.main, run.arguments())
    assert done.exit_code == 0, done.output
    assert run.is_complete()
    assert {name: run.files()[name] for name in before} == before
    left = {path.name for path in run.root.rglob("*") if path.suffix in (".pending", ".tmp", ".tsv")}
    assert not left
