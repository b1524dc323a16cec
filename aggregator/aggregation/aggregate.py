"""The function `aggregate_graph`: a whole aggregation, from its request to its summary."""

import contextlib
import dataclasses
import functools
import importlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING

from aggregator.aggregation import (
    aggregation_request,
    aggregation_summary,
    configuration,
    coordinator,
    crew,
    executed_quanta,
    judgement,
    preparation,
)
from aggregator.console import interruption, progress
from aggregator.schemas import argument_types, output_paths
from aggregator.schemas.checkpoints import last_run, unreadable
from aggregator.storage import errors, fault_points, locks, uris
from aggregator.workers.engines import engine, in_process, processor_time

if TYPE_CHECKING:
    from aggregator.aggregation import remote_scanners

_log = logging.getLogger(__name__)

Show = Callable[..., contextlib.AbstractContextManager[progress.Progress]]
"""Returns what shows progress, from totals, summary and what measures memory."""


@dataclasses.dataclass(frozen=True, slots=True)
class Began:
    """When an aggregation began."""

    time: float = dataclasses.field(default_factory=time.monotonic)
    """By the clock."""

    cpu: float = dataclasses.field(default_factory=processor_time.seconds)
    """CPU seconds of all processes until then."""


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
    began = Began()
    show = functools.partial(
        progress.Progress,
        began=began.time,
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
        return whole(request, stopping, show, began)


def whole(
    request: aggregation_request.Request,
    stopping: interruption.Interruption,
    show: Show,
    began: Began,
) -> aggregation_summary.Summary:
    """Do all `steps`, which has the parameters and errors, and return the summary."""
    work = steps(request, stopping, show, began)
    while True:
        try:
            next(work)
        except StopIteration as end:
            done: aggregation_summary.Summary = end.value
            return done


def steps(
    request: aggregation_request.Request,
    stopping: interruption.Interruption,
    show: Show,
    began: Began,
    executed: executed_quanta.ExecutedQuanta | None = None,
) -> Generator[None, None, aggregation_summary.Summary]:
    """Aggregate step by step, so that somebody can do other things between them.

    Parameters
    ----------
    request
        What to do.
    stopping
        Takes signals.
    show
        Returns what shows progress.
    began
        When it began.
    executed
        Quanta that are executed, if execution goes on between the steps; else all are.

    Yields
    ------
    None
        After each step. Until execution is over, steps wait for nothing that the workers are at.

    Returns
    -------
    summary
        What was done.

    Raises
    ------
    AggregatorError
        As `aggregate_graph` does.
    """
    done, config = _summary(request), request.config
    listing = unreadable.Listing(request.checkpoint.layout.directory)
    work = _work(request, stopping, show, done, listing, executed)
    try:
        try:
            with errors.explained(), _kept(request, done, listing), contextlib.closing(work):
                while stopping.told(lambda: next(work, True)) is None:
                    yield
        finally:
            done.elapsed, done.cpu = time.monotonic() - began.time, processor_time.seconds() - began.cpu
        _publish(listing, request, done)
        aggregation_summary.check_complete(done)
    except errors.AggregatorError as exc:
        if done.has_begun:
            exc.summary = done
            with contextlib.suppress(errors.AggregatorError):
                request.checkpoint.note_run(config, request.output, str(exc).partition("\n")[0])
        if isinstance(exc, errors.InUseError) and not done.has_begun:
            request.checkpoint.undo()
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
    if n_processes == 1:
        return in_process.Engine(stopping.attempt)
    # Its libraries are a twentieth of what a small run takes.
    processes = importlib.import_module("aggregator.workers.engines.processes")
    result: engine.Engine = processes.Engine([lock])
    return result


def _work(
    request: aggregation_request.Request,
    stopping: interruption.Interruption,
    show: Show,
    done: aggregation_summary.Summary,
    listing: unreadable.Listing,
    executed: executed_quanta.ExecutedQuanta | None,
) -> Generator[None, None, None]:
    """Do the work of an aggregation, step by step."""
    config = request.config
    # What is executed between the steps, this process knows.
    check_idle = request.check_idle if executed is None else lambda: None
    check_idle()
    where = _engine(config.n_processes, request.checkpoint.lock.descriptor, stopping)
    workers = crew.Crew(where, config.n_processes, request.output is not None)
    with contextlib.ExitStack() as open_things, workers.ending(lambda: stopping.at_once):
        if config.engine is not None:
            workers.remote = open_things.enter_context(_remote_scanners(request))
        prepared = stopping.attempt(
            lambda: preparation.prepare(request, preparation.server(request.repository))
        )
        stopping.check()
        if prepared is None:
            raise RuntimeError("given up without a signal")
        division = prepared.division
        judge = judgement.Judge(
            division.producers, division.starts, config.incomplete, config.unreadable == "failed"
        )
        totals = dict.fromkeys(counts(request), len(division.ids))
        divided = None if executed is None else executed_quanta.ExecutedShards(executed, division)
        with show(totals, summary=done, memory=workers.held_memory) as report:
            # The last one is added later.
            done.phases = report.seconds
            work = coordinator.Coordinator(
                config, prepared, workers, judge, report, stopping, done, listing, check_idle, divided
            )
            try:
                work.begin()
                while work.go_on():
                    yield
            finally:
                done.peaks = workers.peaks()


@contextlib.contextmanager
def _remote_scanners(request: aggregation_request.Request) -> "Iterator[remote_scanners.RemoteScanners]":
    """Give scanners on other hosts."""
    # Most have none.
    from aggregator.aggregation import remote_scanners

    config = request.config
    job_engines = importlib.import_module("aggregator.workers.engines.job_engines")
    with job_engines.opened(config.engine) as where:
        yield remote_scanners.RemoteScanners(where, request.checkpoint, config.exchange, config.scan_timeout)


def counts(request: aggregation_request.Request) -> list[str]:
    """Return what an aggregation counts, for progress."""
    return ["scanned", "ingested"] + ["written"] * (request.output is not None)
