"""A campaign that is executed elsewhere and followed: the same as one aggregation afterwards."""

from __future__ import annotations

import contextlib
import datetime
import json
import pathlib
import random
import shutil
import signal
import time
from typing import Any

import pytest

import aggregator
from tests.helpers import executions, kills, plain_runs
from tests.helpers.oracle import compare

N_QUANTA = 60
"""There are two shards."""

FAST = ("--interval", "0.05", "--log-status-interval", "0.2")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> plain_runs.PlainRun:
    return plain_runs.make(tmp_path_factory.mktemp("plain") / "run", N_QUANTA)


@pytest.fixture(scope="module")
def executed_template(
    template: plain_runs.PlainRun, tmp_path_factory: pytest.TempPathFactory
) -> plain_runs.PlainRun:
    run = template.copy(tmp_path_factory.mktemp("executed") / "run")
    execute(run)
    return run


@pytest.fixture
def executed(executed_template: plain_runs.PlainRun, tmp_path: pathlib.Path) -> plain_runs.PlainRun:
    """A run of which everything has succeeded."""
    return executed_template.copy(tmp_path / "run")


@pytest.fixture
def run(template: plain_runs.PlainRun, tmp_path: pathlib.Path) -> plain_runs.PlainRun:
    return template.copy(tmp_path / "run")


def follow(run: plain_runs.PlainRun, *options: str, **point: Any) -> Any:
    """Start to follow a run."""
    output = str(run.root / "provenance.qg")
    return kills.start(["follow", str(run.graph), str(run.root), "-o", output, *FAST, *options], **point)


def execute(run: plain_runs.PlainRun, *options: str, code: int = 0) -> None:
    """Execute quanta in processes of their own."""
    with kills.start(["run", str(run.graph), str(run.root), "--in-process", *options]) as running:
        _, complaints = running.communicate(timeout=120)
    assert running.returncode == code, complaints


def finish(following: Any, code: int = 0) -> str:
    """Wait for the end of a follower, and return what it said."""
    printed, complaints = following.communicate(timeout=120)
    assert following.returncode == code, complaints
    return str(printed + complaints)


def n_ingested(run: plain_runs.PlainRun) -> int:
    return len(compare.database_rows(run.root)["dataset"])


def begun(run: plain_runs.PlainRun) -> bool:
    """Return whether somebody has begun to follow a run."""
    return (run.root / "predicted.qg.checkpoint" / "last-run.json").exists()


def take_away(run: plain_runs.PlainRun, aside: pathlib.Path) -> list[tuple[pathlib.Path, pathlib.Path]]:
    """Move what a quantum has left; return the names that the files had and have."""
    aside.mkdir()
    paths = [path for path in run.root.rglob("*") if path.is_file() and path.match("*gather*/**/*")]
    pairs = [(path, aside / path.name) for path in paths]
    assert len(pairs) >= 2
    for path, place in pairs:
        path.rename(place)
    return pairs


