"""Two commands in one repository: one is killed at a step of its life, while the other one is there, too."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.helpers import graph_ingestion_case, kills, thinning
from tests.helpers.oracle import runs

Case = graph_ingestion_case.Case

AGGREGATING = [
    *("start:1", "manifest:1", "quantum:9", "digest:1", "insert:1", "committed:1"),
    *("ledger:1", "logs:1", "assembly:1", "output:1", "renamed:1", "complete:1"),
]
"""Steps of an aggregation, whichever of its processes takes them."""

INGESTING = [
    *("checked:1", "placing:1", "placed:1", "forget:1", "forgotten:1", "graph:1", "graph-ingested:1"),
    *("insert:2", "committed:1", "unlinked:1", "deleted:1", "cleaned:1", "complete:1"),
]
"""Steps of an ingestion."""

HOLDING = ("insert", "forget")
"""Steps at which a command holds the database: of a SQLite file, nobody else can write then."""

RECORDED = INGESTING[INGESTING.index("graph-ingested:1") :]
"""Steps from which on the run is closed to aggregations."""

BATCHES = ("--batch-size", "20")


@contextlib.contextmanager
def stopped(command: Sequence[str], point: str, marker: pathlib.Path) -> Iterator[tuple[Any, int]]:
    """Start a command; give it, and which process of it stopped at a step. In the end all of it is killed."""
    with kills.start(command, point, marker) as running:
        try:
            yield running, kills.wait_for(marker, running)
        finally:
            with contextlib.suppress(ProcessLookupError):
                kills.kill_group(running.pid)
            running.communicate(timeout=kills.GONE_SECONDS)
    kills.assert_gone(running.pid)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "aggregator", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    return done


def beside(first: Any, victim: int, point: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end beside one that has stopped; one that waits for a database is let through."""
    if not point.startswith(HOLDING):
        return run(*command)
    with kills.start(command) as running:
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(timeout=2)
        os.kill(victim, signal.SIGKILL)
        printed, complaints = running.communicate(timeout=120)
    assert "Traceback" not in complaints
    return subprocess.CompletedProcess(list(command), running.returncode, printed, complaints)


def aggregation(case: Case, directory: pathlib.Path, name: str, n_processes: int = 1) -> list[str]:
    """Return the command that aggregates a run with a checkpoint and an output of its own."""
    return [
        *("aggregate-graph", str(case.run.predicted_path), str(case.run.root), "--mock-storage-classes"),
        *("-o", str(directory / f"{name}.qg"), "--checkpoint-dir", str(directory / f"{name}.checkpoint")),
        *("-j", str(n_processes), "--ingest-batch-size", "50"),
    ]


def ingestion(case: Case) -> list[str]:
    return ["ingest-graph", str(case.run.root), str(case.graph), *BATCHES]


