"""Metrics of a run from begin to end, with one process and with several."""

from __future__ import annotations

from typing import Any

import pytest

from aggregator.command_line import metrics_file
from tests.helpers import samples
from tests.unit.command_line import test_last_words, test_metrics

invoke, aggregation = test_last_words.invoke, test_last_words.aggregation
read, labels = test_metrics.read, test_metrics.labels


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_from_begin_to_end(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    path = sample.root / "aggregator.prom"
    seen = []
    update = metrics_file.MetricsFile.update

    def look(self: Any, now: Any) -> None:
        update(self, now)
        seen.append(read(path))

    monkeypatch.setattr(metrics_file.MetricsFile, "update", look)
    monkeypatch.setattr(metrics_file, "_INTERVAL_SECONDS", 0.0)
    output = str(sample.root / "out.qg")
    invoke(*aggregation(sample, "-o", output, "-j", str(processes), "--metrics-file", str(path)))
    assert {name for now in seen for name in now["aggregator_stage"]} == {
        "starting",
        "scanning",
        "writing the graph",
    }
    assert all(now["aggregator_running"] == 1 and "aggregator_exit_code" not in now for now in seen)
    names = {"all"} if processes == 1 else {"coordinator", "scanner-000", "scanner-001", "ingester", "writer"}
    assert set(seen[-1]["aggregator_memory_bytes"]) == names
    assert all(size > 1e7 for size in seen[-1]["aggregator_memory_bytes"].values())
    last = read(path)
    assert (last["aggregator_running"], last["aggregator_exit_code"]) == (0, 0)
    assert last["aggregator_items"] == {"scanned": 20, "ingested": 20, "written": 20}
    assert last["aggregator_items_done"] == last["aggregator_items"]
    assert last["aggregator_items_per_second"]["scanned"] > 0
    assert last["aggregator_quanta"] == {"SUCCESSFUL": 16, "FAILED": 2, "BLOCKED": 1, "ABORTED_SUCCESS": 1}
    assert last["aggregator_shards"] == {"all": 2, "judged": 2}
    assert last["aggregator_datasets"]["ingested"] == 61
    assert "aggregator_stage" not in last
    began, ended = (last[f"aggregator_{name}_time_seconds"] for name in ("start", "last_update"))
    assert began < ended
    assert labels(path) == {("aggregate-graph", "u/sample/run1")}
    assert path.stat().st_mode & 0o444 == 0o444
