"""The order of work: random graphs, answers in any order, requests to stop, kills and restarts."""

from __future__ import annotations

import dataclasses
import itertools
import random

import numpy as np
import pytest
from aggregator.schemas import messages
from aggregator.storage import errors
from aggregator.workers.engines import engine
from aggregator.workers.roles import handling
from hypothesis import given
from hypothesis import strategies as st

from aggregator.aggregation import schedule, shards

N_EDGES_OF_RANGE = 3
N_EDGES_OF_OUTPUTS = 2
ROLES = handling.SCANNER, handling.INGESTER, handling.WRITER


@dataclasses.dataclass
class Case:
    """A graph, and what is to become of it."""

    division: shards.Shards
    held: set[int]
    """Shards in which a quantum is held."""
    n_ranges: int
    writes_graph: bool


@st.composite
def cases(draw: st.DrawFn) -> Case:
    n_quanta, size = draw(st.integers(0, 40)), draw(st.integers(1, 10))
    edges = []
    if n_quanta > 1:
        producer = st.integers(0, n_quanta - 2)
        edge = producer.flatmap(lambda p: st.tuples(st.just(p), st.integers(p + 1, n_quanta - 1)))
        edges = draw(st.lists(edge, max_size=60))
    producers, starts = shards.by_consumer([np.array(edges, dtype=np.int32).reshape(-1, 2)], n_quanta)
    division = shards.Shards(
        size=size,
        ids=np.zeros((n_quanta, 16), dtype=np.uint8),
        offsets=np.zeros(n_quanta, dtype=np.int64),
        sizes=np.zeros(n_quanta, dtype=np.int64),
        producers=producers,
        starts=starts,
    )
    shard = st.integers(0, division.n_shards - 1)
    held = draw(st.one_of(st.just(set[int]()), st.sets(shard, max_size=2)))
    return Case(division, held, draw(st.integers(1, 5)), draw(st.booleans()))


