"""Jobs on hosts that share nothing leave what execution in one repository leaves, also by the reference."""

from __future__ import annotations

import contextlib
import json
import pathlib
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from aggregator.execution import graph_context, graph_quanta, readiness
from aggregator.schemas import pack_reader, packs
from lsst.daf.butler import Butler, FileDataset
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

import aggregator
from aggregator.running import graph_run, run_config
from tests.helpers import round_trips, sharing
from tests.helpers.oracle import difference, real_runs

ROOT = pathlib.Path(__file__).parents[2]

TROUBLE = {"1/1": "fail", "1/2": "nowork", "2/3": "one"}


class Node(real_runs.Case):
    """The repository of a node."""

    @property
    def graph(self) -> pathlib.Path:
        return self.root / "graph.qg"


@pytest.fixture(scope="module")
def trouble(
    real_case: Callable[..., real_runs.Case], tmp_path_factory: pytest.TempPathFactory
) -> real_runs.Case:
    """Return a graph of 12 quanta with some trouble."""

    def make(path: pathlib.Path) -> real_runs.Case:
        return real_case(path / "repo", TROUBLE)

    return sharing.made_once(tmp_path_factory, "round_trip", make)


def quanta(case: real_runs.Case) -> list[readiness.QuantumData]:
    """Return all quanta of a graph."""
    with graph_context.GraphContext(str(case.graph), str(case.root)) as context:
        return list(graph_quanta.GraphQuanta(context))


def by_us(node: pathlib.Path) -> None:
    """Execute the graph of a node."""
    with contextlib.suppress(graph_run.ExecutionError):
        graph_run.execute(str(node / "graph.qg"), str(node), run_config.RunConfig(in_process=True))


def by_reference(node: pathlib.Path) -> None:
    """Let the reference execute the graph of a node."""
    real_runs.execute_by_reference(Node(node))


def outcome(case: real_runs.Case) -> tuple[Any, Any]:
    """Aggregate; return what graph and database tell."""
    path = case.root / "provenance.qg"
    config = aggregator.AggregatorConfig(output_path=path, register_dataset_types=True)
    aggregator.aggregate_graph(case.graph, case.root, config)
    return real_runs.outcome(path), round_trips.rows(case.root)


@pytest.mark.parametrize("execute", [pytest.param(by_us, marks=pytest.mark.exhaustive), by_reference])
def test_a_round_trip_leaves_what_execution_in_the_repository_leaves(
    trouble: real_runs.Case, tmp_path: pathlib.Path, execute: Callable[[pathlib.Path], None]
) -> None:
    central, case = trouble.copy(tmp_path / "central"), trouble.copy(tmp_path / "repo")
    real_runs.execute_by_reference(central)
    every = quanta(case)
    steps = [data for data in every if data.task == "step"]
    clusters = [
        {data.id for data in steps if data.data_id["visit"] == visit and data.data_id["detector"] != 3}
        for visit in (1, 2)
    ]
    clusters.append({data.id for data in steps if data.data_id["detector"] == 3})
    later = [{data.id for data in every if data.task == task} for task in ("join", "coadd")]
    graph_run.init_run(case.graph, case.root)
    left = [
        round_trips.leave(case.root, case.graph, tmp_path / f"job{i}", ids, execute, failed="all")
        for i, ids in enumerate(clusters)
    ]
    random.Random(3).shuffle(left)
    for pack in left:
        aggregator.deliver([pack], case.root)
    for i, ids in enumerate(later):
        pack = round_trips.leave(case.root, case.graph, tmp_path / f"later{i}", ids, execute)
        aggregator.deliver([pack], case.root)
    last = {data.id for data in every if data.task == "sink"}
    with pytest.raises(aggregator.AggregatorError, match=r"nothing to pack: 0 .* and 1 need outputs"):
        aggregator.pack(case.root, case.graph, tmp_path / "last.pack", quanta=last)
    ours, expected = outcome(case), outcome(central)
    difference.assert_same(ours[0], expected[0], "graph")
    difference.assert_same(ours[1], expected[1], "rows")


