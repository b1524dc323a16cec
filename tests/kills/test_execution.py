"""Quanta that fail, are killed, end their process or take too long: each is one failed quantum, on record."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import pathlib
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import yaml
from aggregator.butler import run_lock
from aggregator.butler.configuration import repository_config
from aggregator.execution import graph_context, quantum_attempts
from aggregator.schemas.execution import log_records, quantum_provenance
from aggregator.schemas.graphs import graph_pointer
from aggregator.storage import fault_points, locks
from click import testing

import aggregator
from aggregator.command_line import main
from aggregator.running import graph_run, run_config, spool_directory
from tests.helpers import executions, kills, plain_runs, waiting

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


def running_processes() -> list[psutil.Process]:
    """Return all processes that have not ended."""
    return [
        each
        for each in psutil.process_iter(["cmdline", "status"])
        if each.info["status"] != psutil.STATUS_ZOMBIE
    ]


@pytest.mark.parametrize(
    ("mode", "exception"),
    [
        ("kill", ("aggregator.QuantumKilled", "its process was killed by SIGKILL")),
        ("kill with child", ("aggregator.QuantumKilled", "its process was killed by SIGKILL")),
        ("exit", ("aggregator.QuantumKilled", "its process ended with exit code 9")),
        ("sleep", ("aggregator.QuantumTimeout", "it took longer than 1000 seconds")),
        ("fail", ("ValueError", "told to fail")),
        ("sysexit", None),
    ],
)
def test_one_quantum_fails_and_the_others_go_on(
    run: plain_runs.PlainRun, monkeypatch: pytest.MonkeyPatch, mode: str, exception: tuple[str, str] | None
) -> None:
    data = executions.first(run)
    executions.tell(run, data, mode)
    blocked = executions.descendants(run, data)
    if mode == "sleep":
        executions.hurry(monkeypatch, run, N_QUANTA - 1 - len(blocked))
    code, summary = executions.execute(run, timeout=1000.0)
    assert code == 1
    # What it has started is gone as well.
    told_path = str(run.root / "told.json")
    waiting.until(
        lambda: not any(told_path in (each.info["cmdline"] or ()) for each in running_processes()), 20
    )
    assert summary.n_failed == 1
    assert summary.total(FATES.BLOCKED) == len(blocked)
    assert summary.total(FATES.SUCCEEDED) == N_QUANTA - 1 - len(blocked)
    [told] = summary.failures
    assert told.quantum_id == data.id
    with executions.aggregated(run) as provenance:
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
@pytest.mark.parametrize(("mode", "code"), [("fail", 1), ("repeatable", 20), ("sysexit", 1)])
def test_all_ends_with_the_first_failure(
    run: plain_runs.PlainRun, tmp_path: pathlib.Path, mode: str, code: int, in_process: bool
) -> None:
    data = executions.first(run)
    others = (
        {} if in_process else {executions.key(each): "sleep" for each in run.quanta() if each.task == "isr"}
    )
    marks = tmp_path / "marks"
    marks.mkdir()
    run.tell({"isr": {**others, executions.key(data): mode if in_process else f"later {mode}"}}, str(marks))
    assert executions.execute(run, in_process=in_process, fail_fast=True)[0] == code
    assert kills.workers() == []
    with_logs = {path.name.rpartition("_log_")[0] for path in executions.logs(run)}
    assert with_logs <= {"isr"}
    kinds = {executions.exception(path) for path in executions.logs(run)} - {None}
    own = {"fail": {"ValueError"}, "repeatable": {REPEATABLE}, "sysexit": set()}[mode]
    assert kinds == own | (set() if in_process else {"aggregator.QuantumKilled"})


def test_two_executions_of_a_run_are_kept_apart(run: plain_runs.PlainRun) -> None:
    where = files_of(run)
    with run_lock.held(*where):
        for again in (executions.execute, lambda each: graph_run.init_run(each.graph, each.root)):
            with pytest.raises(aggregator.InUseError, match="Two executions of one run"):
                again(run)
        # Jobs of a few quanta are meant to run at the same time.
        graph_run.execute(run.graph, run.root, run_config.RunConfig(), ids=[])
    # Nothing was written there.
    assert not (run.root / where[0]).exists()
    assert executions.execute(run)[0] == 0


def files_of(run: plain_runs.PlainRun) -> tuple[str, tuple[repository_config.FileDatastore, ...]]:
    """Return the run, and where its files are."""
    with graph_context.GraphContext(str(run.graph), str(run.root)) as context:
        return context.graph.header.output_run, context.config.datastores


@pytest.mark.ordering("T2")
@pytest.mark.parametrize("has_locks", [True, False])
def test_jobs_run_side_by_side_and_are_kept_from_what_needs_all_of_a_run(
    aggregated: plain_runs.PlainRun,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    has_locks: bool,
) -> None:
    run = aggregated.copy(tmp_path / "run")
    where, graph = files_of(run), run.root / "provenance.qg"
    if not has_locks:
        without_locks(monkeypatch)
    config = aggregator.AggregatorConfig(output_path=tmp_path / "again.qg", n_processes=1)
    files = {path: path.stat().st_mtime_ns for path in run.root.rglob("*") if path.is_file()}
    with run_lock.held_by_job(*where):
        with (
            run_lock.held_by_job(*where),
            pytest.raises(aggregator.InUseError, match="all that it has started"),
        ):
            aggregator.ingest_graph(run.root, graph)
        with pytest.raises(aggregator.InUseError, match="nobody can tell yet what becomes of all"):
            aggregator.aggregate_graph(run.graph, run.root, config)
        left = {path: path.stat().st_mtime_ns for path in run.root.rglob("*") if path.is_file()}
        assert {path for path in left.keys() - files.keys() if ".jobs.lock" not in path.name} == set()
        assert all(left[path] == files[path] for path in files)
        # What has succeeded is known.
        incomplete = aggregator.AggregatorConfig(incomplete=True, n_processes=1, checkpoint=False)
        aggregator.aggregate_graph(run.graph, run.root, incomplete)
    with run_lock.held_alone(*where), pytest.raises(aggregator.InUseError, match="ingestion of its graph"):
        graph_run.execute(run.graph, run.root, run_config.RunConfig(), ids=[])
    assert (run.root / where[0] / ".jobs.lock").exists() != has_locks
    assert aggregator.aggregate_graph(run.graph, run.root, config).graph_path


def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every file system be without locks."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "flock", flock)


@pytest.mark.ordering("T2")
def test_a_graph_is_not_published_while_its_quanta_are_executed(
    run: plain_runs.PlainRun, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that begins while all is scanned may yet succeed in what was found to be missing."""
    graph_run.execute(run.graph, run.root, run_config.RunConfig(), ids=[executions.first(run).id])
    config = aggregator.AggregatorConfig(output_path=tmp_path / "provenance.qg", n_processes=1)
    with contextlib.ExitStack() as jobs:
        begin = lambda: jobs.enter_context(run_lock.held_by_job(*files_of(run)))  # noqa: E731
        monkeypatch.setattr(fault_points, "reached", lambda point: begin() if point == "digest" else None)
        with pytest.raises(aggregator.InUseError, match="nobody can tell yet what becomes of all"):
            aggregator.aggregate_graph(run.graph, run.root, config)
    assert not (tmp_path / "provenance.qg").exists()


