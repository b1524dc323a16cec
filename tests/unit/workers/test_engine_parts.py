"""What engines are made of: outcomes, messages of libraries, clocks, limits, and environments."""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
from typing import Any

import pytest
from aggregator.storage import errors
from aggregator.workers.engines import (
    clock,
    descriptors,
    engine,
    launch,
    library_messages,
    outcomes,
    thread_pools,
)


class Named:
    name = "scanner-000"
    pid = 17


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (outcomes.Killed(9), "was killed by SIGKILL"),
        (outcomes.Exited(3), "ended with exit code 3"),
        (outcomes.Lost("no pipe"), r"can't be reached \(no pipe\)"),
    ],
)
def test_the_end_of_a_worker_is_an_error_that_names_it(outcome: outcomes.Outcome, text: str) -> None:
    with pytest.raises(errors.FatalWorkerError, match=rf"^scanner-000 \(process 17\) {text}; .* again\.$"):
        outcomes.value(Named(), outcome)


def test_errors_of_the_system_are_told_in_words() -> None:
    failed = outcomes.failure(OSError(28, "No space left on device", "/some/file"))
    assert "No space left on device" in failed.cause
    assert "/some/file" in failed.cause
    assert "OSError" not in failed.cause
    assert failed.exit_code == 1
    assert outcomes.failure(OSError("odd")).cause == "OSError: odd"


def test_a_closed_handler_is_closed_once_and_a_missing_one_never() -> None:
    def broken() -> engine.Handler:
        raise errors.RefusedError("no library")

    runner = engine.Runner(engine.Program("first", broken))
    assert runner.answer("a") == runner.answer("b")
    runner.close()
    with pytest.raises(errors.RefusedError, match="scanner-000: no library"):
        outcomes.value(Named(), runner.answer("c"))


def record(text: str, *arguments: Any) -> logging.LogRecord:
    return logging.LogRecord("some.library", logging.ERROR, __file__, 1, text, arguments, None)


def test_a_message_that_cannot_be_formatted_is_kept_as_it_is() -> None:
    collector = library_messages.Collector()
    collector.emit(record("%d files", "many"))
    [logged] = collector.take()
    assert (logged.logger, logged.level) == ("some.library", logging.ERROR)
    assert "'%d files' (" in logged.text
    assert collector.take() == []


def test_only_the_last_messages_are_kept() -> None:
    collector = library_messages.Collector()
    for number in range(250):
        collector.emit(record("message %d", number))
    assert [logged.text for logged in collector.take()] == [f"message {n}" for n in range(150, 250)]


def test_neither_a_running_process_nor_a_missing_one_is_stopped() -> None:
    assert not clock.is_stopped(os.getpid())
    assert not clock.is_stopped(1 << 30)


def test_a_long_step_counts_as_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 100.25, 5000.0])
    monkeypatch.setattr(clock.time, "monotonic", lambda: next(times))
    running = clock.Clock()
    running.tick()
    assert running.seconds == 0.25
    running.tick()
    assert running.seconds == 1.25


def test_more_processes_than_there_may_be_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    n_open = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (n_open + 132, n_open + 132))
    descriptors.check(25)
    with pytest.raises(errors.RefusedError, match=r"26 worker processes need \d+ open files.*-j"):
        descriptors.check(26)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    descriptors.check(10**6)


def test_the_environment_is_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = dict(os.environ)
    with thread_pools.environment(thread_pools.SINGLE):
        assert (os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"]) == ("1", "1")
    assert dict(os.environ) == before
    assert thread_pools.import_module("json.decoder").__name__ == "json.decoder"
    assert dict(os.environ) == before
    assert gc.isenabled()
    assert gc.get_freeze_count()
    gc.unfreeze()


def test_a_signal_that_comes_while_signals_are_blocked_leaves_none_of_them_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = signal.pthread_sigmask
    before = real(signal.SIG_BLOCK, ())

    def interrupted(how: int, numbers: Any) -> Any:
        found = real(how, numbers)
        if how == signal.SIG_BLOCK and numbers:
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patch:
        patch.setattr(signal, "pthread_sigmask", interrupted)
        with pytest.raises(KeyboardInterrupt), launch._blocked_signals():
            pass
    assert real(signal.SIG_SETMASK, before) == before
