"""The command `aggregator show` on the sample."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import click.testing
import pytest

from aggregator.command_line import main
from aggregator.reading import data_ids
from aggregator.show import texts
from tests.helpers import graph_files


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return graph_files.unpack_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def path(root: pathlib.Path) -> str:
    return str(root / "provenance.qg")


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    found: dict[str, Any] = graph_files.expected()["provenance"]
    return found


def run(*arguments: str, code: int = 0) -> str:
    done = click.testing.CliRunner().invoke(main.main, ["show", *arguments])
    assert done.exit_code == code, done.output
    return done.output


def run_json(*arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run(*arguments, "--format", "json"))
    assert document["format"] == 1
    return document


def quanta(expected: dict[str, Any], **wanted: Any) -> dict[str, Any]:
    return {i: q for i, q in expected["quanta"].items() if wanted.items() <= q.items()}


def test_summary(path: str, expected: dict[str, Any]) -> None:
    document = run_json(path)
    assert document["run"] == graph_files.expected()["run"]
    for task in document["tasks"]:
        assert task["total"] == task["expected"] == expected["header"]["n_task_quanta"][task["task"]]
        for status, n in task["quanta"].items():
            assert n == len(quanta(expected, task=task["task"], status=status))
    text = run(path)
    for number in expected["header"]["n_task_quanta"]:
        assert number in text
    assert "PARTIAL_OUTPUTS_ERROR" in text
    assert "20 quanta of 5 tasks" in text


@pytest.mark.parametrize("status", ["SUCCESSFUL", "FAILED", "BLOCKED", "ABORTED_SUCCESS"])
def test_one_quantum(path: str, expected: dict[str, Any], status: str) -> None:
    for quantum_id, wanted in quanta(expected, status=status).items():
        document = run_json(path, "--quantum", quantum_id)
        assert (document["id"], document["task"]) == (quantum_id, wanted["task"])
        assert (document["data_id"], document["status"]) == (wanted["data_id"], status)
        assert document["log_id"] == wanted["log_id"]
        text = data_ids.text(wanted["data_id"])
        if wanted["data_id"].keys() > {"visit", "detector"}:
            assert run_json(path, "--task", wanted["task"], "--data-id", text) == document
        shown = run(path, "--quantum", quantum_id)
        assert f"status    {status}" in shown
        assert ("never ran" in shown) == (status == "BLOCKED")
        for attempt in wanted["attempts"]:
            if attempt["exception"]:
                assert attempt["exception"]["message"].splitlines()[0] in shown
            if attempt["resource_usage"]:
                assert attempt["resource_usage"]["start"][:19] + "Z" in shown


def test_several_quanta(path: str, expected: dict[str, Any]) -> None:
    document = run_json(path, "--task", "clean", "--data-id", "visit=102")
    wanted = {i for i, q in quanta(expected, task="clean").items() if q["data_id"]["visit"] == 102}
    assert {match["id"] for match in document["matches"]} == wanted
    assert not document["more"]
    text = run(path, "--task", "clean", "--limit", "3")
    assert len(text.splitlines()) == 5
    assert "more than these 3 matches" in text
    document = run_json(path, "--task", "clean", "--limit", "3")
    assert (len(document["matches"]), document["more"]) == (3, True)
    assert len(run_json(path, "--task", "clean", "--limit", "0")["matches"]) == 6


def test_datasets(path: str, expected: dict[str, Any]) -> None:
    for dataset_id, wanted in expected["datasets"].items():
        document = run_json(path, "--dataset", dataset_id)
        assert (document["dataset_type"], document["data_id"]) == (wanted["dataset_type"], wanted["data_id"])
        assert document["produced"] == wanted["produced_in_file"]
        assert dataset_id in run(path, "--dataset", dataset_id)
    (image, *_) = (i for i, d in expected["datasets"].items() if d["dataset_type"] == "clean_image")
    data_id = expected["datasets"][image]["data_id"]
    text = f"visit={data_id['visit']} AND detector={data_id['detector']}"
    assert run_json(path, "--dataset", "clean_image", "--data-id", text)["id"] == image


def test_logs_and_metadata(path: str, expected: dict[str, Any]) -> None:
    for quantum_id, wanted in expected["quanta"].items():
        for attempt, n in enumerate(wanted["n_logs"] or ()):
            arguments = (path, "--quantum", quantum_id, "--attempt", str(attempt))
            document = run_json(*arguments, "--logs")
            assert document["attempt"] == attempt
            assert (None if document["logs"] is None else len(document["logs"])) == n
            text = run(*arguments, "--logs", "--limit", "1")
            assert ("left no log" in text) == (n is None)
            if n and n > 1:
                assert f"{n - 1} earlier records" in text
                assert document["logs"][-1]["message"].splitlines()[0] in text
            metadata = run_json(*arguments, "--metadata")["metadata"]
            assert (metadata is not None) == wanted["has_metadata"][attempt]
            text = run(*arguments, "--metadata")
            assert ("left no metadata" in text) == (metadata is None)
        if not wanted["attempts"]:
            assert "it is blocked" in run(path, "--quantum", quantum_id, "--logs", code=2)
    (quantum_id, wanted), *_ = quanta(expected, status="SUCCESSFUL", task="clean").items()
    by_dataset = run_json(path, "--dataset", wanted["log_id"], "--logs")
    assert by_dataset == run_json(path, "--quantum", quantum_id, "--logs")


def test_lineage(path: str, expected: dict[str, Any]) -> None:
    (quantum_id, _), *_ = quanta(expected, status="SUCCESSFUL", task="measure").items()
    text = run(path, "--quantum", quantum_id, "--upstream", "--downstream", "--depth", "1")
    above, below = text.split("\n\n")
    assert "clean_image" in above
    assert "sources" in below
    document = run_json(path, "--quantum", quantum_id, "--upstream")
    depths = {step["id"]: step["depth"] for step in document["upstream"]}
    assert sorted(depths.values()) == list(depths.values())
    assert {step["name"] for step in document["upstream"] if step["kind"] == "quantum"} == {"clean"}


def test_failures(path: str, expected: dict[str, Any]) -> None:
    failures = run_json(path, "--failed")["failures"]
    wanted = {i: q for i, q in expected["quanta"].items() if q["status"] != "SUCCESSFUL"}
    assert {failure["id"] for failure in failures} == wanted.keys()
    for failure in failures:
        quantum = wanted[failure["id"]]
        assert failure["state"] == quantum["status"]
        assert (failure["cause"] is not None) == (quantum["status"] == "BLOCKED")
        assert (failure["log"] is not None) == bool(quantum["attempts"])
        if failure["log"]:
            assert failure["log"]["dataset_id"] == quantum["log_id"]
            assert failure["log"]["records"] == quantum["n_logs"][-1]
    text = run(path, "--failed")
    for quantum_id, quantum in wanted.items():
        assert quantum_id in text
        if quantum["attempts"] and quantum["attempts"][-1]["exception"]:
            assert quantum["attempts"][-1]["exception"]["type_name"] in text
    assert "because of FAILED" in text
    assert len(run_json(path, "--failed", "--task", "clean")["failures"]) == len(
        [q for q in wanted.values() if q["task"] == "clean"]
    )
    assert run(path, "--failed", "--task", "clean", "--data-id", "visit=1") == "No failures.\n"
    assert "more than these 1 failures" in run(path, "--failed", "--limit", "1")


def test_why(path: str, expected: dict[str, Any]) -> None:
    outcomes = set()
    for dataset_id in expected["datasets"]:
        document = run_json(path, "--why", dataset_id)
        outcomes.add(document["outcome"])
        text = run(path, "--why", dataset_id)
        assert document["outcome"] in text
        assert document["reason"] in text
        if document["outcome"] == "blocked":
            assert document["cause"]["id"] in text
            assert document["log"]["dataset_id"] in text
    assert outcomes == {"input", "produced", "blocked", "failed", "not written"}
    by_data_id = run_json(path, "--why", "clean_image", "--data-id", "visit=102 AND detector=1")
    assert by_data_id == run_json(path, "--why", by_data_id["dataset"]["id"])


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--quantum", "nothing"], "not a UUID"),
        (["--quantum", "f" * 32], "no quantum or dataset"),
        (["--dataset", "nothing"], "no dataset type 'nothing'; there are"),
        (["--task", "nothing"], "no task 'nothing'; there are clean, measure"),
        (["--task", "clean", "--data-id", "patch=1"], "its dimensions are instrument, detector, visit"),
        (["--task", "clean", "--data-id", "visit"], "is not understood"),
        (["--task", "clean", "--data-id", "visit=7"], "no quantum of task clean was predicted with visit=7"),
        (["--task", "clean", "--data-id", "visit=7,detector=1"], "none has visit=7"),
        (["--why", "clean_image"], "several fit"),
        (["--why", "clean_image", "--data-id", "visit=7"], "none has visit=7"),
        (["--task", "clean", "--logs"], "several fit"),
        (["--task", "clean", "--quantum", "x"], "can't be combined"),
        (["--failed", "--why", "x"], "can't be combined"),
        (["--data-id", "visit=1"], "--data-id needs"),
        (["--failed", "--data-id", "visit=1"], "--data-id needs"),
        (["--logs"], "--logs needs"),
        (["--failed", "--upstream"], "--upstream needs"),
        (["--task", "clean", "--attempt", "1"], "--attempt needs"),
        (["--task", "clean", "--depth", "1"], "--depth needs"),
        (["--quantum", "x", "--depth", "0"], "not in the range"),
        (["u/run"], "is a graph"),
    ],
)
def test_requests_that_mean_nothing_have_exit_code_2(path: str, arguments: list[str], problem: str) -> None:
    assert problem in run(path, *arguments, code=2)


def test_ambiguous_requests_list_some_matches(path: str, expected: dict[str, Any]) -> None:
    text = run(path, "--task", "clean", "--data-id", "visit=102", "--logs", code=2)
    matching = [i for i, q in quanta(expected, task="clean").items() if q["data_id"]["visit"] == 102]
    assert all(quantum_id in text for quantum_id in matching)
    assert "..." not in text


def test_what_is_no_graph_has_exit_code_2(root: pathlib.Path) -> None:
    assert "there is no Butler repository" in run(str(root / "nothing"), code=2)
    assert "can't open" in run(str(root / "nothing.qg"), code=2)
    assert "a provenance graph is needed" in run(str(root / "repo" / "predicted.qg"), code=2)
    assert "no run has an ingested provenance graph" in run(str(root / "repo"), code=2)


def test_damage_has_exit_code_1(root: pathlib.Path, tmp_path: pathlib.Path) -> None:
    members = graph_files.members(root / "provenance.qg")
    path = graph_files.pack(tmp_path / "graph.qg", {**members, "quanta.mb": members["quanta.mb"][:-1]})
    assert "quanta.mb" in run(str(path), code=1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (float("nan"), "-"),
        (0.0213, "21 ms"),
        (30.94, "30.9 s"),
        (125, "2 min 05 s"),
        (3719.6, "1 h 02 min"),
        (99.96, "100.0 s"),
        (7325, "2 h 02 min"),
    ],
)
def test_durations_are_readable(seconds: float | None, text: str) -> None:
    assert texts.duration(seconds) == text


def test_sizes_and_times_are_readable() -> None:
    found = [texts.size(n) for n in (None, 0, 999, 1000, 836563383.0, 5e15)]
    assert found == ["-", "0 B", "999 B", "1.0 kB", "836.6 MB", "5000.0 TB"]
    assert texts.instant("2026-03-02T03:57:53.960509+01:00") == "2026-03-02T02:57:53Z"
    assert texts.instant("2026-03-02T03:57:53") == "2026-03-02T03:57:53Z"
    assert (texts.instant(None), texts.instant("soon")) == ("-", "soon")
