"""Killed at any step and started again, with or without the graph, an ingestion ends as if undisturbed."""

from __future__ import annotations

import itertools
import os
import pathlib
import random
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from aggregator.storage import fault_points

from aggregator.console import interruption
from tests.helpers import graph_ingestion_case, kills, thinning, waiting
from tests.helpers.oracle import runs

Case = graph_ingestion_case.Case

BEFORE = ["checked:1", "placing:1"]
"""Points at which nothing has been changed."""

AFTER = [
    *("placed:1", "examined:1", "forget:1", "forget:3", "forgotten:1", "forgotten:3", "graph:1"),
    *("insert:1", "graph-ingested:1", "insert:2", "insert:4", "committed:1", "committed:3"),
    *("unlinked:1", "unlinked:4", "deleted:1", "deleted:3", "cleaned:1", "complete:1"),
]
"""Points from which on the graph is in the repository."""

BATCHES = ("--batch-size", "20")
"""Small, so that there is something before and after each commit."""

N_RANDOM = int(os.environ.get("AGGREGATOR_RANDOM_KILLS", "1"))
"""Number of runs that are killed at random moments, for each kind of database; `make kills` does more."""

KINDS = ["sqlite", "postgresql"]

_undisturbed: dict[int, Any] = {}


@pytest.fixture
def case(small_template: Case, tmp_path: pathlib.Path) -> Iterator[Case]:
    # In a directory where nothing else is.
    copy = small_template.copy(tmp_path / "case")
    yield copy
    runs.remove_database(copy.run)


@pytest.fixture
def undisturbed(small_template: Case, tmp_path: pathlib.Path) -> Any:
    if id(small_template) not in _undisturbed:
        copy = small_template.copy(tmp_path / "undisturbed")
        copy.finish()
        _undisturbed[id(small_template)] = copy.content()
        runs.remove_database(copy.run)
    return _undisturbed[id(small_template)]


def check_safe(case: Case) -> int:
    """Check that the content of each dataset is somewhere; return how many are in two places."""
    records = case.rows()["file_datastore_records"]
    graph = records.get(("graph", "__NULL_STRING__"), {"path": None})["path"]
    doubled = 0
    for entry in case.run.manifest["quanta"]:
        for dataset, path in entry["outputs"]["_log"] + entry["outputs"]["_metadata"]:
            exists = (case.run.root / path).exists()
            recorded = records.get((dataset, "__NULL_STRING__"), {"path": None})["path"]
            # Before the graph is recorded, every dataset that is in the database has a file of its own.
            assert recorded in ((path, None) if graph is None else (graph, None))
            backed = recorded is not None and recorded == graph
            assert exists or backed
            doubled += exists and backed
    return doubled


def some(points: list[str], first: int) -> list[Any]:
    """Return kinds of databases and points: every other point with SQLite, every sixth with PostgreSQL.

    Where there are two points of a kind, only the later one is chosen; the rest is exhaustive.
    """
    last = list({point.partition(":")[0]: point for point in points}.values())
    chosen = [("sqlite", point) for point in last[first::2]]
    chosen += [("postgresql", point) for point in last[first + 3 :: 6]]
    return thinning.thinned(itertools.product(KINDS, points), chosen)


def kill(case: Case, point: str, tmp_path: pathlib.Path, *options: str) -> None:
    marker = tmp_path / f"marker-{point}"
    with case.start(*BATCHES, *options, stop_at=point, marker=marker) as running:
        assert kills.wait_for(marker, running) == running.pid
        os.kill(running.pid, signal.SIGKILL)
        running.communicate(timeout=kills.GONE_SECONDS)
    # No more than the batches whose files are being deleted.
    assert check_safe(case) <= 40


@pytest.mark.parametrize(("small_template", "point"), some([*BEFORE, *AFTER], 0), indirect=["small_template"])
def test_killed_and_started_again(case: Case, undisturbed: Any, tmp_path: pathlib.Path, point: str) -> None:
    kill(case, point, tmp_path)
    case.finish(*BATCHES)
    assert case.content() == undisturbed


@pytest.mark.parametrize(("small_template", "point"), some(AFTER, 1), indirect=["small_template"])
def test_killed_and_finished_without_the_graph(
    case: Case, undisturbed: Any, tmp_path: pathlib.Path, point: str
) -> None:
    """Every other time without anything that tells the run."""
    kill(case, point, tmp_path)
    named = ("--output-run", case.run.run) if AFTER.index(point) % 2 else ()
    case.finish(*BATCHES, *named, given=False)
    if not graph_ingestion_case.keeps_attributes(tmp_path):
        # Nothing tells where the graph was that is to be removed from there.
        case.graph.unlink(missing_ok=True)
    assert case.content() == undisturbed


