"""Documents that commands write for programs: summaries and statuses, whatever becomes of the command."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
from typing import Any

import pytest
from aggregator.schemas import output_paths
from aggregator.storage import errors

from aggregator.aggregation import coordinator, preparation
from aggregator.graph_ingestion import replacement
from tests.helpers import samples, small_runs
from tests.unit.command_line import test_last_words

invoke, aggregation, damage = test_last_words.invoke, test_last_words.aggregation, test_last_words.damage


def summary(sample: samples.Sample, *options: str, code: int = 0) -> Any:
    """Return what an aggregation of the sample writes."""
    path = sample.root / "summary.json"
    invoke(*aggregation(sample, "--summary-json", str(path), *options), code=code)
    document = json.loads(path.read_bytes())
    assert (document["format"], document["version"]) == ("aggregator-summary", 1)
    assert (document["command"], document["exit_code"]) == ("aggregate-graph", code)
    assert document["started"] <= document["ended"]
    assert document["elapsed"] > 0
    return document


def test_a_complete_run(sample: samples.Sample) -> None:
    output = sample.root / "out.qg"
    document = summary(sample, "-o", str(output))
    done = document["done"]
    assert (document["outcome"], document["error"]) == ("complete", None)
    assert done["statuses"] == {"ABORTED_SUCCESS": 1, "FAILED": 2, "BLOCKED": 1, "SUCCESSFUL": 16}
    assert done["tasks"]["stack"] == {"ABORTED_SUCCESS": 1, "FAILED": 1, "SUCCESSFUL": 2}
    assert (done["quanta"], done["quanta_judged"], done["datasets_ingested"]) == (20, 20, 61)
    assert done["provenance_graph"] == str(output)
    assert done["provenance_graph_size"] == output.stat().st_size
    assert done["checkpoint"] is None
    assert done["run"] == "u/sample/run1"
    assert list(done["phases"]) == ["starting", "scanning", "writing the graph"]
    assert done["peaks"]["all"] > 1e7
    assert document["cpu"] > 0
    assert document["next"][0]["purpose"] == "what failed, and why"
    assert document["next"][0]["command"] == f"aggregator show {output} --failed"


@pytest.mark.parametrize(
    ("options", "outcome"), [(["--incomplete"], "incomplete"), (["--dry-run"], "dry run")]
)
def test_what_was_asked_for_is_told(sample: samples.Sample, options: list[str], outcome: str) -> None:
    document = summary(sample, *options)
    assert document["outcome"] == outcome
    assert document["done"]["checkpoint"] == f"{sample.repo / 'predicted.qg'}.checkpoint"


def test_a_run_that_holds_quanta(sample: samples.Sample) -> None:
    path = damage(sample)
    document = summary(sample, code=1)
    assert document["outcome"] == "held"
    assert document["error"].startswith("1 quantum has files that can't be read")
    assert [each["path"] for each in document["done"]["unreadable"]] == [str(path)]
    assert str(path) in pathlib.Path(document["done"]["unreadable_list"]).read_text()
    assert document["done"]["quanta_held"] == document["done"]["statuses"]["HELD"] > 0
    assert "--unreadable=failed" in document["next"][1]["command"]
    # The list goes with the checkpoint of a run that is complete.
    assert summary(sample, "--unreadable=failed")["done"]["unreadable_list"] is None


def test_a_run_that_is_interrupted(sample: samples.Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = coordinator.Coordinator._judge

    def stop(self: Any) -> None:
        judge(self)
        if self.summary.n_quanta:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(coordinator.Coordinator, "_judge", stop)
    document = summary(sample, code=143)
    assert document["outcome"] == "interrupted"
    assert "SIGTERM" in document["error"]
    assert document["done"]["quanta"] == 20
    assert document["next"][0]["purpose"] == "to go on"


@pytest.mark.parametrize(
    ("error", "code", "outcome", "text"),
    [
        (errors.AggregatorError("the disk is full"), 1, "failed", "the disk is full"),
        (errors.RefusedError("no"), 2, "refused", "no"),
        (LookupError("x"), 1, "failed", "LookupError: x"),
        (
            OSError(28, "No space left"),
            1,
            "failed",
            "No space left. Mend that, and run the same command again.",
        ),
        (MemoryError(), 1, "failed", "there is not enough memory."),
    ],
)
def test_a_run_that_fails(
    sample: samples.Sample,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: int,
    outcome: str,
    text: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(preparation, "prepare", fail)
    document = summary(sample, code=code)
    assert (document["outcome"], document["error"], document["done"]) == (outcome, text, None)


def test_what_is_refused_replaces_the_summary_of_an_earlier_run(sample: samples.Sample) -> None:
    assert summary(sample, "--dry-run")["outcome"] == "dry run"
    document = summary(sample, "-j", "0", code=2)
    assert (document["outcome"], document["done"], document["next"]) == ("refused", None, [])
    assert "'-j'" in document["error"]
    (sample.repo / "predicted.qg").unlink()
    assert "No such file" in summary(sample, code=2)["error"]


def test_nothing_tells_of_a_run_that_was_killed(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The summary of an earlier run would be taken for its own."""
    path = sample.root / "summary.json"
    summary(sample, "--dry-run")

    def look(*_: object) -> None:
        raise SystemExit(3 if path.exists() else 4)

    monkeypatch.setattr(preparation, "prepare", look)
    invoke(*aggregation(sample, "--summary-json", str(path)), code=4)


