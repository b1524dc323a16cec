"""Killed at any step of its life and started again, an aggregation ends as if nothing had happened."""

from __future__ import annotations

import itertools
import os
import pathlib
import random
import re
import signal
import time
from typing import Any

import pytest
from aggregator.storage import fault_points

import aggregator
from aggregator.aggregation import crew
from tests.helpers import clocks, kills, thinning, waiting
from tests.helpers.oracle import runs

COORDINATOR = ["start:1", "dictionary:1", "manifest:1", "rename.json:1", "report:2", "ledger:2", "complete:1"]
SCANNER = [
    "shard:1",
    "quantum:1",
    "quantum:100",
    "rename.digest:2",
    "digest:1",
    "digest:3",
    "outputs:1",
    "inputs:1",
]
INGESTER = ["insert:1", "insert:2", "committed:1", "committed:2"]
WRITER = ["logs:1", "logs:4", "copy:1", "assembly:1", "output:1", "renamed:1"]
STEPS = [*COORDINATOR, *SCANNER, *INGESTER, *WRITER]
LAST = ["output:1", "renamed:1", "complete:1"]
N_RANDOM = int(os.environ.get("AGGREGATOR_RANDOM_KILLS", "3"))
"""Number of runs that are killed at random moments; `make kills` does more."""

FIRST = [
    point for point in STEPS if point not in ("quantum:100", "digest:3", "logs:4", "insert:2", "committed:2")
]
"""Each kind of step once."""

WORKERS = [*SCANNER, *INGESTER, *WRITER]

SIGNALS = list(itertools.product(STEPS, [1, 2], [signal.SIGINT, signal.SIGTERM], [False, True]))
"""Steps, numbers of processes, signals, and whether they go to all."""

ANY_TIME = list(itertools.product([1, 2], [signal.SIGINT, signal.SIGTERM], [False, True]))
"""The same without steps."""

STARTING = list(itertools.product([signal.SIGINT, signal.SIGTERM], [1, 2, 4]))
"""Signals, and the number of processes that there are when one comes."""


@pytest.fixture
def case(oracle_run: runs.OracleRun, tmp_path: pathlib.Path) -> kills.Case:
    copy = runs.copy_run(oracle_run, tmp_path / "repo")
    # Small batches, so that there is something before and after each commit.
    return kills.Case(copy, tmp_path / "out.qg", ("--ingest-batch-size", "300"))


def check(case: kills.Case, undisturbed: Any, n_processes: int = 2) -> None:
    """Start it again; one process goes on in the same way here and in a process of its own."""
    if n_processes == 1:
        case.finish_here()
    else:
        case.finish(n_processes)
    assert case.content() == undisturbed
    assert case.leftovers() == []


@pytest.mark.parametrize("point", thinning.thinned(WORKERS, [p for p in WORKERS if p in FIRST]))
def test_worker_killed(case: kills.Case, undisturbed: Any, tmp_path: pathlib.Path, point: str) -> None:
    """Kill a worker: the run ends within seconds, says who died and how, and can be resumed."""
    marker = tmp_path / "marker"
    with case.start(2, point, marker) as running:
        victim = kills.wait_for(marker, running)
        assert victim != running.pid
        os.kill(victim, signal.SIGKILL)
        _, complaints = running.communicate(timeout=kills.GONE_SECONDS)
    assert running.returncode == 1
    [error] = [line for line in complaints.splitlines() if line.startswith("Error: ")]
    role = {id(SCANNER): "scanner-00", id(INGESTER): "ingester", id(WRITER): "writer"}
    expected = next(role[id(points)] for points in (SCANNER, INGESTER, WRITER) if point in points)
    assert error.startswith(f"Error: {expected}")
    assert f"(process {victim}) was killed by SIGKILL" in error
    kills.assert_gone(running.pid)
    # What several processes resume is what a killed group leaves, below.
    check(case, undisturbed, n_processes=1)


@pytest.mark.parametrize("point", COORDINATOR)
def test_coordinator_killed(case: kills.Case, undisturbed: Any, tmp_path: pathlib.Path, point: str) -> None:
    """Kill the coordinator: its workers go by themselves."""
    marker = tmp_path / "marker"
    with case.start(2, point, marker) as running:
        victim = kills.wait_for(marker, running)
        assert victim == running.pid
        os.kill(victim, signal.SIGKILL)
        running.communicate(timeout=kills.GONE_SECONDS)
    kills.assert_gone(running.pid)
    check(case, undisturbed, n_processes=1)


@pytest.mark.parametrize("point", thinning.thinned(STEPS, FIRST[::3]))
def test_whole_group_killed(case: kills.Case, undisturbed: Any, tmp_path: pathlib.Path, point: str) -> None:
    marker = tmp_path / "marker"
    with case.start(2, point, marker) as running:
        kills.wait_for(marker, running)
        kills.kill_group(running.pid)
        running.communicate(timeout=kills.GONE_SECONDS)
    kills.assert_gone(running.pid)
    check(case, undisturbed)


@pytest.mark.parametrize("point", thinning.thinned(STEPS, STEPS[::5]))
def test_single_process_killed(
    case: kills.Case, undisturbed: Any, tmp_path: pathlib.Path, point: str
) -> None:
    marker = tmp_path / "marker"
    with case.start(1, point, marker) as running:
        assert kills.wait_for(marker, running) == running.pid
        os.kill(running.pid, signal.SIGKILL)
        running.communicate(timeout=kills.GONE_SECONDS)
    check(case, undisturbed, n_processes=1)


