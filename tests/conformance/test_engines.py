"""What every engine has to do: one class of tests, and a subclass for each engine."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from aggregator.schemas import messages
from aggregator.storage import errors
from aggregator.workers.engines import copies, in_process, outcomes, processes, testing, thread_pools
from aggregator.workers.engines import engine as engine_module
from aggregator.workers.roles import handling

from tests.helpers import clocks, waiting

SECONDS = waiting.SECONDS


@dataclasses.dataclass
class Echo:
    """Does what messages say, and counts them."""

    directory: str
    n_messages: int = 0

    def handle(self, message: Any) -> Any:
        self.n_messages += 1
        match message:
            case "count":
                return self.n_messages
            case "refuse":
                raise errors.RefusedError("not here. Try elsewhere.")
            case "fail":
                raise KeyError("missing")
            case "log":
                logging.getLogger("some.library").warning("look %s", "here")
            case ("sleep", seconds):
                time.sleep(seconds)
            case ("exit", code):
                os._exit(code)
            case ("variable", name):
                return os.environ.get(name)
            case "deaf":
                # All but what tells that the parent is gone.
                for name in os.listdir("/proc/self/fd"):
                    with contextlib.suppress(OSError):
                        if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                            os.close(int(name))
                time.sleep(1000)
            case "unsendable":
                return threading.Lock()
        return message

    def close(self) -> None:
        (pathlib.Path(self.directory) / "closed").touch()


def broken() -> engine_module.Handler:
    raise errors.RefusedError("no such library")


def collect(
    engine: engine_module.Engine, n_outcomes: int
) -> list[tuple[engine_module.Worker, outcomes.Outcome]]:
    """Return the next outcomes."""
    found: list[tuple[engine_module.Worker, outcomes.Outcome]] = []
    deadline = time.monotonic() + SECONDS
    while len(found) < n_outcomes:
        assert time.monotonic() < deadline, found
        found += engine.wait(0.1)
    assert len(found) == n_outcomes
    return found


class Conformance:
    """To be passed by every engine."""

    def make(self) -> engine_module.Engine:
        raise NotImplementedError

    @pytest.fixture
    def engine(self) -> Iterator[engine_module.Engine]:
        engine = self.make()
        yield engine
        engine.end(0.0)

    @pytest.fixture
    def start(
        self, engine: engine_module.Engine, tmp_path: pathlib.Path
    ) -> Callable[[str], engine_module.Worker]:
        make = functools.partial(Echo, str(tmp_path))
        return lambda name: engine.start(engine_module.Program(name, make))

    def test_messages_are_answered_in_order(self, engine: engine_module.Engine, start: Any) -> None:
        workers = [start(name) for name in ("first", "second")]
        sent: dict[str, list[Any]] = {worker.name: [] for worker in workers}
        received: dict[str, list[Any]] = {worker.name: [] for worker in workers}
        for number in range(20):
            for worker in workers:
                message = {"number": number, "bytes": bytes([number, 0, 255]), "to": worker.name}
                worker.send(message, f"message {number}")
                sent[worker.name].append(message)
        for worker, outcome in collect(engine, 40):
            received[worker.name].append(outcomes.value(worker, outcome))
        assert received == sent
        assert not any(worker.outstanding for worker in workers)

    def test_a_worker_keeps_its_state(self, engine: engine_module.Engine, start: Any) -> None:
        first, second = start("first"), start("second")
        first.send("anything", "")
        first.send("count", "")
        second.send("count", "")
        counts = {worker.name: outcomes.value(worker, outcome) for worker, outcome in collect(engine, 3)}
        assert counts == {"first": 2, "second": 1}

    def test_what_is_outstanding_is_told(self, engine: engine_module.Engine, start: Any) -> None:
        worker = start("first")
        assert engine.wait(0.0) == []
        worker.send("a", "message a")
        worker.send("b", "message b")
        assert list(worker.outstanding) == ["message a", "message b"]
        collect(engine, 2)
        assert not worker.outstanding
        assert worker.busy_seconds() == 0.0
        assert engine.wait(0.0) == []

    @pytest.mark.parametrize(
        ("message", "kind", "cause"),
        [
            ("refuse", errors.RefusedError, "not here. Try elsewhere."),
            ("fail", errors.FatalWorkerError, "KeyError: 'missing'"),
        ],
    )
    def test_errors_become_text(
        self, engine: engine_module.Engine, start: Any, message: str, kind: type[Exception], cause: str
    ) -> None:
        worker = start("first")
        worker.send(message, "")
        worker.send("count", "")
        (_, failed), (_, answered) = collect(engine, 2)
        assert isinstance(failed, outcomes.Failed)
        assert "in handle" in failed.details
        with pytest.raises(kind) as raised:
            outcomes.value(worker, failed)
        assert type(raised.value) is kind
        is_here = worker.pid == os.getpid()
        assert str(raised.value) == (cause if is_here else f"first: {cause}")
        assert raised.value.__notes__ == [failed.details]
        # An error is not the end.
        assert outcomes.value(worker, answered) == 2

    def test_a_program_that_cannot_be_made_tells_why(self, engine: engine_module.Engine) -> None:
        worker = engine.start(engine_module.Program("first", broken))
        worker.send("a", "")
        worker.send("b", "")
        for _, outcome in collect(engine, 2):
            with pytest.raises(errors.RefusedError, match="no such library"):
                outcomes.value(worker, outcome)

    def test_handlers_are_closed_at_the_end(
        self, engine: engine_module.Engine, start: Any, tmp_path: pathlib.Path
    ) -> None:
        worker = start("first")
        worker.send("a", "")
        collect(engine, 1)
        assert not (tmp_path / "closed").exists()
        engine.end(SECONDS)
        assert (tmp_path / "closed").exists()
        # It can be called again.
        engine.end(SECONDS)

    def test_an_engine_without_workers_waits(self, engine: engine_module.Engine) -> None:
        assert engine.wait(0.01) == []


class EndingWorkers:
    """To be passed by engines whose workers can end on their own."""

    def kill(self, engine: Any, worker: engine_module.Worker, number: int) -> None:
        raise NotImplementedError

    # No SIGSEGV: pytest would have the worker print its stacks.
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGXCPU])
    def test_a_killed_worker_is_named_once_with_its_signal(
        self, engine: engine_module.Engine, start: Any, number: int
    ) -> None:
        victim, other = start("victim"), start("other")
        victim.send("a", "")
        collect(engine, 1)
        self.kill(engine, victim, number)
        [(gone, outcome)] = collect(engine, 1)
        assert gone is victim
        assert outcome == outcomes.Killed(number)
        expected = rf"victim \(process {victim.pid}\) was killed by {signal.Signals(number).name}; "
        with pytest.raises(errors.FatalWorkerError, match=expected):
            outcomes.value(victim, outcome)
        # The others work on, and what is sent to it does no harm.
        victim.send("b", "message b")
        other.send("c", "")
        [(_, answer)] = collect(engine, 1)
        assert outcomes.value(other, answer) == "c"
        assert engine.wait(0.05) == []
        assert list(victim.outstanding) == ["message b"]

    def test_a_worker_that_is_killed_is_told_of_once(self, engine: engine_module.Engine, start: Any) -> None:
        victim, other = start("victim"), start("other")
        for worker in (victim, other):
            worker.send("a", "")
        collect(engine, 2)
        victim.send(("sleep", 1000 if victim.pid != os.getpid() else 0), "a long one")
        victim.kill()
        [(gone, outcome)] = collect(engine, 1)
        assert gone is victim
        assert outcome == outcomes.Killed(signal.SIGKILL)
        assert list(victim.outstanding) == ["a long one"]
        assert engine.wait(0.05) == []
        other.send("b", "")
        [(_, answer)] = collect(engine, 1)
        assert outcomes.value(other, answer) == "b"


class TestInProcess(Conformance):
    def make(self) -> engine_module.Engine:
        return in_process.Engine()

    def test_what_may_be_given_up_is(self, tmp_path: pathlib.Path) -> None:
        stopped = in_process.Engine(lambda work: None)
        program = engine_module.Program(
            "first", functools.partial(Echo, str(tmp_path)), lambda message: message == "long"
        )
        worker = stopped.start(program)
        worker.send("long", "")
        worker.send("count", "")
        assert [outcome for _, outcome in stopped.wait(0.0)] == [outcomes.GivenUp(), outcomes.Result(1)]
        assert outcomes.value(worker, outcomes.GivenUp()) is None
        stopped.end(0.0)


class TestAnyOrder(Conformance, EndingWorkers):
    def make(self) -> engine_module.Engine:
        return testing.Engine()

    def kill(self, engine: Any, worker: engine_module.Worker, number: int) -> None:
        engine.end_worker(worker.name, outcomes.Killed(number))

    def test_seeds_make_different_orders(self, tmp_path: pathlib.Path) -> None:
        orders = set()
        for seed in range(20):
            engine = testing.Engine(seed)
            make = functools.partial(Echo, str(tmp_path))
            workers = [engine.start(engine_module.Program(name, make)) for name in "abc"]
            for worker in workers:
                worker.send("x", "")
                worker.send("y", "")
            orders.add("".join(worker.name for worker, _ in collect(engine, 6)))
            engine.end(0.0)
        assert len(orders) > 10

    def test_a_worker_that_hangs_gets_older(self, engine: Any, start: Any) -> None:
        worker = start("first")
        engine.hang("first", after=1)
        worker.send("a", "")
        worker.send("b", "message b")
        collect(engine, 1)
        for _ in range(3):
            assert engine.wait(0.25) == []
        assert worker.busy_seconds() == 0.75
        assert list(worker.outstanding) == ["message b"]


class TestProcesses(Conformance, EndingWorkers):
    is_copied = False

    def make(self) -> engine_module.Engine:
        return processes.Engine()

    def kill(self, engine: Any, worker: engine_module.Worker, number: int) -> None:
        os.kill(worker.pid, number)

    def test_each_worker_is_a_process(self, engine: engine_module.Engine, start: Any) -> None:
        workers = [start("first"), start("second")]
        assert len({os.getpid(), *(worker.pid for worker in workers)}) == 3

    def test_an_exit_code_is_told(self, engine: engine_module.Engine, start: Any) -> None:
        worker = start("first")
        worker.send("a", "")
        worker.send(("exit", 7), "the end")
        worker.send("b", "never")
        (_, answer), (_, end) = collect(engine, 2)
        assert answer == outcomes.Result("a")
        assert end == outcomes.Exited(7)
        assert list(worker.outstanding) == ["the end", "never"]

    def test_answers_given_before_the_end_count(self, engine: engine_module.Engine, start: Any) -> None:
        worker = start("first")
        for number in range(5):
            worker.send(number, "")
        worker.send(("exit", 0), "")
        while psutil.Process(worker.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        found = [outcome for _, outcome in collect(engine, 6)]
        assert found == [*map(outcomes.Result, range(5)), outcomes.Exited(0)]

    def test_an_answer_that_cannot_be_sent_is_an_error(
        self, engine: engine_module.Engine, start: Any
    ) -> None:
        worker = start("first")
        worker.send("unsendable", "")
        worker.send("count", "")
        (_, failed), (_, answer) = collect(engine, 2)
        assert isinstance(failed, outcomes.Failed)
        assert "lock" in failed.cause
        assert answer == outcomes.Result(2)

    def test_what_libraries_say_comes_through_the_log(
        self, engine: engine_module.Engine, start: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        start("first").send("log", "")
        collect(engine, 1)
        assert ("some.library", logging.WARNING, "first: look here") in caplog.record_tuples

    def test_workers_import_nothing_from_the_current_directory(
        self,
        engine: engine_module.Engine,
        start: Any,
        tmp_path: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Their parent, as a console script, does not either: the files there may be anybody's."""
        for name in ("pickle", "random"):
            (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\n")
        monkeypatch.chdir(tmp_path)
        start("first").send("count", "")
        [(_, answer)] = collect(engine, 1)
        assert answer == outcomes.Result(1)
        assert not (tmp_path / "imported").exists()
        assert "PYTHONSAFEPATH" not in os.environ

    def test_a_stopped_worker_is_not_to_blame(
        self, engine: engine_module.Engine, start: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        worker = start("first")
        worker.send("a", "")
        collect(engine, 1)
        clocks.run_by_steps(monkeypatch, 10.0)
        clocks.stop(worker.pid)
        worker.send("b", "")
        for _ in range(3):
            assert engine.wait(0.01) == []
            assert worker.busy_seconds() == 0.0
        os.kill(worker.pid, signal.SIGCONT)
        collect(engine, 1)
        worker.send(("sleep", 1000), "")
        for number in range(1, 4):
            assert engine.wait(0.01) == []
            # It looks at the clock before and after it waits.
            assert worker.busy_seconds() == 20.0 * number

    def test_the_end_takes_no_longer_than_allowed(self, engine: engine_module.Engine, start: Any) -> None:
        stopped, busy, idle = start("stopped"), start("busy"), start("idle")
        for worker in (stopped, busy, idle):
            worker.send("a", "")
        collect(engine, 3)
        os.kill(stopped.pid, signal.SIGSTOP)
        busy.send(("sleep", 1000.0), "")
        began = time.monotonic()
        engine.end(1.0)
        assert 0.9 < time.monotonic() - began < SECONDS / 2
        for worker in (stopped, busy, idle):
            assert not psutil.pid_exists(worker.pid)

    def test_a_worker_finishes_what_it_is_at(self, engine: engine_module.Engine, start: Any) -> None:
        worker = start("first")
        worker.send("a", "")
        collect(engine, 1)
        worker.send(("sleep", 0.5), "")
        began = time.monotonic()
        engine.end(SECONDS)
        assert 0.3 < time.monotonic() - began < SECONDS / 2

    def test_descriptors_are_inherited(self, tmp_path: pathlib.Path) -> None:
        with open(tmp_path / "lock", "w") as lock:
            engine = processes.Engine([lock.fileno()])
            make = functools.partial(Echo, str(tmp_path))
            worker = engine.start(engine_module.Program("first", make))
            worker.send("a", "")
            collect(engine, 1)
            open_files = [file.path for file in psutil.Process(worker.pid).open_files()]
            engine.end(SECONDS)
        assert str(tmp_path / "lock") in open_files

    def test_a_living_worker_that_closes_its_pipe_is_lost(
        self, engine: engine_module.Engine, start: Any
    ) -> None:
        worker = start("first")
        worker.send("deaf", "")
        [(_, outcome)] = collect(engine, 1)
        assert outcome == outcomes.Lost("it has closed its pipe")
        assert waiting.lives(worker.pid)
        with pytest.raises(errors.FatalWorkerError, match="can't be reached"):
            outcomes.value(worker, outcome)

    def test_workers_end_with_their_parent(self, tmp_path: pathlib.Path) -> None:
        script = tmp_path / "parent.py"
        script.write_text(
            textwrap.dedent(f"""
                import functools, os, sys, time
                sys.path.insert(0, {os.getcwd()!r})
                from aggregator.workers.engines import copies, engine, processes
                from tests.conformance import test_engines
                if {self.is_copied}:
                    copies.allow()
                started = processes.Engine()
                make = functools.partial(test_engines.Echo, {str(tmp_path)!r})
                workers = [started.start(engine.Program(name, make)) for name in "abc"]
                for worker in workers:
                    worker.send("a", "")
                test_engines.collect(started, 3)
                workers[0].send(("sleep", 1000.0), "")
                print(*(worker.pid for worker in workers), flush=True)
                time.sleep(1000)
            """)
        )
        with subprocess.Popen(
            [sys.executable, str(script)],
            env=os.environ | thread_pools.SINGLE,
            stdout=subprocess.PIPE,
            text=True,
        ) as parent:
            assert parent.stdout is not None
            pids = [int(word) for word in parent.stdout.readline().split()]
            assert len(pids) == 3
            own = [psutil.Process(pid).cmdline() for pid in (parent.pid, *pids)]
            assert (own == own[:1] * 4) == self.is_copied
            # One that does nothing any more keeps nobody.
            os.kill(pids[-1], signal.SIGSTOP)
            parent.kill()
        deadline = time.monotonic() + SECONDS
        while any(map(waiting.lives, pids)):
            assert time.monotonic() < deadline
            if not any(map(waiting.lives, pids[:-1])):
                os.kill(pids[-1], signal.SIGCONT)
            time.sleep(0.02)

    def test_libraries_in_workers_start_no_threads(
        self, engine: engine_module.Engine, start: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", "8")
        start("first").send(("variable", "OMP_NUM_THREADS"), "")
        [(_, answer)] = collect(engine, 1)
        assert answer == outcomes.Result("1")
        assert os.environ["OMP_NUM_THREADS"] == "8"

    def test_workers_say_nothing_themselves(
        self,
        engine: engine_module.Engine,
        start: Any,
        capfd: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        # Commands that were tested in this process have left theirs.
        monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(sys.stderr)])
        start("first").send("log", "")
        collect(engine, 1)
        assert capfd.readouterr().err == "first: look here\n"


class TestCopies(TestProcesses):
    """What a command starts are copies of its process."""

    is_copied = True

    @pytest.fixture(autouse=True)
    def _safe(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(copies, "are_safe", lambda: True)

    def test_there_are_none_unless_allowed_and_without_threads(self) -> None:
        code = """
            import threading
            from aggregator.workers.engines import copies
            print(copies.are_safe())
            copies.allow()
            print(copies.are_safe())
            ended = threading.Event()
            threading.Thread(target=ended.wait).start()
            print(copies.are_safe())
            ended.set()
        """
        command = [sys.executable, "-c", textwrap.dedent(code)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["False", "True", "False"]


def test_errors_of_roles_do_not_reach_the_terminal(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the terminal itself, bars would cover them."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [caplog.handler])
    engine = processes.Engine()
    worker = engine.start(handling.program("scanner", "scanner-000"))
    try:
        # A worker that was not set up says so, as an error.
        worker.send(messages.ScanShard(1, b"", b"", b""), "")
        [(_, outcome)] = collect(engine, 1)
        with pytest.raises(errors.FatalWorkerError, match="not set up"):
            outcomes.value(worker, outcome)
    finally:
        engine.end(5.0)
    assert "scanner-000: failed in ScanShard" in caplog.records[-1].getMessage()
    assert capfd.readouterr().err == ""