@pytest.mark.exhaustive
def test_fifty_clusters_in_any_order(
    real_case: Callable[..., real_runs.Case], tmp_path: pathlib.Path
) -> None:
    """Some fail, some are killed, some never run; some are executed by the reference."""
    modes = {"1/1": "fail", "2/2": "nowork", "3/3": "kill", "4/4": "partial", "5/5": "one", "6/1": "kill"}
    central = real_case(tmp_path / "central", modes, visits=10, detectors=5)
    case = central.copy(tmp_path / "repo")
    every = quanta(case)
    places = {data.id: (data.data_id.get("visit"), data.data_id.get("detector")) for data in every}
    unattempted = {each for each, place in places.items() if place in ((7, 1), (8, 2))}
    graph_run.init_run(central.graph, central.root)
    config = run_config.RunConfig(n_processes=2)
    with contextlib.suppress(graph_run.ExecutionError):
        graph_run.execute(central.graph, central.root, config, ids=set(places) - unattempted)

    def execute(node: pathlib.Path) -> None:
        if chosen.random() < 0.5 and modes.get(f"{place[0]}/{place[1]}") != "kill":
            by_reference(node)
            return
        with contextlib.suppress(graph_run.ExecutionError):
            graph_run.execute(node / "graph.qg", node, run_config.RunConfig(n_processes=1))

    chosen = random.Random(7)
    graph_run.init_run(case.graph, case.root)
    steps = [data.id for data in every if data.task == "step"]
    assert len(steps) == 50
    left = []
    for number, each in enumerate(steps):
        place = places[each]
        run = execute if each not in unattempted else lambda node: None
        left.append(
            round_trips.leave(case.root, case.graph, tmp_path / f"job{number}", {each}, run, failed="all")
        )
    chosen.shuffle(left)
    for begin in range(0, len(left), 7):
        aggregator.deliver(left[begin : begin + 7], case.root)
    others = {data.id for data in every if data.task != "step"}
    rest = round_trips.leave(case.root, case.graph, tmp_path / "rest", others, by_us, failed="all")
    aggregator.deliver([*left, rest], case.root)
    ours, expected = outcome(case), outcome(central)
    difference.assert_same(ours[0], expected[0], "graph")
    difference.assert_same(ours[1], expected[1], "rows")


WITHOUT_NETWORK = """
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo"):
        raise OSError(f"{event} {arguments}")

sys.addaudithook(refuse)
from lsst.ctrl.mpexec.cli.pipetask import main
sys.exit(main())
"""
"""The reference's command; containers may not give it a namespace of its own."""


def test_the_reference_reads_and_executes_a_part_of_a_graph_without_a_network(
    trouble: real_runs.Case, tmp_path: pathlib.Path
) -> None:
    case = trouble.copy(tmp_path / "repo")
    chosen = {data.id for data in quanta(case) if data.data_id.get("visit") == 2}
    aggregator.pack(case.root, case.graph, tmp_path / "job.pack", quanta=chosen)
    aggregator.unpack(tmp_path / "job.pack", tmp_path / "node")
    # Nothing of it may be needed any more.
    case.root.rename(tmp_path / "away")
    node = Node(tmp_path / "node")
    part = PredictedQuantumGraph.read_execution_quanta(str(node.graph))
    assert {*part.quantum_only_xgraph} == chosen
    [join] = [i for i, info in part.quantum_only_xgraph.nodes(data=True) if info["task_label"] == "join"]
    assert {*part.quantum_only_xgraph.predecessors(join)} == chosen - {join}
    for command in ("pre-exec-init-qbb", "run-qbb"):
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_NETWORK, command, str(node.root), str(node.graph)],
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    (tmp_path / "away").rename(case.root)
    collected = aggregator.collect(node.root, tmp_path / "out.pack")
    assert collected.statuses == {"SUCCESSFUL": 4}
    delivered = aggregator.deliver([tmp_path / "out.pack"], case.root)
    assert (delivered.n_quanta, delivered.conflicts, delivered.kept) == (4, [], [])


def test_what_is_delivered_can_be_ingested_at_once(trouble: real_runs.Case, tmp_path: pathlib.Path) -> None:
    case = trouble.copy(tmp_path / "repo")
    graph_run.init_run(case.graph, case.root)
    chosen = {data.id for data in quanta(case) if data.data_id.get("visit") == 2}
    pack = round_trips.leave(case.root, case.graph, tmp_path / "job", chosen, by_us)
    with pytest.raises(aggregator.AggregatorError, match="Register them first"):
        aggregator.deliver([pack], case.root, into="registry")
    options = {"into": "registry", "register_dataset_types": True}
    done = aggregator.deliver([pack], case.root, **options)
    with pack_reader.Pack(str(pack)) as opened:
        rows = list(opened.table(packs.QUANTA, packs.PackedQuantum))
    names = {file.dataset_id for row in rows for file in row.files}
    # Configurations of four tasks, a schema, and versions of packages.
    n_init = 6
    assert done.n_ingested == len(names) + n_init
    butler = Butler.from_config(str(case.root), collections=[real_runs.RUN])
    assert butler.get("x_schema") == {"columns": ["a", "b"]}
    [total] = butler.query_datasets("x_total")
    assert butler.get(total)["n"] == 2
    assert butler.get("step_metadata", instrument="Cam", visit=2, detector=1)["step"]["mode"] == "ok"
    sizes = {row[4] for row in round_trips.rows(case.root)["files"].values()}
    assert -1 not in sizes
    again = aggregator.deliver([pack], case.root, **options)
    assert (again.n_ingested, again.n_skipped) == (0, len(names) + n_init)
    _check_renamed(trouble.copy(tmp_path / "other"), pack, total.id)


