"""What every engine for jobs has to do: one class of tests, and a subclass for each engine."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import distributed
import psutil
import pytest
from aggregator.storage import errors
from aggregator.workers.engines import (
    command_jobs,
    dask_jobs,
    future_jobs,
    in_process,
    job_engine,
    job_engines,
    leash,
    outcomes,
    parsl_jobs,
    processes,
    thread_pools,
    worker_jobs,
)

from aggregator.running import lifeline as lifeline_module
from tests.helpers import clusters, waiting

SECONDS = waiting.SECONDS


def product(*numbers: int) -> int:
    return functools.reduce(lambda a, b: a * b, numbers, 1)


def fail(error: type[Exception], text: str) -> None:
    raise error(text)


def lock() -> Any:
    return threading.Lock()


def touch(path: str) -> None:
    pathlib.Path(path).touch()


def hold(begun: str, gate: str) -> str:
    """Say that it has begun, and wait until it may end."""
    touch(begun)
    while not os.path.exists(gate):
        time.sleep(0.01)
    return "through the gate"


def end_worker(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(1000)


def job(function: Any, *arguments: Any) -> job_engine.Job:
    return job_engine.Job(function, arguments, f"{function.__name__}{arguments}")


def collect(engine: job_engine.JobEngine, n: int) -> dict[job_engine.Handle, outcomes.Outcome]:
    """Return the next outcomes."""
    ended: dict[job_engine.Handle, outcomes.Outcome] = {}
    deadline = time.monotonic() + SECONDS
    while len(ended) < n:
        assert time.monotonic() < deadline, ended
        for handle, outcome in engine.wait(0.1):
            assert handle not in ended
            ended[handle] = outcome
    assert len(ended) == n
    return ended


def outcome_of(engine: job_engine.JobEngine, asked: job_engine.Job) -> outcomes.Outcome:
    handle = engine.submit(asked)
    return collect(engine, 1)[handle]


def wait_for(path: pathlib.Path) -> None:
    waiting.until(path.exists)


class Conformance:
    """To be passed by every engine."""

    patience = 0.0
    """Seconds until everybody knows what is given up."""

    def make(self) -> job_engine.JobEngine:
        raise NotImplementedError

    @pytest.fixture
    def engine(self) -> Iterator[job_engine.JobEngine]:
        engine = self.make()
        yield engine
        engine.close()

    def test_each_job_has_its_result(self, engine: job_engine.JobEngine) -> None:
        assert engine.capacity() >= 1
        n = 5 * engine.capacity() + 3
        handles = {engine.submit(job(product, number, 2)): 2 * number for number in range(n)}
        assert collect(engine, n) == {handle: outcomes.Result(value) for handle, value in handles.items()}
        assert engine.wait(0.05) == []

    def test_errors_are_outcomes(self, engine: job_engine.JobEngine) -> None:
        refused = outcome_of(engine, job(fail, errors.RefusedError, "not here"))
        failed = outcome_of(engine, job(fail, KeyError, "missing"))
        assert isinstance(refused, outcomes.Failed)
        assert isinstance(failed, outcomes.Failed)
        assert (refused.cause, refused.exit_code) == ("not here", 2)
        assert (failed.cause, failed.exit_code) == ("KeyError: 'missing'", 1)
        assert "in fail" in failed.details
        assert outcome_of(engine, job(product, 3, 4)) == outcomes.Result(12)

    def test_an_engine_without_jobs_waits(self, engine: job_engine.JobEngine) -> None:
        began = time.monotonic()
        assert engine.wait(0.0) == []
        assert engine.wait(0.05) == []
        assert time.monotonic() - began < SECONDS / 2

    def test_what_is_given_up_before_it_begins_never_does(
        self, engine: job_engine.JobEngine, tmp_path: pathlib.Path
    ) -> None:
        gate, marker = tmp_path / "gate", tmp_path / "marker"
        n = engine.capacity()
        # In this process nothing runs before it is waited for.
        holds = isinstance(self, OtherProcesses)
        first = [
            engine.submit(job(hold, str(tmp_path / f"begun-{i}"), str(gate)))
            for i in range(n if holds else 0)
        ]
        assert engine.wait(0.0) == []
        for i in range(len(first)):
            wait_for(tmp_path / f"begun-{i}")
        # Some executors have one more under way than they can do.
        queued = [engine.submit(job(touch, str(tmp_path / f"queued-{i}"))) for i in range(2 * n)]
        last = engine.submit(job(touch, str(marker)))
        engine.cancel(last)
        engine.cancel(last)
        time.sleep(self.patience)
        gate.touch()
        ended = collect(engine, len(first) + len(queued) + 1)
        assert ended.pop(last) == outcomes.GivenUp()
        assert {type(outcome) for outcome in ended.values()} == {outcomes.Result}
        assert outcome_of(engine, job(product, 2, 2)) == outcomes.Result(4)
        assert not marker.exists()

    def test_what_has_ended_is_not_given_up(self, engine: job_engine.JobEngine) -> None:
        handle = engine.submit(job(product, 2))
        assert collect(engine, 1) == {handle: outcomes.Result(2)}
        engine.cancel(handle)
        assert engine.wait(0.05) == []

    def test_the_end_of_a_command_is_a_result(self, engine: job_engine.JobEngine) -> None:
        scripts = {
            "exit 3": (3, ""),
            "echo words; echo errors >&2": (0, "errors\n"),
            "kill -SEGV $$": (-signal.SIGSEGV, ""),
            "kill -KILL $$": (-signal.SIGKILL, ""),
            "cat": (0, ""),
        }
        handles = {
            engine.submit(command_jobs.job(["sh", "-c", script], script)): outcomes.Result(
                command_jobs.Ended(*end)
            )
            for script, end in scripts.items()
        }
        assert collect(engine, len(handles)) == handles

    def test_it_can_be_closed_twice(self) -> None:
        engine = self.make()
        engine.submit(job(product, 2))
        engine.close()
        engine.close()


class OtherProcesses:
    """To be passed by engines whose jobs run in other processes."""

    def test_a_lost_worker_costs_its_job_only(self, engine: job_engine.JobEngine) -> None:
        lost = engine.submit(job(end_worker, signal.SIGKILL))
        assert isinstance(collect(engine, 1)[lost], outcomes.Killed | outcomes.Lost)
        # The engine needs a moment to see that, and for another worker.
        n = 2 * max(1, engine.capacity())
        handles = [engine.submit(job(product, number)) for number in range(n)]
        ended = collect(engine, n)
        assert [ended[handle] for handle in handles] == [outcomes.Result(number) for number in range(n)]

    def test_what_runs_can_be_given_up(self, engine: job_engine.JobEngine, tmp_path: pathlib.Path) -> None:
        gate = tmp_path / "gate"
        handle = engine.submit(job(hold, str(tmp_path / "begun"), str(gate)))
        while not (tmp_path / "begun").exists():
            assert engine.wait(0.01) == []
        engine.cancel(handle)
        assert collect(engine, 1) == {handle: outcomes.GivenUp()}
        gate.touch()
        assert outcome_of(engine, job(product, 5)) == outcomes.Result(5)

    def test_an_answer_that_cannot_be_sent_is_an_error(self, engine: job_engine.JobEngine) -> None:
        failed = outcome_of(engine, job(lock))
        assert isinstance(failed, outcomes.Failed)
        assert "lock" in failed.cause
        assert outcome_of(engine, job(product, 7)) == outcomes.Result(7)

    def test_a_command_ends_with_its_worker(
        self, engine: job_engine.JobEngine, tmp_path: pathlib.Path
    ) -> None:
        written = tmp_path / "pids"
        # The worker is the parent of what holds the leash of the command.
        script = f"sleep 1000 & echo $$ $! >{written}.part; mv {written}.part {written}; wait"
        handle = engine.submit(command_jobs.job(["sh", "-c", script], "long"))
        while not written.exists():
            assert engine.wait(0.01) == []
        pids = [int(word) for word in written.read_text().split()]
        worker = psutil.Process(pids[0]).parents()[1]
        worker.kill()
        assert isinstance(collect(engine, 1)[handle], outcomes.Killed | outcomes.Lost)
        waiting.assert_gone(pids)


class TestInProcess(Conformance):
    def make(self) -> job_engine.JobEngine:
        return worker_jobs.JobEngine(in_process.Engine(), 1)


class TestProcesses(OtherProcesses, Conformance):
    def make(self) -> job_engine.JobEngine:
        return worker_jobs.JobEngine(processes.Engine(), 2)

    def test_a_worker_that_ends_between_jobs_costs_nothing(self, engine: job_engine.JobEngine) -> None:
        result = outcome_of(engine, job(os.getpid))
        assert isinstance(result, outcomes.Result)
        os.kill(result.value, signal.SIGKILL)
        # Its first thread may be gone long before the last; it is known to have ended when its code is taken.
        told: list[object] = []
        waiting.until(lambda: told.extend(engine.wait(0.05)) or not psutil.pid_exists(result.value))
        assert told == []
        assert outcome_of(engine, job(product, 3)) == outcomes.Result(3)

    def test_how_a_worker_ended_is_told(self, engine: job_engine.JobEngine) -> None:
        assert outcome_of(engine, job(end_worker, signal.SIGSEGV)) == outcomes.Killed(signal.SIGSEGV)
        assert outcome_of(engine, job(os._exit, 7)) == outcomes.Exited(7)


class TestThreads(Conformance):
    def make(self) -> job_engine.JobEngine:
        executor = futures.ThreadPoolExecutor(2)
        return future_jobs.JobEngine(executor, lambda: 2, close=executor.shutdown)

    def test_an_executor_that_was_shut_down_is_an_error(self) -> None:
        executor = futures.ThreadPoolExecutor(1)
        executor.shutdown()
        outcome = outcome_of(future_jobs.JobEngine(executor, lambda: 1), job(product, 1))
        assert isinstance(outcome, outcomes.Failed)
        assert "shutdown" in outcome.cause


class TestProcessPool(OtherProcesses, Conformance):
    """One of the standard library; a worker that is killed takes the others with it."""

    def make(self) -> job_engine.JobEngine:
        with thread_pools.environment(thread_pools.SINGLE):
            executor = futures.ProcessPoolExecutor(2)
        return future_jobs.JobEngine(executor, lambda: 2, close=executor.shutdown)

    def test_a_lost_worker_costs_its_job_only(self, engine: job_engine.JobEngine) -> None:
        lost = engine.submit(job(end_worker, signal.SIGKILL))
        later = engine.submit(job(product, 1))
        ended = collect(engine, 2)
        assert {type(outcome) for outcome in ended.values()} <= {outcomes.Lost, outcomes.Result}
        assert isinstance(ended[lost], outcomes.Lost)
        assert later in ended
        # The executor is of no use any more, and says so.
        assert isinstance(outcome_of(engine, job(product, 1)), outcomes.Lost)


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    with clusters.dask_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def dask_engine(cluster: distributed.LocalCluster) -> Iterator[job_engine.JobEngine]:
    engine = dask_jobs.connect(cluster.scheduler_address)
    yield engine
    engine.close()
    engine.close()


@pytest.fixture(scope="module")
def parsl_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[job_engine.JobEngine]:
    engine = parsl_jobs.start(str(clusters.parsl_configuration(tmp_path_factory.mktemp("parsl"))))
    assert engine.capacity() == clusters.N_WORKERS
    # Its first worker takes as long to start as all that comes after it.
    assert outcome_of(engine, job(product, 1)) == outcomes.Result(1)
    yield engine
    engine.close()
    engine.close()


class Shared(OtherProcesses, Conformance):
    """Engines that take long to start: there is one for all tests."""

    def test_it_can_be_closed_twice(self) -> None:
        """It is, at the end."""


class TestDask(Shared):
    patience = 3.0

    @pytest.fixture
    def engine(self, dask_engine: job_engine.JobEngine) -> job_engine.JobEngine:
        return dask_engine

    def test_a_client_can_be_given(self, cluster: distributed.LocalCluster) -> None:
        with distributed.Client(cluster, set_as_default=False) as client:
            client.wait_for_workers(clusters.N_WORKERS)
            with job_engines.opened(client) as given:
                assert given.capacity() == clusters.N_WORKERS
                assert outcome_of(given, job(product, 3)) == outcomes.Result(3)
            assert client.submit(product, 4).result() == 4

    def test_a_scheduler_that_hangs_or_is_gone_is_told(
        self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dask_jobs, "_SECONDS_TO_ANSWER", 0.5)
        monkeypatch.setattr(dask_jobs, "_SECONDS_KNOWN", 0.0)
        told = tmp_path / "scheduler.json"
        command = [
            "-m",
            "distributed.cli.dask_scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
        ]
        with subprocess.Popen(
            [sys.executable, *command, "--scheduler-file", str(told)], stderr=subprocess.DEVNULL
        ) as scheduler:
            wait_for(told)
            engine = dask_jobs.connect(json.loads(told.read_text())["address"], seconds=2.0)
            assert engine.capacity() == 0
            first = engine.submit(job(product, 1))
            assert engine.wait(0.1) == []
            scheduler.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            assert engine.capacity() == 0
            assert time.monotonic() - began < SECONDS / 2
            scheduler.kill()
        assert isinstance(collect(engine, 1)[first], outcomes.Lost)
        # It tries to connect again, and gives that up.
        assert isinstance(outcome_of(engine, job(product, 1)), outcomes.Lost | outcomes.Failed)
        assert isinstance(outcome_of(engine, job(product, 1)), outcomes.Lost | outcomes.Failed)
        assert engine.capacity() == 0
        engine.close()

    @pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "ftp://here:1", "tcp://here", "tls://here:1"])
    def test_where_nobody_answers_is_refused(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A client that has never connected is not waited for afterwards, either."""
        ends: list[str] = []
        monkeypatch.setattr(distributed.Client, "close", lambda client: ends.append(client.status))
        with pytest.raises(errors.RefusedError, match="no scheduler answers"):
            dask_jobs.connect(address, seconds=1.0)
        gc.collect()
        assert set(ends) == {"closed"}