@pytest.fixture(scope="module")
def aggregated(
    template: plain_runs.PlainRun, tmp_path_factory: pytest.TempPathFactory
) -> plain_runs.PlainRun:
    """Return a run that was executed and aggregated; the database before that is beside it."""
    run = template.copy(tmp_path_factory.mktemp("aggregated") / "run")
    shutil.copy(run.root / "gen3.sqlite3", run.root / "before.sqlite3")
    aggregation = aggregator.AggregatorConfig(output_path=run.root / "provenance.qg")
    graph_run.execute(run.graph, run.root, run_config.RunConfig(), aggregation=aggregation)
    return run


_AGAIN: list[Callable[[plain_runs.PlainRun], object]] = [
    executions.execute,
    lambda each: graph_run.init_run(each.graph, each.root),
    lambda each: graph_run.execute(
        each.graph, each.root, run_config.RunConfig(), ids=[executions.first(each).id]
    ),
]
"""What executes quanta, as a run, its begin, and a job."""


@pytest.mark.ordering("I7")
@pytest.mark.parametrize(
    ("place", "is_recorded"),
    [("predicted", True), ("predicted", False), ("anywhere", True), ("anywhere", False), ("id", True)],
)
def test_what_an_ingested_graph_holds_is_not_executed_again(
    aggregated: plain_runs.PlainRun, tmp_path: pathlib.Path, place: str, is_recorded: bool
) -> None:
    """Its metadata is in the graph, and no file tells that it has succeeded."""
    run = aggregated.copy(tmp_path / "run")
    if place == "id":
        change_configuration(run, {"templates": {"run_provenance": "{run}/{datasetType}/{id}"}})
    where = files_of(run)
    transfer = "auto" if place == "anywhere" else "copy"
    with run_lock.held(*where), pytest.raises(aggregator.InUseError, match="ingestion of its graph delete"):
        aggregator.ingest_graph(run.root, run.root / "provenance.qg", transfer=transfer)
    aggregator.ingest_graph(run.root, run.root / "provenance.qg", transfer=transfer)
    if not is_recorded:
        shutil.copy(run.root / "before.sqlite3", run.root / "gen3.sqlite3")
        config = aggregator.AggregatorConfig(output_path=tmp_path / "again.qg", n_processes=1)
        with pytest.raises(aggregator.RefusedError, match="that the database does not know"):
            aggregator.aggregate_graph(run.graph, run.root, config)
    # Whoever gets no pointer, because another tool has ingested the graph, asks the database.
    pointer = run.root / graph_pointer.key(where[0])
    assert pointer.exists() == (place != "predicted")
    for is_pointed in (True, False) if is_recorded else (True,):
        if not is_pointed:
            pointer.unlink(missing_ok=True)
        files = {path: path.stat().st_mtime_ns for path in run.root.rglob("*") if path.is_file()}
        for again in _AGAIN:
            with pytest.raises(aggregator.RefusedError, match="holds these quanta"):
                again(run)
        assert files == {path: path.stat().st_mtime_ns for path in run.root.rglob("*") if path.is_file()}


