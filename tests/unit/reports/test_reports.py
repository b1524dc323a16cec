"""Reports on runs: numbers and lists, in all formats but pages."""

from __future__ import annotations

import csv
import io
import json
import pathlib
import re
import statistics
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from aggregator.schemas import verdicts
from aggregator.schemas.execution import statuses
from aggregator.schemas.graphs import provenance_graph
from click import testing

from aggregator.aggregation import aggregation_summary
from aggregator.command_line import main
from aggregator.reports import (
    caveat_codes,
    distributions,
    number_texts,
    quanta,
    text_tables,
    timelines,
    waits,
)
from tests.helpers import graph_files, report_graphs, samples


def run(*arguments: str | pathlib.Path) -> str:
    """Return what the command prints."""
    result = testing.CliRunner().invoke(main.main, ["provenance-report", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def graph(sample: samples.Sample) -> pathlib.Path:
    return sample.root / "provenance.qg"


def test_each_sign_of_the_pipeline_is_explained(graph: pathlib.Path) -> None:
    legend = run(graph, "--format", "html").partition('<ul class="legend"')[2].partition("</ul>")[0]
    signs = re.findall(r'<li class="status (\w+)">', legend)
    # None was aborted altogether.
    assert signs == ["FAILED", "BLOCKED", "SUCCESSFUL", "ABORTED_SUCCESS"]


def test_json(graph: pathlib.Path) -> None:
    report = json.loads(run(graph, "--format", "json"))
    assert (report["format"], report["version"]) == ("aggregator-provenance-report", 1)
    assert report["graph"]["output_run"] == "u/sample/run1"
    summary = report["summary"]
    blocks = graph_files.blocks(graph_files.members(graph), "quanta")
    assert summary["n_quanta"] == summary["n_expected"] == len(blocks) == 20
    assert summary["n_attempts"] == sum(len(block["attempts"]) for block in blocks)
    assert summary["n_retried"] == sum(len(block["attempts"]) > 1 for block in blocks)
    assert summary["statuses"] == {
        "ABORTED": 0, "UNKNOWN": 0, "ABORTED_SUCCESS": 1, "FAILED": 2, "BLOCKED": 1, "SUCCESSFUL": 16,
    }  # fmt: skip
    assert report["tasks"][0] == {
        "Task": "clean", "Caveats": [{"token": "*", "code": "P", "count": "1"}], "Aborted": 0, "Unknown": 0,
        "Aborted success": 0, "Failed": 0, "Blocked": 0, "Successful": 6, "TOTAL": 6, "EXPECTED": 6,
    }  # fmt: skip
    assert report["tasks"][-1]["Caveats"] == [None]
    assert {"Task": "summarize", "Exception": "ValueError", "Successes": 0, "Failures": 1} in report[
        "exceptions"
    ]
    assert {"source": "clean", "target": "measure", "dataset_types": ["clean_image"]} in [
        {**edge, "dataset_types": edge["dataset_types"][:1]} for edge in report["pipeline"]
    ]


def test_statistics_of_tasks(graph: pathlib.Path) -> None:
    report = json.loads(run(graph, "--format", "json"))
    blocks = graph_files.blocks(graph_files.members(graph), "quanta")
    for details in report["details"]:
        last = [b["attempts"][-1] for b in blocks if b["task_label"] == details["task"] and b["attempts"]]
        usages = [attempt["resource_usage"] for attempt in last if attempt["resource_usage"]]
        for key in ("run_time", "memory"):
            values = [usage[key] for usage in usages]
            if not values:
                assert details[key] is None
                continue
            found = details[key]
            assert found["count"] == len(values)
            assert found["total"] == pytest.approx(sum(values))
            assert (found["min"], found["max"]) == (min(values), max(values))
            assert found["median"] == pytest.approx(statistics.median(values))
            assert sum(found["histogram"]["counts"]) + found["histogram"]["n_zero"] == len(values)


def test_listed_quanta(graph: pathlib.Path) -> None:
    report = json.loads(run(graph, "--format", "json"))
    assert report["selection"]["n_quanta"] == len(report["quanta"]) == 3
    [failed] = [q for q in report["quanta"] if q["exception"]]
    assert (failed["task"], failed["status"], failed["exception"]) == ("summarize", "FAILED", "ValueError")
    assert failed["data_id"] == {"instrument": "SampleCam", "visit": 103}
    assert "Simulated failure" in failed["message"]
    with provenance_graph.ProvenanceGraph(str(graph)) as opened:
        log = failed["log"]
        assert opened.dataset(log["dataset_id"]).dataset_type_name == log["dataset_type"] == "summarize_log"
        assert opened.address(failed["quantum_id"], 2) == (log["offset"], log["size"])
    # One left no log, the other neither log nor metadata.
    assert {(q["status"], q["log"]) for q in report["quanta"] if q["task"] == "stack"} == {
        ("FAILED", None),
        ("ABORTED_SUCCESS", None),
    }


def test_csv_has_the_rows_of_json(graph: pathlib.Path) -> None:
    options = ("--state", "BLOCKED", "--caveat", "NO_WORK")
    listed = json.loads(run(graph, "--format", "json", *options))["quanta"]
    rows = list(csv.DictReader(io.StringIO(run(graph, "--format", "csv", *options))))
    assert Counter(row["status"] for row in rows) == {
        "FAILED": 2,
        "ABORTED_SUCCESS": 1,
        "BLOCKED": 1,
        "SUCCESSFUL": 2,
    }
    for quantum, row in zip(listed, rows, strict=True):
        assert row["version"] == "1"
        for key in ("task", "status", "quantum_id"):
            assert row[key] == quantum[key]
        assert row["exception"] == (quantum["exception"] or "")
        assert row["message"] == (quantum["message"] or "")
        assert row["caveats"].split() == quantum["caveats"]
        assert {name: row[name] for name in quantum["data_id"]} == {
            name: str(value) for name, value in quantum["data_id"].items()
        }
        assert row["log_dataset_id"] == (quantum["log"]["dataset_id"] if quantum["log"] else "")


def test_markdown(graph: pathlib.Path) -> None:
    text = run(graph, "--format", "md")
    assert "| clean | \\*P(1) | 0 | 0 | 0 | 6 | 6 | 6 |" in text
    assert "| summarize | ValueError | 0 | 1 |" in text
    widths = [line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")]
    assert set(widths) == {5, 9, 8, 4}
    assert "| summarize | FAILED | ValueError | 1 | 1 | 1 |" in text


def test_tables_can_be_left_out(graph: pathlib.Path) -> None:
    both = run(graph)
    assert "EXPECTED" in both
    assert "Successes" in both
    assert "EXPECTED" not in run(graph, "--no-quantum-table")
    assert "Successes" not in run(graph, "--no-exception-table")
    assert run(graph, "--no-quantum-table", "--no-exception-table") == ""


def test_output_file(graph: pathlib.Path, tmp_path: pathlib.Path) -> None:
    printed = run(graph, "--format", "csv")
    assert run(graph, "--format", "csv", "-o", tmp_path / "deep" / "report.csv") == ""
    assert (tmp_path / "deep" / "report.csv").read_text() == printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent.qg"], "can't open"),
        (["absent.qg", "run"], "in a repository only"),
        (["predicted.qg"], "provenance graph is needed"),
        (["provenance.qg", "--no-state", "BROKEN"], "no status 'BROKEN'"),
        (["repo", "u/sample/run1"], "ingest"),
    ],
)
def test_refusals(sample: samples.Sample, arguments: list[str], words: str) -> None:
    # The predicted graph is part of the repository.
    places = {"predicted.qg": sample.repo / "predicted.qg", "repo": sample.repo}
    first = str(places.get(arguments[0], sample.root / arguments[0]))
    command = ["provenance-report", first, *arguments[1:]]
    result = testing.CliRunner().invoke(main.main, command)
    assert result.exit_code == 2
    assert words in result.stderr


def _blocked(blocks: list[report_graphs.Quantum]) -> list[report_graphs.Quantum]:
    return [{**block, "attempts": []} for block in blocks]


def _no_failures(blocks: list[report_graphs.Quantum]) -> list[report_graphs.Quantum]:
    good = [b for b in blocks if b["attempts"] and b["attempts"][-1]["status"] == 1]
    return [{**b, "attempts": [{**b["attempts"][-1], "exception": None, "caveats": 0}]} for b in good]


def _one_task(blocks: list[report_graphs.Quantum]) -> list[report_graphs.Quantum]:
    return [block for block in blocks if block["task_label"] == "summarize"]


ODD: dict[str, Callable[[list[report_graphs.Quantum]], list[report_graphs.Quantum]]] = {
    "empty": lambda blocks: [],
    "all blocked": _blocked,
    "no failures": _no_failures,
    "one task": _one_task,
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("form", ["table", "json", "csv", "md", "html"])
def test_odd_graphs(graph: pathlib.Path, tmp_path: pathlib.Path, kind: str, form: str) -> None:
    odd = report_graphs.alter(graph, tmp_path / "odd.qg", ODD[kind])
    text = run(
        odd, "--format", form, "--state", "BLOCKED", "-o", tmp_path / "out",
        "--status-report", tmp_path / "status.json", "--data-id-table-dir", tmp_path / "tables",
    )  # fmt: skip
    assert text == ""
    written = (tmp_path / "out").read_text()
    status = json.loads((tmp_path / "status.json").read_text())
    n_listed = {"empty": 0, "all blocked": 20, "no failures": 0, "one task": 1}[kind]
    assert (
        len([q for task in status.values() for s in task.values() for e in s.values() for q in e]) == n_listed
    )
    assert len(list((tmp_path / "tables").rglob("*.ecsv"))) == len([s for t in status.values() for s in t])
    if form == "json":
        report = json.loads(written)
        assert len(report["quanta"]) == n_listed
        assert (report["timeline"] is None) == (kind in ("empty", "all blocked"))
    if form == "csv":
        assert len(list(csv.reader(io.StringIO(written)))) == 1 + n_listed


def test_hostile_texts(graph: pathlib.Path, tmp_path: pathlib.Path) -> None:
    message = 'a "quoted", <b>bold</b> | piped\n*line* ' + "x" * 3_000_000

    def change(blocks: list[report_graphs.Quantum]) -> list[report_graphs.Quantum]:
        for block in blocks:
            exception = {"type_name": "../a|b.Error", "message": message, "metadata": {}}
            if block["attempts"] and block["attempts"][-1]["status"] == -1:
                block["attempts"][-1]["exception"] = exception
        return blocks

    odd = report_graphs.alter(graph, tmp_path / "odd.qg", change)
    csv.field_size_limit(1 << 23)
    rows = list(csv.DictReader(io.StringIO(run(odd, "--format", "csv"))))
    assert [row["message"] for row in rows].count(message) == 2
    assert [q["message"] for q in json.loads(run(odd, "--format", "json"))["quanta"]].count(message) == 2
    text = run(odd, "--format", "md", "--data-id-table-dir", tmp_path / "tables")
    assert len(text) < 10_000
    assert "&lt;b&gt;bold&lt;/b&gt; \\| piped" in text
    assert sorted(path.name for path in (tmp_path / "tables").rglob("*.ecsv")) == [
        ".._a|b.Error.ecsv", ".._a|b.Error.ecsv", "UNKNOWN.ecsv",
    ]  # fmt: skip


def test_numbers_that_are_not_finite(graph: pathlib.Path, tmp_path: pathlib.Path) -> None:
    def change(blocks: list[report_graphs.Quantum]) -> list[report_graphs.Quantum]:
        for block in blocks:
            for attempt in block["attempts"]:
                if attempt["resource_usage"]:
                    attempt["resource_usage"]["memory"] = float("nan")
                    attempt["resource_usage"]["run_time_cpu"] = None
                    attempt["resource_usage"]["start"] = attempt["resource_usage"]["start"].rstrip("Z")
        return blocks

    odd = report_graphs.alter(graph, tmp_path / "odd.qg", change)
    report = json.loads(run(odd, "--format", "json"))
    assert report["summary"]["peak_memory"] is None
    assert report["summary"]["cpu_time"] == 0.0
    assert report["summary"]["start"] == json.loads(run(graph, "--format", "json"))["summary"]["start"]
    assert run(odd, "--format", "html", "-o", tmp_path / "page.html") == ""


def test_waits(graph: pathlib.Path, tmp_path: pathlib.Path) -> None:
    begin = {"clean": 0, "measure": 100, "stack": 200, "summarize": 300, "report": 400}

    def change(blocks: list[report_graphs.Quantum]) -> list[report_graphs.Quantum]:
        for block in blocks:
            start = begin[block["task_label"]]
            stamp = f"2026-01-01T00:{start // 60:02}:{start % 60:02}Z"
            usage = {"memory": 1e9, "start": stamp, "prep_time": 1.0, "init_time": 2.0, "run_time": 7.0}
            block["attempts"] = [{"status": 1, "resource_usage": {**usage, "run_time_cpu": 5.0}}]
        return blocks

    odd = report_graphs.alter(graph, tmp_path / "odd.qg", change)
    with provenance_graph.ProvenanceGraph(str(odd)) as opened:
        table = quanta.read(opened)
        labels = [task.label for task in opened.pipeline.tasks]
    found: dict[str, set[float]] = {}
    waiting = waits.find(table)
    for task, wait in zip(table.rows["task"].tolist(), waiting.after_inputs_or_start.tolist(), strict=True):
        found.setdefault(labels[task], set()).add(wait)
    # Each quantum takes ten seconds, and the tasks before it begin a hundred seconds earlier or more.
    assert found["clean"] == {0.0}
    assert found["measure"] == {90.0}
    assert all(wait in (90.0, 190.0, 290.0, 390.0) for each in found.values() for wait in each - {0.0})
    # What was there before the run does not tell when its first task could begin.
    first = table.rows["task"] == labels.index("clean")
    assert np.isnan(waiting.after_inputs[first]).all()
    assert (waiting.after_inputs == waiting.after_inputs_or_start)[~first].all()
    timeline = timelines.make(timelines.attempts(table), labels)
    assert timeline is not None
    assert sum(timeline.concurrency) * timeline.bin_seconds == pytest.approx(10.0 * len(table.rows))
    assert sum(timeline.succeeded) == len(table.rows)
    assert timelines.peak(timelines.attempts(table)) == 6
    assert [task.task for task in timeline.tasks] == labels
    for name in ("concurrency", "succeeded", "failed"):
        bins = np.zeros(len(timeline.failed))
        for task in timeline.tasks:
            values = getattr(task, name)
            bins[task.first_bin : task.first_bin + len(values)] += values
        assert bins == pytest.approx(np.array(getattr(timeline, name)), abs=0.01)
    assert timeline.tasks[1].first_bin * timeline.bin_seconds == 100


def test_cpu_efficiency(graph: pathlib.Path) -> None:
    report = json.loads(run(graph, "--format", "json"))
    blocks = graph_files.blocks(graph_files.members(graph), "quanta")
    last = [(b["task_label"], b["attempts"][-1]["resource_usage"]) for b in blocks if b["attempts"]]
    usages = [(task, usage) for task, usage in last if usage]

    def share(task: str | None) -> float:
        chosen = [usage for label, usage in usages if task in (None, label)]
        return sum(u["run_time_cpu"] for u in chosen) / sum(u["run_time"] for u in chosen)

    assert report["summary"]["cpu_efficiency"] == pytest.approx(share(None))
    for details in report["details"]:
        if details["run_time"] is None:
            assert details["cpu_efficiency"] is None
        else:
            assert details["cpu_efficiency"] == pytest.approx(share(details["task"]))


def test_meanings_of_codes_fit_together() -> None:
    """No code says that outputs were written, and that all are missing."""
    meaning = text_tables.meaning("*P")
    assert "all predicted outputs" in meaning
    assert "even if that is nothing" in meaning
    assert not any("wrote some" in text for text in caveat_codes.LEGEND.values())


def test_histogram_of_equal_values() -> None:
    found = distributions.measure(np.array([5.0, 5.0, 0.0, np.nan, np.inf]))
    assert found is not None
    assert (found.count, found.histogram.n_zero, sum(found.histogram.counts)) == (3, 1, 2)
    assert distributions.measure(np.array([np.nan])) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0213, "21.3 ms"),
        (1, "1 s"),
        (59.9, "59.9 s"),
        (59.99, "1 min"),
        (5400, "1.5 h"),
        (1e6, "11.6 d"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert number_texts.duration(seconds) == text


def test_shares_are_never_rounded_to_all_or_nothing() -> None:
    assert number_texts.percentage(999_999, 1_000_000) == "99.99 %"
    assert number_texts.percentage(1, 1_000_000) == "0.01 %"
    assert number_texts.percentage(3, 3) == "100 %"


@pytest.mark.parametrize(("option", "name"), [("exception", "exceptions"), ("quantum", "tasks")])
def test_tables_that_are_not_wanted(graph: pathlib.Path, option: str, name: str) -> None:
    whole = json.loads(run(graph, "--format", "json"))
    assert whole[name]
    part = json.loads(run(graph, "--format", "json", f"--no-{option}-table"))
    assert part == {**whole, name: None, "created": part["created"]}
    heads = {"exceptions": "## Exceptions", "tasks": "## Quanta"}
    text = run(graph, "--format", "md", f"--no-{option}-table")
    assert [name for name, head in heads.items() if head in text] == [n for n in heads if n != name]


def test_statuses_have_one_order(graph: pathlib.Path) -> None:
    """A run's last words, what `show` says, and reports have the same statuses in the same order."""
    order = list(statuses.NAMES.values())
    assert order[-3:] == ["FAILED", "BLOCKED", "SUCCESSFUL"]
    report = json.loads(run(graph, "--format", "json"))
    assert list(report["summary"]["statuses"]) == order
    shown = testing.CliRunner().invoke(main.main, ["show", str(graph)]).stdout
    done = aggregation_summary.empty(("stack",))
    codes = np.array([-2, -1, 0, 1], dtype=np.int8)
    judged = np.where(codes == 0, verdicts.BLOCKED, verdicts.ACCEPTED)
    done.add(np.zeros(4, dtype=np.uint16), codes, judged.astype(np.int8))
    [printed, *_] = run(graph).splitlines()
    [told] = [line for line in shown.splitlines() if line.startswith("Task ")]
    for line in (printed, told, done.task_lines()[0]):
        places = [line.index(title) for title in ("Aborted success", "Failed", "Blocked", "Successful")]
        assert places == sorted(places)
        assert "Unknown" not in line
