"""The executor of many quanta: answers come in any order, and workers end when they are told to."""

from __future__ import annotations

import random
import uuid
from typing import Any

import pytest
from aggregator.execution import graph_executor, quantum_attempts, readiness, task_errors
from aggregator.schemas.execution import task_metadata
from aggregator.storage import errors
from aggregator.workers.engines import engine as engine_module
from aggregator.workers.engines import outcomes, testing

Fate = quantum_attempts.Fate
N_QUANTA = 30


def quanta(seed: int) -> list[readiness.QuantumData]:
    """Return quanta each of which needs some before it."""
    chosen, ids = random.Random(seed), [uuid.UUID(int=number) for number in range(N_QUANTA)]
    return [
        readiness.QuantumData(each, "task", each, frozenset(chosen.sample(ids[:n], min(n, n % 3))))
        for n, each in enumerate(ids)
    ]


class Handler:
    """Reports what it was told of each quantum."""

    def __init__(self, case: Case) -> None:
        self._case = case

    def handle(self, message: uuid.UUID | None) -> quantum_attempts.Report | None:
        if message is None:
            return None
        self._case.begun.append(message)
        code = self._case.codes.get(message, 0)
        if code == 2:
            raise errors.AggregatorError("the disk is full")
        exception = task_metadata.ExceptionInfo("ValueError", "told to", {}) if code else None
        fate = Fate.FAILED if code else Fate.SUCCEEDED
        return quantum_attempts.Report(message, "task", {}, fate, exception, code)

    def close(self) -> None:
        pass


class Case:
    """An executor with two workers, and what it has told."""

    def __init__(self, seed: int, codes: dict[uuid.UUID, int] | None = None, **policy: Any) -> None:
        self.engine = testing.Engine(seed)
        self.codes = codes or {}
        self.begun: list[uuid.UUID] = []
        self.reports: list[quantum_attempts.Report] = []
        self.buried: list[tuple[uuid.UUID, str, str]] = []
        self.may_begin = True
        self.quanta = quanta(seed)
        self.executor = graph_executor.QuantumGraphExecutor(
            self.engine,
            lambda name: engine_module.Program(name, lambda: Handler(self)),
            2,
            self._bury,
            graph_executor.Policy(**policy),
            self.reports.append,
            lambda: not self.may_begin,
        )

    def _bury(
        self, data: readiness.QuantumData, exception: task_metadata.ExceptionInfo
    ) -> quantum_attempts.Fate:
        self.buried.append((data.id, exception.type_name, exception.message))
        return Fate.FAILED

    def execute(self) -> None:
        self.executor.execute(iter(self.quanta))

    def fates(self) -> dict[uuid.UUID, quantum_attempts.Fate]:
        """Return what became of each quantum, which was told once."""
        assert len({each.quantum_id for each in self.reports}) == len(self.reports)
        return {each.quantum_id: each.fate for each in self.reports}


@pytest.mark.parametrize("seed", range(20))
def test_each_quantum_comes_after_those_before_it(seed: int) -> None:
    case = Case(seed)
    case.execute()
    assert sorted(case.begun) == [each.id for each in case.quanta]
    places = {each: place for place, each in enumerate(case.begun)}
    assert all(places[before] < places[each.id] for each in case.quanta for before in each.prerequisites)
    assert case.executor.exit_code == 0


