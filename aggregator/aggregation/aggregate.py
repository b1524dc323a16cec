"""The function `aggregate_graph`: a whole aggregation, from its request to its summary."""

import contextlib
import functools
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

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
from aggregator.schemas import argument_types, output_paths
from aggregator.schemas.checkpoints import last_run, unreadable
from aggregator.storage import errors, fault_points, locks, uris
from aggregator.workers.engines import engine, in_process, processes, processor_time

_log = logging.getLogger(__name__)


def aggregate_graph(
    predicted_path: str | os.PathLike[str],
    butler_path: str | os.PathLike[str],
    config: configuration.AggregatorConfig | None = None,
    *,
    on_progress: progress.Callback | None = None,
    cancellation: interruption.Cancellation | None = None,
    outputs: Sequence[output_paths.Output] = (),
) -> aggregation_summary.Summary:
    """Ingest the outputs of an executed graph and write its provenance graph.

    Parameters
    ----------
    predicted_path
        Predicted quantum graph (`.qg`), by its path or URI.
    butler_path
        Repository: its directory, its configuration file, or its alias.
    config
        Options.
    on_progress
        Is called with a `ProgressUpdate` by this thread: when another stage begins, otherwise twice a second
        at most; it is waited for. If it raises an `Exception`, that is logged, it is not called again, and
        the run goes on.
    cancellation
        Can stop it from another thread, or from `on_progress`.
    outputs
        Files that the caller is going to write: refused if they would replace what must stay.

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
        If a signal or the cancellation asked to stop; calling again goes on.
    AggregatorError
        If some quanta or datasets had to be left out; all others are saved.

    Each error has `summary`, the `Summary` of what was done until then; nothing if scanning had not begun.
    """
    argument_types.check(aggregate_graph, locals())
    config = config or configuration.AggregatorConfig()
    started, cpu = time.monotonic(), processor_time.seconds()
    show = functools.partial(
        progress.Progress,
        began=started,
        interval=config.log_status_interval,
        interactive=config.interactive_status,
        callback=on_progress,
    )
    with (
        interruption.Interruption(cancellation) as stopping,
        aggregation_request.check(
            os.fspath(predicted_path), os.fspath(butler_path), config, outputs
        ) as request,
    ):
        done = _summary(request)
        listing = unreadable.Listing(request.checkpoint.layout.directory)
        try:
            try:
                with errors.explained(), _kept(request, done, listing):
                    stopping.told(lambda: _aggregate(request, stopping, show, done, listing))
            finally:
                done.elapsed, done.cpu = time.monotonic() - started, processor_time.seconds() - cpu
            _publish(listing, request, done)
            aggregation_summary.check_complete(done)
        except errors.AggregatorError as exc:
            if done.has_begun:
                exc.summary = done
                with contextlib.suppress(errors.AggregatorError):
                    request.checkpoint.note_run(config, request.output, str(exc).partition("\n")[0])
            if isinstance(exc, errors.RefusedError) and not request.checkpoint.undo():
                raise exc.as_failure() from exc
            raise
        request.checkpoint.note_run(config, request.output, last_run.COMPLETE)
        fault_points.reached("complete")
        if not (config.incomplete or config.dry_run or config.keep_checkpoint):
            request.checkpoint.remove()
            done.checkpoint = None
    _log.info("Ingested %d datasets, skipped %d already present", done.n_ingested, done.n_skipped)
    return done


def _summary(request: aggregation_request.Request) -> aggregation_summary.Summary:
    """Return the summary of a run that has not begun."""
    config, graph = request.config, request.graph
    done = aggregation_summary.empty(tuple(task.label for task in graph.pipeline.tasks), config)
    done.run, done.predicted_graph = graph.header.output_run, uris.absolute(graph.path)
    done.repository = request.repository.path
    done.checkpoint = request.checkpoint.layout.directory if config.checkpoint else None
    return done


@contextlib.contextmanager
def _kept(
    request: aggregation_request.Request, done: aggregation_summary.Summary, listing: unreadable.Listing
) -> Iterator[None]:
    """Leave the checkpoint in order, and the list of files that can't be read, if a run fails."""
    try:
        yield
    except BaseException:
        if done.has_begun and not listing.is_empty:
            with contextlib.suppress(errors.AggregatorError):
                _publish(listing, request, done)
        # What the workers were killed at is of no use to anybody.
        request.checkpoint.leave()
        raise


def _publish(
    listing: unreadable.Listing, request: aggregation_request.Request, done: aggregation_summary.Summary
) -> None:
    """Bring the list of files that can't be read to where it stays."""
    locks.check(request.checkpoint.ownership)
    path = request.checkpoint.layout.unreadable
    if not listing.is_empty and not request.config.checkpoint:
        path = os.path.join(tempfile.mkdtemp(prefix="aggregation-"), os.path.basename(path))
    listing.publish(path)
    done.problem_list = path


def _engine(n_processes: int, lock: int, stopping: interruption.Interruption) -> engine.Engine:
    # Workers inherit the lock, so that it outlives a killed coordinator until the last one is gone.
    return processes.Engine([lock]) if n_processes > 1 else in_process.Engine(stopping.attempt)


def _aggregate(
    request: aggregation_request.Request,
    stopping: interruption.Interruption,
    show: Callable[..., progress.Progress],
    done: aggregation_summary.Summary,
    listing: unreadable.Listing,
) -> None:
    config = request.config
    where = _engine(config.n_processes, request.checkpoint.lock.descriptor, stopping)
    workers = crew.Crew(where, config.n_processes, request.output is not None)
    try:
        prepared = stopping.attempt(lambda: preparation.prepare(request))
        stopping.check()
        if prepared is None:
            raise RuntimeError("given up without a signal")
        division = prepared.division
        judge = judgement.Judge(
            division.edges, len(division.ids), config.incomplete, config.unreadable == "failed"
        )
        counted = ["scanned", "ingested"] + ["written"] * (request.output is not None)
        totals = dict.fromkeys(counted, len(division.ids))
        shown = show(totals, summary=done, memory=workers.held_memory)
        try:
            with shown as report:
                coordinator.Coordinator(
                    config, prepared, workers, judge, report, stopping, done, listing
                ).run()
        finally:
            done.phases, done.peaks = shown.seconds, workers.peaks()
    finally:
        workers.stop(0.0 if stopping.at_once else crew.STOP_SECONDS)
