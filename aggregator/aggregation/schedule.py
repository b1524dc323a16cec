"""Decides what is done next: what to scan, what waits for what, and when all is done.

Nothing here reads, writes or waits: requests go out, answers come in, in whatever order they may.
"""

import enum
import heapq
import itertools
from collections import Counter, deque
from collections.abc import Iterable, Sequence

from aggregator.aggregation import shards
from aggregator.schemas import messages
from aggregator.storage import errors
from aggregator.workers.engines import engine
from aggregator.workers.roles import handling


class Phase(enum.Enum):
    """How far a run is."""

    SCANNING = enum.auto()
    """Shards are scanned, judged, and handed on."""

    FLUSHING = enum.auto()
    """There will be no graph; the last batch is committed."""

    PLANNING = enum.auto()
    """The last batch is committed, and the writer divides overall inputs into ranges."""

    BUILDING = enum.auto()
    """Scanners build ranges of overall inputs, while the writer copies blocks."""

    ASSEMBLING = enum.auto()
    """The writer puts the graph together."""

    CONFIRMING = enum.auto()
    """The ingester looks whether all that was committed is there."""

    PUBLISHING = enum.auto()
    """The writer moves the graph to its place."""

    FINISHED = enum.auto()
    """Everything is done."""

    STOPPING = enum.auto()
    """What was scanned before a request to stop is committed."""

    STOPPED = enum.auto()
    """Everything is done that is to be done after a request to stop."""


_GRAPH_PHASES = (Phase.PLANNING, Phase.BUILDING, Phase.ASSEMBLING, Phase.CONFIRMING)
"""Nothing is lost by stopping in them: a graph is put together anew by each run."""

_TOGETHER = 8
"""Shards whose files are looked at together if an earlier run has scanned them: a wait is for all of them."""


