"""The executor of clusters: a job that is gone costs its own quanta, and everything ends in any case."""

from __future__ import annotations

import random
import uuid
from collections import Counter, deque
from collections.abc import Sequence

import pytest
from aggregator.execution import cluster_executor, cluster_schedule, quantum_attempts, readiness, task_errors
from aggregator.execution.workflows import clusters
from aggregator.schemas.execution import task_metadata
from aggregator.storage import errors
from aggregator.workers.engines import job_engine, outcomes

Fate = quantum_attempts.Fate
N_QUANTA = 24


def quanta(seed: int) -> list[readiness.QuantumData]:
    """Return quanta of three tasks in each of which eight need some of the task before."""
    chosen, ids = random.Random(seed), [uuid.UUID(int=number) for number in range(N_QUANTA)]
    return [
        readiness.QuantumData(
            n,
            "abc"[n // 8],
            each,
            frozenset(ids[n - 8 - n % 2 : n - 7] if n >= 8 and chosen.random() < 0.8 else ()),
            {"visit": n % 8 // 2},
        )
        for n, each in enumerate(ids)
    ]


class Engine(job_engine.JobEngine):
    """Does jobs in any order, as a case says.

    Parameters
    ----------
    case
        What becomes of jobs.
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        self._open: list[job_engine.Handle] = []
        self._given_up: deque[job_engine.Handle] = deque()

    def capacity(self) -> int:
        return 3

    def submit(self, job: job_engine.Job) -> job_engine.Handle:
        self._open.append(job_engine.Handle(job))
        assert len(self._open) <= self.capacity()
        return self._open[-1]

    def wait(self, seconds: float) -> Sequence[tuple[job_engine.Handle, outcomes.Outcome]]:
        if self._given_up:
            return [(self._given_up.popleft(), outcomes.GivenUp())]
        handle = self._open.pop(self._case.random.randrange(len(self._open)))
        if self._case.is_dead:
            return [(handle, outcomes.Lost("silence"))]
        arguments = handle.job.arguments
        return [(handle, self._case.outcome(arguments[0]) if arguments else outcomes.Result(1))]

    def cancel(self, handle: job_engine.Handle) -> None:
        self._open.remove(handle)
        self._given_up.append(handle)

    def close(self) -> None:
        pass


class Case:
    """An executor, and what it has told.

    Parameters
    ----------
    seed
        Of the order in which jobs end, and of the quanta.
    cluster
        Which quanta share a job.
    fail_fast
        Whether all ends with the first failure.
    n_executed
        How many quanta have succeeded before.
    """

    def __init__(
        self, seed: int, cluster: str = "a,b:visit", *, fail_fast: bool = False, n_executed: int = 0
    ) -> None:
        self.random = random.Random(seed)
        self.failing: set[uuid.UUID] = set()
        self.deadly: Counter[uuid.UUID] = Counter()
        """How many more jobs a quantum takes along."""
        self.blind: Counter[uuid.UUID] = Counter()
        """How many more times it is not seen where a quantum runs what others have left."""
        self.end: outcomes.Outcome = outcomes.Lost("silence")
        self.is_dead = False
        """Whether there is no engine any more."""
        self.bad_host: outcomes.Outcome | None = None
        """What comes of every second job, which another host has."""
        self._n_jobs = 0
        self.quanta = quanta(seed)
        self.done: set[uuid.UUID] = set()
        self.reports: list[quantum_attempts.Report] = []
        self.buried: list[uuid.UUID] = []
        self.n_ended = 0
        """How often jobs were ended."""
        self.done |= {data.id for data in self.quanta[:n_executed]}
        definitions = [clusters.definition(cluster)]
        schedule = cluster_schedule.ClusterSchedule(self.quanta, definitions, frozenset(self.done))
        rim = cluster_executor.Rim(
            lambda ids: job_engine.Job(print, (tuple(ids),), "a job"),
            lambda data: data.id in self.done,
            self._bury,
            self.reports.append,
            lambda: False,
            self._end_jobs,
        )
        self.executor = cluster_executor.ClusterExecutor(Engine(self), schedule, rim, fail_fast=fail_fast)

    def _end_jobs(self) -> None:
        self.n_ended += 1

    def _bury(self, data: readiness.QuantumData, exception: task_metadata.ExceptionInfo) -> Fate:
        assert exception.type_name == task_errors.KILLED
        self.buried.append(data.id)
        return Fate.FAILED

    def outcome(self, ids: Sequence[uuid.UUID]) -> outcomes.Outcome:
        """Do a job as run-quanta does."""
        self._n_jobs += 1
        if self.bad_host is not None and self._n_jobs % 2:
            return self.bad_host
        by_id = {data.id: data for data in self.quanta}
        told = []
        for each in ids:
            if self.deadly[each] > 0:
                self.deadly[each] -= 1
                return self.end
            sees_all = by_id[each].prerequisites <= self.done and not self.blind[each]
            self.blind[each] -= 1
            fate = Fate.BLOCKED if not sees_all else Fate.FAILED if each in self.failing else Fate.SUCCEEDED
            code = 20 if fate is Fate.FAILED else 0
            told.append(quantum_attempts.Report(each, "", {}, fate, None, code))
            if fate is Fate.SUCCEEDED:
                self.done.add(each)
        return outcomes.Result(cluster_executor.Account(0, "", told))

    def fates(self) -> dict[uuid.UUID, Fate]:
        """Execute all; return what became of each quantum, which was told once."""
        self.executor.execute()
        assert len({each.quantum_id for each in self.reports}) == len(self.reports)
        assert all(each.task_label for each in self.reports)
        return {each.quantum_id: each.fate for each in self.reports}

    def expected(self, failing: set[uuid.UUID]) -> dict[uuid.UUID, Fate]:
        """Return what becomes of all if some fail."""
        fates: dict[uuid.UUID, Fate] = {}
        for data in self.quanta:
            is_met = all(fates[each] is Fate.SUCCEEDED for each in data.prerequisites)
            fates[data.id] = (
                Fate.BLOCKED if not is_met else Fate.FAILED if data.id in failing else Fate.SUCCEEDED
            )
        return fates


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("cluster", ["a", "a:visit", "a,b:visit", "a,b,c"])
def test_only_what_needs_a_failed_quantum_is_blocked(seed: int, cluster: str) -> None:
    case = Case(seed, cluster)
    case.failing = {uuid.UUID(int=each) for each in random.Random(seed).sample(range(16), 3)}
    assert case.fates() == case.expected(case.failing)
    assert case.executor.exit_code == 1


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "end",
    [outcomes.Lost("silence"), outcomes.Killed(9), outcomes.Result(cluster_executor.Account(-9, "", None))],
)
def test_jobs_that_are_gone_are_done_again(seed: int, end: outcomes.Outcome) -> None:
    case = Case(seed)
    case.end, case.deadly = end, Counter({uuid.UUID(int=each): 1 for each in range(0, N_QUANTA, 3)})
    assert set(case.fates().values()) == {Fate.SUCCEEDED}
    assert (case.executor.exit_code, case.buried) == (0, [])


@pytest.mark.parametrize("seed", range(20))
def test_one_that_takes_all_its_jobs_along_is_the_only_one_to_fail(seed: int) -> None:
    case, deadly = Case(seed), uuid.UUID(int=seed % 16)
    case.deadly[deadly] = 100
    assert case.fates() == case.expected({deadly})
    assert case.buried == [deadly]
    assert 100 - case.deadly[deadly] == 3


@pytest.mark.parametrize("seed", range(20))
def test_what_is_not_seen_at_once_is_tried_again(seed: int) -> None:
    case = Case(seed)
    case.blind = Counter({uuid.UUID(int=each): 1 for each in range(8, N_QUANTA, 3)})
    assert set(case.fates().values()) == {Fate.SUCCEEDED}


def test_all_ends_with_the_first_failure() -> None:
    case = Case(1, fail_fast=True)
    case.failing = {uuid.UUID(int=each) for each in range(N_QUANTA)}
    fates = case.fates()
    assert case.executor.exit_code == 20
    assert len([each for each in fates.values() if each is Fate.FAILED]) <= 4
    assert case.n_ended == 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("cluster", ["a", "a,b:visit", "a,b,c"])
@pytest.mark.parametrize("n_executed", [1, 7, 12, N_QUANTA])
def test_no_job_has_what_has_succeeded_before(seed: int, cluster: str, n_executed: int) -> None:
    case = Case(seed, cluster, n_executed=n_executed)
    before = set(case.done)
    fates = case.fates()
    assert fates.keys() == {data.id for data in case.quanta} - before
    assert set(fates.values()) <= {Fate.SUCCEEDED}
    assert (case.executor.exit_code, case.n_ended) == (0, 0)


def test_jobs_that_cannot_begin_end_the_run() -> None:
    case = Case(1)
    account = cluster_executor.Account(2, "Error: no such module", None)
    case.end, case.deadly = outcomes.Result(account), Counter({data.id: 9 for data in case.quanta})
    with pytest.raises(errors.FatalWorkerError, match=r"3 jobs in a row could not begin.*no such module"):
        case.executor.execute()
    assert (case.reports, case.n_ended) == ([], 1)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("code", [2, 127])
def test_nothing_fails_because_a_host_refuses_all_jobs(seed: int, code: int) -> None:
    case = Case(seed, "a,b:visit")
    case.bad_host = outcomes.Result(cluster_executor.Account(code, "no such file", None))
    assert set(case.fates().values()) == {Fate.SUCCEEDED}
    assert (case.executor.exit_code, case.buried) == (0, [])


def test_nothing_fails_because_the_engine_is_gone() -> None:
    case = Case(1)
    case.is_dead = True
    with pytest.raises(errors.FatalWorkerError, match="The engine does nothing any more"):
        case.executor.execute()
    assert (case.reports, case.buried) == ([], [])
