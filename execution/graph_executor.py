"""Executes many quanta, each when its prerequisites have succeeded, by the workers of an engine.

One quantum that fails, is killed, takes too long or ends its process is one failed quantum, with a log; the
others go on, except for those that need it.
"""

from __future__ import annotations

import collections
import dataclasses
import signal
from collections.abc import Callable, Iterable, Iterator

from aggregator.execution import quantum_attempts, readiness, task_errors
from aggregator.schemas.execution import task_metadata
from aggregator.storage import errors
from aggregator.workers.engines import engine as engine_module
from aggregator.workers.engines import outcomes

_POLL_SECONDS = 0.5
_STOP_SECONDS = 10.0
"""How long workers may take to end when all is done."""
_KILL_SECONDS = 60.0
"""How long to wait for workers that were killed."""
_MOST_STARTS = 3
"""Workers that may die in a row before they can do anything."""
_LOOK_AHEAD = 1000
"""Quanta that are ready at least, as far as there are so many, before others are looked for."""

Bury = Callable[[readiness.QuantumData, task_metadata.ExceptionInfo], quantum_attempts.Fate]
"""Puts on record that the process of a quantum is gone, with the reason; returns `Fate.SUCCEEDED` if that was
after its success, else `Fate.FAILED`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """When to end what is under way."""

    timeout: float | None = None
    """Seconds that a quantum may take."""

    fail_fast: bool = False
    """Whether all end with the first failure."""


class _Busy:
    """What a worker is at.

    Parameters
    ----------
    data
        The quantum; nothing while it gets ready.
    """

    def __init__(self, data: readiness.QuantumData | None) -> None:
        self.data = data
        self.reason: str | None = None
        """Why it was killed by this process."""
        self.is_late = False
        """Whether that is because it took too long."""


class QuantumGraphExecutor:
    """Executes quanta.

    Parameters
    ----------
    engine
        The execution model: runs workers in this process, or in others.
    program
        Makes the program of a worker from its name; see `quantum_worker`.
    n_workers
        Number of workers.
    bury
        Puts on record what became of quanta whose process is gone.
    policy
        When to end what is under way.
    tell
        Is told what became of each quantum.
    check
        Is called at least twice a second; returns whether to begin no other quantum.
    """

    def __init__(
        self,
        engine: engine_module.Engine,
        program: Callable[[str], engine_module.Program],
        n_workers: int,
        bury: Bury,
        policy: Policy,
        tell: Callable[[quantum_attempts.Report], None],
        check: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._program = program
        self._n_workers = n_workers
        self._bury = bury
        self._policy = policy
        self._tell = tell
        self._check = check
        self._readiness = readiness.Readiness()
        self._idle: list[engine_module.Worker] = []
        self._busy: dict[engine_module.Worker, _Busy] = {}
        self._n_started = self._n_died_early = 0
        self._happened: collections.deque[tuple[engine_module.Worker, outcomes.Outcome]] = collections.deque()
        self._is_stopping = False
        self._end_reason: str | None = None
        """Why to end what is under way."""
        self.exit_code = 0
        """Exit code that follows from what became of the quanta so far."""

    def execute(self, quanta: Iterable[readiness.QuantumData]) -> None:
        """Execute quanta, in an order in which none comes before its prerequisites.

        Raises
        ------
        AggregatorError
            If a worker can't do what it is for; of all quanta that were begun it is on record how they ended.
        """
        source = iter(quanta)
        seconds = 0.0
        try:
            for _ in range(self._n_workers):
                self._start()
            while self._go_on(source):
                pass
            seconds = _STOP_SECONDS
        except BaseException:
            self._end_running("the run was stopped")
            raise
        finally:
            self._engine.end(seconds)

    def _go_on(self, source: Iterator[readiness.QuantumData]) -> bool:
        """Do what can be done, and wait for something to happen; return whether there is more to do."""
        self._is_stopping = self._check() or self._is_stopping
        if not self._is_stopping:
            self._fill(source)
            self._send()
        if not any(each.data for each in self._busy.values()) and (
            self._is_stopping or not self._readiness.ready
        ):
            return False
        self._happened.extend(self._engine.wait(_POLL_SECONDS))
        while self._happened:
            self._take(*self._happened.popleft())
        if self._end_reason is not None:
            self._end_running(self._end_reason)
        self._watch()
        return True

    def _fill(self, source: Iterator[readiness.QuantumData]) -> None:
        while len(self._readiness.ready) < _LOOK_AHEAD:
            data = next(source, None)
            if data is None:
                return
            self._tell_blocked(self._readiness.add(data))

    def _start(self) -> None:
        worker = self._engine.start(self._program(f"executor-{self._n_started:03}"))
        self._n_started += 1
        self._busy[worker] = _Busy(None)
        worker.send(None, "its preparation")

    def _send(self) -> None:
        while self._idle and self._readiness.ready:
            worker, data = self._idle.pop(), self._readiness.ready.popleft()
            self._busy[worker] = _Busy(data)
            worker.send(data.quantum, f"quantum {data.id} of {data.task}")

    def _take(self, worker: engine_module.Worker, outcome: outcomes.Outcome) -> None:
        """Deal with what came of a worker's message, or of the worker itself."""
        busy = self._busy.pop(worker, None)
        if isinstance(outcome, outcomes.Result | outcomes.Failed):
            report = outcomes.value(worker, outcome)
            self._idle.append(worker)
            self._n_died_early = 0
            if report is not None:
                self._finish(report)
            return
        if worker in self._idle:
            self._idle.remove(worker)
        if busy is None or busy.data is None:
            self._n_died_early += 1
            if self._n_died_early >= _MOST_STARTS:
                outcomes.value(worker, outcome)
        else:
            self._finish(self._report_death(busy.data, busy, outcome))
        if not self._is_stopping:
            self._start()

    def _report_death(
        self, data: readiness.QuantumData, busy: _Busy, outcome: outcomes.Outcome
    ) -> quantum_attempts.Report:
        """Put on record that the process of a quantum is gone."""
        text, code = _end(outcome)
        kind = task_errors.TIMED_OUT if busy.is_late else task_errors.KILLED
        exception = task_metadata.ExceptionInfo(kind, busy.reason or text, {})
        fate = self._bury(data, exception)
        if fate is quantum_attempts.Fate.SUCCEEDED:
            return quantum_attempts.Report(data.id, data.task, dict(data.data_id), fate)
        fate = quantum_attempts.Fate.TIMED_OUT if busy.is_late else fate
        return quantum_attempts.Report(data.id, data.task, dict(data.data_id), fate, exception, code)

    def _finish(self, report: quantum_attempts.Report) -> None:
        """Note what became of a quantum, and what follows."""
        self._tell(report)
        succeeded = report.fate in (quantum_attempts.Fate.SUCCEEDED, quantum_attempts.Fate.EXISTING)
        self._tell_blocked(self._readiness.finish(report.quantum_id, succeeded))
        if succeeded:
            return
        is_invalid = report.exit_code == task_errors.INVALID_EXIT_CODE
        chooses_code = is_invalid or report.exit_code == task_errors.REPEATABLE_EXIT_CODE
        ends = is_invalid or self._policy.fail_fast
        if not self._is_stopping and ends:
            self._is_stopping = True
            self.exit_code = report.exit_code if chooses_code else errors.AggregatorError.exit_code
            self._end_reason = f"the run was stopped when quantum {report.quantum_id} had failed"
        self.exit_code = self.exit_code or errors.AggregatorError.exit_code

    def _tell_blocked(self, blocked: Iterable[readiness.QuantumData]) -> None:
        for data in blocked:
            self._tell(
                quantum_attempts.Report(data.id, data.task, dict(data.data_id), quantum_attempts.Fate.BLOCKED)
            )
            self.exit_code = self.exit_code or errors.AggregatorError.exit_code

    def _watch(self) -> None:
        """Kill workers whose quanta take too long."""
        limit = self._policy.timeout
        for worker, busy in self._busy.items():
            if limit and busy.data is not None and busy.reason is None and worker.busy_seconds() > limit:
                busy.reason, busy.is_late = f"it took longer than {limit:g} seconds", True
                worker.kill()

    def _end_running(self, reason: str) -> None:
        """Kill the workers that are at a quantum, and put that on record."""
        self._is_stopping, self._end_reason = True, None
        # What has been answered already is on record.
        answered = {worker for worker, _ in self._happened}
        for worker, busy in self._busy.items():
            if busy.data is not None and worker not in answered:
                busy.reason = busy.reason or reason
                worker.kill()
        left = _KILL_SECONDS / _POLL_SECONDS
        while left > 0 and any(busy.data for busy in self._busy.values()):
            if not self._happened:
                self._happened.extend(self._engine.wait(_POLL_SECONDS))
                left -= 1
            # What cannot be put on record is told by the error that has ended the run.
            while self._happened:
                worker, outcome = self._happened.popleft()
                if isinstance(outcome, outcomes.Failed):
                    self._busy.pop(worker, None)
                else:
                    self._take(worker, outcome)


def _end(outcome: outcomes.Outcome) -> tuple[str, int]:
    """Return how a process ended, as text and as an exit code."""
    match outcome:
        case outcomes.Killed(number):
            return f"its process was killed by {signal.Signals(number).name}", -number
        case outcomes.Exited(code):
            return f"its process ended with exit code {code}", code
        case outcomes.Lost(reason):
            return f"its process can't be reached ({reason})", errors.AggregatorError.exit_code
    raise AssertionError(outcome)