@pytest.mark.parametrize(("small_template", "point"), some(BEFORE, 1), indirect=["small_template"])
def test_nothing_to_finish(case: Case, undisturbed: Any, tmp_path: pathlib.Path, point: str) -> None:
    """Before the graph is in the repository, it has to be given again; nothing has happened so far."""
    before = case.rows()
    kill(case, point, tmp_path)
    assert case.rows() == before
    with case.start("--output-run", case.run.run, given=False) as running:
        _, complaints = running.communicate(timeout=120)
    assert running.returncode == 2
    assert "one has to be given" in complaints
    case.finish(*BATCHES)
    assert case.content() == undisturbed


MODES = [
    *(("copy", "placing:1"), ("copy", "graph-ingested:1")),
    *(("symlink", "forget:2"), ("symlink", "committed:2")),
    *(("copy", "forget:2"), ("copy", "committed:2")),
    *(("symlink", "placing:1"), ("symlink", "graph-ingested:1")),
]


@pytest.mark.parametrize(("mode", "point"), thinning.thinned(MODES, MODES[:4]))
def test_killed_in_other_modes(small_aggregated: Case, tmp_path: pathlib.Path, point: str, mode: str) -> None:
    case, other = (small_aggregated.copy(tmp_path / name) for name in ("killed", "undisturbed"))
    other.ingest(transfer=mode)
    kill(case, point, tmp_path, "--transfer", mode)
    case.finish("--transfer", mode)
    assert case.content() == other.content()
    assert case.graph.exists()
    assert case.target.is_symlink() == (mode == "symlink")


SIGNALS = [signal.SIGINT, signal.SIGTERM]
SECOND = [
    (kind, number, point) for kind in KINDS for number in SIGNALS for point in ("forget:2", "committed:2")
]


@pytest.mark.parametrize(
    ("small_template", "number", "point"), thinning.thinned(SECOND, SECOND[::7]), indirect=["small_template"]
)
def test_second_signal(
    case: Case, undisturbed: Any, tmp_path: pathlib.Path, number: signal.Signals, point: str
) -> None:
    """What does not come to an end by itself, because a file system hangs, is stopped by a second one."""
    marker = tmp_path / "marker"
    with case.start(*BATCHES, stop_at=point, marker=marker) as running:
        kills.wait_for(marker, running)
        for _ in range(2):
            waiting.send(running.pid, number)
        _, complaints = running.communicate(timeout=120)
    assert running.returncode == 128 + number
    assert f"Error: interrupted by {number.name}" in complaints
    assert "Traceback" not in complaints
    case.finish(*BATCHES)
    assert case.content() == undisturbed


FIRST = [
    (kind, number, point)
    for kind in KINDS
    for number in SIGNALS
    for point in ("placed", "examined", "forget", "graph", "insert", "committed", "deleted")
]


@pytest.mark.parametrize(
    ("small_template", "number", "point"), thinning.thinned(FIRST, FIRST[::4]), indirect=["small_template"]
)
def test_signal_finishes_the_batch(
    case: Case, undisturbed: Any, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, point: str
) -> None:
    """What is backed by the graph when it stops has no files of its own any more."""
    sent = []

    def reached(name: str) -> None:
        if name == point and not sent and threading.current_thread() is threading.main_thread():
            sent.append(name)
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(fault_points, "reached", reached)
        with pytest.raises(interruption.Interrupted, match="Run the same command") as caught:
            case.ingest(batch_size=20)
    assert caught.value.exit_code == 128 + number
    assert check_safe(case) == 0
    case.ingest()
    assert case.content() == undisturbed


@pytest.mark.parametrize("small_template", ["sqlite"], indirect=True)
@pytest.mark.parametrize("point", ["placed", "forgotten", "insert", "committed", "deleted"])
def test_second_signal_ends_it_at_once(
    case: Case, undisturbed: Any, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Also in a transaction, and between a commit and the deletion of files."""
    sent = []

    def reached(name: str) -> None:
        if name == point and not sent and threading.current_thread() is threading.main_thread():
            sent.append(name)
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGHUP)

    with monkeypatch.context() as patch:
        patch.setattr(fault_points, "reached", reached)
        with pytest.raises(interruption.Interrupted) as caught:
            case.ingest(batch_size=20)
    assert caught.value.at_once
    assert caught.value.exit_code == 143
    check_safe(case)
    case.ingest()
    assert case.content() == undisturbed


@pytest.mark.parametrize("seed", range(N_RANDOM))
def test_killed_at_random_moments(case: Case, undisturbed: Any, seed: int) -> None:
    """Kill it again and again, until it gets through."""
    chance = random.Random(seed)
    for _ in range(3):
        with case.start("--batch-size", "5", given=case.graph.exists()) as running:
            time.sleep(chance.uniform(0.3, 2.0))
            running.kill()
            running.communicate(timeout=120)
    case.finish(*BATCHES, given=case.graph.exists())
    assert case.content() == undisturbed
