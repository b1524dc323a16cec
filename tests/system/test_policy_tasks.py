"""Tasks made of policies in each model of execution: built, executed, aggregated, reported."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
import yaml
from aggregator.execution import graph_context, graph_quanta
from click import testing

import aggregator
from aggregator.command_line import main
from tests.helpers import stage_functions, stage_runs

PIPELINE = """\
description: numbers
tasks: {quality: tests.helpers.stage_tasks.Quality, total: tests.helpers.stage_tasks.Total}
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> stage_runs.StageRun:
    return stage_runs.make(tmp_path_factory.mktemp("stage") / "run")


def _run_quanta(graph: pathlib.Path, repo: pathlib.Path) -> None:
    """Execute all quanta as batch jobs do, one by one."""
    aggregator.init_run(graph, repo)
    with graph_context.GraphContext(str(graph), str(repo)) as context:
        ids = [str(each.id) for each in graph_quanta.GraphQuanta(context)]
    names = graph.with_suffix(".ids")
    for some in (ids[:6], ids[6:]):
        names.write_text("\n".join(some))
        arguments = ["run-quanta", str(graph), str(repo), "--quantum-file", str(names), "--in-process"]
        done = testing.CliRunner().invoke(main.main, arguments)
        assert done.exit_code == 0, done.output


@pytest.mark.parametrize("model", ["in process", "workers", "run-quanta"])
def test_models(template: stage_runs.StageRun, tmp_path: pathlib.Path, model: str) -> None:
    run = template.copy(tmp_path / "run")
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    graph, output = tmp_path / "graph.qg", tmp_path / "provenance.qg"
    built = aggregator.build(tmp_path / "pipeline.yaml", run.repo, graph, inputs=["in"], output_run="u")
    assert built.task_counts == {"quality": 6, "total": 2}
    if model == "run-quanta":
        _run_quanta(graph, run.repo)
    else:
        config = aggregator.RunConfig(in_process=model == "in process", n_processes=2)
        aggregator.execute(graph, run.repo, config)
    config_ = aggregator.AggregatorConfig(output_path=output, register_dataset_types=True)
    aggregator.aggregate_graph(graph, run.repo, config_)
    paths = sorted((run.repo / "u" / "total").rglob("*.yaml"))
    totals = [yaml.safe_load(path.read_bytes()) for path in paths]
    assert totals == [{"sum": 36.0}, {"sum": 66.0}]
    with aggregator.Provenance(output) as provenance:
        assert {q.status for q in provenance.quanta()} == {aggregator.Status.SUCCESSFUL}


def test_function_that_fails(
    template: stage_runs.StageRun, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its exception is that of the quantum, and nothing is written."""
    run = template.copy(tmp_path / "run")
    (tmp_path / "told.json").write_text('{"11": "fail"}')
    monkeypatch.setenv(stage_functions.TOLD, str(tmp_path / "told.json"))
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    graph = tmp_path / "graph.qg"
    aggregator.build(tmp_path / "pipeline.yaml", run.repo, graph, inputs=["in"], output_run="u")
    with pytest.raises(aggregator.ExecutionError) as caught:
        aggregator.execute(graph, run.repo, aggregator.RunConfig(in_process=True))
    summary = caught.value.summary
    assert isinstance(summary, aggregator.ExecutionSummary)
    [failure] = summary.failures
    assert failure.exception is not None
    assert failure.exception.type_name == "ValueError"
    assert summary.n_failed == 1


def test_an_output_of_several_quanta(template: stage_runs.StageRun, tmp_path: pathlib.Path) -> None:
    """Of three detectors each would write the dataset of their visit; one does not."""
    (tmp_path / "pipeline.yaml").write_text(
        "description: numbers\ntasks: {total: tests.helpers.stage_tasks.OfEachDetector}\n"
    )

    def build(where: str) -> Any:
        return aggregator.build(
            tmp_path / "pipeline.yaml",
            template.repo,
            tmp_path / "g.qg",
            inputs=["in"],
            output_run="u",
            data_query=where,
        )

    with pytest.raises(
        aggregator.RefusedError, match=r"Task 'total': output '\w+', .* is written by two quanta"
    ):
        build("instrument = 'Cam'")
    assert build("instrument = 'Cam' AND detector = 2").task_counts == {"total": 2}
