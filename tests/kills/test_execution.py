"""Quanta that fail, are killed, end their process or take too long: each is one failed quantum, on record."""

from __future__ import annotations

import logging
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import psutil
import pytest
from aggregator.execution import quantum_attempts, readiness
from aggregator.schemas.execution import log_records

import aggregator
from aggregator.running import execution_summary, graph_run
from tests.helpers import kills, plain_runs

N_QUANTA = 60
FATES = quantum_attempts.Fate
REPEATABLE = "aggregator.execution.task_errors.Repeatable"


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> plain_runs.PlainRun:
    return plain_runs.make(tmp_path_factory.mktemp("plain") / "run", N_QUANTA)


@pytest.fixture
def run(template: plain_runs.PlainRun, tmp_path: pathlib.Path) -> plain_runs.PlainRun:
    return template.copy(tmp_path / "run")


def execute(run: plain_runs.PlainRun, **options: Any) -> tuple[int, execution_summary.ExecutionSummary]:
    """Execute a graph; return exit code and summary."""
    config = graph_run.RunConfig(**{"n_processes": 2, **options})
    try:
        return 0, graph_run.execute(str(run.graph), str(run.root), config)
    except graph_run.ExecutionError as exc:
        return exc.exit_code, cast(execution_summary.ExecutionSummary, exc.summary)


def first(run: plain_runs.PlainRun, label: str = "isr") -> readiness.QuantumData:
    """Return the first quantum of a task."""
    return next(data for data in run.quanta() if data.task == label)


def tell(run: plain_runs.PlainRun, data: readiness.QuantumData, mode: str, **options: Any) -> None:
    """Tell one quantum what to do."""
    run.tell({data.task: {_key(data): mode}}, **options)


def _key(data: readiness.QuantumData) -> str:
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


ROOT = pathlib.Path(__file__).resolve().parents[2]


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