def wait_until(condition: Any, following: Any = None, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert following is None or following.poll() is None, following.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def assert_same_as_afterwards(run: plain_runs.PlainRun, template: plain_runs.PlainRun) -> None:
    """Compare database and graph with those of an aggregation of the same files after the execution."""
    copy = run.copy(run.root.parent / "afterwards")
    shutil.copyfile(template.root / "gen3.sqlite3", copy.root / "gen3.sqlite3")
    (copy.root / "provenance.qg").unlink()
    config = aggregator.AggregatorConfig(output_path=copy.root / "provenance.qg")
    aggregator.aggregate_graph(copy.graph, copy.root, config)
    assert compare.database_rows(run.root) == compare.database_rows(copy.root)
    # Small graphs have no dictionary, so that files are the same to the last byte.
    paths = [each.root / "provenance.qg" for each in (run, copy)]
    assert kills.graph_content(paths[0]) == kills.graph_content(paths[1])
    assert not list(run.root.glob("*.checkpoint"))


def test_outputs_are_ingested_while_others_are_executed(
    run: plain_runs.PlainRun, template: plain_runs.PlainRun, tmp_path: pathlib.Path
) -> None:
    go = tmp_path / "go"
    executions.tell(run, run.quanta()[N_QUANTA - 1], f"await ok {go}")
    summary, metrics = tmp_path / "summary.json", tmp_path / "metrics"
    with follow(run, "--summary-json", str(summary), "--metrics-file", str(metrics)) as following:
        wait_until(run.graph.with_name("predicted.qg.checkpoint").exists, following)
        with kills.start(["run", str(run.graph), str(run.root), "-j", "2"]) as running:
            before = len(compare.database_rows(template.root)["dataset"])
            wait_until(lambda: n_ingested(run) > before, following)
            assert not (run.root / "provenance.qg").exists()
            go.touch()
            running.communicate(timeout=120)
        said = finish(following)
    assert_same_as_afterwards(run, template)
    assert f"INFO {N_QUANTA} of {N_QUANTA} quanta are over: {N_QUANTA} succeeded\n" in said
    document = json.loads(summary.read_text())
    assert (document["command"], document["outcome"], document["exit_code"]) == ("follow", "complete", 0)
    assert document["done"]["statuses"] == {"SUCCESSFUL": N_QUANTA}
    assert document["done"]["datasets_skipped"] == 0
    assert document["done"]["datasets_ingested"] == n_ingested(run) - before
    assert min(document["done"]["phases"].values()) >= 0
    assert 'aggregator_exit_code{command="follow"' in metrics.read_text()


POINTS = (
    *("start:1", "manifest:1", "look:1", "digest:1", "look:3", "start:2", "committed:1", "ledger:1"),
    *("digest:3", "graph:1", "complete:1"),
)
"""Points at which followers are killed, each going on with what the one before has left."""


def test_killed_followers_go_on(
    run: plain_runs.PlainRun, template: plain_runs.PlainRun, tmp_path: pathlib.Path
) -> None:
    with kills.start(["run", str(run.graph), str(run.root), "--in-process"]) as running:
        for number, point in enumerate(POINTS):
            marker = tmp_path / f"marker-{number}"
            with follow(run, stop_at=point, marker=marker) as following:
                wait_until(lambda: marker.exists() or following.poll() is not None)  # noqa: B023
                with contextlib.suppress(ProcessLookupError):
                    kills.kill_group(following.pid)
                following.communicate()
            kills.assert_gone(following.pid)
        running.communicate(timeout=120)
    with follow(run) as following:
        finish(following)
    assert_same_as_afterwards(run, template)


@pytest.mark.parametrize("seed", range(2))
def test_followers_are_killed_at_random(
    run: plain_runs.PlainRun, template: plain_runs.PlainRun, seed: int
) -> None:
    moments = random.Random(seed)
    with kills.start(["run", str(run.graph), str(run.root), "--in-process"]) as running:
        for _ in range(4):
            with follow(run) as following:
                time.sleep(moments.uniform(0.5, 3.0))
                with contextlib.suppress(ProcessLookupError):
                    kills.kill_group(following.pid)
                following.communicate()
        running.communicate(timeout=120)
    with follow(run) as following:
        finish(following)
    assert_same_as_afterwards(run, template)


@pytest.mark.ordering("F1")
def test_a_later_success_wins(run: plain_runs.PlainRun, template: plain_runs.PlainRun) -> None:
    executions.tell(run, run.quanta()[0], "fail")
    with follow(run) as following:
        execute(run, code=1)
        status: dict[str, Any] = {}

        def is_seen() -> bool:
            status.update(json.loads(run_status(run)))
            return bool(status["statuses"] and status["statuses"].get("SUCCESSFUL", 0) > 0)

        wait_until(is_seen, following)
        assert status["state"] == "running"
        assert "FAILED" not in status["statuses"]
        assert not (run.root / "provenance.qg").exists()
        executions.tell(run, run.quanta()[0], "ok")
        execute(run)
        said = finish(following)
    assert ", 1 failed" in said
    assert_same_as_afterwards(run, template)
    with aggregator.Provenance(run.root / "provenance.qg") as provenance:
        attempts = provenance.attempts(str(run.quanta()[0].id))
        assert [each.status for each in attempts] == [aggregator.Status.FAILED, aggregator.Status.SUCCESSFUL]


def test_a_failure_counts_when_nothing_has_changed_for_a_while(
    run: plain_runs.PlainRun, template: plain_runs.PlainRun
) -> None:
    executions.tell(run, run.quanta()[0], "fail")
    execute(run, code=1)
    began = time.monotonic()
    with follow(run, "--settle-time", "2") as following:
        said = finish(following)
    assert time.monotonic() - began > 2
    assert "Everything has been attempted" in said
    assert_same_as_afterwards(run, template)


def test_time_is_up(
    executed: plain_runs.PlainRun, template: plain_runs.PlainRun, tmp_path: pathlib.Path
) -> None:
    take_away(executed, tmp_path / "aside")
    until = datetime.datetime.now().astimezone() + datetime.timedelta(seconds=3)
    with follow(executed, "--until", until.isoformat()) as following:
        said = finish(following)
    assert datetime.datetime.now().astimezone() >= until
    assert "WARNING Time is up: 1 quanta have left nothing" in said
    assert_same_as_afterwards(executed, template)


def test_others_are_refused_meanwhile_and_leave_it_alone(
    executed: plain_runs.PlainRun, template: plain_runs.PlainRun, tmp_path: pathlib.Path
) -> None:
    pairs = take_away(executed, tmp_path / "aside")
    with follow(executed) as following:
        wait_until(lambda: begun(executed), following)
        for command in ("follow", "aggregate-graph"):
            with kills.start([command, str(executed.graph), str(executed.root)]) as second:
                _, complaints = second.communicate(timeout=120)
            assert second.returncode == 1
            assert "in use by process" in complaints
        for path, place in pairs:
            place.rename(path)
        finish(following)
    assert_same_as_afterwards(executed, template)


def test_a_file_system_that_is_gone_for_a_while_is_waited_for(
    executed: plain_runs.PlainRun, template: plain_runs.PlainRun, tmp_path: pathlib.Path
) -> None:
    pairs = take_away(executed, tmp_path / "aside")
    away = executed.root.with_name("away")
    with follow(executed, "--settle-time", "0.1") as following:
        wait_until(lambda: begun(executed), following)
        wait_until(lambda: "Following" in following.stderr.readline(), following)
        executed.root.rename(away)
        wait_until(lambda: "It is tried again in" in following.stderr.readline(), following)
        # All of it comes back at once, as so short a time may pass between any two steps of this process.
        for path, place in pairs:
            place.rename(away / path.relative_to(executed.root))
        away.rename(executed.root)
        finish(following)
    assert_same_as_afterwards(executed, template)


def test_a_signal_ends_it(
    executed: plain_runs.PlainRun, template: plain_runs.PlainRun, tmp_path: pathlib.Path
) -> None:
    pairs = take_away(executed, tmp_path / "aside")
    with follow(executed) as following:
        wait_until(lambda: "are over" in following.stderr.readline(), following)
        following.send_signal(signal.SIGTERM)
        printed, complaints = following.communicate(timeout=120)
    assert following.returncode == 143, complaints
    assert "Run the same command to go on." in complaints
    assert "Held" in printed
    assert json.loads(run_status(executed))["state"] == "incomplete"
    for path, place in pairs:
        place.rename(path)
    with follow(executed) as following:
        finish(following)
    assert_same_as_afterwards(executed, template)


@pytest.mark.exhaustive
def test_a_workflow_is_followed(
    run: plain_runs.PlainRun,
    template: plain_runs.PlainRun,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its last job aggregates, too, which is refused as long as there is the follower."""
    # Jobs import tasks from there only.
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parents[2]))
    tasks = {
        "instrument": ("isr", "calibrate", "transform", "summarize", "warp"),
        "skymap": ("coadd", "merge", "forced", "gather"),
    }
    clusters = [
        option for name in tasks for task in tasks[name] for option in ("--cluster", f"{task}:{name}")
    ]
    directory = str(tmp_path / "workflow")
    kills.finish_here(
        ["write-workflow", str(run.graph), str(run.root), "--for", "htcondor", "-o", directory, *clusters]
    )
    with follow(run) as following:
        wait_until(lambda: begun(run), following)
        with kills.start(["run-workflow", directory]) as running:
            _, complaints = running.communicate(timeout=300)
        assert running.returncode in (0, 1), complaints
        finish(following)
    assert_same_as_afterwards(run, template)


def run_status(run: plain_runs.PlainRun) -> str:
    """Return what `status` tells of a run."""
    with kills.start(["status", str(run.graph), "--format", "json"]) as asked:
        printed, complaints = asked.communicate(timeout=120)
    assert asked.returncode == 0, complaints
    return str(printed)