class TestParsl(Shared):
    @pytest.fixture
    def engine(self, parsl_engine: job_engine.JobEngine) -> job_engine.JobEngine:
        return parsl_engine

    def test_what_is_given_up_before_it_begins_never_does(
        self, engine: job_engine.JobEngine, tmp_path: pathlib.Path
    ) -> None:
        """Parsl begins all; but nobody hears of it."""
        handle = engine.submit(job(product, 3))
        engine.cancel(handle)
        assert collect(engine, 1) == {handle: outcomes.GivenUp()}
        assert engine.wait(1.0) == []


class TestNames:
    @pytest.mark.parametrize("name", ["dask", "dask:", "slurm:here", "", "tcp://127.0.0.1:8786"])
    def test_what_is_no_engine_is_refused(self, name: str) -> None:
        with (
            pytest.raises(errors.RefusedError, match="is no engine: give dask:tcp"),
            job_engines.opened(name),
        ):
            pass

    def test_objects_of_other_types_are_refused(self) -> None:
        with pytest.raises(errors.RefusedError, match="not 7"):
            job_engines.check(7)

    def test_a_missing_library_is_named_with_its_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "distributed", None)
        monkeypatch.delitem(sys.modules, "aggregator.workers.engines.dask_jobs")
        with (
            pytest.raises(errors.RefusedError, match="with its extra 'dask'"),
            job_engines.opened("dask:tcp://127.0.0.1:1"),
        ):
            pass

    def test_a_configuration_without_a_configuration_is_refused(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "config.py"
        for text in ("", "config = 7", "1 / 0"):
            path.write_text(text)
            with (
                pytest.raises(errors.RefusedError, match=r"named `config`"),
                job_engines.opened(f"parsl:{path}"),
            ):
                pass

    def test_executors_are_engines(self) -> None:
        with futures.ThreadPoolExecutor(3) as executor, job_engines.opened(executor) as engine:
            assert engine.capacity() == 3
            assert outcome_of(engine, job(product, 3)) == outcomes.Result(3)


class TestCommands:
    def run(self, script: str, lifeline: str = "") -> command_jobs.Ended:
        return command_jobs.run(["sh", "-c", script], lifeline)

    @contextlib.contextmanager
    def gone_when_begun(self, lifeline: pathlib.Path) -> Iterator[None]:
        """Remove a lifeline when the command has begun, and says so."""
        lifeline.touch()

        def remove() -> None:
            waiting.until(pathlib.Path(f"{lifeline}.begun").exists)
            lifeline.unlink()

        with futures.ThreadPoolExecutor(1) as executor:
            removed = executor.submit(remove)
            yield
            removed.result()

    def test_only_the_end_of_errors_is_kept(self) -> None:
        ended = self.run("for i in $(seq 10000); do echo line $i >&2; done")
        assert ended.code == 0
        assert ended.stderr.endswith("\nline 9999\nline 10000\n")
        assert len(ended.stderr) == 8192

    def test_what_cannot_be_started_says_so(self) -> None:
        ended = command_jobs.run(["/no/such/program", "argument"])
        assert ended == command_jobs.Ended(
            127, "/no/such/program: can't be started (No such file or directory)\n"
        )

    def test_what_it_has_started_ends_with_it(self, tmp_path: pathlib.Path) -> None:
        assert self.run(f"sleep 1000 & echo $! >{tmp_path}/pid").code == 0
        waiting.assert_gone([int((tmp_path / "pid").read_text())])
        # Not even what has left its group is waited for.
        assert self.run(f"setsid sleep 1000 & echo $! >{tmp_path}/pid").code == 0
        with contextlib.suppress(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)

    def test_it_ends_with_its_lifeline(self, tmp_path: pathlib.Path) -> None:
        lifeline = tmp_path / "lifeline"
        with self.gone_when_begun(lifeline):
            assert self.run(f"touch {lifeline}.begun; sleep 1000", str(lifeline)).code == -signal.SIGTERM

    def test_it_is_told_twice_before_it_is_killed(
        self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With the first one it may finish something, with the second put on record what it gives up."""
        lifeline, told = tmp_path / "lifeline", tmp_path / "told"
        shortened = tmp_path / "leash.py"
        # Of two signals at a time, it sees one.
        seconds = pathlib.Path(leash.__file__).read_text().replace("= 0.3", "= 3.0").replace("= 5.0", "= 3.0")
        shortened.write_text(seconds)
        monkeypatch.setattr(leash, "__file__", str(shortened))
        script = f"trap 'echo told >>{told}' TERM; touch {lifeline}.begun; while true; do sleep 0.1; done"
        with self.gone_when_begun(lifeline):
            assert self.run(script, str(lifeline)).code == -signal.SIGKILL
        assert told.read_text() == "told\ntold\n"

    def test_nothing_outlives_a_leash_that_is_killed(self, tmp_path: pathlib.Path) -> None:
        written = tmp_path / "pids"
        script = f"sleep 1000 & echo $$ $! >{written}.part; mv {written}.part {written}; wait"
        with futures.ThreadPoolExecutor(1) as executor:
            running = executor.submit(self.run, script)
            wait_for(written)
            pids = [int(word) for word in written.read_text().split()]
            psutil.Process(pids[0]).parent().kill()
            assert running.result().code == -signal.SIGKILL
        waiting.assert_gone(pids)

    def test_it_is_over_when_a_run_comes_after_one_that_was_killed(self, tmp_path: pathlib.Path) -> None:
        # Where the first one could be, nothing can be written.
        graph, elsewhere, written = tmp_path / "graph.qg", tmp_path / "none" / "graph.qg", tmp_path / "pid"
        abandoned = tmp_path / "graph.qg.0123456789ab.running"
        abandoned.touch()
        script = f"echo $$ >{written}.part; mv {written}.part {written}; sleep 1000"
        with futures.ThreadPoolExecutor(1) as executor:
            running = executor.submit(self.run, script, str(abandoned))
            wait_for(written)
            with lifeline_module.made([str(elsewhere), str(graph)], lambda: False) as line:
                assert not waiting.lives(int(written.read_text()))
                assert list(tmp_path.glob("*.running")) == [pathlib.Path(line.path)]
        assert running.result().code == -signal.SIGTERM
        assert not list(tmp_path.glob("*.running"))

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    def test_it_ends_with_whoever_runs_it(self, tmp_path: pathlib.Path, number: signal.Signals) -> None:
        written = tmp_path / "pid"
        script = textwrap.dedent(f"""
            import signal, sys
            sys.path[:0] = {[entry for entry in sys.path if entry]!r}
            from aggregator.workers.engines import command_jobs
            signal.signal(signal.SIGINT, signal.default_int_handler)
            command_jobs.run(["sh", "-c", "echo $$ >{written}.part; mv {written}.part {written}; sleep 1000"])
        """)
        with subprocess.Popen(
            [sys.executable, "-c", script], process_group=0, stderr=subprocess.DEVNULL
        ) as process:
            wait_for(written)
            # Terminals and batch systems send those that can be caught to all of a worker's group.
            send = os.kill if number is signal.SIGKILL else os.killpg
            send(process.pid, number)
        waiting.assert_gone([int(written.read_text())])
