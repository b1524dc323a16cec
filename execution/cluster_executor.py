"""Executes the quanta of a graph in jobs of an engine, each of which executes a few.

The graph stays here: no job depends on another, so that none is blamed for it. A job that is gone costs its
own quanta, which are tried again a number of times; what became of them is judged from what they have left.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from aggregator.execution import cluster_schedule, quantum_attempts, readiness, run_ending, task_errors
from aggregator.schemas.execution import task_metadata
from aggregator.storage import errors
from aggregator.workers.engines import job_engine, leash, outcomes

_log = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.5
_CANCEL_SECONDS: Final = 60.0
"""How long to wait for jobs that were given up."""
_MOST_TRIES: Final = 3
"""Jobs that may have a quantum and end without telling what became of it."""
_MOST_IN_VAIN: Final = 3
"""Jobs that may end in a row before they can begin anything."""
_REFUSED: Final = (errors.RefusedError.exit_code, leash.NOT_STARTED)
"""Exit codes of jobs that have looked at nothing but where they are."""
_NOT_BEGUN: Final = (errors.AggregatorError.exit_code, *_REFUSED)
"""Exit codes of jobs that tell of no quantum, as they could not begin."""

Fate = quantum_attempts.Fate


@dataclasses.dataclass(frozen=True, slots=True)
class Account:
    """How a job has ended, and what it tells of its quanta."""

    code: int
    """Its exit code; negative is the number of the signal that has ended it."""

    last_words: str
    """The end of what it has written to standard error."""

    reports: Sequence[quantum_attempts.Report] | None
    """What became of quanta; nothing if it could not tell."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rim:
    """What an executor does to the world."""

    job: Callable[[Sequence[uuid.UUID]], job_engine.Job]
    """Makes the job that executes quanta; its result is an `Account`."""

    has_succeeded: Callable[[readiness.QuantumData], bool]
    """Returns whether a quantum has left what only those do that have succeeded."""

    bury: Callable[[readiness.QuantumData, task_metadata.ExceptionInfo], Fate]
    """Puts on record that all jobs of a quantum are gone; see `graph_executor.Bury`."""

    tell: Callable[[quantum_attempts.Report], None]
    """Is told what became of each quantum."""

    check: Callable[[], bool]
    """Is called at least twice a second; returns whether to begin nothing else."""

    end_jobs: Callable[[], None]
    """Ends jobs that nobody waits for, and waits until they have put on record what they were at."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Doubt:
    """A quantum that has lost all its jobs, or the engine has lost everything."""

    portion: cluster_schedule.Portion
    """The quantum."""

    reason: str
    """How its last job was lost."""


class ClusterExecutor:
    """Executes clusters of quanta.

    Parameters
    ----------
    engine
        Where jobs run.
    schedule
        The quanta.
    rim
        What it does to the world.
    fail_fast
        Whether all ends with the first failure.
    """

    def __init__(
        self,
        engine: job_engine.JobEngine,
        schedule: cluster_schedule.ClusterSchedule,
        rim: Rim,
        *,
        fail_fast: bool,
    ) -> None:
        self._engine = engine
        self._schedule = schedule
        self._rim = rim
        self._running: dict[job_engine.Handle, cluster_schedule.Portion | _Doubt] = {}
        self._ending = run_ending.RunEnding(fail_fast=fail_fast)
        self._n_in_vain = 0
        self._has_warned = False

    @property
    def exit_code(self) -> int:
        """Exit code that follows from what became of the quanta so far."""
        return self._ending.exit_code

    def execute(self) -> None:
        """Execute all quanta that can be.

        Raises
        ------
        AggregatorError
            If jobs can't begin, or what became of a quantum can't be put on record.
        """
        try:
            self._execute()
        except BaseException:
            if self._running:
                self._rim.end_jobs()
            raise

    def _execute(self) -> None:
        self._tell_blocked(self._schedule.begin())
        is_stopping = False
        while True:
            is_stopping = self._rim.check() or is_stopping
            if self._ending.reason is not None:
                self._cancel()
                return
            if not is_stopping:
                self._submit()
            if not self._running and (is_stopping or not self._schedule.ready):
                return
            for handle, outcome in self._engine.wait(_POLL_SECONDS):
                work = self._running.pop(handle)
                if isinstance(work, _Doubt):
                    self._settle_doubt(work, outcome)
                else:
                    self._take(work, outcome)

    def _submit(self) -> None:
        """Have as much done as can be at a time: what waits in an engine is lost with whom it waits for."""
        ready = self._schedule.ready
        if ready and not self._running and not self._engine.capacity() and not self._has_warned:
            _log.warning("No worker is there; waiting for one")
            self._has_warned = True
        while ready and len(self._running) < self._engine.capacity():
            portion = ready.popleft()
            job = self._rim.job([data.id for data in portion.quanta])
            self._running[self._engine.submit(job)] = portion

    def _take(self, portion: cluster_schedule.Portion, outcome: outcomes.Outcome) -> None:
        """Deal with what came of a job."""
        account = outcome.value if isinstance(outcome, outcomes.Result) else None
        reports: dict[uuid.UUID, quantum_attempts.Report] = {}
        if account is not None and account.reports is not None:
            self._n_in_vain = 0
            reports = {each.quantum_id: each for each in account.reports}
        reason = _reason(outcome)
        if not reports:
            self._check_beginning(outcome, reason)
        if isinstance(account, Account) and account.reports is None and account.code in _REFUSED:
            # No fault of its quanta: a host that can do nothing must not have them one after the other.
            self._schedule.ready.append(portion)
            return
        ends: dict[uuid.UUID, bool] = {}
        for data in portion.quanta:
            report = self._judged(data, reports.get(data.id), ends)
            if report is None and portion.n_tries + 1 >= _MOST_TRIES:
                if account is None:
                    # Whether it is to blame shows when somebody else's job is done.
                    probe = self._engine.submit(job_engine.Job(os.getpid, (), "a sign of life"))
                    self._running[probe] = _Doubt(portion, reason)
                    return
                report = reports.get(data.id) or self._buried(data, reason)
            if report is not None:
                self._note(dataclasses.replace(report, task_label=data.task, data_id=dict(data.data_id)))
                ends[data.id] = report.fate in (Fate.SUCCEEDED, Fate.EXISTING)
        self._tell_blocked(self._schedule.settle(portion, ends))

    def _settle_doubt(self, doubt: _Doubt, outcome: outcomes.Outcome) -> None:
        """Put on record that a quantum has lost all its jobs, if the engine does others.

        Raises
        ------
        FatalWorkerError
            If it does not.
        """
        if not isinstance(outcome, outcomes.Result):
            raise errors.FatalWorkerError(
                f"The engine does nothing any more: {_reason(outcome)}. What has ended is on record. Run the "
                "same command again when it is back."
            )
        [data] = doubt.portion.quanta
        report = self._buried(data, doubt.reason)
        self._note(dataclasses.replace(report, data_id=dict(data.data_id)))
        self._tell_blocked(self._schedule.settle(doubt.portion, {data.id: report.fate is Fate.SUCCEEDED}))

    def _check_beginning(self, outcome: outcomes.Outcome, reason: str) -> None:
        """Give up if no job can begin anything.

        Raises
        ------
        FatalWorkerError
            If so.
        """
        account = outcome.value if isinstance(outcome, outcomes.Result) else None
        if isinstance(outcome, outcomes.Failed) or (account is not None and account.code in _NOT_BEGUN):
            self._n_in_vain += 1
        if self._n_in_vain >= _MOST_IN_VAIN:
            raise errors.FatalWorkerError(
                f"{self._n_in_vain} jobs in a row could not begin: {reason}. Mend that where they run, and "
                "run the same command again."
            )

    def _judged(
        self,
        data: readiness.QuantumData,
        told: quantum_attempts.Report | None,
        ends: Mapping[uuid.UUID, bool],
    ) -> quantum_attempts.Report | None:
        """Return what became of a quantum; nothing if it is to be tried again."""
        if told is not None:
            # Where it ran, what others have left may not have been seen yet; or another executes it, too.
            is_in_use = told.exception is not None and told.exception.type_name == task_errors.IN_USE
            if told.fate is Fate.BLOCKED and not self._schedule.is_blocked(data, ends):
                return None
            return None if is_in_use else told
        if self._rim.has_succeeded(data):
            return quantum_attempts.Report(data.id, data.task, {}, Fate.SUCCEEDED)
        return None

    def _buried(self, data: readiness.QuantumData, reason: str) -> quantum_attempts.Report:
        """Put on record that nobody can tell what became of a quantum."""
        text = f"{_MOST_TRIES} jobs have ended without telling what became of it: {reason}"
        exception = task_metadata.ExceptionInfo(task_errors.KILLED, text, {})
        fate = self._rim.bury(data, exception)
        report = quantum_attempts.Report(data.id, data.task, {}, fate)
        if fate is Fate.SUCCEEDED:
            return report
        return dataclasses.replace(report, exception=exception, exit_code=errors.AggregatorError.exit_code)

    def _note(self, report: quantum_attempts.Report) -> None:
        self._rim.tell(report)
        self._ending.note(report)

    def _tell_blocked(self, blocked: Iterable[readiness.QuantumData]) -> None:
        for data in blocked:
            self._note(quantum_attempts.blocked(data))

    def _cancel(self) -> None:
        """Give up what is under way; what has succeeded all the same counts."""
        given_up = dict(self._running)
        for handle in given_up:
            self._engine.cancel(handle)
        self._rim.end_jobs()
        for _ in range(int(_CANCEL_SECONDS / _POLL_SECONDS)):
            if not self._running:
                break
            for handle, _ in self._engine.wait(_POLL_SECONDS):
                del self._running[handle]
        for work in given_up.values():
            portion = work.portion if isinstance(work, _Doubt) else work
            for data in portion.quanta:
                if self._rim.has_succeeded(data):
                    self._rim.tell(
                        quantum_attempts.Report(data.id, data.task, dict(data.data_id), Fate.SUCCEEDED)
                    )


def _reason(outcome: outcomes.Outcome) -> str:
    """Return how a job has ended."""
    match outcome:
        case outcomes.Result(Account(code=code, last_words=words)):
            end = f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            lines = words.strip().splitlines()
            return f"it {end}{f' ({lines[-1]})' if lines else ''}"
        case outcomes.Failed(cause):
            return cause
        case outcomes.Killed(number):
            return f"its worker was killed by signal {number}"
        case outcomes.Exited(code):
            return f"its worker ended with exit code {code}"
        case outcomes.Lost(reason):
            return f"its worker can't be reached ({reason})"
    return "it was given up"