def test_a_run_is_executed_whose_database_is_out_of_reach_unless_that_may_lose_files(
    run: plain_runs.PlainRun, caplog: pytest.LogCaptureFixture
) -> None:
    """Quanta need no database. But only that can tell why a run has outputs, and nothing else."""
    change_configuration(run, {}, registry={"db": "sqlite:///<butlerRoot>/elsewhere.sqlite3"})
    assert executions.execute(run)[0] == 0
    assert "the database can't tell" in caplog.text
    assert executions.execute(run)[0] == 0
    for config in run.root.rglob("*_config*"):
        if config.is_file():
            config.unlink()
    for again in _AGAIN:
        with pytest.raises(aggregator.AggregatorError, match="only the database can tell") as caught:
            again(run)
        assert caught.value.exit_code == 1


def change_configuration(run: plain_runs.PlainRun, datastore: dict[str, Any], **rest: Any) -> None:
    """Add to the configuration of a repository."""
    path = run.root / "butler.yaml"
    config = yaml.safe_load(path.read_text())
    config["datastore"] |= datastore
    for name, section in rest.items():
        config[name] |= section
    path.write_text(yaml.safe_dump(config))


@pytest.mark.parametrize("leaves_directory", [True, False], ids=["unmounted", "moved"])
def test_no_quantum_fails_because_the_repository_is_gone(
    run: plain_runs.PlainRun, tmp_path: pathlib.Path, leaves_directory: bool
) -> None:
    """As when a file system is unmounted: nothing is put in its place, and nothing on record."""
    marks, go, away = tmp_path / "marks", tmp_path / "go", tmp_path / "away"
    marks.mkdir()
    data = executions.first(run)
    run.tell({data.task: {executions.key(data): f"await ok {go}"}}, str(marks))
    running = executions.start("run", run, "-j", "2")
    waiting.until((marks / str(data.id)).exists)
    run.root.rename(away)
    if leaves_directory:
        run.root.mkdir()
    go.touch()
    _, told = running.communicate(timeout=120)
    assert running.returncode == 1
    assert "was moved or removed" in told
    if leaves_directory:
        there = [path.name for path in run.root.rglob("*.json")]
        assert not [name for name in there if "_log_" in name or "_metadata_" in name]
        shutil.rmtree(run.root)
    assert not run.root.exists()
    away.rename(run.root)
    run.tell({})
    assert executions.execute(run)[0] == 0
    for log in executions.logs(run):
        assert log_records.parse(log.read_bytes()).extra.previous_attempts == []


