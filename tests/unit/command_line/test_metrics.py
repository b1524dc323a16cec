"""Files of metrics, read as Prometheus reads them."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from aggregator.schemas import metrics_text
from aggregator.storage import errors
from prometheus_client import parser

from aggregator.aggregation import coordinator, preparation
from aggregator.command_line import metrics_file
from tests.helpers import samples, small_runs
from tests.unit.command_line import test_last_words

invoke, aggregation = test_last_words.invoke, test_last_words.aggregation


def read(path: pathlib.Path) -> dict[str, Any]:
    """Return the numbers of a file by metric; of one with a label of its own, by that."""
    result: dict[str, Any] = {}
    known = {metric.name: metric for metric in metrics_text.METRICS}
    for family in parser.text_string_to_metric_families(path.read_text()):
        assert family.type == "gauge"
        assert family.documentation == known[family.name].help
        for sample in family.samples:
            labels = {n: text for n, text in sample.labels.items() if n not in ("command", "run")}
            assert list(labels) == ([known[family.name].label] if labels else [])
            if labels:
                result.setdefault(family.name, {})[next(iter(labels.values()))] = sample.value
            else:
                result[family.name] = sample.value
    return result


def labels(path: pathlib.Path) -> set[tuple[str, str]]:
    families = parser.text_string_to_metric_families(path.read_text())
    return {(s.labels["command"], s.labels["run"]) for family in families for s in family.samples}


def test_it_is_not_replaced_too_often(sample: samples.Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    write = metrics_file.MetricsFile._write
    monkeypatch.setattr(
        metrics_file.MetricsFile, "_write", lambda self, values: (written.append(values), write(self, values))
    )
    invoke(*aggregation(sample, "--metrics-file", str(sample.root / "aggregator.prom")))
    # Starting, scanning, and the end; nothing lasts five seconds.
    assert [values["aggregator_running"] for values in written] == [1, 1, 0]


def test_a_run_that_fails_and_one_that_is_refused(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sample.root / "aggregator.prom"
    words = aggregation(sample, "--metrics-file", str(path))
    with monkeypatch.context() as patch:
        patch.setattr(coordinator.Coordinator, "_go_on", test_last_words.refuse)
        invoke(*words, code=1)
    assert (read(path)["aggregator_running"], read(path)["aggregator_exit_code"]) == (0, 1)
    invoke(*words, "-j", "0", code=2)
    assert read(path)["aggregator_exit_code"] == 2
    assert labels(path) == {("aggregate-graph", "")}


def test_metrics_of_an_earlier_run_go_when_a_command_begins(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sample.root / "aggregator.prom"
    words = aggregation(sample, "--dry-run", "--metrics-file", str(path))
    invoke(*words)

    def look(*_: object) -> None:
        raise SystemExit(3 if path.exists() else 4)

    monkeypatch.setattr(preparation, "prepare", look)
    invoke(*words, code=4)


@pytest.mark.parametrize("place", ["gen3.sqlite3", "predicted.qg", "u/sample/run1/x.prom", "summary.json"])
def test_metrics_replace_nothing_else(sample: samples.Sample, place: str) -> None:
    path = sample.repo / place
    invoke(*aggregation(sample, "--dry-run", "--summary-json", str(sample.repo / "summary.json")))
    before = samples.tree(sample.root)
    done = invoke(*aggregation(sample, "--metrics-file", str(path)), code=2)
    assert "Choose another path" in done.stderr
    assert samples.tree(sample.root) == before


def test_metrics_that_cannot_be_written_change_nothing_else(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise errors.AggregatorError("the disk is full")

    monkeypatch.setattr("aggregator.schemas.output_paths.write", fail)
    done = invoke(*aggregation(sample, "--metrics-file", str(sample.root / "aggregator.prom")))
    assert "Datasets ingested: 61" in done.stdout
    assert caplog.text.count("The metrics could not be written: the disk is full") == 1


def test_the_ingestion_of_a_graph(tmp_path: pathlib.Path) -> None:
    path, output = tmp_path / "ingestion.prom", tmp_path / "out.qg"
    run = small_runs.make(tmp_path / "run")
    done = run.aggregate(output_path=str(output))
    invoke("ingest-graph", run.root, output, "--metrics-file", path)
    last = read(path)
    assert last["aggregator_files"]["deleted"] == last["aggregator_datasets"]["ingested"] > 120
    assert last["aggregator_items_done"]["ingested"] == last["aggregator_items"]["ingested"]
    assert last["aggregator_exit_code"] == 0
    assert labels(path) == {("ingest-graph", done.run)}


def test_labels_are_escaped(tmp_path: pathlib.Path) -> None:
    path, run = tmp_path / "x.prom", 'a\\b"c\nd{}'
    path.write_bytes(metrics_text.write({"aggregator_running": 1}, {"command": "c", "run": run}))
    assert labels(path) == {("c", run)}
