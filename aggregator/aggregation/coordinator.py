"""The coordinator: feeds scanners, judges what they find in order, and has it ingested and written."""

import itertools
import logging
from collections import deque

import numpy as np

from aggregator.aggregation import aggregation_summary, configuration, crew, judgement, preparation, presence
from aggregator.console import interruption, progress
from aggregator.schemas import messages
from aggregator.schemas import verdicts as verdict_codes
from aggregator.schemas.checkpoints import digest, ledger, manifest, unreadable
from aggregator.storage import errors, fault_points, locks
from aggregator.workers.engines import process

_log = logging.getLogger(__name__)


class Coordinator:
    """Runs one aggregation.

    Parameters
    ----------
    config
        Options.
    prepared
        What is to be done.
    workers
        Who does it.
    judge
        Judges quanta.
    report
        Shows progress.
    stopping
        Knows whether to stop.
    done
        Where to note what is done.
    listing
        Where to write which files can't be read.
    """

    def __init__(
        self,
        config: configuration.AggregatorConfig,
        prepared: preparation.Preparation,
        workers: crew.Crew,
        judge: judgement.Judge,
        report: progress.Progress,
        stopping: interruption.Interruption,
        done: aggregation_summary.Summary,
        listing: unreadable.Listing,
    ) -> None:
        self._config = config
        self._prepared = prepared
        self._crew = workers
        self._judge = judge
        self._report = report
        self._stopping = stopping
        self._next_shard = 0
        self._scanned: dict[int, messages.ShardScanned] = {}
        self._committed = 0
        self._verdicts: list[bytes] = []
        self._holds = False
        # Who may read the outputs of each shard, and the shards that wait for each shard to be judged.
        self._consumers = prepared.division.consumers() if workers.writer is not None else None
        self._waiting: dict[int, list[int]] = {}
        for shard, last in enumerate(self._consumers.last().tolist() if self._consumers else ()):
            self._waiting.setdefault(last, []).append(shard)
        self._buildable: deque[messages.BuildOutputs] = deque()
        self._n_edges = self._n_shared = 0
        self._inputs = messages.InputRanges([], False, 0)
        self.summary = done
        self._listing = listing

    def run(self) -> None:
        """Scan and commit all shards, then write the graph unless something is held.

        Raises
        ------
        RefusedError
            If a worker can't begin; nothing has been changed.
        AggregatorError
            If anything fails later.
        """
        self._report.phase("scanning")
        self._crew.set_up(self._prepared.setup)
        # Whatever may be refused is refused before the database is changed, or a digest is written.
        while self._crew.is_busy:
            self._receive()
        if not (self._config.incomplete or self._config.allow_empty_run):
            presence.check(self._prepared, self._crew, self._stopping, self._report)
        self._ask(self._crew.ingester, messages.Begin())
        self.summary.n_shards = self._prepared.division.n_shards
        self.summary.n_quanta = len(self._prepared.division.ids)
        self.summary.has_begun = True
        with errors.after_changes():
            # A repository that was mistyped would have been refused, and earlier work be for another one.
            self._prepared.checkpoint.forget()
            if self._prepared.moved is not None:
                manifest.write(self._prepared.checkpoint.layout.manifest, self._prepared.moved)
            self._prepared.checkpoint.note_run(self._config, self._prepared.setup.output_path)
            self._run()

    def _run(self) -> None:
        n_shards = self._prepared.division.n_shards
        while self._committed < n_shards or self._buildable or not self._scanners_idle:
            if not self._stopping.is_asked:
                self._feed_scanners()
            elif not self._crew.is_busy:
                break
            self._receive()
            self._commit()
        for warning in self.summary.warnings:
            _log.warning("%s", warning)
        # The last batch is committed while the graph is being completed.
        self._crew.post(self._crew.ingester, messages.Flush())
        if self._stopping.is_asked:
            _log.warning("Asked to stop: finishing what is under way")
        elif self._crew.writer is not None and self._holds:
            _log.warning("%d quanta are held; no graph is written", self.summary.n_held)
        elif self._crew.writer is not None:
            self._write_graph(self._crew.writer)
        is_complete = self.summary.graph_path is not None
        if not is_complete and not self._stopping.is_asked:
            # Numbers without a graph are last words, too.
            self._confirm()
            is_complete = True
        while self._crew.is_busy:
            self._receive()
        if not is_complete:
            self._stopping.check()

    @property
    def _scanners_idle(self) -> bool:
        return all(map(self._crew.is_idle, self._crew.scanners))

    def _feed_scanners(self) -> None:
        """Give each scanner something to do, one round after the other so that all have work."""
        for level in range(1, process.MAX_IN_FLIGHT + 1):
            for scanner in self._crew.scanners:
                if scanner.in_flight < level:
                    # What is built early is kept by the checkpoint.
                    if self._buildable:
                        scanner.send(self._buildable.popleft())
                    elif self._next_shard < self._prepared.division.n_shards:
                        scanner.send(self._prepared.division.request(self._next_shard))
                        self._next_shard += 1

    def _receive(self) -> None:
        for _, reply in self._crew.receive():
            self._take(reply)
        self._report.beat(self._crew.describe)
        self._check_scanners()

    def _check_scanners(self) -> None:
        """Stop if a scanner takes too long, as it does when a file system hangs."""
        limit = self._config.scan_timeout
        if limit is None:
            return
        for scanner in self._crew.scanners:
            age = scanner.busy_seconds()
            if age > limit:
                raise errors.FatalWorkerError(
                    f"{scanner.name} has been at {scanner.outstanding[0]} for {age:.0f} s, longer than "
                    f"--scan-timeout {limit:g}. Look whether the file system hangs, and run again."
                )

    def _take(self, reply: messages.Reply) -> None:
        match reply:
            case messages.ShardScanned():
                self._scanned[reply.shard] = reply
                self.summary.n_reused += reply.n_reused
                if reply.discarded:
                    _log.warning("Shard %d is scanned again: %s", reply.shard, reply.discarded)
                self._report.advance("scanned", self._n_quanta(reply))
            case messages.Ingested():
                self.summary.n_ingested += reply.n_ingested
                self.summary.n_skipped += reply.n_skipped
                self.summary.add_conflicts([c.reason for c in reply.conflicts])
                self.summary.n_again += reply.n_again
                self.summary.n_stale += reply.n_stale
                self.summary.stale.extend(reply.stale)
                fault_points.reached("report")
                if not self._prepared.setup.dry_run:
                    locks.check(self._prepared.setup.ownership)
                    ledger.append(self._prepared.checkpoint.layout.ledger, reply.committed)
                fault_points.reached("ledger")
                self._report.advance("ingested", sum(self._size_of(line.shard) for line in reply.committed))
            case messages.ShardTaken():
                self._report.advance("written", self._size_of(reply.shard))
            case messages.OutputsBuilt():
                self._n_edges += reply.n_edges
                self._n_shared += reply.n_shared
            case messages.InputsBuilt():
                self._n_edges += reply.n_edges
            case messages.GraphWritten():
                self.summary.graph_path = self._prepared.setup.output_path
                self.summary.graph_size = reply.size
            case messages.InputRanges():
                self._inputs = reply

    @staticmethod
    def _n_quanta(scanned: messages.ShardScanned) -> int:
        return len(scanned.statuses) if scanned.shard else 0

    def _size_of(self, shard: int) -> int:
        return len(self._verdicts[shard]) if shard else 0

    def _commit(self) -> None:
        """Judge the shards whose predecessors are judged, and hand them on."""
        while (scanned := self._scanned.pop(self._committed, None)) is not None:
            statuses = aggregation_summary.statuses_of(scanned)
            if scanned.shard == 0:
                held = (statuses == digest.UNREADABLE) & (self._config.unreadable == "hold")
                judged = np.where(held, verdict_codes.HELD, verdict_codes.ACCEPTED).astype(np.int8)
            else:
                judged = self._judge.judge(self._prepared.division.begin(scanned.shard), statuses)
                self.summary.add(aggregation_summary.tasks_of(scanned), statuses, judged)
                self.summary.note_absent(scanned, judged)
            self._holds = self._holds or bool((judged == verdict_codes.HELD).any())
            counted = judged[statuses == digest.UNREADABLE] != verdict_codes.BLOCKED
            problems = [p for p, counts in zip(scanned.problems, counted, strict=True) if counts]
            self.summary.add_problems(problems)
            self._listing.add(problems)
            self._verdicts.append(judged.tobytes())
            request = messages.CommitShard(scanned.shard, self._verdicts[-1])
            self._crew.post(self._crew.ingester, request)
            if self._crew.writer is not None:
                self._crew.post(self._crew.writer, request)
            self._add_buildable(self._committed)
            self._committed += 1
            self.summary.n_judged_shards = self._committed

    def _add_buildable(self, shard: int) -> None:
        """Have those outputs built whose consumers are all known with this shard, if a graph is due."""
        if self._holds:
            self._buildable.clear()
            return
        if self._consumers is None:
            return
        for producer in self._waiting.get(shard, ()):
            consumers = self._consumers.of(producer).tobytes()
            self._buildable.append(messages.BuildOutputs(producer, self._verdicts[producer], consumers))

    def _ask(self, worker: process.Worker, request: messages.Request) -> None:
        """Post a request and wait until the worker has answered everything."""
        self._crew.post(worker, request)
        while not self._crew.is_idle(worker):
            self._receive()

    def _stop_if_asked(self) -> None:
        """Raise Interrupted if a signal has come, as soon as all is committed that was scanned."""
        if self._stopping.is_asked:
            while not self._crew.is_idle(self._crew.ingester):
                self._receive()
            self._stopping.check()

    def _confirm(self) -> None:
        """Wait until everything is done that was asked for, and have the ingester look whether it is true."""
        while self._crew.is_busy:
            self._receive()
        self._ask(self._crew.ingester, messages.Confirm())

    def _write_graph(self, writer: process.Worker) -> None:
        """Have what is left of the dataset section built, and the graph completed by the writer."""
        self._report.phase("writing the graph")
        self._ask(writer, messages.PlanInputs(self._n_edges, self._n_shared))
        self._crew.post(writer, messages.CopyBlocks())
        bounds = [b"", *self._inputs.bounds, b""]
        n_shards = self._prepared.division.n_shards
        ranges = deque(
            messages.BuildInputs(number, begin, end, self._inputs.careful, n_shards)
            for number, (begin, end) in enumerate(itertools.pairwise(bounds))
        )
        n_ranges, expected = len(ranges), self._n_edges + self._inputs.n_edges
        # From here on nothing is lost by stopping: a graph is put together anew by each run.
        while ranges or not (self._scanners_idle and self._crew.is_idle(writer)):
            self._stop_if_asked()
            for scanner in self._crew.scanners:
                # One at a time, since they take long: nobody shall wait while another has two.
                if ranges and self._crew.is_idle(scanner):
                    self._crew.post(scanner, ranges.popleft())
            self._receive()
        self._stop_if_asked()
        if self._n_edges != expected:
            raise errors.FormatError(
                self._prepared.graph.path,
                "",
                f"its quanta read {expected} datasets, but {self._n_edges} are explained by its edges; the "
                "graph contradicts itself: build it again",
            )
        self._crew.post(writer, messages.FinishGraph(n_ranges))
        while not self._crew.is_idle(writer):
            self._stop_if_asked()
            self._receive()
        # Whoever sees the graph can count on it that all outputs are ingested.
        self._confirm()
        self._stop_if_asked()
        self._ask(writer, messages.PublishGraph())