def test_help_writes_no_summary(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "summary.json"
    invoke("aggregate-graph", "--summary-json", path, "--help")
    assert not path.exists()


@pytest.mark.parametrize(
    "place", ["gen3.sqlite3", "predicted.qg", "u/sample/run1", "predicted.qg.checkpoint", "log"]
)
def test_a_summary_replaces_nothing_else(sample: samples.Sample, place: str) -> None:
    path = sample.repo / place
    if place in ("u/sample/run1", "predicted.qg.checkpoint"):
        invoke(*aggregation(sample, "--dry-run"))
        path /= "summary.json"
    before = samples.tree(sample.root)
    done = invoke(
        "--log-file", sample.repo / "log", *aggregation(sample, "--summary-json", str(path)), code=2
    )
    assert "Choose another path" in done.stderr
    after = samples.tree(sample.root)
    assert {name: data for name, data in after.items() if name != "repo/log"} == before


def test_two_outputs_do_not_share_a_path(sample: samples.Sample) -> None:
    path = str(sample.root / "out.qg")
    done = invoke(*aggregation(sample, "-o", path, "--summary-json", path), code=2)
    assert "another output of this command" in done.stderr
    assert not os.path.exists(path)


def test_a_summary_on_standard_output_is_alone_there(sample: samples.Sample) -> None:
    done = invoke(*aggregation(sample, "--summary-json", "-"))
    assert json.loads(done.stdout)["done"]["datasets_ingested"] == 61
    assert "Datasets ingested: 61" in done.stderr
    assert "Next:" in done.stderr


def test_a_summary_that_cannot_be_written_changes_nothing_else(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise errors.AggregatorError("the disk is full")

    monkeypatch.setattr(output_paths, "write", fail)
    done = invoke(*aggregation(sample, "--summary-json", str(sample.root / "summary.json")))
    assert "Datasets ingested: 61" in done.stdout
    assert "the summary could not be written: the disk is full" in done.stderr


def test_synthesis_and_ingestion(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, path = tmp_path / "run", tmp_path / "summary.json"
    making = ["synthesize", run, "--quanta", "60", "--small-files", "--blocked", "0", "--summary-json", path]
    invoke(*making)
    made = json.loads(path.read_bytes())
    assert (made["outcome"], made["done"]["quanta"]) == ("complete", 60)
    assert sum(made["done"]["tasks"].values()) == sum(made["done"]["outcomes"].values()) == 60
    assert made["done"]["phases"]["writing files"] > 0
    assert made["done"]["peaks"]["coordinator"] > 1e7
    refused = invoke(*making[:-1], run / "summary.json", code=2)
    assert "where the run is made" in refused.stderr
    small_runs.SmallRun(run).aggregate(output_path=str(tmp_path / "out.qg"))
    ingesting = ["ingest-graph", run, tmp_path / "out.qg", "--summary-json", path]
    with monkeypatch.context() as patch:
        patch.setattr(replacement.Replacement, "run", test_last_words.refuse)
        invoke(*ingesting, code=1)
    failed = json.loads(path.read_bytes())
    # What is refused after the checks is a failure, with what was done until then.
    assert (failed["command"], failed["outcome"]) == ("ingest-graph", "failed")
    assert failed["done"]["files_deleted"] == 0
    invoke(*ingesting)
    ingested = json.loads(path.read_bytes())
    assert ingested["outcome"] == "complete"
    assert ingested["done"]["files_deleted"] == ingested["done"]["datasets_ingested"] > 120
    assert ingested["next"][-1]["command"].startswith("aggregator provenance-report")


def test_status_as_json(sample: samples.Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, output = sample.repo / "predicted.qg", sample.root / "out.qg"

    def status(path: pathlib.Path = graph) -> Any:
        document = json.loads(invoke("status", "--format", "json", path).stdout)
        assert (document["format"], document["version"]) == ("aggregator-status", 1)
        return document

    assert (status()["state"], status()["quanta"]) == ("unknown", 20)
    done = summary(sample, "--dry-run")["done"]
    told = status()
    assert told["state"] == "dry run"
    assert (told["statuses"], told["tasks"]) == (done["statuses"], done["tasks"])
    assert told["quanta_scanned"] == told["quanta"] == 20
    assert told["shards_done"] == told["shards"]
    with monkeypatch.context() as patch:
        patch.setattr(coordinator.Coordinator, "_go_on", test_last_words.refuse)
        summary(sample, "-o", str(output), code=1)
    told = status()
    assert (told["state"], told["error"]) == ("failed", "this can't be done")
    assert told["provenance_graph"] == str(output)
    summary(sample, "-o", str(output), "--keep-checkpoint")
    assert (status()["state"], status()["datasets_ingested"]) == ("complete", 61)
    shutil.rmtree(f"{graph}.checkpoint")
    assert (status(output)["state"], status(output)["quanta"]) == ("complete", 20)
