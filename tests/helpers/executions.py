"""Executions of plain tasks, in this process and by commands, and what they have left."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time
from typing import Any, cast

import pytest
from aggregator.execution import readiness
from aggregator.schemas.execution import log_records

import aggregator
from aggregator.running import execution_summary, graph_run, run_config
from tests.helpers import clocks, plain_runs

ROOT = pathlib.Path(__file__).resolve().parents[2]

_SECONDS_IDLE = 10.0


def execute(run: plain_runs.PlainRun, **options: Any) -> tuple[int, execution_summary.ExecutionSummary]:
    """Execute a graph; return exit code and summary."""
    config = run_config.RunConfig(**{"n_processes": 2, **options})
    try:
        return 0, graph_run.execute(str(run.graph), str(run.root), config)
    except graph_run.ExecutionError as exc:
        return exc.exit_code, cast(execution_summary.ExecutionSummary, exc.summary)


def hurry(patch: pytest.MonkeyPatch, run: plain_runs.PlainRun, n_succeeding: int) -> None:
    """Let 300 seconds pass at every look when all have ended that will end before, however slow they are.

    Those that wait behind the one that takes too long end after that: nothing happens for a while.
    """
    n_before, since = 0, time.monotonic()

    def is_last() -> bool:
        nonlocal n_before, since
        if (n := len(list(run.root.rglob("*_metadata_*.json")))) != n_before:
            n_before, since = n, time.monotonic()
        return n >= n_succeeding or (n > 0 and time.monotonic() - since > _SECONDS_IDLE)

    clocks.run_by_steps(patch, 300.0, is_last)


def first(run: plain_runs.PlainRun, label: str = "isr") -> readiness.QuantumData:
    """Return the first quantum of a task."""
    return next(data for data in run.quanta() if data.task == label)


def tell(run: plain_runs.PlainRun, data: readiness.QuantumData, mode: str, **options: Any) -> None:
    """Tell one quantum what to do."""
    run.tell({data.task: {key(data): mode}}, **options)


def key(data: readiness.QuantumData) -> str:
    """Return how tasks are told which quantum is meant."""
    return "/".join(map(str, data.data_id.values()))


def descendants(run: plain_runs.PlainRun, data: readiness.QuantumData) -> set[Any]:
    """Return the ids of all quanta that need one."""
    found = {data.id}
    for each in run.quanta():
        if not found.isdisjoint(each.prerequisites):
            found.add(each.id)
    return found - {data.id}


def logs(run: plain_runs.PlainRun) -> list[pathlib.Path]:
    """Return the logs of quanta."""
    return sorted(path for path in run.root.rglob("*_log_*.json"))


def exception(log: pathlib.Path) -> str | None:
    """Return the type of the exception in a log."""
    told = log_records.parse(log.read_bytes()).extra.exception
    return None if told is None else told.type_name


def start(name: str, run: plain_runs.PlainRun, *options: str) -> subprocess.Popen[str]:
    """Start a command."""
    return subprocess.Popen(
        [sys.executable, "-m", "aggregator", name, str(run.graph), str(run.root), *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def command(name: str, run: plain_runs.PlainRun, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    running = start(name, run, *options)
    stdout, stderr = running.communicate()
    return subprocess.CompletedProcess(running.args, running.returncode, stdout, stderr)


def aggregated(run: plain_runs.PlainRun) -> Any:
    """Aggregate, and return the provenance graph."""
    path = run.root / "provenance.qg"
    config = aggregator.AggregatorConfig(output_path=path, register_dataset_types=True)
    aggregator.aggregate_graph(run.graph, run.root, config)
    return aggregator.Provenance(path)
