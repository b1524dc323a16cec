"""Predicted graphs that we build are those that the reference builds, and it executes them."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import lsst.pipe.base as pb
import pytest
from aggregator.schemas.graphs import container
from lsst.daf.butler import Butler
from lsst.pipe.base.all_dimensions_quantum_graph_builder import AllDimensionsQuantumGraphBuilder
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

import aggregator
from tests.helpers.oracle import real_runs, real_tasks

_TASKS = "tests.helpers.oracle.real_tasks"
OVERLAPS = ["instrument,visit,detector,skymap,tract,patch"] + [
    f"Cam,{visit},{detector},S,0,{detector - 1}" for visit in (1, 2) for detector in (1, 2, 3)
]

_PARTS = ("header", "pipeline_graph", "thin_graph", "dimension_data", "init_quanta")
_VARYING = ("timestamp", "command", "metadata", "provenance_dataset_id")


def pipeline(root: pathlib.Path, mode: str = "{}") -> pathlib.Path:
    """Write a pipeline; its prerequisite, which is missing, may be."""
    path = root / "pipeline.yaml"
    step = f"{{class: {_TASKS}.StepTask, config: {{scale: 3, mode: {mode}, connections.extra: absent}}}}"
    path.write_text(
        f"description: tasks of tests\ninstrument: tests.helpers.pipeline_tasks.Cam\ntasks:\n  step: {step}\n"
        + "".join(f"  {label}: {_TASKS}.{label.title()}Task\n" for label in ("join", "sink", "coadd"))
        + "subsets: {visits: {subset: [step, join], description: by visit}}\n"
    )
    return path


@pytest.fixture(scope="module")
def fresh(
    real_repository: Callable[..., pathlib.Path], tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
    """Return a repository in which nothing was executed."""
    root = tmp_path_factory.mktemp("fresh") / "repo"
    shutil.copytree(real_repository(), root)
    (root / "overlaps.csv").write_text("\n".join(OVERLAPS) + "\n")
    return root


@pytest.fixture(scope="module")
def ran(fresh: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a repository with a run: one quantum has failed, and two others did not run."""
    root = tmp_path_factory.mktemp("ran") / "repo"
    shutil.copytree(fresh, root)
    graph = root / "first.qg"
    ours(root, graph, mode="{1/1: fail}", output_chain="u/chain")
    with contextlib.suppress(aggregator.ExecutionError):
        aggregator.execute(graph, root, aggregator.RunConfig(in_process=True))
    config = aggregator.AggregatorConfig(register_dataset_types=True)
    aggregator.aggregate_graph(graph, root, config)
    return root


def ours(
    root: pathlib.Path, graph: pathlib.Path, mode: str = "{}", **options: Any
) -> aggregator.BuildSummary:
    given = {"inputs": ["in"], "output_run": "u/run1", "overlaps": root / "overlaps.csv", **options}
    return aggregator.build(pipeline(root, mode), root, graph, **given)


def theirs(root: pathlib.Path, graph: pathlib.Path, **options: Any) -> None:
    butler = Butler.from_config(str(root), writeable=True)
    resolved = pb.Pipeline.from_uri(str(pipeline(root))).to_graph(registry=butler.registry)
    given = {
        "input_collections": options.get("inputs", ["in"]),
        "output_run": options.get("output_run", "u/run1"),
        "where": options.get("data_query", ""),
        "skip_existing_in": options.get("skip_existing_in", []),
        "clobber": options.get("clobber_outputs", False),
    }
    AllDimensionsQuantumGraphBuilder(resolved, butler, **given).finish().write(str(graph))


def content(graph: pathlib.Path, root: pathlib.Path) -> dict[str, Any]:
    """Return all of a graph that does not change with every build."""
    butler = Butler.from_config(str(root))
    with container.Container(str(graph)) as opened:
        parts = {name: json.loads(opened.read_block(name)) for name in _PARTS}
    reader = PredictedQuantumGraph.read_execution_quanta(str(graph))
    reader.build_execution_quanta()
    nodes = reader.quantum_only_xgraph.nodes

    def name(quantum_id: Any) -> tuple[str, tuple[Any, ...]]:
        return nodes[quantum_id]["task_label"], tuple(nodes[quantum_id]["quantum"].dataId.required_values)

    def dataset(each: dict[str, Any]) -> tuple[Any, ...]:
        known = butler.get_dataset(each["dataset_id"]) is not None
        return (
            each["dataset_type_name"],
            tuple(each["data_coordinate"]),
            each["run"],
            each["dataset_id"] if known else None,
        )

    def members(quantum: dict[str, Any]) -> list[Any]:
        return [
            {connection: [dataset(each) for each in group] for connection, group in quantum[side].items()}
            for side in ("inputs", "outputs")
        ]

    def records(quantum: dict[str, Any]) -> dict[str, Any]:
        stores = quantum["datastore_records"].items()
        return {name: {**each, "dataset_ids": sorted(each["dataset_ids"])} for name, each in stores}

    documents = {name(key): each.model_dump(mode="json") for key, each in reader._quantum_datasets.items()}
    quanta = {key: (*members(each), records(each)) for key, each in documents.items()}
    return {
        "header": {key: value for key, value in parts["header"].items() if key not in _VARYING},
        "pipeline": parts["pipeline_graph"],
        "tasks": list(parts["thin_graph"]["quanta"]),
        "edges": {(name(first), name(second)) for first, second in reader.quantum_only_xgraph.edges},
        "records": {key: sorted(map(json.dumps, rows)) for key, rows in parts["dimension_data"].items()},
        "init": [(each["task_label"], *members(each)) for each in parts["init_quanta"]],
        "quanta": quanta,
    }