@pytest.mark.parametrize("seed", range(20))
def test_only_what_needs_a_failed_quantum_is_blocked(seed: int) -> None:
    failed = uuid.UUID(int=seed % 7)
    case = Case(seed, {failed: 1})
    case.execute()
    fates, gone = case.fates(), {failed}
    for each in case.quanta:
        expected = Fate.BLOCKED if not gone.isdisjoint(each.prerequisites) else Fate.SUCCEEDED
        assert fates[each.id] == (Fate.FAILED if each.id == failed else expected)
        gone |= {each.id} if fates[each.id] != Fate.SUCCEEDED else set()
    assert case.executor.exit_code == 1


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("end", [outcomes.Killed(9), outcomes.Exited(3), outcomes.Lost("silence")])
def test_a_worker_that_is_gone_is_replaced(seed: int, end: outcomes.Outcome) -> None:
    case = Case(seed)
    start = case.engine.start

    def starting(program: engine_module.Program) -> engine_module.Worker:
        worker = start(program)
        if program.name == "executor-001":
            # After it was ready, and has executed two.
            case.engine.end_worker(program.name, end, after=3)
        return worker

    case.engine.start = starting  # type: ignore[method-assign]
    case.execute()
    fates = case.fates()
    assert len(fates) == N_QUANTA
    assert [name for _, name, _ in case.buried] in ([], [task_errors.KILLED])
    assert [each for each in fates if fates[each] == Fate.FAILED] == [each for each, _, _ in case.buried]


def test_workers_that_can_do_nothing_end_the_run() -> None:
    case = Case(0)
    start = case.engine.start

    def starting(program: engine_module.Program) -> engine_module.Worker:
        worker = start(program)
        case.engine.end_worker(program.name, outcomes.Killed(11))
        return worker

    case.engine.start = starting  # type: ignore[method-assign]
    with pytest.raises(errors.FatalWorkerError, match="SIGSEGV"):
        case.execute()
    assert case.reports == []


@pytest.mark.parametrize("seed", range(10))
def test_what_takes_too_long_is_ended(seed: int) -> None:
    case = Case(seed, timeout=5.0)
    start = case.engine.start

    def starting(program: engine_module.Program) -> engine_module.Worker:
        worker = start(program)
        if program.name == "executor-000":
            case.engine.hang(program.name, after=1)
        return worker

    case.engine.start = starting  # type: ignore[method-assign]
    case.execute()
    [(late, name, message)] = case.buried
    assert (name, message) == (task_errors.TIMED_OUT, "it took longer than 5 seconds")
    assert case.fates()[late] == Fate.TIMED_OUT
    assert case.engine.seconds < 10


@pytest.mark.parametrize("seed", range(10))
def test_what_is_answered_too_late_counts(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(seed, timeout=5.0)
    start = case.engine.start

    def starting(program: engine_module.Program) -> engine_module.Worker:
        worker = start(program)
        if program.name == "executor-000":
            case.engine.hang(program.name, after=2)
        return worker

    def kill(worker: testing.Worker) -> None:
        # Its answer was on the way.
        case.engine.end_worker(worker.name, outcomes.Killed(9), after=1)

    case.engine.start = starting  # type: ignore[method-assign]
    monkeypatch.setattr(testing.Worker, "kill", kill)
    case.execute()
    # Nor is the one blamed that came next.
    assert case.buried == []
    assert set(case.fates().values()) == {Fate.SUCCEEDED}
    assert len(case.fates()) == len(case.begun) == N_QUANTA


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("code", "options"), [(1, {"fail_fast": True}), (20, {"fail_fast": True}), (21, {})])
def test_all_ends_after_a_failure(seed: int, code: int, options: dict[str, Any]) -> None:
    failed = uuid.UUID(int=0)
    case = Case(seed, {failed: code}, **options)
    case.execute()
    assert case.executor.exit_code == code
    assert len(case.begun) < N_QUANTA
    fates = case.fates()
    assert fates[failed] == Fate.FAILED
    assert {each for each, _, _ in case.buried} == {each for each in fates if fates[each] == Fate.FAILED} - {
        failed
    }


@pytest.mark.parametrize("seed", range(10))
def test_what_cannot_be_put_on_record_ends_the_run(seed: int) -> None:
    case = Case(seed, {uuid.UUID(int=5): 2})
    with pytest.raises(errors.FatalWorkerError, match="the disk is full"):
        case.execute()
    told = case.fates()
    assert uuid.UUID(int=5) not in told
    assert set(case.begun) - {uuid.UUID(int=5)} <= set(told)


