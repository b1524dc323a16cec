"""Aggregation as a function."""

import logging
import time

from aggregator import (
    configuration,
    coordinator,
    crew,
    interruption,
    preparation,
    progress,
    request,
    summary,
    verdicts,
)
from schemas import errors

_log = logging.getLogger(__name__)


def aggregate_graph(
    predicted_path: str, butler_path: str, config: configuration.AggregatorConfig | None = None
) -> summary.Summary:
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
    """
    config = config or configuration.AggregatorConfig()
    started = time.monotonic()
    with interruption.Interruption() as stopping, request.check(predicted_path, butler_path, config) as asked:
        try:
            done = _aggregate(asked, stopping)
        except errors.AggregatorError as exc:
            if exc.exit_code == errors.RefusedError.exit_code:
                # Only the ingester can tell that the database does not fit; what others did by then goes.
                asked.checkpoint.undo()
            raise
        done.elapsed = time.monotonic() - started
        coordinator.check_complete(done)
        if not (config.incomplete or config.dry_run or config.keep_checkpoint):
            asked.checkpoint.remove()
    _log.info("Ingested %d datasets, skipped %d already present", done.n_ingested, done.n_skipped)
    return done


def _aggregate(asked: request.Request, stopping: interruption.Interruption) -> summary.Summary:
    config = asked.config
    workers = crew.Crew(config.n_processes, asked.output is not None, asked.checkpoint.lock)
    try:
        prepared = preparation.prepare(asked)
        stopping.check()
        division = prepared.division
        judge = verdicts.Judge(division.edges, len(division.ids), config.incomplete)
        counted = ["scanned", "ingested"] + ["written"] * (asked.output is not None)
        totals = dict.fromkeys(counted, len(division.ids))
        with progress.Progress(totals, config.log_status_interval, config.interactive_status) as report:
            running = coordinator.Coordinator(prepared, workers, judge, report, stopping)
            running.run()
    except interruption.Interrupted as exc:
        workers.stop(0.0 if exc.at_once else crew.STOP_SECONDS)
        raise
    finally:
        workers.stop()
    return running.summary
