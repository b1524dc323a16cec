"""Aggregation as a function."""

import contextlib
import logging
import os
import resource
import tempfile
import time

from aggregator.aggregation import (
    aggregation_request,
    aggregation_summary,
    configuration,
    coordinator,
    crew,
    judgement,
    preparation,
)
from aggregator.console import interruption, progress
from aggregator.schemas.checkpoints import last_run, unreadable
from aggregator.storage import errors, fault_points, locks

_log = logging.getLogger(__name__)

_ALL_PROCESSES = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def aggregate_graph(
    predicted_path: str, butler_path: str, config: configuration.AggregatorConfig | None = None
) -> aggregation_summary.Summary:
    """Ingest the outputs of an executed graph and write its provenance graph.

    Parameters
    ----------
    predicted_path
        Predicted quantum graph (`.qg`).
    butler_path
        Repository: its directory, its configuration file, or its alias.
    config
        Options.

    Returns
    -------
    summary
        What was done.

    Raises
    ------
    RefusedError
        If the request can't be carried out; nothing has been changed.
    FatalWorkerError
        If a worker failed or died; what was committed stays, and calling again goes on.
    Interrupted
        If a signal asked to stop; calling again goes on.
    AggregatorError
        If some quanta or datasets had to be left out; all others are saved.

    Each error has a `summary` if scanning had begun: what was done until then.
    """
    config = config or configuration.AggregatorConfig()
    started, cpu = time.monotonic(), _cpu_seconds()
    with (
        interruption.Interruption() as stopping,
        aggregation_request.check(predicted_path, butler_path, config) as asked,
    ):
        done = aggregation_summary.empty(tuple(task.label for task in asked.graph.pipeline.tasks), config)
        listing = unreadable.Listing(asked.checkpoint.layout.directory)
        try:
            try:
                stopping.told(lambda: _aggregate(asked, stopping, started, done, listing))
            except BaseException:
                if done.has_begun and not listing.is_empty:
                    with contextlib.suppress(errors.AggregatorError):
                        _publish(listing, asked, done)
                # What the workers were killed at is of no use to anybody.
                asked.checkpoint.leave()
                raise
            finally:
                done.elapsed, done.cpu = time.monotonic() - started, _cpu_seconds() - cpu
            _publish(listing, asked, done)
            aggregation_summary.check_complete(done)
        except errors.AggregatorError as exc:
            if done.has_begun:
                exc.summary = done
                with contextlib.suppress(errors.AggregatorError):
                    asked.checkpoint.note_run(config, asked.output, str(exc).partition("\n")[0])
            if isinstance(exc, errors.RefusedError) and not asked.checkpoint.undo():
                raise exc.as_failure() from exc
            raise
        asked.checkpoint.note_run(config, asked.output, last_run.COMPLETE)
        fault_points.reached("complete")
        if not (config.incomplete or config.dry_run or config.keep_checkpoint):
            asked.checkpoint.remove()
    _log.info("Ingested %d datasets, skipped %d already present", done.n_ingested, done.n_skipped)
    return done


def _publish(
    listing: unreadable.Listing, asked: aggregation_request.Request, done: aggregation_summary.Summary
) -> None:
    """Bring the list of files that can't be read to where it stays."""
    locks.check(asked.checkpoint.ownership)
    path = asked.checkpoint.layout.unreadable
    if not listing.is_empty and not asked.config.checkpoint:
        path = os.path.join(tempfile.mkdtemp(prefix="aggregation-"), os.path.basename(path))
    listing.publish(path)
    done.problem_list = path


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of those that it has waited for."""
    return sum(resource.getrusage(who).ru_utime + resource.getrusage(who).ru_stime for who in _ALL_PROCESSES)


def _aggregate(
    asked: aggregation_request.Request,
    stopping: interruption.Interruption,
    started: float,
    done: aggregation_summary.Summary,
    listing: unreadable.Listing,
) -> None:
    config = asked.config
    lock = asked.checkpoint.lock.descriptor
    workers = crew.Crew(config.n_processes, asked.output is not None, lock, stopping)
    try:
        prepared = stopping.attempt(lambda: preparation.prepare(asked))
        stopping.check()
        if prepared is None:
            raise RuntimeError("given up without a signal")
        division = prepared.division
        judge = judgement.Judge(
            division.edges, len(division.ids), config.incomplete, config.unreadable == "failed"
        )
        counted = ["scanned", "ingested"] + ["written"] * (asked.output is not None)
        totals = dict.fromkeys(counted, len(division.ids))
        shown = progress.Progress(totals, started, config.log_status_interval, config.interactive_status)
        try:
            with shown as report:
                coordinator.Coordinator(
                    config, prepared, workers, judge, report, stopping, done, listing
                ).run()
                done.peaks = workers.peaks()
        finally:
            done.phases = shown.seconds
    finally:
        workers.stop(0.0 if stopping.at_once else crew.STOP_SECONDS)