def _check_renamed(other: real_runs.Case, pack: pathlib.Path, total: Any) -> None:
    graph_run.init_run(other.graph, other.root)
    options = {"other_repository": True, "rename": ["(.*)=prod/\\1"]}
    with pytest.raises(aggregator.RefusedError, match="into registry"):
        aggregator.deliver([pack], other.root, **options)
    options |= {"into": "registry", "register_dataset_types": True}
    for number in range(2):
        assert bool(aggregator.deliver([pack], other.root, **options).n_ingested) == (not number)
    with Butler.from_config(str(other.root), collections=[f"prod/{real_runs.RUN}"]) as butler:
        [found] = butler.query_datasets("x_total")
        assert (found.id, butler.get(found)["n"]) == (total, 2)
        assert butler.get("x_schema") == {"columns": ["a", "b"]}
    del options["rename"]
    with pytest.raises(aggregator.ConflictError, match="contradicts"):
        aggregator.deliver([pack], other.root, **options)


def test_a_node_can_have_a_database(trouble: real_runs.Case, tmp_path: pathlib.Path) -> None:
    case = trouble.copy(tmp_path / "repo")
    graph_run.init_run(case.graph, case.root)
    every = quanta(case)
    first = {data.id for data in every if data.data_id.get("visit") == 2}
    pack = round_trips.leave(case.root, case.graph, tmp_path / "job", first, by_us)
    aggregator.deliver([pack], case.root, into="registry", register_dataset_types=True)
    # The coadd of the third patch reads what has been ingested, and the third detector of the first visit.
    second = {data.id for data in every if data.data_id.get("patch") == 2}
    second |= {data.id for data in every if data.data_id.get("visit") == 1 and data.task == "step"}
    aggregator.pack(case.root, case.graph, tmp_path / "job.pack", quanta=second, registry=True)
    done = aggregator.unpack(tmp_path / "job.pack", tmp_path / "node")
    assert done.has_registry
    case.root.rename(tmp_path / "away")
    butler = Butler.from_config(str(tmp_path / "node"), collections=["in", real_runs.RUN])
    raws = butler.query_datasets("raw")
    assert {ref.dataId["visit"] for ref in raws} == {1}
    assert [butler.get(ref)["value"] for ref in sorted(raws)] == [11, 12, 13]
    [one] = butler.query_datasets("x_one")
    assert (one.dataId["visit"], one.dataId["detector"]) == (2, 3)
    assert butler.get(one)
    assert butler.get("x_schema") == {"columns": ["a", "b"]}
    regions = butler.query_dimension_records("visit_detector_region", instrument="Cam", visit=1)
    assert [each.detector for each in sorted(regions, key=lambda each: each.detector)] == [1, 2, 3]
    assert all(each.region is not None for each in regions)
    by_us(tmp_path / "node")
    assert aggregator.collect(tmp_path / "node", tmp_path / "out.pack").statuses["SUCCESSFUL"] >= 2
    # A database that is there stays.
    assert aggregator.unpack(tmp_path / "job.pack", tmp_path / "node").n_files == 0


def test_inputs_in_archives_and_elsewhere_come_along(
    real_repository: Callable[..., pathlib.Path], tmp_path: pathlib.Path
) -> None:
    repository = tmp_path / "with_zip"
    shutil.copytree(real_repository(2, 3), repository)
    butler = Butler.from_config(str(repository), writeable=True)
    raws = butler.query_datasets("raw", collections="in")
    zipped = [ref for ref in raws if ref.dataId["visit"] == 1]
    archive = butler.retrieve_artifacts_zip(zipped, str(tmp_path))
    elsewhere = [ref for ref in raws if ref.dataId["visit"] == 2]
    (tmp_path / "elsewhere").mkdir()
    files = []
    for ref in elsewhere:
        path = tmp_path / "elsewhere" / f"{ref.dataId['detector']}.json"
        path.write_text(json.dumps(butler.get(ref)))
        files.append(FileDataset(path=str(path), refs=[ref]))
    butler.pruneDatasets(raws, disassociate=True, unstore=True, purge=True)
    butler.ingest_zip(str(archive), transfer="copy")
    butler.ingest(*files, transfer="direct")
    case = real_runs.make(repository, tmp_path / "repo")
    aggregator.pack(case.root, case.graph, tmp_path / "job.pack")
    with pack_reader.Pack(str(tmp_path / "job.pack")) as pack:
        rows = list(pack.table(packs.INPUTS, packs.InputFile))
    [shared] = [row for row in rows if len(row.dataset_ids) > 1]
    assert len(shared.dataset_ids) == 3
    assert sum(row.path.startswith("inputs/") for row in rows) == 3
    aggregator.unpack(tmp_path / "job.pack", tmp_path / "node")
    for moved in (case.root, tmp_path / "elsewhere"):
        moved.rename(moved.with_name(f"{moved.name}-away"))
    by_reference(tmp_path / "node")
    assert aggregator.collect(tmp_path / "node", tmp_path / "out.pack").statuses == {"SUCCESSFUL": 12}
