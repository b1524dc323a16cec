"""Runs an aggregation, stops it at a point of its life, kills it from outside, and looks at what is left."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import psutil
from aggregator.schemas.graphs import provenance_graph
from aggregator.storage import fault_points
from click import testing

from aggregator.command_line import main
from tests.helpers import waiting
from tests.helpers.oracle import compare, runs

GONE_SECONDS = waiting.SECONDS
"""A killed process must be noticed, and all others be gone, within this time."""


def start(arguments: Sequence[str], stop_at: str = "", marker: pathlib.Path | None = None) -> Any:
    """Start a command in a session of its own; at a fault point it stops itself, and makes the marker."""
    environment = dict(os.environ)
    if stop_at:
        environment[fault_points.VARIABLE] = f"{stop_at}:{marker}"
    return subprocess.Popen(
        [sys.executable, "-m", "aggregator", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish_here(arguments: Sequence[str]) -> None:
    """Run a command to its end in this process, which takes a fifth of the time."""
    done = testing.CliRunner().invoke(main.main, arguments)
    assert done.exit_code == 0, done.output


@dataclasses.dataclass(slots=True)
class Case:
    """A copy of a run that is aggregated by processes that may be killed."""

    run: runs.OracleRun
    """The copy."""

    output: pathlib.Path
    """Where its graph goes."""

    options: tuple[str, ...] = ()
    """More options of the command line."""

    def arguments(self, n_processes: int) -> list[str]:
        """Return the command line."""
        return [
            *("aggregate-graph", str(self.run.predicted_path), str(self.run.root), "-o", str(self.output)),
            *("-j", str(n_processes), "--mock-storage-classes", *self.options),
        ]

    def start(self, n_processes: int, stop_at: str = "", marker: pathlib.Path | None = None) -> Any:
        """Start the aggregation in a session of its own."""
        return start(self.arguments(n_processes), stop_at, marker)

    def finish(self, n_processes: int = 2) -> str:
        """Aggregate to the end; return what was printed."""
        with self.start(n_processes) as running:
            printed, complaints = running.communicate(timeout=120)
        assert running.returncode == 0, complaints
        return str(printed)

    def finish_here(self) -> None:
        """Aggregate to the end in this process."""
        finish_here(self.arguments(1))

    def leftovers(self) -> list[str]:
        """Return what a complete run should not leave."""
        names = [p.name for p in self.output.parent.iterdir() if p not in (self.output, self.run.root)]
        names += [p.name for p in self.run.root.glob("*.checkpoint")]
        return [name for name in names if not name.startswith("marker")]

    def content(self) -> Any:
        """Return the database and the graph as values that can be compared."""
        compare.check_provenance(self.output, self.run.predicted_path)
        return compare.database_rows(self.run.tables), *graph_content(self.output)


def graph_content(path: pathlib.Path) -> tuple[Any, Any, Any]:
    """Return quanta, datasets and blocks of a provenance graph as values that can be compared."""
    with provenance_graph.ProvenanceGraph(str(path)) as graph:
        quanta = {q.quantum_id: msgspec.json.encode(q) for q in graph.quanta()}
        datasets = {}
        for dataset in graph.datasets():
            value = msgspec.to_builtins(dataset, builtin_types=(msgspec.Raw,))
            value["data_coordinate"] = bytes(dataset.data_coordinate)
            value["consumers"] = sorted(value["consumers"])
            datasets[dataset.dataset_id] = value
        blocks = {q: (repr(graph.logs(q)), repr(graph.metadata(q))) for q in quanta}
    return quanta, datasets, blocks


def wait_for(marker: pathlib.Path, running: Any, seconds: float = waiting.SECONDS) -> int:
    """Return the process that stopped at its point."""
    deadline = time.monotonic() + seconds
    while not marker.exists():
        assert running.poll() is None, f"it ended without reaching the point: {running.stderr.read()}"
        assert time.monotonic() < deadline, "it did not reach the point"
        time.sleep(0.01)
    return int(marker.read_text())


def workers() -> list[str]:
    """Return the command lines of worker processes that this process has left."""
    lines = []
    for child in psutil.Process().children():
        # It may be about to end.
        with contextlib.suppress(psutil.NoSuchProcess):
            lines.append(" ".join(child.cmdline()))
    return [line for line in lines if "spawn_main" in line]


def session(leader: int) -> list[psutil.Process]:
    """Return the living processes of a session."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def assert_gone(leader: int) -> None:
    """Check that all processes of a session end soon."""
    deadline = time.monotonic() + GONE_SECONDS
    while left := session(leader):
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)


def kill_group(leader: int) -> None:
    """Kill all processes of a session at once."""
    os.killpg(leader, signal.SIGKILL)
