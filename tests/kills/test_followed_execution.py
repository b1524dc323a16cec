"""An aggregation that follows an execution: the same as one afterwards, whenever both are killed."""

from __future__ import annotations

import logging
import pathlib
import signal
from typing import Any

import pytest
from aggregator.execution import quantum_attempts
from aggregator.storage import errors

import aggregator
from aggregator.running import graph_run, run_config
from tests.helpers import executions, kills, plain_runs
from tests.helpers.oracle import compare

N_QUANTA = 60
"""There are two shards: the last ten quanta are in one of their own."""


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> plain_runs.PlainRun:
    return plain_runs.make(tmp_path_factory.mktemp("plain") / "run", N_QUANTA)


@pytest.fixture
def run(template: plain_runs.PlainRun, tmp_path: pathlib.Path) -> plain_runs.PlainRun:
    return template.copy(tmp_path / "run")


def execute(run: plain_runs.PlainRun, **options: Any) -> Any:
    """Execute and aggregate; return the summary, with which an error comes as well."""
    config = run_config.RunConfig(**{"n_processes": 2, "timeout": 60.0, **options})
    aggregation = aggregator.AggregatorConfig(output_path=run.root / "provenance.qg", n_processes=2)
    try:
        return graph_run.execute(run.graph, run.root, config, aggregation=aggregation)
    except graph_run.ExecutionError as exc:
        return exc.summary


def assert_same_as_afterwards(run: plain_runs.PlainRun, template: plain_runs.PlainRun) -> None:
    """Compare database and graph with those of an aggregation of the same files after the execution."""
    database = (template.root / "gen3.sqlite3").read_bytes()
    copy = run.copy(run.root.parent / "afterwards")
    (copy.root / "gen3.sqlite3").write_bytes(database)
    (copy.root / "provenance.qg").unlink()
    config = aggregator.AggregatorConfig(output_path=copy.root / "provenance.qg")
    aggregator.aggregate_graph(copy.graph, copy.root, config)
    assert compare.database_rows(run.root) == compare.database_rows(copy.root)
    found, expected = (kills.graph_content(each.root / "provenance.qg") for each in (run, copy))
    assert found == expected
    assert len(found[0]) == N_QUANTA


def test_the_aggregation_begins_while_quanta_run(
    run: plain_runs.PlainRun, template: plain_runs.PlainRun
) -> None:
    executions.tell(
        run, run.quanta()[N_QUANTA - 1], f"await ok {run.root / 'predicted.qg.checkpoint' / 'manifest.json'}"
    )
    summary = execute(run)
    assert summary.n_failed == 0
    assert summary.aggregation.graph_path
    assert_same_as_afterwards(run, template)
    assert kills.workers() == []


def test_failures_are_aggregated_and_tried_again(
    run: plain_runs.PlainRun, template: plain_runs.PlainRun
) -> None:
    executions.tell(run, run.quanta()[0], "fail")
    summary = execute(run)
    assert summary.n_failed == 1
    assert summary.aggregation.n_failed == N_QUANTA - summary.total(quantum_attempts.Fate.SUCCEEDED)
    executions.tell(run, run.quanta()[0], "ok")
    assert execute(run).n_failed == 0
    assert_same_as_afterwards(run, template)


def test_what_was_scanned_is_kept_if_not_all_are_executed(
    run: plain_runs.PlainRun, template: plain_runs.PlainRun
) -> None:
    # Whatever else is ready then, nobody comes to any more.
    keys = [(data.task, "/".join(map(str, data.data_id.values()))) for data in run.quanta()]
    run.tell({label: {key: "fail" for each, key in keys[-10:] if each == label} for label, _ in keys[-10:]})
    summary = execute(run, fail_fast=True, n_processes=1)
    assert summary.total() < N_QUANTA
    assert summary.aggregation.graph_path is None
    assert not (run.root / "provenance.qg").exists()
    executions.tell(run, run.quanta()[0], "ok")
    assert execute(run).n_failed == 0
    assert_same_as_afterwards(run, template)