def wait(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def aggregated(run: plain_runs.PlainRun) -> Any:
    """Aggregate, and return the provenance graph."""
    path = run.root / "provenance.qg"
    config = aggregator.AggregatorConfig(output_path=path, register_dataset_types=True)
    aggregator.aggregate_graph(run.graph, run.root, config)
    return aggregator.Provenance(path)


@pytest.mark.parametrize(
    ("mode", "exception"),
    [
        ("kill", ("aggregator.QuantumKilled", "its process was killed by SIGKILL")),
        ("kill with child", ("aggregator.QuantumKilled", "its process was killed by SIGKILL")),
        ("exit", ("aggregator.QuantumKilled", "its process ended with exit code 9")),
        ("sleep", ("aggregator.QuantumTimeout", "it took longer than 2 seconds")),
        ("fail", ("ValueError", "told to fail")),
        ("sysexit", None),
    ],
)
def test_one_quantum_fails_and_the_others_go_on(
    run: plain_runs.PlainRun, mode: str, exception: tuple[str, str] | None
) -> None:
    data = first(run)
    tell(run, data, mode)
    code, summary = execute(run, timeout=2.0 if mode == "sleep" else None)
    blocked = descendants(run, data)
    assert code == 1
    assert summary.n_failed == 1
    assert summary.total(FATES.BLOCKED) == len(blocked)
    assert summary.total(FATES.SUCCEEDED) == N_QUANTA - 1 - len(blocked)
    [told] = summary.failures
    assert told.quantum_id == data.id
    with aggregated(run) as provenance:
        quantum = provenance.quantum(str(data.id))
        [attempt] = quantum.attempts
        found = attempt.exception and (attempt.exception.type_name, attempt.exception.message)
        assert found == exception
        assert attempt.status == aggregator.Status.FAILED
        records = provenance.logs(str(data.id))
        assert records is not None
        assert f"mode {mode}" in [record.message for record in records]
        assert records[-1].levelname == "ERROR"
        statuses: Counter[Any] = Counter()
        for counts, _ in provenance.counts().values():
            statuses.update(counts)
    assert +statuses == {
        aggregator.Status.FAILED: 1,
        aggregator.Status.BLOCKED: len(blocked),
        aggregator.Status.SUCCESSFUL: N_QUANTA - 1 - len(blocked),
    }


@pytest.mark.parametrize("in_process", [True, False])
@pytest.mark.parametrize(("mode", "code"), [("fail", 1), ("repeatable", 20)])
def test_all_ends_with_the_first_failure(
    run: plain_runs.PlainRun, tmp_path: pathlib.Path, mode: str, code: int, in_process: bool
) -> None:
    data = first(run)
    others = {} if in_process else {_key(each): "sleep" for each in run.quanta() if each.task == "isr"}
    marks = tmp_path / "marks"
    marks.mkdir()
    run.tell({"isr": {**others, _key(data): mode if in_process else f"later {mode}"}}, str(marks))
    assert execute(run, in_process=in_process, fail_fast=True)[0] == code
    assert kills.workers() == []
    with_logs = {path.name.rpartition("_log_")[0] for path in logs(run)}
    assert with_logs <= {"isr"}
    kinds = {exception(path) for path in logs(run)} - {None}
    assert kinds == {"ValueError" if mode == "fail" else REPEATABLE} | (
        set() if in_process else {"aggregator.QuantumKilled"}
    )


def test_an_invalid_quantum_ends_all(run: plain_runs.PlainRun) -> None:
    tell(run, first(run), "invalid")
    assert execute(run)[0] == 21


def test_other_failures_end_nothing(run: plain_runs.PlainRun) -> None:
    data = first(run)
    tell(run, data, "repeatable")
    code, summary = execute(run)
    assert code == 1
    assert summary.total(FATES.SUCCEEDED) == N_QUANTA - 1 - len(descendants(run, data))


def test_attempts_add_up(run: plain_runs.PlainRun) -> None:
    data = first(run)
    for mode in ("kill", "fail", "ok"):
        tell(run, data, mode)
        assert execute(run)[0] == (mode != "ok")
    with aggregated(run) as provenance:
        attempts = provenance.attempts(str(data.id))
    assert [each.exception and each.exception.type_name for each in attempts] == [
        "aggregator.QuantumKilled",
        "ValueError",
        None,
    ]


@pytest.mark.parametrize("content", [b"garbage", b'{"extended":true,"version":2,"records":[{"na'])
def test_a_log_that_cannot_be_read_is_kept_aside(run: plain_runs.PlainRun, content: bytes) -> None:
    tell(run, first(run), "fail")
    execute(run)
    [path] = [path for path in logs(run) if exception(path) == "ValueError"]
    path.write_bytes(content)
    tell(run, first(run), "ok")
    assert execute(run)[0] == 0
    assert path.with_name(f"{path.name}.corrupt-0").read_bytes() == content
    with aggregated(run) as provenance:
        attempts = provenance.attempts(str(first(run).id))
        [record] = provenance.logs(str(first(run).id), 0) or []
    assert [each.status for each in attempts] == [aggregator.Status.FAILED, aggregator.Status.SUCCESSFUL]
    assert "could not be read" in record.message


def test_it_goes_on_after_it_was_killed(run: plain_runs.PlainRun, tmp_path: pathlib.Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    tell(run, run.quanta()[N_QUANTA // 2], "sleep", marks=str(marks))
    running = start("run", run, "-j", "1")
    wait(lambda: len(list(marks.iterdir())) > N_QUANTA // 4)
    workers = psutil.Process(running.pid).children()
    running.kill()
    running.communicate()
    wait(lambda: not any(worker.is_running() for worker in workers))
    tell(run, first(run), "ok", marks=str(marks))
    code, summary = execute(run)
    assert code == 0
    assert summary.total(FATES.SUCCEEDED, FATES.EXISTING) == N_QUANTA
    assert summary.total(FATES.EXISTING) >= N_QUANTA // 4


@pytest.mark.parametrize("times", [1, 2])
def test_signals_stop_it(run: plain_runs.PlainRun, tmp_path: pathlib.Path, times: int) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    last = first(run)
    tell(run, last, "sleep" if times == 2 else "nap", marks=str(marks))
    running = start("run", run, "-j", "1")
    wait((marks / str(last.id)).exists)
    for _ in range(times):
        running.send_signal(signal.SIGTERM)
        time.sleep(0.5)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 143, errors
    assert "to go on" in errors
    done = [exception(path) for path in logs(run)]
    assert len(done) < N_QUANTA
    assert ("aggregator.QuantumKilled" in done) == (times == 2)


def test_a_batch_job_takes_only_what_is_ready(run: plain_runs.PlainRun, tmp_path: pathlib.Path) -> None:
    data = first(run)
    ids = {str(each.id) for each in run.quanta()}
    after = {str(each) for each in descendants(run, data)}
    listing = tmp_path / "ids"
    listing.write_text("\n".join(sorted(after)))
    assert command("init-run", run).returncode == 0
    blocked = command("run-quanta", run, "--quantum-file", str(listing))
    assert blocked.returncode == 1
    assert f"{len(after)} blocked" in blocked.stdout
    assert not logs(run)
    assert command("run-quanta", run, "--quantum-file", str(listing), "--continue-on-failure").returncode == 0
    first_ones = command("run-quanta", run, "--quantum", ",".join(ids - after), "-j", "2")
    assert first_ones.returncode == 0, first_ones.stderr
    rest = command("run-quanta", run, "--quantum-file", str(listing), "-j", "2")
    assert rest.returncode == 0, rest.stderr
    assert len(logs(run)) == N_QUANTA


@pytest.mark.parametrize("options", [["--quantum", "0" * 32], ["--quantum", "nonsense"], []])
def test_what_makes_no_sense_is_refused(run: plain_runs.PlainRun, options: list[str]) -> None:
    refused = command("run-quanta", run, *options)
    assert refused.returncode == 2, refused.stderr
    assert not list((run.root / "u").rglob("*.*"))