@pytest.fixture
def outputs(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a directory for what is not looked at in the end."""
    directory = tmp_path / "outputs"
    directory.mkdir()
    return directory


@pytest.fixture
def executed(clean_oracle_run: runs.OracleRun, tmp_path: pathlib.Path) -> Case:
    return Case(runs.copy_run(clean_oracle_run, tmp_path / "case" / "repo"), tmp_path / "case" / "none.qg")


@pytest.fixture
def aggregated(small_aggregated: Case, tmp_path: pathlib.Path) -> Case:
    return small_aggregated.copy(tmp_path / "case")


@pytest.fixture
def undisturbed(small_aggregated: Case, tmp_path: pathlib.Path) -> Any:
    """Return what an ingestion leaves that is alone."""
    copy = small_aggregated.copy(tmp_path / "undisturbed")
    copy.ingest()
    return copy.content()


POINTS = list(itertools.product(AGGREGATING, [1, 2]))


@pytest.mark.ordering("T1", "B1", "G4")
@pytest.mark.parametrize(
    ("point", "n_processes"), thinning.thinned(POINTS, [("insert:1", 2), ("committed:1", 1), ("output:1", 2)])
)
def test_aggregation_beside_an_aggregation_that_is_killed(
    executed: Case,
    small_aggregated: Case,
    tmp_path: pathlib.Path,
    outputs: pathlib.Path,
    point: str,
    n_processes: int,
) -> None:
    first, second = (aggregation(executed, outputs, name, n_processes) for name in ("first", "second"))
    with stopped(first, point, tmp_path / "marker") as (running, victim):
        done = beside(running, victim, point, second)
        assert done.returncode == 0, done.stderr
    done = run(*first)
    assert done.returncode == 0, done.stderr
    assert executed.rows() == small_aggregated.rows()
    graphs = [kills.graph_content(outputs / f"{name}.qg") for name in ("first", "second")]
    assert graphs[0] == graphs[1] == kills.graph_content(small_aggregated.graph)


@pytest.mark.ordering("T1", "B2", "G1")
@pytest.mark.parametrize(
    ("point", "n_processes"), thinning.thinned(POINTS, [("digest:1", 1), ("output:1", 2), ("renamed:1", 1)])
)
def test_ingestion_beside_an_aggregation_that_is_killed(
    aggregated: Case,
    undisturbed: Any,
    tmp_path: pathlib.Path,
    outputs: pathlib.Path,
    point: str,
    n_processes: int,
) -> None:
    """All is aggregated already; the one that is killed is refused when it is started again."""
    if point.startswith("insert"):
        pytest.skip("there is nothing to be inserted")
    first = aggregation(aggregated, outputs, "first", n_processes)
    with stopped(first, point, tmp_path / "marker") as (running, victim):
        done = beside(running, victim, point, ingestion(aggregated))
        assert done.returncode == 0, done.stderr
    assert aggregated.content() == undisturbed
    done = run(*first)
    assert done.returncode in (1, 2)
    assert "aggregation would take them for missing" in done.stderr
    assert aggregated.content() == undisturbed


@pytest.mark.ordering("T1", "G6", "I3")
@pytest.mark.parametrize(
    "point", thinning.thinned(INGESTING, ["forget:1", "forgotten:1", "graph-ingested:1", "deleted:1"])
)
def test_aggregation_beside_an_ingestion_that_is_killed(
    aggregated: Case, undisturbed: Any, tmp_path: pathlib.Path, outputs: pathlib.Path, point: str
) -> None:
    with stopped(ingestion(aggregated), point, tmp_path / "marker") as (running, victim):
        done = beside(running, victim, point, aggregation(aggregated, outputs, "second"))
        assert (done.returncode == 0) == (point not in RECORDED), done.stderr
    if aggregated.graph.exists():
        done = run(*ingestion(aggregated))
        assert done.returncode == 0, done.stderr
    assert aggregated.content() == undisturbed


@pytest.mark.ordering("T1", "I4")
@pytest.mark.parametrize("point", thinning.thinned(INGESTING, ["placed:1", "insert:2", "unlinked:1"]))
def test_ingestion_beside_an_ingestion_that_is_killed(
    aggregated: Case, undisturbed: Any, tmp_path: pathlib.Path, point: str
) -> None:
    with stopped(ingestion(aggregated), point, tmp_path / "marker") as (running, victim):
        if point == "forget:1":
            # It is let into the database when the other one is gone.
            done = beside(running, victim, point, ingestion(aggregated))
        else:
            done = run(*ingestion(aggregated))
        # The other one holds a lock of its own from the moment on when it changes something.
        assert done.returncode == (0 if point in ("checked:1", "forget:1") else 1), done.stderr
    if aggregated.graph.exists():
        done = run(*ingestion(aggregated))
        assert done.returncode == 0, done.stderr
    assert aggregated.content() == undisturbed


@pytest.mark.ordering("C6", "T1")
@pytest.mark.parametrize(
    ("point", "n_processes"), thinning.thinned(POINTS, [("start:1", 1), ("insert:1", 2), ("complete:1", 1)])
)
def test_status_beside_an_aggregation_that_is_killed(
    executed: Case,
    small_aggregated: Case,
    tmp_path: pathlib.Path,
    outputs: pathlib.Path,
    point: str,
    n_processes: int,
) -> None:
    command = aggregation(executed, outputs, "first", n_processes)
    place = str(outputs / "first.checkpoint")
    with stopped(command, point, tmp_path / "marker") as (running, _):
        done = run("status", place)
        assert done.returncode == 0, done.stderr
        assert f"in use by process {running.pid} on" in done.stdout
    before = sorted(path.name for path in outputs.rglob("*"))
    done = run("status", place)
    assert done.returncode == 0, done.stderr
    assert "in use by" not in done.stdout
    assert sorted(path.name for path in outputs.rglob("*")) == before
    done = run(*command)
    assert done.returncode == 0, done.stderr
    assert executed.rows() == small_aggregated.rows()


@pytest.mark.ordering("T1")
@pytest.mark.parametrize("point", thinning.thinned(INGESTING, ["forgotten:1", "committed:1"]))
def test_status_beside_an_ingestion_that_is_killed(
    aggregated: Case, undisturbed: Any, tmp_path: pathlib.Path, point: str
) -> None:
    with stopped(ingestion(aggregated), point, tmp_path / "marker"):
        for graph in (aggregated.graph, aggregated.target):
            if graph.exists():
                done = run("status", str(graph))
                assert done.returncode == 0, done.stderr
                assert "State: complete" in done.stdout
    if aggregated.graph.exists():
        done = run(*ingestion(aggregated))
        assert done.returncode == 0, done.stderr
    assert aggregated.content() == undisturbed