FRESH: dict[str, dict[str, Any]] = {
    "all": {},
    "detectors": {"data_query": "detector < 3"},
    "patch": {"data_query": "skymap = 'S' AND tract = 0 AND patch = 0"},
    "words": {
        "data_query": "visit IN (2..9:1) AND NOT (detector.full_name = 'D2' OR physical_filter != 'r1')"
    },
    "none": {"data_query": "visit = 77"},
}
RAN: dict[str, dict[str, Any]] = {
    "skip": {"output_run": "u/run2", "inputs": ["u/chain"], "skip_existing_in": ["u/chain"]},
    "clobber": {"clobber_outputs": True},
    "both": {"clobber_outputs": True, "skip_existing_in": ["u/run1"]},
}


@pytest.mark.parametrize("case", FRESH)
def test_graphs_are_those_of_the_reference(case: str, fresh: pathlib.Path, tmp_path: pathlib.Path) -> None:
    compare(fresh, tmp_path, FRESH[case])


@pytest.mark.parametrize("case", RAN)
def test_rebuilds_are_those_of_the_reference(case: str, ran: pathlib.Path, tmp_path: pathlib.Path) -> None:
    compare(ran, tmp_path, RAN[case])


def test_missing_inputs_take_quanta_out_as_in_the_reference(
    fresh: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    root = tmp_path / "repo"
    shutil.copytree(fresh, root)
    butler = Butler.from_config(str(root), writeable=True)
    where = "instrument = 'Cam' AND visit = 2 AND detector = 3"
    refs = butler.query_datasets("raw", "in", where=where)
    butler.pruneDatasets(refs, purge=True, unstore=True, disassociate=True)
    compare(root, tmp_path, {})


def compare(root: pathlib.Path, directory: pathlib.Path, options: dict[str, Any]) -> None:
    ours(root, directory / "ours.qg", **options)
    theirs(root, directory / "theirs.qg", **options)
    built, expected = content(directory / "ours.qg", root), content(directory / "theirs.qg", root)
    # The reference keeps records of quanta that it has taken out.
    left, whole = built.pop("records"), expected.pop("records")
    assert all(set(rows) <= set(whole[name]) for name, rows in left.items())
    assert left == whole or options.keys() & {"skip_existing_in", "data_query"}
    for part in expected:
        assert built[part] == expected[part], part


def test_what_would_be_replaced_is_refused(ran: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for options in ({}, {"skip_existing_in": ["u/run1"]}):
        with pytest.raises(aggregator.RefusedError, match=r"has x_one .* already"):
            ours(ran, tmp_path / "ours.qg", **options)
    assert not (tmp_path / "ours.qg").exists()


class GreedyConnections(
    real_tasks.SinkConnections, dimensions=("instrument",), defaultTemplates={"pre": "x"}
):
    """Has a say in which quanta there are."""

    def adjust_all_quanta(self, adjuster: Any) -> None:
        raise AssertionError


class GreedyConfig(pb.PipelineTaskConfig, pipelineConnections=GreedyConnections):
    """Its configuration."""


class GreedyTask(real_tasks.SinkTask):
    """A task that has."""

    ConfigClass = GreedyConfig


def test_tasks_that_choose_quanta_are_refused(fresh: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "greedy.yaml"
    path.write_text(f"description: d\ntasks: {{greedy: {__name__}.GreedyTask}}\n")
    with pytest.raises(aggregator.RefusedError, match="adjust_all_quanta"):
        aggregator.build(path, fresh, tmp_path / "greedy.qg", inputs=["in"], output_run="u/greedy")


def test_the_reference_executes_them(fresh: pathlib.Path, tmp_path: pathlib.Path) -> None:
    root = tmp_path / "repo"
    shutil.copytree(fresh, root)
    case = real_runs.Case(root)
    ours(root, case.graph, mode="{1/1: fail}")
    failures = real_runs.execute_by_reference(case)
    assert list(failures.values()) == ["ValueError: told to fail"]
    done = aggregator.aggregate_graph(
        case.graph, root, aggregator.AggregatorConfig(register_dataset_types=True)
    )
    assert dict(done.counts["step"]) == {"Successful": 5, "Failed": 1}