class World:
    """Workers that answer at random moments; looks at each request whether it may come now."""

    def __init__(
        self, case: Case, n_scanners: int, order: random.Random, digests: set[int], follows: bool = False
    ) -> None:
        self.case = case
        self.order = order
        self.digests = digests
        """Shards whose digest is on disk: outlives a kill."""
        # If it follows an execution, some shards are executed only while others are scanned.
        numbers = list(range(case.division.n_shards))
        n_executed = order.choice([0, len(numbers) // 2]) if follows else len(numbers)
        self.schedule = schedule.Schedule(
            case.division, case.writes_graph, "graph.qg", numbers[:n_executed], digests
        )
        self.executing = numbers[n_executed:]
        order.shuffle(self.executing)
        names = [*(f"scanner-{i}" for i in range(n_scanners)), handling.INGESTER, handling.WRITER]
        self.queues: dict[str, list[messages.Request]] = {name: [] for name in names}
        self.given: set[tuple[str, messages.Request]] = set()
        self.answers: dict[str, list[messages.Request]] = {role: [] for role in ROLES}
        """Requests that each role has answered."""
        self.judged: list[int] = []
        self.n_reused = 0
        ends = case.division.of(case.division.edges(0, len(case.division.producers)))
        self.consumers = {
            shard: {shard, *ends[ends[:, 0] == shard, 1].tolist()} for shard in range(case.division.n_shards)
        }
        self.consumers[0] = set(range(case.division.n_shards))

    def run(self, stop_at: int | None = None, kill_at: int | None = None) -> None:
        """Run to the end, or until it is killed after some answers."""
        step = 0
        while True:
            if step == stop_at:
                self.schedule.stop()
            for role, request in self.schedule.due():
                self.give(role, request)
            if self.schedule.is_over:
                break
            scanners = [name for name in self.queues if name.startswith(handling.SCANNER)]
            for level in range(1, engine.MAX_IN_FLIGHT + 1):
                for name in scanners:
                    if len(self.queues[name]) < level <= self.schedule.depth(len(scanners)):
                        request_or_none = self.schedule.next_for_scanner()
                        if request_or_none is not None:
                            self.give(name, request_or_none)
            busy = [name for name, queue in self.queues.items() if queue]
            if self.executing and (not busy or self.order.random() < 0.3):
                self.schedule.add_executed(self.executing.pop())
                continue
            # If nothing is under way, it would wait for ever.
            assert busy, self.schedule.phase
            self.answer(self.order.choice(busy))
            step += 1
            if step == kill_at:
                return
        assert self.schedule.next_for_scanner() is None

    def give(self, name: str, request: messages.Request) -> None:
        """Look whether a request may come now, and keep it until it is answered."""
        role = role_of(name)
        assert (role, request) not in self.given
        self.given.add((role, request))
        match request:
            case messages.LookAgain():
                assert {shard.shard for shard in request.shards} <= self.digests
            case messages.CommitShard():
                # In order, by each role, and never before it is judged.
                assert request.shard in self.judged
                earlier = [*self.answers[role], *self.queues[name]]
                assert commits(earlier) == list(range(request.shard))
            case messages.BuildOutputs():
                assert self.case.writes_graph
                assert self.consumers[request.shard] <= set(self.judged)
                pairs = np.frombuffer(request.consumers, dtype=np.int32).reshape(-1, 2).tolist()
                ranges = [set(range(*pair)) for pair in pairs]
                assert set().union(*ranges) == self.consumers[request.shard]
                assert request.verdicts == verdicts(request.shard)
            case messages.Flush():
                assert not any(map(is_scan, self.under_way()))
            case messages.PlanInputs():
                n = self.case.division.n_shards
                assert len(self.judged) == n
                assert sum(map(is_build, self.answered)) == n
                assert (request.n_edges, request.n_shared) == (n * N_EDGES_OF_OUTPUTS, n)
            case messages.BuildInputs():
                assert not self.queues[name]
            case messages.FinishGraph():
                assert request.n_ranges == self.case.n_ranges
                assert sum(isinstance(r, messages.BuildInputs) for r in self.answered) == request.n_ranges
                assert messages.CopyBlocks() in self.answered
                assert not self.queues[handling.WRITER]
            case messages.Confirm():
                assert not self.under_way()
                assert messages.Flush() in self.answered
                assert len(self.judged) == self.case.division.n_shards
            case messages.PublishGraph():
                assert messages.Confirm() in self.answered
                assert not self.under_way()
        self.queues[name].append(request)

    @property
    def answered(self) -> list[messages.Request]:
        return [request for requests in self.answers.values() for request in requests]

    def under_way(self) -> list[messages.Request]:
        return [request for queue in self.queues.values() for request in queue]

    def answer(self, name: str) -> None:
        """Answer the oldest request of a worker."""
        request = self.queues[name].pop(0)
        role = role_of(name)
        self.answers[role].append(request)
        self.schedule.take(role, self.reply(request))
        while (scanned := self.schedule.next_to_judge()) is not None:
            assert scanned.shard == len(self.judged)
            self.judged.append(scanned.shard)
            self.schedule.judge(verdicts(scanned.shard), scanned.shard in self.case.held)

    def reply(self, request: messages.Request) -> messages.Reply:
        match request:
            case messages.LookAgain():
                changed = [shard.shard for shard in request.shards if self.order.random() < 0.3]
                same = [shard for shard in request.shards if shard.shard not in changed]
                return messages.LookedAgain([self.reply(shard) for shard in same], changed)
            case messages.ScanShard():
                known = request.shard in self.digests
                self.n_reused += known
                self.digests.add(request.shard)
                return messages.ShardScanned(request.shard, "", b"", b"", [], int(known), "")
            case messages.CommitShard():
                return messages.ShardTaken(request.shard)
            case messages.BuildOutputs():
                return messages.OutputsBuilt(request.shard, N_EDGES_OF_OUTPUTS, 1)
            case messages.PlanInputs():
                bounds = [bytes([i]) for i in range(1, self.case.n_ranges)]
                return messages.InputRanges(bounds, False, self.case.n_ranges * N_EDGES_OF_RANGE)
            case messages.BuildInputs():
                return messages.InputsBuilt(request.number, N_EDGES_OF_RANGE)
            case messages.PublishGraph():
                return messages.GraphWritten(1)
        return messages.Ready()

    def check_complete(self) -> None:
        """Look whether all was done that there was to do."""
        assert self.schedule.phase is schedule.Phase.FINISHED
        assert not self.under_way()
        n = self.case.division.n_shards
        assert self.judged == list(range(n))
        assert self.digests == set(range(n))
        assert commits(self.answers[handling.INGESTER]) == list(range(n))
        assert self.answers[handling.INGESTER][-2:] == [messages.Flush(), messages.Confirm()]
        has_graph = self.case.writes_graph and not self.case.held
        assert (messages.PublishGraph() in self.answered) == has_graph
        parts = sorted(request.shard for request in self.answered if is_build(request))
        ranges = sorted(r.number for r in self.answered if isinstance(r, messages.BuildInputs))
        if has_graph:
            assert parts == list(range(n))
            assert ranges == list(range(self.case.n_ranges))
        else:
            assert len(parts) == len(set(parts))
            assert ranges == []


def role_of(name: str) -> str:
    return name.partition("-")[0]


def commits(requests: list[messages.Request]) -> list[int]:
    """Return the shards that are committed by some requests."""
    return [request.shard for request in requests if isinstance(request, messages.CommitShard)]


def is_scan(request: messages.Request) -> bool:
    return isinstance(request, messages.ScanShard | messages.LookAgain)


def is_build(request: messages.Request) -> bool:
    return isinstance(request, messages.BuildOutputs)


def verdicts(shard: int) -> bytes:
    return bytes([shard])


orders = st.integers(0, 2**32).map(random.Random)
scanners = st.integers(1, 4)


@given(case=cases(), n_scanners=scanners, order=orders, follows=st.booleans())
def test_everything_is_done_once_and_in_order(
    case: Case, n_scanners: int, order: random.Random, follows: bool
) -> None:
    world = World(case, n_scanners, order, set(), follows)
    world.run()
    world.check_complete()
    assert world.n_reused == 0


@given(case=cases(), n_scanners=scanners, order=orders, ends=st.lists(st.integers(1, 60), max_size=3))
def test_it_goes_on_after_kills(case: Case, n_scanners: int, order: random.Random, ends: list[int]) -> None:
    digests: set[int] = set()
    for end in ends:
        World(case, n_scanners, order, digests, follows=True).run(kill_at=end)
    n_known = len(digests)
    world = World(case, n_scanners, order, digests)
    world.run()
    world.check_complete()
    assert world.n_reused == n_known


@given(case=cases(), n_scanners=scanners, order=orders, follows=st.booleans(), stop_at=st.integers(0, 120))
def test_asked_to_stop_it_commits_what_was_scanned(
    case: Case, n_scanners: int, order: random.Random, follows: bool, stop_at: int
) -> None:
    digests: set[int] = set()
    world = World(case, n_scanners, order, digests, follows)
    world.run(stop_at)
    if world.schedule.phase is schedule.Phase.STOPPED:
        # Only at a graph that is given up workers may still be.
        assert not any(map(is_scan, world.under_way()))
        assert not world.queues[handling.INGESTER]
        assert commits(world.answers[handling.INGESTER]) == world.judged
        scanned = {request.shard for request in world.answered if isinstance(request, messages.ScanShard)}
        # What comes after a shard that is not scanned waits in the checkpoint.
        assert len(world.judged) == next(n for n in range(len(scanned) + 1) if n not in scanned)
        assert messages.Flush() in world.answered
        assert (handling.WRITER, messages.PublishGraph()) not in world.given
        again = World(case, n_scanners, order, digests)
        again.run()
        again.check_complete()
    else:
        world.check_complete()


def test_what_was_scanned_before_is_looked_at_together() -> None:
    n = 40
    division = shards.Shards(
        1,
        np.zeros((n, 16), np.uint8),
        np.zeros(n, np.int64),
        np.zeros(n, np.int64),
        *shards.by_consumer([], n),
    )
    # One of a larger division is no shard of this one.
    plan = schedule.Schedule(division, False, "graph.qg", range(n + 1), range(3, n + 5))
    requests = list(iter(plan.next_for_scanner, None))
    # The first are scanned first, since all others wait for them.
    assert [r.shard for r in requests if isinstance(r, messages.ScanShard)] == [0, 1, 2]
    groups = [[s.shard for s in r.shards] for r in requests[3:] if isinstance(r, messages.LookAgain)]
    assert [*itertools.chain.from_iterable(groups)] == [*range(3, n + 1)]
    assert len(groups) == 5
    plan.take(handling.SCANNER, messages.LookedAgain([], [9, 7]))
    again = [plan.next_for_scanner(), plan.next_for_scanner()]
    assert [r.shard for r in again if isinstance(r, messages.ScanShard)] == [7, 9]


def test_only_looks_are_given_while_not_everybody_is_ready() -> None:
    division = shards.Shards(
        1,
        np.zeros((20, 16), np.uint8),
        np.zeros(20, np.int64),
        np.zeros(20, np.int64),
        *shards.by_consumer([], 20),
    )
    plan = schedule.Schedule(division, False, "graph.qg", range(21), range(12))
    looks = [*iter(plan.next_look, None)]
    assert [shard.shard for look in looks for shard in look.shards] == [*range(12)]
    # Whatever has changed is scanned, so not yet.
    plan.take(handling.SCANNER, messages.LookedAgain([], [3]))
    assert plan.next_look() is None
    requests = [*iter(plan.next_for_scanner, None)]
    assert [r.shard for r in requests if isinstance(r, messages.ScanShard)] == [3, *range(12, 21)]
    plan.stop()
    # The second look has no answer yet.
    plan.due()
    assert plan.phase is schedule.Phase.SCANNING


def small() -> Case:
    division = shards.Shards(
        1,
        np.zeros((2, 16), np.uint8),
        np.zeros(2, np.int64),
        np.zeros(2, np.int64),
        *shards.by_consumer([np.array([[0, 1]], np.int32)], 2),
    )
    return Case(division, set(), 2, True)


def test_what_is_given_up_stops_it() -> None:
    """An answer that is missing must not count as one: the graph would lack it."""
    for n_answers in range(1, 20):
        world = World(small(), 1, random.Random(0), set())
        world.run(kill_at=n_answers)
        if world.schedule.is_over:
            break
        victims = [name for name in world.queues if name != handling.INGESTER and world.queues[name]]
        if not victims or isinstance(world.queues[victims[0]][0], messages.PublishGraph):
            continue
        world.queues[victims[0]].pop(0)
        world.schedule.take(role_of(victims[0]), None)
        world.run()
        assert world.schedule.phase is schedule.Phase.STOPPED
        assert (handling.WRITER, messages.PublishGraph()) not in world.given


def test_an_order_to_publish_that_is_under_way_is_carried_out() -> None:
    world = World(small(), 1, random.Random(0), set())
    while world.schedule.phase is not schedule.Phase.PUBLISHING:
        for role, request in world.schedule.due():
            world.give(role, request)
        request_or_none = world.schedule.next_for_scanner()
        if request_or_none is not None:
            world.give("scanner-0", request_or_none)
        if world.schedule.phase is not schedule.Phase.PUBLISHING:
            world.answer(next(name for name, queue in world.queues.items() if queue))
    world.run(stop_at=0)
    assert world.schedule.phase is schedule.Phase.FINISHED
    world.check_complete()


def test_edges_that_nothing_explains_are_refused() -> None:
    world = World(small(), 1, random.Random(0), set())
    reply = World.reply
    world.reply = lambda request: (  # type: ignore[method-assign]
        messages.InputsBuilt(request.number, N_EDGES_OF_RANGE - 1)
        if isinstance(request, messages.BuildInputs)
        else reply(world, request)
    )
    n = small().division.n_shards * N_EDGES_OF_OUTPUTS + 2 * N_EDGES_OF_RANGE
    with pytest.raises(errors.FormatError, match=f"graph.qg: its quanta read {n} datasets, but {n - 2} are"):
        world.run()


def test_scanners_have_something_to_go_on_with_but_one_range_at_a_time() -> None:
    world = World(small(), 2, random.Random(0), set())
    assert world.schedule.depth(2) == engine.MAX_IN_FLIGHT
    while world.schedule.phase is not schedule.Phase.BUILDING:
        world.run(kill_at=1)
    assert world.schedule.depth(1) == 1


def test_the_last_shards_go_to_scanners_that_have_none() -> None:
    world = World(small(), 2, random.Random(0), set())
    assert world.schedule.depth(3) == engine.MAX_IN_FLIGHT
    world.schedule.next_for_scanner()
    # Two are left: the second for a scanner would be one that another might have begun.
    assert world.schedule.depth(3) == 1
    assert world.schedule.depth(2) == engine.MAX_IN_FLIGHT