def test_nothing_begins_after_a_request_to_stop() -> None:
    case = Case(0)
    tell = case.reports.append

    def told(report: quantum_attempts.Report) -> None:
        tell(report)
        case.may_begin = len(case.reports) < 5

    case.executor._tell = told
    case.execute()
    # But for what the two workers have already.
    assert 5 <= len(case.begun) <= 8
    assert set(case.begun) == set(case.fates())
    assert case.buried == []


def with_fate(case: Case, name: str, become: Any) -> None:
    """Let something become of a worker as soon as it is started."""
    start = case.engine.start

    def starting(program: engine_module.Program) -> engine_module.Worker:
        worker = start(program)
        if program.name == name:
            become()
        return worker

    case.engine.start = starting  # type: ignore[method-assign]


def limited(case: Case) -> None:
    """Fail, instead of waiting without end."""
    check = case.executor._check

    def checked() -> bool:
        assert case.engine.seconds < 30, "it waits for nobody"
        return check()

    case.executor._check = checked


def independent(case: Case) -> None:
    """Let no quantum need another."""
    case.quanta = [readiness.QuantumData(each.id, "task", each.id) for each in case.quanta]


@pytest.mark.parametrize("seed", range(10))
def test_what_is_under_way_is_stopped_by_a_failure(seed: int) -> None:
    case = Case(seed, {uuid.UUID(int=number): 1 for number in range(N_QUANTA)}, fail_fast=True)
    independent(case)
    # It would never answer.
    with_fate(case, "executor-001", lambda: case.engine.hang("executor-001", after=1))
    limited(case)
    case.execute()
    [failed] = case.begun
    told = [(task_errors.KILLED, f"the run was stopped when quantum {failed} had failed")]
    assert [each[1:] for each in case.buried] in (told, [])
    assert len(case.fates()) == 1 + len(case.buried)
    assert case.engine.seconds < 5


@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_sent_to_a_worker_that_has_died_idle(seed: int) -> None:
    case = Case(seed)
    # Each needs the one before it, so one worker is always idle.
    ids = [each.id for each in case.quanta]
    before: list[frozenset[uuid.UUID]] = [frozenset(), *(frozenset([each]) for each in ids[:-1])]
    case.quanta = [
        readiness.QuantumData(each, "task", each, needed) for each, needed in zip(ids, before, strict=True)
    ]
    end = outcomes.Killed(9)
    with_fate(case, "executor-000", lambda: case.engine.end_worker("executor-000", end, after=1))
    limited(case)
    case.execute()
    # Whoever was at none when it died has cost none.
    fates = case.fates()
    assert len(fates) == N_QUANTA
    assert len(case.buried) <= 1
    assert [each for each in fates if fates[each] == Fate.FAILED] == [each for each, _, _ in case.buried]


@pytest.mark.parametrize("seed", range(10))
def test_a_worker_that_has_answered_is_not_killed(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # What became of the first can't be put on record.
    case = Case(seed, {uuid.UUID(int=0): 2})
    independent(case)
    wait, killed = case.engine.wait, []

    def all_at_once(seconds: float) -> list[tuple[engine_module.Worker, outcomes.Outcome]]:
        answers: list[tuple[engine_module.Worker, outcomes.Outcome]] = []
        while new := wait(seconds if not answers else 0.0):
            answers += new
        return sorted(answers, key=lambda each: not isinstance(each[1], outcomes.Failed))

    case.engine.wait = all_at_once  # type: ignore[method-assign]
    monkeypatch.setattr(testing.Worker, "kill", killed.append)
    limited(case)
    with pytest.raises(errors.FatalWorkerError, match="the disk is full"):
        case.execute()
    assert killed == case.buried == []
    assert set(case.fates()) == set(case.begun) - {uuid.UUID(int=0)}