@pytest.mark.parametrize("in_process", [True, False])
def test_an_invalid_quantum_ends_all(run: plain_runs.PlainRun, in_process: bool) -> None:
    executions.tell(run, executions.first(run), "invalid")
    code, summary = executions.execute(run, in_process=in_process)
    assert (code, summary.total() < N_QUANTA) == (21, True)
    assert kills.workers() == []


def test_a_task_that_ends_its_process_fails_without_workers_as_well(run: plain_runs.PlainRun) -> None:
    data = executions.first(run)
    executions.tell(run, data, "sysexit")
    code, summary = executions.execute(run, in_process=True)
    assert (code, summary.n_failed, summary.total()) == (1, 1, N_QUANTA)
    assert summary.total(FATES.BLOCKED) == len(executions.descendants(run, data))


def test_other_failures_end_nothing(run: plain_runs.PlainRun) -> None:
    data = executions.first(run)
    executions.tell(run, data, "repeatable")
    code, summary = executions.execute(run)
    assert code == 1
    assert summary.total(FATES.SUCCEEDED) == N_QUANTA - 1 - len(executions.descendants(run, data))
    # However many have run before in a process: else logs would grow and grow.
    lengths = {
        len(log_records.parse(log.read_bytes()).extra.previous_process_quanta) for log in executions.logs(run)
    }
    assert lengths == set(range(11))


