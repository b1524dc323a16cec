"""Executes many quanta, each when its prerequisites have succeeded, by the workers of an engine.

One quantum that fails, is killed, takes too long or ends its process is one failed quantum, with a log; the
others go on, except for those that need it.
"""

from __future__ import annotations

import collections
import dataclasses
import signal
import time
from collections.abc import Callable, Iterable, Iterator

from aggregator.execution import quantum_attempts, readiness, run_ending, task_errors, worker_loads
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
_SHORT_SECONDS = 0.1
"""What a quantum takes at most that another may wait behind, while other workers have nothing to do."""
_MOST_WAITING = 1000
"""Quanta that wait for others at most, as long as there is one that is ready for each worker."""

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
        self._loads: dict[engine_module.Worker, worker_loads.Load] = {}
        self._longest: dict[str, float] = {}
        """Seconds that quanta of a task have taken at most."""
        self._n_started = self._n_died_early = 0
        self._happened: collections.deque[tuple[engine_module.Worker, outcomes.Outcome]] = collections.deque()
        self._is_stopping = False
        self._ending = run_ending.RunEnding(fail_fast=policy.fail_fast)

    @property
    def exit_code(self) -> int:
        """Exit code that follows from what became of the quanta so far."""
        return self._ending.exit_code

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
        if not self._is_running() and (self._is_stopping or not self._readiness.ready):
            return False
        self._happened.extend(self._engine.wait(_POLL_SECONDS))
        while self._happened:
            self._take(*self._happened.popleft())
        if self._ending.reason is not None:
            self._end_running(self._ending.reason)
        self._watch()
        return True

    def _is_running(self) -> bool:
        return any(load.current for load in self._loads.values())

    def _fill(self, source: Iterator[readiness.QuantumData]) -> None:
        ready = self._readiness.ready
        while len(ready) < _LOOK_AHEAD and (
            len(ready) < self._n_workers or self._readiness.n_waiting < _MOST_WAITING
        ):
            data = next(source, None)
            if data is None:
                return
            self._tell_blocked(self._readiness.add(data))

    def _start(self) -> None:
        worker = self._engine.start(self._program(f"executor-{self._n_started:03}"))
        self._n_started += 1
        self._loads[worker] = worker_loads.Load(collections.deque([None]), time.monotonic())
        worker.send(None, "its preparation")

    def _send(self) -> None:
        """Give each worker something to do, and what to go on with if that does not wait for long."""
        ready = self._readiness.ready
        for n_before in range(engine_module.MAX_IN_FLIGHT):
            for worker, load in self._loads.items():
                if ready and len(load.quanta) == n_before and (not n_before or self._is_short(load)):
                    data = ready.popleft()
                    if not n_before:
                        load.since = time.monotonic()
                    load.quanta.append(data)
                    worker.send(data.quantum, f"quantum {data.id} of {data.task}")

    def _is_short(self, load: worker_loads.Load) -> bool:
        """Return whether the quantum that a worker is at is one of a task whose quanta take no time."""
        # With the first failure nothing else is to begin.
        if load.current is None or self._policy.fail_fast:
            return False
        return self._longest.get(load.current.task, _SHORT_SECONDS) < _SHORT_SECONDS

    def _take(self, worker: engine_module.Worker, outcome: outcomes.Outcome) -> None:
        """Deal with what came of a worker's message, or of the worker itself."""
        load = self._loads[worker]
        if isinstance(outcome, outcomes.Result | outcomes.Failed):
            data = load.quanta.popleft()
            self._note_seconds(load, data)
            report = outcomes.value(worker, outcome)
            self._n_died_early = 0
            if report is not None:
                self._finish(report)
            return
        del self._loads[worker]
        if load.current is None:
            self._n_died_early += 1
            if self._n_died_early >= _MOST_STARTS:
                outcomes.value(worker, outcome)
        elif load.killed == load.current.id or not load.is_late:
            self._finish(self._report_death(load.current, load, outcome))
            load.quanta.popleft()
        # Whatever else it had, another worker does.
        self._readiness.ready.extendleft(data for data in reversed(load.quanta) if data is not None)
        if not self._is_stopping and self._ending.reason is None:
            self._start()

    def _note_seconds(self, load: worker_loads.Load, data: readiness.QuantumData | None) -> None:
        now = time.monotonic()
        if data is not None:
            self._longest[data.task] = max(now - load.since, self._longest.get(data.task, 0.0))
        load.since = now

    def _report_death(
        self, data: readiness.QuantumData, load: worker_loads.Load, outcome: outcomes.Outcome
    ) -> quantum_attempts.Report:
        """Put on record that the process of a quantum is gone."""
        text, code = _end(outcome)
        kind = task_errors.TIMED_OUT if load.is_late else task_errors.KILLED
        exception = task_metadata.ExceptionInfo(kind, load.reason or text, {})
        fate = self._bury(data, exception)
        if fate is quantum_attempts.Fate.SUCCEEDED:
            return quantum_attempts.Report(data.id, data.task, dict(data.data_id), fate)
        fate = quantum_attempts.Fate.TIMED_OUT if load.is_late else fate
        return quantum_attempts.Report(data.id, data.task, dict(data.data_id), fate, exception, code)

    def _finish(self, report: quantum_attempts.Report) -> None:
        """Note what became of a quantum, and what follows."""
        self._note(report)
        succeeded = report.fate in (quantum_attempts.Fate.SUCCEEDED, quantum_attempts.Fate.EXISTING)
        self._tell_blocked(self._readiness.finish(report.quantum_id, succeeded))

    def _tell_blocked(self, blocked: Iterable[readiness.QuantumData]) -> None:
        for data in blocked:
            self._note(quantum_attempts.blocked(data))

    def _note(self, report: quantum_attempts.Report) -> None:
        self._tell(report)
        self._ending.note(report)

    def _watch(self) -> None:
        """Kill workers whose quanta take too long."""
        if (limit := self._policy.timeout) is None:
            return
        for worker, load in self._loads.items():
            if worker.busy_seconds() > limit:
                load.kill(worker, f"it took longer than {limit:g} seconds", is_late=True)

    def _end_running(self, reason: str) -> None:
        """Kill the workers that are at a quantum, and put that on record."""
        self._is_stopping = True
        left = _KILL_SECONDS / _POLL_SECONDS
        while left > 0 and self._is_running():
            if not self._happened:
                # What has been answered is on record.
                for worker, load in self._loads.items():
                    load.kill(worker, reason)
            if not self._happened:
                self._happened.extend(self._engine.wait(_POLL_SECONDS))
                left -= 1
            # What cannot be put on record is told by the error that has ended the run.
            while self._happened:
                worker, outcome = self._happened.popleft()
                if isinstance(outcome, outcomes.Failed):
                    self._loads[worker].quanta.popleft()
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
