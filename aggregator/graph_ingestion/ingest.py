"""The function `ingest_graph`: a whole ingestion of a graph (aggregate-and-ingest.md section 6)."""

import contextlib
import logging
import os
import time
from collections.abc import Sequence

from aggregator.butler import run_lock
from aggregator.console import interruption, progress
from aggregator.graph_ingestion import (
    ingestion_request,
    ingestion_summary,
    ownership,
    placement,
    replacement,
    transfers,
)
from aggregator.schemas import argument_types, output_paths
from aggregator.schemas.graphs import provenance_graph
from aggregator.storage import errors, fault_points
from aggregator.workers.engines import memory

_log = logging.getLogger(__name__)


def ingest_graph(
    butler_config: str | os.PathLike[str],
    uri: str | os.PathLike[str] | None = None,
    *,
    transfer: str | None = transfers.DEFAULT,
    batch_size: int = transfers.BATCH_SIZE,
    output_run: str | None = None,
    verify: bool = True,
    interactive_status: bool | None = None,
    log_status_interval: float | None = None,
    on_progress: progress.Callback | None = None,
    cancellation: interruption.Cancellation | None = None,
    outputs: Sequence[output_paths.Output] = (),
) -> ingestion_summary.IngestionSummary:
    """Make a provenance graph a part of its repository, in place of the metadata, logs and configs it holds.

    Parameters
    ----------
    butler_config
        Repository: its directory, its configuration file, or its alias.
    uri
        The provenance graph (`.qg`). It can be left out when its ingestion only has to be finished.
    transfer
        How it gets into the datastore: "auto", "link", "symlink", "hardlink", "copy", "move" or
        "relsymlink"; `None` if it is there already.
    batch_size
        Datasets in a transaction.
    output_run
        The run, if no graph is given; otherwise the graph has to be of this run.
    verify
        Whether to read every block of the graph before the file is deleted that it replaces.
    interactive_status
        Whether to show progress bars; by default if the terminal is one.
    log_status_interval
        Seconds between progress messages where no bars are shown; 60 by default.
    on_progress
        Is told of progress; see `aggregator.aggregate_graph`.
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
    Interrupted
        If a signal or the cancellation asked to stop; calling again goes on.
    AggregatorError
        If something fails, or some files could not be deleted; calling again goes on.

    Errors after the checks have `summary`, the `IngestionSummary` of what was done until then.
    """
    argument_types.check(ingest_graph, locals())
    began = time.monotonic()
    graph_path = None if uri is None else os.fspath(uri)
    with contextlib.ExitStack() as stack:
        stopping = stack.enter_context(interruption.Interruption(cancellation))
        request = stack.enter_context(
            ingestion_request.check(os.fspath(butler_config), graph_path, transfer, batch_size, output_run)
        )
        output_paths.check_all(outputs, request.protection)
        fault_points.reached("checked")
        steps = replacement.Replacement(request, stopping, batch_size, verify)
        totals = _totals(request, steps)
        shown = progress.Progress(
            totals,
            began,
            log_status_interval,
            interactive_status,
            on_progress,
            steps.summary,
            lambda: {"all": memory.resident(os.getpid())},
        )
        # An execution would take what is deleted here for quanta that have not run.
        stack.enter_context(run_lock.held_alone(request.run, request.repository.datastores))
        claim = stack.enter_context(placement.locked(request.where[0]))
        request.check_again()
        try:
            with shown as report, errors.after_changes(), errors.explained():
                steps.run(report, transfer, claim)
            done = _sum_up(steps, shown, began)
            _check_complete(done)
        except errors.AggregatorError as exc:
            exc.summary = _sum_up(steps, shown, began)
            raise
    return done


def _totals(request: ingestion_request.Request, steps: replacement.Replacement) -> dict[str, int]:
    """Return how much there is to do of each kind, once nothing is in the way.

    Raises
    ------
    RefusedError
        If the graph is not of the repository, or can't stand in for its files.
    """
    with provenance_graph.ProvenanceGraph(request.graph_path) as graph:
        # What can't work has to be refused before anything is touched.
        if not request.is_ingested:
            ownership.check(request, graph)
        steps.translator(graph, request.where)
        n_files, n_configs = 2 * graph.header.n_quanta, len(graph.pipeline.tasks)
    counted = ("ingested",) if request.is_ingested else ("forgotten", "ingested")
    # Each of the graph's places is examined, and configs need no examination.
    return {"examined": n_files * len(request.where), **dict.fromkeys(counted, n_files + n_configs)}


def _sum_up(
    steps: replacement.Replacement, shown: progress.Progress, began: float
) -> ingestion_summary.IngestionSummary:
    """Return what was done so far."""
    done = steps.summary
    done.elapsed, done.phases = time.monotonic() - began, shown.seconds
    done.peak = memory.peak(os.getpid())
    return done


def _check_complete(done: ingestion_summary.IngestionSummary) -> None:
    for line in (*done.failures, *done.conflicts, *(f"{path}: was changed" for path in done.changed)):
        _log.error("%s", line)
    problems = []
    if done.n_conflicts:
        what = (
            "1 dataset, whose files" if done.n_conflicts == 1 else f"{done.n_conflicts} datasets, whose files"
        )
        problems.append(f"the repository contradicts {what} stay ({done.conflicts[0]})")
    if done.n_failed:
        problems.append(f"{_originals(done.n_failed)} could not be deleted ({done.failures[0]})")
    if done.n_changed == 1:
        problems.append(
            "1 original file is not what the graph was made from, so it stays; move it away if it is needed, "
            f"or delete it ({done.changed[0]})"
        )
    elif done.n_changed:
        problems.append(
            f"{_originals(done.n_changed)} are not what the graph was made from, so they stay; move them "
            f"away if they are needed, or delete them ({done.changed[0]})"
        )
    if problems:
        raise errors.AggregatorError(
            f"{done.graph_path}: is ingested, but {'; '.join(problems)}. Mend that, and run the same command "
            "again."
        )


def _originals(number: int) -> str:
    return "1 original file" if number == 1 else f"{number} original files"
