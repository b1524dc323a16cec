"""Runs on engines whose workers are killed: each quantum ends as in a run on this host."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import psutil
import pytest
from aggregator.execution import quantum_attempts

import aggregator
from aggregator.running import graph_run, run_config
from tests.helpers import executions, plain_runs, waiting

clusters = pytest.importorskip("tests.helpers.clusters", reason="needs the extras dask and parsl")

N_QUANTA = 60
FATES = quantum_attempts.Fate
CLUSTERS = ("isr", "calibrate,transform,summarize,report", "warp,coadd,merge,forced,gather")
"""Few jobs: what takes time here is to begin one."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> plain_runs.PlainRun:
    return plain_runs.make(tmp_path_factory.mktemp("plain") / "run", N_QUANTA)


def tell(run: plain_runs.PlainRun, waiting: str) -> str:
    """Tell one quantum to fail, one to kill its process, and one to wait; return the id of the last."""
    quanta = run.quanta()
    first, second, *_ = (data for data in quanta if data.task == "calibrate")
    *_, last = (data for data in quanta if data.task == "isr")
    marks = run.root.parent / "marks"
    marks.mkdir()
    modes = {executions.key(first): "fail", executions.key(second): "kill"}
    run.tell({"calibrate": modes, "isr": {executions.key(last): waiting}}, str(marks))
    return str(last.id)


def story(run: plain_runs.PlainRun) -> dict[str, Any]:
    """Return what became of each quantum, and which files there are."""
    with executions.aggregated(run) as provenance:
        quanta = {
            str(data.id): [
                (each.status, each.exception and (each.exception.type_name, each.exception.message))
                for each in provenance.attempts(str(data.id))
            ]
            for data in run.quanta()
        }
    files = {str(path.relative_to(run.root)) for path in (run.root / "u").rglob("*.*") if path.is_file()}
    return {"quanta": quanta, "files": files}


@pytest.fixture(scope="module")
def expected(template: plain_runs.PlainRun, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what a run on this host leaves."""
    run = template.copy(tmp_path_factory.mktemp("local") / "run")
    tell(run, "ok")
    assert executions.execute(run)[0] == 1
    return story(run)


def jobs_of(run: plain_runs.PlainRun) -> list[psutil.Process]:
    """Return the commands of jobs that are under way, but for the processes above and below them."""
    jobs = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        # Any of them may end while somebody looks at it.
        with contextlib.suppress(psutil.NoSuchProcess):
            if {"run-quanta", str(run.graph)} <= set(words) and (parent := process.parent()) is not None:
                names = [pathlib.Path(word).name for word in (*words[:6], "|", *parent.cmdline()[:6])]
                if "leash.py" in names[names.index("|") :] and "leash.py" not in names[: names.index("|")]:
                    jobs.append(process)
    return jobs


def worker_of(run: plain_runs.PlainRun, quantum_id: str) -> psutil.Process:
    """Return the worker of an engine below which a quantum runs."""
    for process in jobs_of(run):
        words = process.cmdline()
        if quantum_id in pathlib.Path(words[words.index("--quantum-file") + 1]).read_text().split():
            return process.parents()[1]
    raise AssertionError(quantum_id)


class Killer:
    """Kills the worker that waits at a quantum, once, and lets the next one go on.

    Parameters
    ----------
    run
        The run.
    quantum_id
        The quantum.
    go
        The file that it waits for.
    """

    def __init__(self, run: plain_runs.PlainRun, quantum_id: str, go: pathlib.Path) -> None:
        self.killed: psutil.Process | None = None
        self._run = run
        self._quantum_id = quantum_id
        self._go = go

    def __call__(self, _update: aggregator.ProgressUpdate) -> None:
        mark = self._run.root.parent / "marks" / self._quantum_id
        if self.killed is None and mark.exists():
            self.killed = worker_of(self._run, self._quantum_id)
            self.killed.kill()
            self._go.touch()


def execute(run: plain_runs.PlainRun, engine: Any) -> tuple[int, psutil.Process | None]:
    """Execute on an engine, one of whose workers is killed; return the exit code and that worker."""
    go = run.root.parent / "go"
    killer = Killer(run, tell(run, f"await ok {go}"), go)
    config = run_config.RunConfig(engine=engine, clusters=CLUSTERS, log_status_interval=0.5)
    try:
        graph_run.execute(run.graph, run.root, config, on_progress=killer)
    except graph_run.ExecutionError as exc:
        return exc.exit_code, killer.killed
    return 0, killer.killed


@pytest.fixture(autouse=True)
def _modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers import the tasks."""
    monkeypatch.setenv("PYTHONPATH", str(executions.ROOT))


@pytest.fixture
def dask_engine() -> Iterator[str]:
    with clusters.dask_cluster() as cluster:
        yield f"dask:{cluster.scheduler_address}"


@pytest.fixture
def parsl_engine(tmp_path: pathlib.Path) -> str:
    return f"parsl:{clusters.parsl_configuration(tmp_path)}"


@pytest.mark.parametrize("name", ["dask_engine", pytest.param("parsl_engine", marks=pytest.mark.exhaustive)])
def test_a_worker_that_is_killed_costs_its_job_only(
    template: plain_runs.PlainRun,
    expected: dict[str, Any],
    tmp_path: pathlib.Path,
    request: pytest.FixtureRequest,
    name: str,
) -> None:
    run = template.copy(tmp_path / "run")
    code, killed = execute(run, request.getfixturevalue(name))
    assert code == 1
    assert killed is not None
    assert not waiting.lives(killed.pid)
    assert story(run) == expected
    assert [path.name for path in run.root.iterdir() if path.name.endswith(".running")] == []


class Counting(futures.ThreadPoolExecutor):
    """Runs jobs below this process, and counts them."""

    n_jobs = 0

    def submit(self, *call: Any, **keywords: Any) -> Any:
        self.n_jobs += 1
        return super().submit(*call, **keywords)


@pytest.fixture
def threads() -> Iterator[Counting]:
    with Counting(2) as executor:
        yield executor


@pytest.fixture
def dask_client() -> Iterator[Any]:
    with clusters.dask_cluster() as cluster, cluster.get_client() as client:
        yield client


ENGINES = [
    "threads",
    *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("dask_client", "parsl_engine")),
]
OF_CLUSTERS = ["dask_engine", "parsl_engine"]