class Schedule:
    """The order of work of one run. Each request that it gives out has to be answered by `take`.

    Parameters
    ----------
    division
        The shards.
    writes_graph
        Whether a graph is asked for.
    graph_path
        The predicted graph, for errors.
    executed
        Shards whose files are there as far as they ever will be, ascending; others follow by `add_executed`.
    scanned
        Shards that an earlier run has scanned.
    """

    def __init__(
        self,
        division: shards.Shards,
        writes_graph: bool,
        graph_path: str,
        executed: Iterable[int],
        scanned: Iterable[int] = (),
    ) -> None:
        self.phase = Phase.SCANNING
        self._holds = False
        self._division = division
        self._graph_path = graph_path
        self._earlier = set(scanned)
        # Heaps, so that the first is taken: those after it wait for it.
        self._known: list[int] = []
        """Shards of which an earlier digest tells."""
        self._unknown: list[int] = []
        for shard in sorted(executed):
            self.add_executed(shard)
        self._scanned: dict[int, messages.ShardScanned] = {}
        self._verdicts: list[bytes] = []
        # Who may read the outputs of each shard, and the shards that wait for each shard to be judged.
        self._consumers = division.consumers() if writes_graph else None
        self._waiting: dict[int, list[int]] = {}
        for shard, last in enumerate(self._consumers.last().tolist() if self._consumers else ()):
            self._waiting.setdefault(last, []).append(shard)
        self._buildable: deque[messages.BuildOutputs] = deque()
        self._ranges: deque[messages.BuildInputs] = deque()
        self._n_ranges = self._n_edges = self._n_shared = self._n_expected = 0
        self._due: list[tuple[str, messages.Request]] = []
        self._n_open: Counter[str] = Counter()
        self._is_stopping = False

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do."""
        return self.phase in (Phase.FINISHED, Phase.STOPPED)

    def depth(self, n_scanners: int) -> int:
        """Return how many requests a scanner may have unanswered now, given how many scanners there are."""
        # Towards the end, and while ranges of inputs are built, nobody shall wait while another has two.
        n_more = len(self._known) + len(self._unknown) + len(self._buildable)
        has_more = self.phase is Phase.SCANNING and n_more >= n_scanners
        return engine.MAX_IN_FLIGHT if has_more else 1

    def stop(self) -> None:
        """Begin nothing new, and come to an end as soon as all is committed that was scanned."""
        self._is_stopping = True

    def add_executed(self, shard: int) -> None:
        """Let a shard be scanned, now that nothing more happens to its files."""
        heapq.heappush(self._known if shard in self._earlier else self._unknown, shard)

    def next_for_engine(self) -> messages.ScanShard | None:
        """Return the next shard for scanners on other hosts; nothing if there is none at the moment."""
        if self._is_stopping or self.phase is not Phase.SCANNING or not self._unknown:
            return None
        self._n_open[handling.SCANNER] += 1
        return self._division.request(heapq.heappop(self._unknown))

    def next_for_scanner(self, *, helped: bool = False) -> messages.Request | None:
        """Return the next request for any scanner of this host; nothing if there is none at the moment.

        Parameters
        ----------
        helped
            Whether shards that nothing is known of are for scanners on other hosts.
        """
        request: messages.Request | None = None
        if self._is_stopping:
            return None
        # What is built early is kept by the checkpoint.
        if self._buildable:
            request = self._buildable.popleft()
        elif self.phase is Phase.SCANNING and (self._known or (self._unknown and not helped)):
            request = self._next_scan(() if helped else self._unknown)
        elif self._ranges:
            request = self._ranges.popleft()
        if request is not None:
            self._n_open[handling.SCANNER] += 1
        return request

    def _next_scan(self, unknown: Sequence[int]) -> messages.Request:
        if not self._known or (unknown and unknown[0] < self._known[0]):
            return self._division.request(heapq.heappop(self._unknown))
        if self._known[0] not in self._earlier:
            return self._division.request(heapq.heappop(self._known))
        return self._look_again(unknown)

    def next_look(self) -> messages.LookAgain | None:
        """Return the next request if it changes nothing: scanners look at what an earlier run has scanned."""
        if self._is_stopping or not self._is_to_be_looked_at(self._unknown):
            return None
        self._n_open[handling.SCANNER] += 1
        return self._look_again(self._unknown)

    def _look_again(self, unknown: Sequence[int]) -> messages.LookAgain:
        group: list[int] = []
        while len(group) < _TOGETHER and self._is_to_be_looked_at(unknown):
            group.append(heapq.heappop(self._known))
        self._earlier.difference_update(group)
        return messages.LookAgain(tuple(map(self._division.request, group)))

    def _is_to_be_looked_at(self, unknown: Sequence[int]) -> bool:
        """Return whether the next shard is one that nobody has looked at again."""
        if not self._known or self._known[0] not in self._earlier:
            return False
        return not unknown or self._known[0] < unknown[0]

    def due(self) -> list[tuple[str, messages.Request]]:
        """Move on as far as the answers allow; return requests, each with the role that it is for."""
        while (phase := self._next_phase()) is not self.phase:
            self.phase = phase
        due, self._due = self._due, []
        return due

    def take(self, role: str, reply: messages.Reply | None) -> None:
        """Take the answer to one request; nothing if it was given up because of a request to stop."""
        self._n_open[role] -= 1
        match reply:
            case messages.ShardScanned():
                self._scanned[reply.shard] = reply
            case messages.LookedAgain():
                self._scanned.update((scanned.shard, scanned) for scanned in reply.unchanged)
                for shard in reply.others:
                    heapq.heappush(self._known, shard)
            case messages.OutputsBuilt():
                self._n_edges += reply.n_edges
                self._n_shared += reply.n_shared
            case messages.InputsBuilt():
                self._n_edges += reply.n_edges
            case messages.InputRanges():
                self._plan(reply)
            case None:
                self.stop()

    def next_to_judge(self) -> messages.ShardScanned | None:
        """Return the next shard if it is scanned and all before it are judged; `judge` has to follow."""
        return self._scanned.pop(len(self._verdicts), None)

    def judge(self, verdicts: bytes, holds: bool) -> None:
        """Hand the shard on that `next_to_judge` has returned.

        Parameters
        ----------
        verdicts
            Verdict of each quantum, int8.
        holds
            Whether one of them is held.
        """
        shard = len(self._verdicts)
        self._verdicts.append(verdicts)
        self._holds = self._holds or holds
        self._post(handling.INGESTER, messages.CommitShard(shard, verdicts))
        if self._consumers is None:
            return
        self._post(handling.WRITER, messages.CommitShard(shard, verdicts))
        if self._holds:
            self._buildable.clear()
            return
        for producer in self._waiting.get(shard, ()):
            consumers = self._consumers.of(producer).tobytes()
            self._buildable.append(messages.BuildOutputs(producer, self._verdicts[producer], consumers))

    def _post(self, role: str, request: messages.Request) -> None:
        self._due.append((role, request))
        self._n_open[role] += 1

    def _is_idle(self, *roles: str) -> bool:
        """Return whether some roles, by default all, have answered everything."""
        return not any(self._n_open[role] for role in roles or self._n_open)

    def _plan(self, plan: messages.InputRanges) -> None:
        self._n_expected = self._n_edges + plan.n_edges
        bounds = itertools.pairwise([b"", *plan.bounds, b""])
        n_shards = self._division.n_shards
        self._ranges.extend(
            messages.BuildInputs(number, begin, end, plan.careful, n_shards)
            for number, (begin, end) in enumerate(bounds)
        )
        self._n_ranges = len(self._ranges)

    def _next_phase(self) -> Phase:
        """Return the phase that follows from the answers so far, after posting what it begins with."""
        if self._is_stopping and self._may_stop():
            if self.phase is not Phase.SCANNING:
                return Phase.STOPPED
            self._post(handling.INGESTER, messages.Flush())
            return Phase.STOPPING
        match self.phase:
            case Phase.SCANNING if not self._is_stopping and self._is_scanned():
                # The last batch is committed while the graph is being completed.
                self._post(handling.INGESTER, messages.Flush())
                if self._consumers is None or self._holds:
                    return Phase.FLUSHING
                self._post(handling.WRITER, messages.PlanInputs(self._n_edges, self._n_shared))
                return Phase.PLANNING
            case Phase.PLANNING if self._is_idle(handling.WRITER):
                self._post(handling.WRITER, messages.CopyBlocks())
                return Phase.BUILDING
            case Phase.BUILDING if not self._ranges and self._is_idle(handling.SCANNER, handling.WRITER):
                self._check_edges()
                self._post(handling.WRITER, messages.FinishGraph(self._n_ranges))
                return Phase.ASSEMBLING
            case Phase.FLUSHING | Phase.ASSEMBLING if self._is_idle():
                # Whoever sees the graph, or numbers without one, can count on what they tell.
                self._post(handling.INGESTER, messages.Confirm())
                return Phase.CONFIRMING
            case Phase.CONFIRMING if self._is_idle():
                if not self._writes_graph:
                    return Phase.FINISHED
                self._post(handling.WRITER, messages.PublishGraph())
                return Phase.PUBLISHING
            case Phase.PUBLISHING if self._is_idle():
                return Phase.FINISHED
            case Phase.STOPPING if self._is_idle():
                return Phase.STOPPED
        return self.phase

    @property
    def _writes_graph(self) -> bool:
        return self._consumers is not None and not self._holds

    def _is_scanned(self) -> bool:
        all_judged = len(self._verdicts) == self._division.n_shards
        return all_judged and not self._buildable and self._is_idle(handling.SCANNER)

    def _may_stop(self) -> bool:
        if self.phase is Phase.SCANNING:
            return self._is_idle()
        return self.phase in _GRAPH_PHASES and self._writes_graph and self._is_idle(handling.INGESTER)

    def _check_edges(self) -> None:
        if self._n_edges != self._n_expected:
            raise errors.FormatError(
                self._graph_path,
                "",
                f"its quanta read {self._n_expected} datasets, but {self._n_edges} are explained by its "
                "edges; the graph contradicts itself: build it again",
            )