@pytest.mark.parametrize("mode", ["fork", "upset"])
def test_what_a_task_does_to_its_process_is_nobody_elses(run: plain_runs.PlainRun, mode: str) -> None:
    executions.tell(run, executions.first(run), mode)
    done = executions.command("run", run, "-j", "1", "--summary-json", "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["done"]["quanta"] == N_QUANTA
    assert len(executions.logs(run)) == N_QUANTA
    told = [log_records.parse(log.read_bytes()) for log in executions.logs(run)]
    assert {len(json.loads(bytes(log.records))) for log in told} == {4}
    assert all(log.stat().st_mode & 0o600 == 0o600 for log in executions.logs(run))


def test_a_success_has_not_the_log_of_the_failure_before(run: plain_runs.PlainRun) -> None:
    data = executions.first(run)
    executions.tell(run, data, "fail")
    executions.execute(run, in_process=True)
    [log] = [path for path in executions.logs(run) if executions.exception(path)]
    of_failure = log.read_bytes()
    run.tell({})
    assert executions.execute(run, in_process=True)[0] == 0
    # As if it had been killed between its metadata and its log.
    log.write_bytes(of_failure)
    code, done = executions.execute(run, in_process=True)
    assert (code, done.total(), done.total(FATES.EXISTING)) == (0, N_QUANTA, N_QUANTA)
    with executions.aggregated(run) as provenance:
        attempts = provenance.attempts(str(data.id))
    assert [each.status for each in attempts] == [aggregator.Status.FAILED, aggregator.Status.SUCCESSFUL]
    assert [bool(each.exception) for each in attempts] == [True, False]


def test_attempts_add_up(run: plain_runs.PlainRun) -> None:
    data = executions.first(run)
    for mode in ("kill", "fail", "ok"):
        executions.tell(run, data, mode)
        assert executions.execute(run)[0] == (mode != "ok")
    with executions.aggregated(run) as provenance:
        attempts = provenance.attempts(str(data.id))
    assert [each.exception and each.exception.type_name for each in attempts] == [
        "aggregator.QuantumKilled",
        "ValueError",
        None,
    ]


@pytest.mark.parametrize("content", [b"garbage", b'{"extended":true,"version":2,"records":[{"na'])
def test_a_log_that_cannot_be_read_is_kept_aside(run: plain_runs.PlainRun, content: bytes) -> None:
    executions.tell(run, executions.first(run), "fail")
    executions.execute(run)
    [path] = [path for path in executions.logs(run) if executions.exception(path) == "ValueError"]
    path.write_bytes(content)
    executions.tell(run, executions.first(run), "ok")
    assert executions.execute(run)[0] == 0
    assert path.with_name(f"{path.name}.corrupt-0").read_bytes() == content
    with executions.aggregated(run) as provenance:
        attempts = provenance.attempts(str(executions.first(run).id))
        [record] = provenance.logs(str(executions.first(run).id), 0) or []
    assert [each.status for each in attempts] == [aggregator.Status.FAILED, aggregator.Status.SUCCESSFUL]
    assert "could not be read" in record.message


def test_it_goes_on_after_it_was_killed(
    run: plain_runs.PlainRun, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks, spools = tmp_path / "marks", tmp_path / "spools"
    marks.mkdir()
    spools.mkdir()
    monkeypatch.setenv("TMPDIR", str(spools))
    monkeypatch.setattr(tempfile, "tempdir", str(spools))
    executions.tell(run, run.quanta()[N_QUANTA // 2], "sleep", marks=str(marks))
    running = executions.start("run", run, "-j", "1")
    waiting.until(lambda: len(list(marks.iterdir())) > N_QUANTA // 4)
    workers = psutil.Process(running.pid).children()
    running.kill()
    running.communicate()
    waiting.assert_gone(worker.pid for worker in workers)
    assert len(list(spools.iterdir())) == 1
    executions.tell(run, executions.first(run), "ok", marks=str(marks))
    code, summary = executions.execute(run)
    assert code == 0
    assert summary.total(FATES.SUCCEEDED, FATES.EXISTING) == N_QUANTA
    assert summary.total(FATES.EXISTING) >= N_QUANTA // 4
    assert list(spools.iterdir()) == []


def test_records_of_a_running_execution_stay(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "aggregator-run-dead").mkdir()
    (tmp_path / "another").mkdir()
    with spool_directory.made() as first, spool_directory.made():
        assert {path.name for path in tmp_path.iterdir()} >= {"another", pathlib.Path(first).name}
        assert not (tmp_path / "aggregator-run-dead").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["another"]


@pytest.mark.parametrize("times", [1, 2])
def test_signals_stop_it(run: plain_runs.PlainRun, tmp_path: pathlib.Path, times: int) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    last = executions.first(run)
    executions.tell(run, last, "sleep" if times == 2 else "nap", marks=str(marks))
    running = executions.start("run", run, "-j", "1")
    waiting.until((marks / str(last.id)).exists)
    for _ in range(times):
        waiting.send(running.pid, signal.SIGTERM)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 143, errors
    assert "to go on" in errors
    done = [executions.exception(path) for path in executions.logs(run)]
    assert len(done) < N_QUANTA
    assert ("aggregator.QuantumKilled" in done) == (times == 2)


def test_a_batch_job_takes_only_what_is_ready(run: plain_runs.PlainRun, tmp_path: pathlib.Path) -> None:
    data = executions.first(run)
    ids = {str(each.id) for each in run.quanta()}
    after = {str(each) for each in executions.descendants(run, data)}
    listing = tmp_path / "ids"
    listing.write_text("\n".join(sorted(after)))
    assert executions.command("init-run", run).returncode == 0
    blocked = executions.command("run-quanta", run, "--quantum-file", str(listing))
    assert blocked.returncode == 1
    assert f"{len(after)} blocked" in blocked.stdout
    assert not executions.logs(run)
    assert (
        executions.command(
            "run-quanta", run, "--quantum-file", str(listing), "--continue-on-failure"
        ).returncode
        == 0
    )
    first_ones = executions.command("run-quanta", run, "--quantum", ",".join(ids - after), "-j", "2")
    assert first_ones.returncode == 0, first_ones.stderr
    rest = executions.command("run-quanta", run, "--quantum-file", str(listing), "-j", "2")
    assert rest.returncode == 0, rest.stderr
    assert len(executions.logs(run)) == N_QUANTA


@pytest.mark.parametrize(("mode", "code"), [("fail", 0), ("kill", 1), ("exit", 0)])
def test_a_batch_job_is_tried_again_if_more_memory_may_help(
    run: plain_runs.PlainRun, tmp_path: pathlib.Path, mode: str, code: int
) -> None:
    data = executions.first(run)
    executions.tell(run, data, mode)
    listing = tmp_path / "ids"
    listing.write_text(f"nonsense\n{data.id}\n")
    arguments = ["run-quanta", str(run.graph), str(run.root), "--quantum-file", str(listing), "--line"]
    done = testing.CliRunner().invoke(main.main, [*arguments, "2", "--continue-on-failure"])
    assert done.exit_code == code
    # It is on record in any case.
    assert len(executions.logs(run)) == 1
    assert testing.CliRunner().invoke(main.main, [*arguments, "3"]).exit_code == 2


def test_it_is_told_what_each_quantum_has_read_and_written(
    run: plain_runs.PlainRun, tmp_path: pathlib.Path
) -> None:
    data, directory = executions.first(run), tmp_path / "of" / "quanta"
    executions.tell(run, data, "fail")
    executions.execute(run, provenance_directory=directory)
    told = {
        path.stem: quantum_provenance.QuantumProvenance.from_json(path.read_bytes())
        for path in directory.iterdir()
    }
    assert told.keys() == {str(each.id) for each in run.quanta()} - {
        str(each) for each in executions.descendants(run, data)
    }
    # A failed one has written its log.
    assert len(told[str(data.id)].actual_outputs) == 1
    for quantum_id, each in told.items():
        assert each.actual_outputs == each.predicted_outputs or quantum_id == str(data.id)
        assert each.datastore_records


def test_packages_of_all_tasks_are_listed(run: plain_runs.PlainRun) -> None:
    graph_run.init_run(run.graph, run.root)
    [packages] = (run.root / "u").rglob("packages_*")
    packages.unlink()
    # Nothing else asks for it now: its init outputs are there.
    run.lose_class("calibrate")
    with pytest.raises(aggregator.RefusedError, match=r"calibrate.*can't be imported"):
        graph_run.init_run(run.graph, run.root)
    assert not packages.exists()


def test_nothing_is_written_if_a_task_is_missing(run: plain_runs.PlainRun) -> None:
    run.lose_class("calibrate")
    with pytest.raises(aggregator.RefusedError, match=r"calibrate.*can't be imported"):
        graph_run.init_run(run.graph, run.root)
    assert [path for path in run.root.glob("u/**/*") if path.is_file()] == []


@pytest.mark.parametrize("options", [["--quantum", "0" * 32], ["--quantum", "nonsense"], []])
def test_what_makes_no_sense_is_refused(run: plain_runs.PlainRun, options: list[str]) -> None:
    refused = executions.command("run-quanta", run, *options)
    assert refused.returncode == 2, refused.stderr
    assert not list((run.root / "u").rglob("*.*"))