def test_what_has_succeeded_before_needs_no_job(
    template: plain_runs.PlainRun, tmp_path: pathlib.Path, threads: Counting
) -> None:
    run = template.copy(tmp_path / "run")
    assert executions.execute(run, in_process=True)[0] == 0
    code, done = executions.execute(run, engine=threads)
    assert (code, done.total(FATES.EXISTING), threads.n_jobs) == (0, N_QUANTA, 0)
    # A retry that was killed between its metadata and its log has left that of the failure before.
    data = run.quanta()[-1]
    log, *_ = [path for path in executions.logs(run) if path.name.startswith(f"{data.task}_log")]
    then = log.stat().st_mtime - 1000
    os.utime(log, (then, then))
    code, done = executions.execute(run, engine=threads)
    assert (code, done.total(FATES.EXISTING), threads.n_jobs) == (0, N_QUANTA, 1)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("mode", "code"), [("repeatable", 20), pytest.param("invalid", 21, marks=pytest.mark.exhaustive)]
)
def test_all_ends_with_the_first_failure(
    template: plain_runs.PlainRun,
    tmp_path: pathlib.Path,
    request: pytest.FixtureRequest,
    engine: str,
    mode: str,
    code: int,
) -> None:
    """What is given up with it has its log, and is gone when the command is."""
    run = template.copy(tmp_path / "run")
    first, second, *_ = (data for data in run.quanta() if data.task == "isr")
    marks = tmp_path / "marks"
    marks.mkdir()
    modes = {executions.key(first): f"later {mode}", executions.key(second): "sleep"}
    run.tell({"isr": modes}, str(marks))
    given = request.getfixturevalue(engine)
    assert executions.execute(run, engine=given, fail_fast=mode == "repeatable", n_processes=1)[0] == code
    waiting.until(lambda: not jobs_of(run))
    assert not list(run.root.glob("*.running"))
    exceptions = {executions.exception(log) for log in executions.logs(run)}
    assert "aggregator.QuantumKilled" in exceptions
    assert len(executions.logs(run)) == 2