@pytest.mark.parametrize(
    ("point", "n_processes", "number", "to_group"), thinning.thinned(SIGNALS, SIGNALS[::23])
)
def test_signal_at_every_step(
    case: kills.Case,
    undisturbed: Any,
    tmp_path: pathlib.Path,
    point: str,
    n_processes: int,
    number: signal.Signals,
    to_group: bool,
) -> None:
    """Asked to stop at some step, a run goes on from there only as far as it must, and can be resumed."""
    marker = tmp_path / "marker"
    with case.start(n_processes, point, marker) as running:
        kills.wait_for(marker, running)
        (os.killpg if to_group else os.kill)(running.pid, number)
        # Long enough for a worker that it should not have reached to die of it.
        time.sleep(0.1)
        os.truncate(marker, 0)
        _, complaints = running.communicate(timeout=120)
    assert "Traceback" not in complaints
    # At its last steps, nothing is left to be stopped.
    if point not in LAST or running.returncode:
        assert running.returncode == 128 + number, complaints
        assert f"Error: interrupted by {number.name}" in complaints
    kills.assert_gone(running.pid)
    check(case, undisturbed, n_processes)


@pytest.mark.parametrize(("n_processes", "number", "to_group"), thinning.thinned(ANY_TIME, ANY_TIME[::3]))
def test_signal(
    case: kills.Case, undisturbed: Any, n_processes: int, number: signal.Signals, to_group: bool
) -> None:
    """Stopped by a signal, a run commits what is under way, says so, and can be resumed."""
    with case.start(n_processes) as running:
        deadline = time.monotonic() + 60
        checkpoint = pathlib.Path(f"{case.run.predicted_path}.checkpoint")
        while not list(checkpoint.glob("shard-00000*.digest")):
            assert time.monotonic() < deadline
            assert running.poll() is None
            time.sleep(0.002)
        (os.killpg if to_group else os.kill)(running.pid, number)
        _, complaints = running.communicate(timeout=120)
    # The run may have been quicker than the signal.
    if running.returncode:
        assert running.returncode == 128 + number
        assert f"Error: interrupted by {number.name}" in complaints
        assert "Traceback" not in complaints
        assert not case.output.exists()
    kills.assert_gone(running.pid)
    if running.returncode:
        check(case, undisturbed, n_processes)


@pytest.mark.parametrize(("number", "n_children"), thinning.thinned(STARTING, STARTING[::2]))
def test_signal_while_workers_start(case: kills.Case, number: signal.Signals, n_children: int) -> None:
    """A signal that reaches workers before they can ignore it does not end them."""
    with case.start(2) as running:
        while len(kills.session(running.pid)) <= n_children:
            assert running.poll() is None
        os.killpg(running.pid, number)
        _, complaints = running.communicate(timeout=120)
    assert running.returncode == 128 + number, complaints
    assert "Traceback" not in complaints
    kills.assert_gone(running.pid)


def test_second_signal_stops_at_once(case: kills.Case, undisturbed: Any, tmp_path: pathlib.Path) -> None:
    """A worker that does not come back can't keep the run from stopping."""
    marker = tmp_path / "marker"
    with case.start(2, "quantum:100", marker) as running:
        kills.wait_for(marker, running)
        for _ in range(2):
            waiting.send(running.pid, signal.SIGTERM)
        running.communicate(timeout=kills.GONE_SECONDS)
    assert running.returncode == 143
    kills.assert_gone(running.pid)
    check(case, undisturbed)


def test_hung_scanner_is_named(
    case: kills.Case,
    undisturbed: Any,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With a time limit, a scanner that hangs ends the run; before, progress messages tell of it."""
    marker = tmp_path / "marker"
    config = aggregator.AggregatorConfig(
        output_path=str(case.output),
        n_processes=2,
        mock_storage_classes=True,
        scan_timeout=60,
        log_status_interval=0.001,
    )
    with monkeypatch.context() as patch, caplog.at_level("INFO"):
        clocks.run_by_steps(patch, 5.0, marker.exists)
        patch.setattr(crew, "STOP_SECONDS", 0.0)
        patch.setenv(fault_points.VARIABLE, f"quantum:100:{marker}")
        with pytest.raises(aggregator.AggregatorError, match="longer than --scan-timeout 60") as caught:
            aggregator.aggregate_graph(str(case.run.predicted_path), str(case.run.root), config)
    assert caught.value.exit_code == 1
    assert re.search(r"scanner-00\d ScanShard \d for [1-5]\d s", caplog.text)
    assert not waiting.lives(int(marker.read_text()))
    check(case, undisturbed)


@pytest.mark.parametrize("seed", range(N_RANDOM))
def test_killed_at_random_moments(case: kills.Case, undisturbed: Any, seed: int) -> None:
    """Kill a random process, or all, again and again, until a run gets through."""
    chance = random.Random(seed)
    for _ in range(3):
        with case.start(2) as running:
            time.sleep(chance.uniform(0.2, 1.4))
            processes = kills.session(running.pid)
            if processes and chance.random() < 0.6:
                victim = chance.choice(processes)
                if victim.is_running():
                    victim.kill()
            elif processes:
                kills.kill_group(running.pid)
            running.communicate(timeout=120)
        kills.assert_gone(running.pid)
    check(case, undisturbed)
