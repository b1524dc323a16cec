"""Execution leaves what that of the reference leaves, and each goes on where the other has stopped."""

from __future__ import annotations

import json
import logging
import pathlib
from typing import Any

import pytest
from aggregator.execution import graph_context, graph_quanta, init_outputs, single_quantum_executor

import aggregator
from aggregator.running import graph_run
from tests.helpers.oracle import difference, real_runs, reference

TROUBLE = {"1/1": "fail", "1/2": "nowork"}

MODES = (
    "ok", "one", "fail", "repeatable", "nowork", "nowork_after_put", "upstream", "unprocessable", "partial",
    "sysexit", "kbd",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture(scope="module")
def trouble(tmp_path_factory: pytest.TempPathFactory) -> real_runs.Case:
    """Return a graph of 12 quanta, of which one fails and one has nothing to do."""
    return real_runs.make(tmp_path_factory.mktemp("trouble") / "repo", TROUBLE)


@pytest.fixture(scope="module")
def expected(trouble: real_runs.Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the reference makes of it."""
    case = trouble.copy(tmp_path_factory.mktemp("expected") / "repo")
    real_runs.execute_by_reference(case)
    return aggregated(case, by_reference=True)


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
        graph_run.execute(str(case.graph), str(case.root), graph_run.RunConfig(**options))
    except graph_run.ExecutionError as exc:
        return exc.exit_code
    return 0


@pytest.mark.parametrize("model", [{"in_process": True}, {"n_processes": 2}], ids=["in process", "workers"])
def test_a_graph_is_executed_as_by_the_reference(
    trouble: real_runs.Case, expected: dict[str, Any], tmp_path: pathlib.Path, model: dict[str, Any]
) -> None:
    case = trouble.copy(tmp_path / "repo")
    assert execute(case, **model) == 1
    ours = aggregated(case)
    difference.assert_same(ours, expected, "aggregated by us")
    difference.assert_same(aggregated(case, by_reference=True), expected, "aggregated by the reference")
    statuses = [each[1] for each in ours["quanta"].values()]
    assert {each: statuses.count(each) for each in statuses} == {"SUCCESSFUL": 8, "FAILED": 1, "BLOCKED": 3}


def test_behaviours_leave_the_same(tmp_path: pathlib.Path) -> None:
    modes = {f"{number}/1": mode for number, mode in enumerate(MODES, 1)}
    case = real_runs.make(tmp_path / "case", modes, visits=len(MODES), detectors=1, labels=("step",))
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


def test_partial_outputs_can_be_a_success(tmp_path: pathlib.Path) -> None:
    case = real_runs.make(tmp_path / "case", {"1/1": "partial"}, visits=1, detectors=1, labels=("step",))
    theirs, ours = case.copy(tmp_path / "theirs" / "repo"), case.copy(tmp_path / "ours" / "repo")
    real_runs.execute_by_reference(theirs, raise_on_partial_outputs=False)
    assert execute(ours, in_process=True, raise_on_partial_outputs=False) == 0
    difference.assert_same(_files(ours), _files(theirs), "files")
    difference.assert_same(aggregated(ours), aggregated(theirs), "provenance")


@pytest.mark.parametrize("first_is_ours", [True, False])
def test_one_retries_what_the_other_has_begun(tmp_path: pathlib.Path, first_is_ours: bool) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    case = real_runs.make(tmp_path / "repo", {"1/1": "fail|fail|ok"}, visits=1, detectors=2, marks=str(marks))
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


@pytest.mark.parametrize("records", [True, False])
def test_inputs_that_are_not_there(tmp_path: pathlib.Path, records: bool) -> None:
    # One of the quanta after these two has too few inputs left, another one still has enough.
    modes = {"1/2": "nowork", "1/3": "nowork"}
    case = real_runs.make(tmp_path / "case", modes, records=records)
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
def test_existing_outputs(tmp_path: pathlib.Path, found: str, flags: tuple[bool, bool]) -> None:
    case = real_runs.make(tmp_path / "case", visits=1, detectors=1, labels=("step",))
    if found != "nothing":
        assert execute(case, in_process=True) == 0
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