@pytest.mark.parametrize("engine", ENGINES)
def test_a_task_that_ends_its_process_is_one_failed_quantum(
    template: plain_runs.PlainRun, tmp_path: pathlib.Path, request: pytest.FixtureRequest, engine: str
) -> None:
    run = template.copy(tmp_path / "run")
    data = next(each for each in run.quanta() if each.task == "calibrate")
    executions.tell(run, data, "sysexit")
    given = request.getfixturevalue(engine)
    code, done = executions.execute(run, engine=given, clusters=CLUSTERS)
    n_blocked = len(executions.descendants(run, data))
    assert (code, done.n_failed, done.total(FATES.BLOCKED)) == (1, 1, n_blocked)
    assert done.total(FATES.SUCCEEDED) == N_QUANTA - 1 - n_blocked


@pytest.mark.exhaustive
def test_a_paused_worker_changes_nothing(
    template: plain_runs.PlainRun, tmp_path: pathlib.Path, dask_engine: str
) -> None:
    """What it has begun goes on below it; what it was given waits, or another does it."""
    run = template.copy(tmp_path / "run")
    data = next(each for each in run.quanta() if each.task == "isr")
    marks, go = tmp_path / "marks", tmp_path / "go"
    marks.mkdir()
    run.tell({"isr": {executions.key(data): f"await ok {go}"}}, str(marks))
    paused: list[psutil.Process] = []

    def pause(_update: aggregator.ProgressUpdate) -> None:
        if not paused and (marks / str(data.id)).exists():
            paused.append(worker_of(run, str(data.id)))
            paused[0].suspend()
            go.touch()
            threading.Timer(5.0, paused[0].resume).start()

    config = run_config.RunConfig(engine=dask_engine, clusters=CLUSTERS, log_status_interval=0.5)
    done = graph_run.execute(run.graph, run.root, config, on_progress=pause)
    assert len(paused) == 1
    assert done.total(FATES.SUCCEEDED) + done.total(FATES.EXISTING) == N_QUANTA
    assert all(len(attempts) == 1 for attempts in story(run)["quanta"].values())


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", OF_CLUSTERS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_takes_jobs_along(
    template: plain_runs.PlainRun,
    tmp_path: pathlib.Path,
    request: pytest.FixtureRequest,
    name: str,
    number: signal.Signals,
) -> None:
    engine = request.getfixturevalue(name)
    run = template.copy(tmp_path / "run")
    data = next(each for each in run.quanta() if each.task == "isr")
    marks = tmp_path / "marks"
    marks.mkdir()
    run.tell({"isr": {executions.key(data): "sleep"}}, str(marks))
    running = executions.start("run", run, "--engine", engine, "--cluster", "isr")
    waiting.until((marks / str(data.id)).exists, 300.0)
    for _ in range(2):
        waiting.send(running.pid, number)
    _, told = running.communicate(timeout=120)
    assert running.returncode == 128 + number, told
    waiting.until(lambda: not jobs_of(run))
    kinds = {executions.exception(log) for log in executions.logs(run)}
    assert "aggregator.QuantumKilled" in kinds
    # What an engine tells of itself is of no use to whoever has asked for quanta.
    assert "DataFlowKernel" not in told
    run.tell({})
    assert executions.command("run", run, "-j", "2").returncode == 0


@pytest.mark.exhaustive
def test_jobs_of_a_command_that_was_killed_end_when_it_comes_again(
    template: plain_runs.PlainRun, tmp_path: pathlib.Path, dask_engine: str
) -> None:
    run = template.copy(tmp_path / "run")
    quantum_id = tell(run, f"await ok {tmp_path / 'never'}")
    options = ["--engine", dask_engine, *(word for each in CLUSTERS for word in ("--cluster", each))]
    running = executions.start("run", run, *options)
    waiting.until((tmp_path / "marks" / quantum_id).exists, 300.0)
    running.kill()
    running.communicate()
    [lifeline] = run.root.glob("*.running")
    orphans = jobs_of(run)
    assert len(orphans) == 1
    # They go on, and until they end nobody else may take the run for complete.
    with pytest.raises(aggregator.InUseError, match="are being executed"):
        aggregator.aggregate_graph(run.graph, run.root, aggregator.AggregatorConfig(n_processes=1))
    run.tell({})
    done = executions.command("run", run, *options)
    assert done.returncode == 0, done.stderr
    waiting.assert_gone(each.pid for each in orphans)
    assert not lifeline.exists()
    told = story(run)["quanta"].values()
    assert all(each[-1][0] == aggregator.Status.SUCCESSFUL for each in told)
