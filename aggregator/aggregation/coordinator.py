"""The coordinator: has the workers do what the schedule says, and notes what comes of it."""

import logging

import numpy as np

from aggregator.aggregation import (
    aggregation_summary,
    configuration,
    crew,
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
        self._judge_quanta = judge
        self._report = report
        self._stopping = stopping
        self._schedule = schedule.Schedule(
            prepared.division, prepared.setup.output_path is not None, prepared.graph.path
        )
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
        self._wait()
        if not (self._config.incomplete or self._config.allow_empty_run):
            presence.check(self._prepared, self._crew, self._stopping, self._report)
        self._crew.post(handling.INGESTER, messages.Begin())
        self._wait()
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
        plan = self._schedule
        while True:
            if self._stopping.is_asked:
                plan.stop()
            phase = plan.phase
            for role, request in plan.due():
                self._crew.post(role, request)
            if phase is schedule.Phase.SCANNING and plan.phase is not phase:
                self._tell_end_of_scanning()
            if plan.is_over:
                break
            self._feed_scanners()
            for role, reply in self._receive():
                plan.take(role, reply)
                self._judge()
        if plan.phase is schedule.Phase.STOPPED:
            self._stopping.check()

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
        for level in range(1, self._schedule.depth + 1):
            for scanner in self._crew.scanners:
                if len(scanner.outstanding) < level:
                    request = self._schedule.next_for_scanner()
                    if request is not None:
                        self._crew.send(scanner, request)

    def _wait(self) -> None:
        """Wait until everything is done that was asked for."""
        while self._crew.is_busy:
            self._receive()

    def _receive(self) -> list[tuple[str, messages.Reply | None]]:
        """Wait a little; return what came, noted already."""
        replies = []
        for role, reply in self._crew.receive():
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
                self.summary.n_reused += reply.n_reused
                if reply.discarded:
                    _log.warning("Shard %d is scanned again: %s", reply.shard, reply.discarded)
                self._report.advance("scanned", self._n_quanta(reply.shard))
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