def test_trouble_of_the_aggregation_does_not_end_the_execution(run: plain_runs.PlainRun) -> None:
    # It can't write its graph there when the time has come.
    output = run.root / "out" / "provenance.qg"
    output.parent.mkdir()
    executions.tell(run, run.quanta()[0], "ok")
    removed = []

    def remove(update: aggregator.ProgressUpdate) -> None:
        if update.stage == "executing" and not removed:
            output.parent.rmdir()
            removed.append(True)

    with pytest.raises(aggregator.AggregatorError) as raised:
        graph_run.execute(
            run.graph,
            run.root,
            run_config.RunConfig(n_processes=2),
            aggregation=aggregator.AggregatorConfig(output_path=output, n_processes=2),
            on_progress=remove,
        )
    assert raised.value.exit_code == 1
    summary: Any = raised.value.summary
    assert summary.total() == summary.n_quanta == N_QUANTA
    assert not summary.n_failed


def test_the_report_has_a_place_of_its_own(run: plain_runs.PlainRun) -> None:
    with pytest.raises(errors.RefusedError, match="another output of this command"):
        execute(run, report_path=run.root / "provenance.qg")
    assert not list(run.root.glob("provenance.qg*"))
    assert not (run.root / "predicted.qg.checkpoint").exists()


def test_what_the_repository_will_refuse_is_refused_before_anything_runs(run: plain_runs.PlainRun) -> None:
    execute(run)
    aggregator.ingest_graph(run.root, run.root / "provenance.qg")
    before = sorted(run.root.rglob("*"))
    with pytest.raises(aggregator.RefusedError, match="holds its provenance graph already"):
        execute(run)
    assert sorted(run.root.rglob("*")) == before


N_WRITTEN = 4
"""Files of the first quantum; metadata and log come last."""

POINTS = {
    1: [
        *("write:2", "written:12"),
        *(f"{point}:{n}" for n in range(1, N_WRITTEN + 1) for point in ("write", "written")),
    ],
    2: ["write:40", "digest:1", "committed:1", "complete:1"],
}
"""Points at which commands are killed, each going on with what the one before has left.

With one process: init outputs, and each step of a quantum. With two: those of the aggregation.
"""


@pytest.mark.parametrize("n_processes", POINTS)
def test_both_go_on_after_kills(
    run: plain_runs.PlainRun, template: plain_runs.PlainRun, tmp_path: pathlib.Path, n_processes: int
) -> None:
    output = str(run.root / "provenance.qg")
    command = ["run", str(run.graph), str(run.root), "-j", str(n_processes), "--aggregate", "-o", output]
    for number, point in enumerate(POINTS[n_processes]):
        marker = tmp_path / f"marker-{number}"
        with kills.start(command, point, marker) as running:
            kills.wait_for(marker, running)
            kills.kill_group(running.pid)
            running.communicate()
        kills.assert_gone(running.pid)
    with kills.start(command) as running:
        _, complaints = running.communicate(timeout=120)
    assert running.returncode == 0, complaints
    assert not list(run.root.rglob("*.tmp"))
    assert_same_as_afterwards(run, template)
    with aggregator.Provenance(run.root / "provenance.qg") as provenance:
        for data in run.quanta():
            [attempt] = provenance.attempts(str(data.id))
            assert attempt.status == aggregator.Status.SUCCESSFUL


def test_a_signal_stops_both(run: plain_runs.PlainRun, tmp_path: pathlib.Path) -> None:
    output = str(run.root / "provenance.qg")
    command = ["run", str(run.graph), str(run.root), "-j", "2", "--aggregate", "-o", output]
    marker = tmp_path / "marker"
    with kills.start(command, "digest:2", marker) as running:
        kills.wait_for(marker, running)
        running.send_signal(signal.SIGTERM)
        marker.write_text("")
        _, complaints = running.communicate(timeout=120)
    assert running.returncode in (0, 143), complaints
    with kills.start(command) as running:
        _, complaints = running.communicate(timeout=120)
    assert running.returncode == 0, complaints
    kills.assert_gone(running.pid)
