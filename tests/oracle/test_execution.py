"""Execution leaves what that of the reference leaves, and each goes on where the other has stopped."""

from __future__ import annotations

import json
import logging
import pathlib
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aggregator.execution import graph_context, graph_quanta, init_outputs, single_quantum_executor
from aggregator.execution.workflows import workflow as workflow_module
from aggregator.storage import errors
from lsst.pipe.base import quantum_reports
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

import aggregator
from aggregator.running import graph_run, run_config, workflow_request, workflow_run
from tests.helpers import kills, sharing, slurm_cluster
from tests.helpers.oracle import difference, real_runs, reference

ROOT = pathlib.Path(__file__).parents[2]

TROUBLE = {"1/1": "fail", "1/2": "nowork"}

MODES = (
    "ok", "one", "fail", "repeatable", "nowork", "nowork_after_put", "upstream", "unprocessable", "partial",
    "sysexit", "kbd",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture(scope="module")
def trouble(
    real_case: Callable[..., real_runs.Case], tmp_path_factory: pytest.TempPathFactory
) -> real_runs.Case:
    """Return a graph of 12 quanta, of which one fails and one has nothing to do."""

    def make(path: pathlib.Path) -> real_runs.Case:
        return real_case(path / "repo", TROUBLE)

    return sharing.made_once(tmp_path_factory, "trouble", make)


@pytest.fixture(scope="module")
def expected(trouble: real_runs.Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the reference makes of it."""

    def make(path: pathlib.Path) -> dict[str, Any]:
        case = trouble.copy(path / "repo")
        real_runs.execute_by_reference(case)
        return aggregated(case, by_reference=True)

    return sharing.made_once(tmp_path_factory, "trouble_by_reference", make)


@pytest.fixture(scope="module")
def one_quantum(
    real_case: Callable[..., real_runs.Case], tmp_path_factory: pytest.TempPathFactory
) -> real_runs.Case:
    """Return a graph of one quantum."""

    def make(path: pathlib.Path) -> real_runs.Case:
        return real_case(path / "repo", visits=1, detectors=1, labels=("step",))

    return sharing.made_once(tmp_path_factory, "one_quantum", make)


@pytest.fixture(scope="module")
def one_success(one_quantum: real_runs.Case, tmp_path_factory: pytest.TempPathFactory) -> real_runs.Case:
    """Return it after its execution."""

    def make(path: pathlib.Path) -> real_runs.Case:
        case = one_quantum.copy(path / "repo")
        assert execute(case, in_process=True) == 0
        return case

    return sharing.made_once(tmp_path_factory, "one_success", make)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm_cluster.Cluster]:
    """Run a cluster of this machine."""
    with slurm_cluster.running(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


def aggregated(case: real_runs.Case, *, by_reference: bool = False) -> dict[str, Any]:
    """Return what the aggregation of a copy tells."""
    copy = case.copy(case.root.parent / f"aggregated-{by_reference}")
    path = copy.root / "provenance.qg"
    if by_reference:
        reference.aggregate_files(
            str(copy.graph), str(copy.root), output_path=str(path), register_dataset_types=True
        )
    else:
        config = aggregator.AggregatorConfig(output_path=path, register_dataset_types=True)
        aggregator.aggregate_graph(copy.graph, copy.root, config)
    return real_runs.outcome(path)


def execute(case: real_runs.Case, **options: Any) -> int:
    """Execute a graph; return the exit code."""
    try:
        graph_run.execute(str(case.graph), str(case.root), run_config.RunConfig(**options))
    except graph_run.ExecutionError as exc:
        return exc.exit_code
    return 0


@pytest.mark.parametrize("model", [{"in_process": True}, {"n_processes": 2}], ids=["in process", "workers"])
def test_a_graph_is_executed_as_by_the_reference(
    trouble: real_runs.Case, expected: dict[str, Any], tmp_path: pathlib.Path, model: dict[str, Any]
) -> None:
    case, report_path = trouble.copy(tmp_path / "repo"), tmp_path / "report.json"
    assert execute(case, report_path=report_path, **model) == 1
    report = quantum_reports.Report.model_validate_json(report_path.read_text())
    assert Counter(each.status.value for each in report.quantaReports) == {
        "success": 8,
        "failure": 1,
        "skipped": 3,
    }
    [failed] = [each.exceptionInfo for each in report.quantaReports if each.exceptionInfo]
    assert (failed.className, failed.message) == ("ValueError", "told to fail")
    assert report.status.value == "failure"
    graph = PredictedQuantumGraph.read_execution_quanta(str(case.graph))
    assert report.qgraphSummary == graph._make_summary()
    ours = aggregated(case)
    difference.assert_same(ours, expected, "aggregated by us")
    difference.assert_same(aggregated(case, by_reference=True), expected, "aggregated by the reference")
    statuses = [each[1] for each in ours["quanta"].values()]
    assert {each: statuses.count(each) for each in statuses} == {"SUCCESSFUL": 8, "FAILED": 1, "BLOCKED": 3}


def workflow(case: real_runs.Case, directory: pathlib.Path, system: str, **options: Any) -> pathlib.Path:
    """Write a workflow, with a job for each visit; return its directory."""
    resources = workflow_module.Resources(memory=500, final_memory=500, final_processes=2)
    clusters = ("step,join:visit",)
    config = workflow_request.WorkflowConfig(system, clusters, resources=resources, **options)
    program = (sys.executable, "-P", "-m", "aggregator")
    workflow_request.write(str(case.graph), str(case.root), str(directory), program, config)
    return directory


def journal(directory: pathlib.Path) -> list[str]:
    """Return the jobs of a workflow that have succeeded."""
    path = directory / "run-workflow.done"
    return path.read_text().splitlines() if path.exists() else []


def test_a_workflow_is_executed_as_by_the_reference(
    trouble: real_runs.Case,
    expected: dict[str, Any],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    case = trouble.copy(tmp_path / "repo")
    directory = workflow(case, tmp_path / "w", "htcondor")
    dag = directory / "workflow.dag"
    # One node fails twice; later, the whole is killed.
    name = next(line.split()[1] for line in dag.read_text().splitlines() if "step_join" in line)
    (directory / "pre.sh").write_text('#!/bin/sh\necho "$1" >> tries\n[ "$1" -ge 2 ]\n')
    (directory / "pre.sh").chmod(0o755)
    dag.write_text(f"{dag.read_text()}SCRIPT PRE {name} pre.sh $RETRY\nRETRY {name} 2\n")
    with kills.start(["run-workflow", str(directory)]) as running:
        while name not in journal(directory):
            assert running.poll() is None, running.stderr.read()
            time.sleep(0.05)
        running.kill()
    # The job that was running goes on alone, and has the workflow until it has ended.
    account = None
    while account is None:
        try:
            account = workflow_run.run(str(directory), 2)
        except errors.InUseError:
            time.sleep(0.1)
    assert account.n_before >= 2
    assert (directory / "tries").read_text().split() == ["0", "1", "2"]
    difference.assert_same(real_runs.outcome(directory / "provenance.qg"), expected, "by the workflow")


@pytest.mark.parametrize("is_exact", [False, True], ids=["arrays", "exact"])
def test_slurm_executes_a_graph_as_the_reference_does(
    slurm: slurm_cluster.Cluster,
    trouble: real_runs.Case,
    expected: dict[str, Any],
    tmp_path: pathlib.Path,
    is_exact: bool,
) -> None:
    case = trouble.copy(tmp_path / "repo")
    directory = workflow(case, tmp_path / "w 'x'", "slurm", is_exact=is_exact)
    environment = {**slurm.environment, "PYTHONPATH": str(ROOT)}
    for attempts in (1,) if is_exact else (1, 2):
        subprocess.run([directory / "submit.sh", "--time=10"], env=environment, check=True)
        again = subprocess.run([directory / "submit.sh"], env=environment, capture_output=True, check=False)
        assert (again.returncode, b"are in the queue" in again.stderr) == (1, True)
        assert set(slurm.wait((directory / "submitted").read_text().split())) == {"COMPLETED"}
        outcome = real_runs.outcome(directory / "provenance.qg")
        # A second pass tries again what has failed, and nothing else.
        tries = {len(each[3]) for each in outcome["quanta"].values() if each[1] == "FAILED"}
        assert tries == {attempts}
        if attempts == 1:
            difference.assert_same(outcome, expected, "by Slurm")


def test_records_of_slurm_tell_of_jobs_that_left_nothing(
    slurm: slurm_cluster.Cluster, trouble: real_runs.Case, tmp_path: pathlib.Path
) -> None:
    case = trouble.copy(tmp_path / "repo")
    directory = workflow(case, tmp_path / "w 'x'", "slurm")
    script = directory / "quanta.sh"
    # One element of the first array is killed before it has done anything.
    kill = "[[ $SLURM_JOB_NAME == 1_* && $SLURM_ARRAY_TASK_ID == 2 ]] && kill -9 $$\nexec "
    script.write_text(script.read_text().replace("exec ", kill, 1))
    environment = {**slurm.environment, "PYTHONPATH": str(ROOT)}
    subprocess.run([directory / "submit.sh", "--time=10"], env=environment, check=True)
    slurm.wait((directory / "submitted").read_text().split())
    first = sorted((directory / "quanta").glob("1_*.ids"))[0]
    lost = first.read_text().splitlines()[1].split(",")[0]

    def story() -> tuple[str, tuple[str, str]]:
        attempts = real_runs.outcome(directory / "provenance.qg")["quanta"][lost][3]
        assert len(attempts) == 1
        status, exception = attempts[0]
        return status, exception

    # The last job has asked for them; there is no accounting.
    status, (type_name, message) = story()
    assert (status, type_name) == ("ABORTED", "aggregator.JobKilled")
    assert re.fullmatch(r"Slurm job \d+_2 was killed by signal 9 on localhost.*", message)
    assert (directory / "accounting.txt").read_text() == ""
    config = aggregator.AggregatorConfig(
        output_path=directory / "provenance.qg", job_records=[slurm.ended], fresh=True
    )
    aggregator.aggregate_graph(case.graph, case.root, config)
    assert story()[:1] == ("ABORTED",)
    assert story()[1][0] == "aggregator.JobKilled"


def test_what_slurm_does_not_take_is_cancelled(
    slurm: slurm_cluster.Cluster, trouble: real_runs.Case, tmp_path: pathlib.Path
) -> None:
    case = trouble.copy(tmp_path / "repo")
    directory = workflow(case, tmp_path / "w", "slurm")
    # The last job asks for what there is not.
    script = directory / "aggregate.sh"
    script.write_text(script.read_text().replace("--mem=500M", "--partition=none"))
    done = subprocess.run([directory / "submit.sh", "--hold"], env=slurm.environment, check=False)
    assert done.returncode != 0
    states = slurm.wait((directory / "submitted").read_text().split())
    assert set(states) == {"CANCELLED"}


def test_behaviours_leave_the_same(real_case: Callable[..., real_runs.Case], tmp_path: pathlib.Path) -> None:
    modes = {f"{number}/1": mode for number, mode in enumerate(MODES, 1)}
    case = real_case(tmp_path / "case", modes, visits=len(MODES), detectors=1, labels=("step",))
    theirs, ours = case.copy(tmp_path / "theirs" / "repo"), case.copy(tmp_path / "ours" / "repo")
    failures = real_runs.execute_by_reference(theirs)
    assert execute(ours, in_process=True) == 1
    difference.assert_same(_files(ours), _files(theirs), "files")
    difference.assert_same(aggregated(ours), aggregated(theirs), "provenance")
    failed = [each for each in aggregated_quanta(ours) if each[1] == "FAILED"]
    assert len(failed) == len(failures) == 5


def aggregated_quanta(case: real_runs.Case) -> list[Any]:
    """Return the quanta of the aggregation that was done already."""
    found = real_runs.outcome(case.root.parent / "aggregated-False" / "provenance.qg")
    return list(found["quanta"].values())


def test_an_invalid_quantum_leaves_the_same(
    real_case: Callable[..., real_runs.Case], tmp_path: pathlib.Path
) -> None:
    case = real_case(tmp_path / "case", {"1/1": "invalid"}, visits=1, detectors=1, labels=("step",))
    theirs, ours = case.copy(tmp_path / "theirs" / "repo"), case.copy(tmp_path / "ours" / "repo")
    assert len(real_runs.execute_by_reference(theirs)) == 1
    assert execute(ours, in_process=True) == 21
    difference.assert_same(_files(ours), _files(theirs), "files")
    difference.assert_same(aggregated(ours), aggregated(theirs), "provenance")


def test_partial_outputs_without_a_cause_are_a_failure(
    real_case: Callable[..., real_runs.Case], tmp_path: pathlib.Path
) -> None:
    modes = {"1/1": "partial_unchained"}
    case = real_case(tmp_path / "case", modes, visits=1, detectors=1, labels=("step",))
    theirs, ours = case.copy(tmp_path / "theirs" / "repo"), case.copy(tmp_path / "ours" / "repo")
    real_runs.execute_by_reference(theirs)
    assert execute(ours, in_process=True) == 1
    # The reference fails while it tells of the failure.
    assert [each[3][0] for each in aggregated(theirs)["quanta"].values()] == [
        ("FAILED", ("TypeError", "not all arguments converted during string formatting"))
    ]
    error = "lsst.pipe.base.AnnotatedPartialOutputsError"
    assert [each[3][0] for each in aggregated(ours)["quanta"].values()] == [
        ("FAILED", (error, "not annotated"))
    ]
    assert _contents(ours).keys() == _contents(theirs).keys()


def test_logs_tell_as_much_of_each_attempt(
    real_case: Callable[..., real_runs.Case], tmp_path: pathlib.Path
) -> None:
    told = []
    for by_reference in (True, False):
        marks = tmp_path / f"marks-{by_reference}"
        marks.mkdir()
        root, modes = tmp_path / f"{by_reference}" / "repo", {"1/1": "fail|fail|ok"}
        case = real_case(root, modes, visits=1, detectors=1, labels=("step",), marks=str(marks))
        for _ in range(3):
            if by_reference:
                real_runs.execute_by_reference(case)
            else:
                execute(case, in_process=True)
        [path] = (case.root / real_runs.RUN / "step_log").rglob("*.json")
        log = json.loads(path.read_bytes())
        told.append(
            [
                (each["exception"]["type_name"], sorted(each["metadata"]["metadata"]))
                for each in log["previous_attempts"]
            ]
            + [len(each["logs"]) for each in log["previous_attempts"]]
            + [len(log["logs"])]
        )
    assert told[0] == told[1]
    assert len(told[1]) == 5


def test_only_the_reference_gives_up_at_a_damaged_log(
    real_case: Callable[..., real_runs.Case], tmp_path: pathlib.Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    modes = {"1/1": "fail|ok"}
    case = real_case(tmp_path / "r", modes, visits=1, detectors=1, labels=("step",), marks=str(marks))
    assert execute(case, in_process=True) == 1
    [log] = (case.root / real_runs.RUN / "step_log").rglob("*.json")
    damaged = log.read_bytes()[:100]
    log.write_bytes(damaged)
    [failure] = real_runs.execute_by_reference(case).values()
    assert failure.startswith("ValueError")
    assert execute(case, in_process=True) == 0
    assert log.with_name(f"{log.name}.corrupt-0").read_bytes() == damaged
    for by_reference in (True, False):
        [quantum] = aggregated(case, by_reference=by_reference)["quanta"].values()
        assert [each[0] for each in quantum[3]] == ["FAILED", "SUCCESSFUL"]


def test_partial_outputs_can_be_a_success(
    real_case: Callable[..., real_runs.Case], tmp_path: pathlib.Path
) -> None:
    case = real_case(tmp_path / "case", {"1/1": "partial"}, visits=1, detectors=1, labels=("step",))
    theirs, ours = case.copy(tmp_path / "theirs" / "repo"), case.copy(tmp_path / "ours" / "repo")
    real_runs.execute_by_reference(theirs, raise_on_partial_outputs=False)
    assert execute(ours, in_process=True, raise_on_partial_outputs=False) == 0
    difference.assert_same(_files(ours), _files(theirs), "files")
    difference.assert_same(aggregated(ours), aggregated(theirs), "provenance")


@pytest.mark.parametrize("first_is_ours", [True, False])
def test_one_retries_what_the_other_has_begun(
    real_case: Callable[..., real_runs.Case], tmp_path: pathlib.Path, first_is_ours: bool
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    modes = {"1/1": "fail|fail|ok"}
    case = real_case(tmp_path / "repo", modes, visits=1, detectors=2, marks=str(marks))
    for number in range(3):
        if first_is_ours == (number % 2 == 0):
            execute(case, in_process=True)
        else:
            real_runs.execute_by_reference(case)
    ours = aggregated(case)
    difference.assert_same(ours, aggregated(case, by_reference=True), "provenance")
    assert {each[1] for each in ours["quanta"].values()} == {"SUCCESSFUL"}
    tries = [each[3] for each in ours["quanta"].values() if len(each[3]) > 1]
    failed = ("FAILED", ("ValueError", "told to fail"))
    assert tries == [[failed, failed, ("SUCCESSFUL", None)]]


@pytest.mark.parametrize("first_is_ours", [True, False])
def test_each_executes_a_half(
    trouble: real_runs.Case, expected: dict[str, Any], tmp_path: pathlib.Path, first_is_ours: bool
) -> None:
    case = trouble.copy(tmp_path / "repo")
    if first_is_ours:
        graph_run.init_run(case.graph, case.root)
        with graph_context.GraphContext(str(case.graph), str(case.root)) as context:
            ids = [data.id for data in graph_quanta.GraphQuanta(context) if data.task == "step"]
        with pytest.raises(graph_run.ExecutionError):
            graph_run.execute(case.graph, case.root, run_config.RunConfig(in_process=True), ids=ids)
        real_runs.execute_by_reference(case)
    else:
        real_runs.execute_by_reference(case, labels=("step",))
        assert execute(case, in_process=True) == 1
    ours = aggregated(case)
    difference.assert_same(ours, aggregated(case, by_reference=True), "provenance")
    statuses, those_expected = (
        {quantum_id: each[:3] for quantum_id, each in outcome["quanta"].items()}
        for outcome in (ours, expected)
    )
    difference.assert_same(statuses, those_expected, "statuses")
    difference.assert_same(ours["produced"], expected["produced"], "datasets")


@pytest.mark.parametrize("records", [True, False])
def test_inputs_that_are_not_there(
    real_case: Callable[..., real_runs.Case], tmp_path: pathlib.Path, records: bool
) -> None:
    # One of the quanta after these two has too few inputs left, another one still has enough.
    modes = {"1/2": "nowork", "1/3": "nowork"}
    case = real_case(tmp_path / "case", modes, records=records)
    [raw] = case.root.glob("in/raw/**/raw_*_2_D1_in.yaml")
    raw.unlink()
    theirs, ours = case.copy(tmp_path / "theirs" / "repo"), case.copy(tmp_path / "ours" / "repo")
    failures = real_runs.execute_by_reference(theirs)
    assert execute(ours, in_process=True) == (1 if records else 0)
    found, expected = (_types_only(aggregated(each)) for each in (ours, theirs))
    difference.assert_same(found, expected, "provenance")
    assert len(failures) == records
    caveats = {(each[0], each[2]) for each in found["quanta"].values()}
    assert ("join", 15) in caveats
    assert (("step", 15) in caveats) != records


def _types_only(outcome: dict[str, Any]) -> dict[str, Any]:
    """Leave out the texts of exceptions."""
    quanta = {
        quantum_id: (*each[:3], [(status, exception and exception[0]) for status, exception in each[3]])
        for quantum_id, each in outcome["quanta"].items()
    }
    return {**outcome, "quanta": quanta}


FOUND = {
    "nothing": (),
    "metadata": ("x_one", "x_two", "step_log"),
    "some outputs": ("x_two", "step_metadata"),
    "everything": None,
}
"""What to delete after a success; nothing of it, or everything before it."""


@pytest.mark.parametrize("flags", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("found", FOUND)
def test_existing_outputs(
    one_quantum: real_runs.Case,
    one_success: real_runs.Case,
    tmp_path: pathlib.Path,
    found: str,
    flags: tuple[bool, bool],
) -> None:
    case = (one_quantum if found == "nothing" else one_success).copy(tmp_path / "case")
    for name in FOUND[found] or ():
        for path in (case.root / real_runs.RUN / name).rglob("*.*"):
            path.unlink()
    theirs, ours = case.copy(tmp_path / "theirs" / "repo"), case.copy(tmp_path / "ours" / "repo")
    before = _contents(ours)
    failures = real_runs.execute_by_reference(theirs, skip_existing=flags[0], clobber_outputs=flags[1])
    options = single_quantum_executor.Options(skip_existing=flags[0], clobber_outputs=flags[1])
    with graph_context.GraphContext(str(ours.graph), str(ours.root)) as context:
        init_outputs.write(context)
        [data] = graph_quanta.GraphQuanta(context)
        quantum = context.quantum(context.block(data.quantum))
        executor = single_quantum_executor.SingleQuantumExecutor(
            context.files, options, dataset_types=context.dataset_types
        )
        try:
            executor.execute(context.task("step"), quantum)
        except single_quantum_executor.ExistingOutputsError:
            assert failures
            assert _contents(ours) == before
        else:
            assert not failures
    assert (_contents(ours) == before) == (_contents(theirs) == before)
    difference.assert_same(_files(ours), _files(theirs), "files")


def _contents(case: real_runs.Case) -> dict[str, bytes]:
    """Return the content of the files of quanta."""
    files = [path for path in (case.root / real_runs.RUN).rglob("*_*") if path.is_file()]
    kept = [path for path in files if not {"packages", "step_config", "x_schema"} & set(path.parts)]
    return {str(path.relative_to(case.root)): path.read_bytes() for path in kept}


def _files(case: real_runs.Case) -> dict[str, Any]:
    """Return what quanta have left: paths of files, and of metadata and logs what does not depend on time."""
    found: dict[str, Any] = {}
    for path in sorted((case.root / real_runs.RUN).rglob("*")):
        if path.is_file():
            name = str(path.relative_to(case.root))
            found[name] = _summary(path)
    return found


def _summary(path: pathlib.Path) -> Any:
    name = path.parts[path.parts.index("run1") + 1]
    if name.endswith("_log"):
        document = json.loads(path.read_bytes())
        return [list(document), document["exception"], _metadata(document["metadata"])]
    if name.endswith("_metadata"):
        return _metadata(json.loads(path.read_bytes()))
    return path.read_bytes() if path.suffix == ".yaml" and name != "packages" else None


def _metadata(document: Any) -> Any:
    if document is None:
        return None
    sections = document["metadata"]
    quantum = sections["quantum"]
    return [
        {name: each for name, each in sections.items() if name != "quantum"},
        sorted(quantum["scalars"]),
        quantum["scalars"].get("caveats"),
        sorted(quantum["arrays"]),
        sorted(quantum["arrays"]["outputs"]),
        sorted(quantum["metadata"]),
    ]
