"""The coordinator: has the workers do what the schedule says, and notes what comes of it."""

import logging
from collections.abc import Callable

import numpy as np

from aggregator.aggregation import (
    aggregation_summary,
    configuration,
    crew,
    executed_quanta,
    judgement,
    preparation,
    presence,
    schedule,
)
from aggregator.console import interruption, progress
from aggregator.schemas import messages
from aggregator.schemas import verdicts as verdict_codes
from aggregator.schemas.checkpoints import digest, ledger, manifest, unreadable
from aggregator.storage import errors, fault_points, locks
from aggregator.workers.engines import engine
from aggregator.workers.roles import handling

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
    check_idle
        Raises an error while quanta are executed that are going to be recorded.
    executed
        Shards that are executed, if execution goes on; else all are.
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
        check_idle: Callable[[], None],
        executed: executed_quanta.ExecutedShards | None = None,
    ) -> None:
        self._config = config
        self._prepared = prepared
        self._crew = workers
        self._judge_quanta = judge
        self._report = report
        self._stopping = stopping
        self._check_idle = check_idle
        self._executed = executed
        self._schedule = schedule.Schedule(
            prepared.division,
            prepared.setup.output_path is not None,
            prepared.graph.path,
            range(prepared.division.n_shards) if executed is None else (),
            prepared.checkpoint.results,
        )
        self.summary = done
        self._listing = listing
        self._unready = set(workers.scanners)
        """Scanners that have not been set up yet."""

    def begin(self) -> None:
        """Make sure that everybody can begin, and make the first changes.

        Raises
        ------
        RefusedError
            If a worker can't begin; nothing has been changed.
        AggregatorError
            If anything fails later.
        """
        if self._executed is None:
            self._report.phase("scanning")
        self._crew.set_up(self._prepared.setup)
        if self._crew.remote is not None:
            self._crew.remote.set_up(self._prepared.setup, self._prepared.butler_path)
        if not (self._config.incomplete or self._config.allow_empty_run):
            presence.check(self._prepared, self._crew, self._stopping, self._report)
        # Whatever may be refused is refused before the database is changed, or a digest is written.
        self._get_ready()
        self._crew.post(handling.INGESTER, messages.Begin())
        self._get_ready()
        self.summary.n_shards = self._prepared.division.n_shards
        self.summary.n_quanta = len(self._prepared.division.ids)
        self.summary.has_begun = True
        with errors.after_changes():
            # A repository that was mistyped would have been refused, and earlier work be for another one.
            self._prepared.checkpoint.forget()
            if self._prepared.moved is not None:
                manifest.write(self._prepared.checkpoint.layout.manifest, self._prepared.moved)
            self._prepared.checkpoint.note_run(self._config, self._prepared.setup.output_path)
            self._judge()

    def go_on(self) -> bool:
        """Do what can be done; wait a little, unless quanta are executed; return whether there is more.

        All shards are scanned and committed, then the graph is written unless something is held.

        Raises
        ------
        AggregatorError
            If anything fails.
        """
        with errors.after_changes():
            return self._go_on()

    def _go_on(self) -> bool:
        plan = self._schedule
        self._take_executed()
        if self._stopping.is_asked:
            plan.stop()
            if self._crew.remote is not None:
                self._crew.remote.give_up()
        phase = plan.phase
        for role, request in plan.due():
            if isinstance(request, messages.PublishGraph):
                # It would tell of failures that are none.
                self._check_idle()
            self._crew.post(role, request)
        if phase is schedule.Phase.SCANNING and plan.phase is not phase:
            self._tell_end_of_scanning()
        if plan.phase is schedule.Phase.STOPPED:
            self._stopping.check()
            raise errors.AggregatorError("execution has ended before all quanta; what is scanned is kept.")
        if not plan.is_over:
            self._feed_scanners()
            for role, reply in self._receive():
                plan.take(role, reply)
                self._judge()
        return not plan.is_over

    def _take_executed(self) -> None:
        if self._executed is not None:
            for shard in self._executed.take():
                self._schedule.add_executed(shard)
            if self._executed.is_cut_short:
                self._schedule.stop()

    def _tell_end_of_scanning(self) -> None:
        for warning in self.summary.warnings:
            _log.warning("%s", warning)
        if self._schedule.phase is schedule.Phase.STOPPING:
            _log.warning("Asked to stop: finishing what is under way")
        elif self._schedule.phase is schedule.Phase.PLANNING:
            self._report.phase("writing the graph")
        elif self._prepared.setup.output_path is not None:
            _log.warning("%d quanta are held; no graph is written", self.summary.n_held)

    def _feed_scanners(self) -> None:
        """Give each scanner something to do, one round after the other so that all have work."""
        remote = self._crew.remote
        while remote is not None and remote.has_room:
            shard = self._schedule.next_for_engine()
            if shard is None:
                break
            remote.send(shard)
        scanners = self._crew.scanners
        for level in range(1, engine.MAX_IN_FLIGHT + 1):
            for scanner in scanners:
                if len(scanner.outstanding) < level <= self._schedule.depth(len(scanners)):
                    request = self._schedule.next_for_scanner(helped=remote is not None)
                    if request is not None:
                        self._crew.send(scanner, request)

    def _get_ready(self) -> None:
        """Wait until everybody is ready.

        Meanwhile, scanners look again at what an earlier run has scanned: whatever they find changes nothing.
        """
        while True:
            idle = [scanner for scanner in self._crew.scanners if not scanner.outstanding]
            self._unready.difference_update(idle)
            if not self._unready and not self._crew.is_busy_besides_scanners:
                return
            for scanner in idle:
                if (request := self._schedule.next_look()) is not None:
                    self._crew.send(scanner, request)
            for role, reply in self._receive():
                # Signals may have made it give up.
                if role == handling.SCANNER and not isinstance(reply, messages.Ready):
                    self._schedule.take(role, reply)

    def _receive(self) -> list[tuple[str, messages.Reply | None]]:
        """Wait a little, unless others have work to do; return what came, noted already."""
        replies = []
        waits = self._executed is None or not self._executed.is_executing
        for role, reply in self._crew.receive(crew.POLL_SECONDS if waits else 0.0):
            self._note(reply)
            replies.append((role, reply))
        self._report.beat(self._crew.describe)
        self._check_scanners()
        return replies

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

    def _note(self, reply: messages.Reply | None) -> None:
        match reply:
            case messages.ShardScanned():
                self._note_scanned(reply)
            case messages.LookedAgain():
                for scanned in reply.unchanged:
                    self._note_scanned(scanned)
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
                self._report.advance("ingested", sum(self._n_quanta(line.shard) for line in reply.committed))
            case messages.ShardTaken():
                self._report.advance("written", self._n_quanta(reply.shard))
            case messages.GraphWritten():
                self.summary.graph_path = self._prepared.setup.output_path
                self.summary.graph_size = reply.size

    def _note_scanned(self, scanned: messages.ShardScanned) -> None:
        self.summary.n_reused += scanned.n_reused
        if scanned.discarded:
            _log.warning("Shard %d is scanned again: %s", scanned.shard, scanned.discarded)
        self._report.advance("scanned", self._n_quanta(scanned.shard))

    def _n_quanta(self, shard: int) -> int:
        return self._prepared.division.n_quanta(shard)

    def _judge(self) -> None:
        """Judge the shards whose predecessors are judged."""
        while (scanned := self._schedule.next_to_judge()) is not None:
            statuses = aggregation_summary.statuses_of(scanned)
            if scanned.shard == 0:
                held = (statuses == digest.UNREADABLE) & (self._config.unreadable == "hold")
                judged = np.where(held, verdict_codes.HELD, verdict_codes.ACCEPTED).astype(np.int8)
            else:
                judged = self._judge_quanta.judge(self._prepared.division.begin(scanned.shard), statuses)
                self.summary.add(aggregation_summary.tasks_of(scanned), statuses, judged)
                self.summary.note_absent(scanned, judged)
            counted = judged[statuses == digest.UNREADABLE] != verdict_codes.BLOCKED
            problems = [p for p, counts in zip(scanned.problems, counted, strict=True) if counts]
            self.summary.add_problems(problems)
            self._listing.add(problems)
            self._schedule.judge(judged.tobytes(), bool((judged == verdict_codes.HELD).any()))
            self.summary.n_judged_shards += 1
