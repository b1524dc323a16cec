"""Executes the quanta of a predicted graph, here or on an engine, and keeps account of it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time
import uuid
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from aggregator import repository_files
from aggregator.butler import run_lock
from aggregator.console import interruption, progress
from aggregator.execution import (
    graph_context,
    graph_quanta,
    ingested_quanta,
    init_outputs,
    quantum_attempts,
)
from aggregator.running import (
    execution_report,
    execution_summary,
    local_quanta,
    quanta_account,
    run_config,
)
from aggregator.schemas import argument_types, output_paths
from aggregator.storage import errors, uris
from aggregator.workers.engines import memory

if TYPE_CHECKING:
    from aggregator.aggregation import configuration
    from aggregator.running import followed_execution

_log = logging.getLogger(__name__)


class ExecutionError(errors.AggregatorError):
    """Quanta have failed; all that is known of them is on record.

    Parameters
    ----------
    message
        What happened.
    exit_code
        Exit code that follows from that.
    """

    __module__ = "aggregator"

    def __init__(self, message: str, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(message)


def init_run(
    graph_path: str | os.PathLike[str], repository: str | os.PathLike[str]
) -> execution_summary.ExecutionSummary:
    """Write what a run has before its first quantum; what is there is kept.

    Parameters
    ----------
    graph_path
        The predicted graph.
    repository
        The repository.

    Raises
    ------
    RefusedError
        If a configuration is there that differs, a task can't be imported, or an argument is wrong.
    AggregatorError
        If something can't be written.
    """
    argument_types.check(init_run, locals())
    with (
        graph_context.GraphContext(os.fspath(graph_path), os.fspath(repository)) as context,
        errors.explained(),
        _locked(context, is_whole=True),
    ):
        _protection(context)
        ingested_quanta.refuse(context, is_whole=True)
        done = _empty(context)
        _init(context, done)
    return done


def execute(
    graph_path: str | os.PathLike[str],
    repository: str | os.PathLike[str],
    config: run_config.RunConfig,
    *,
    ids: Collection[uuid.UUID] | None = None,
    aggregation: configuration.AggregatorConfig | None = None,
    outputs: Collection[output_paths.Output] = (),
    on_progress: progress.Callback | None = None,
    cancellation: interruption.Cancellation | None = None,
) -> execution_summary.ExecutionSummary:
    """Execute quanta: those that have not succeeded before, and whose prerequisites succeed.

    Parameters
    ----------
    graph_path
        The predicted graph.
    repository
        The repository.
    config
        Options.
    ids
        Quanta to execute; by default all, after what a run has before its first quantum is written.
    aggregation
        Options of an aggregation that follows: quanta are scanned and ingested while others are executed.
    outputs
        Files that are written afterwards; looked at before anything is done.
    on_progress
        Is told of progress; see `aggregator.aggregate_graph`.
    cancellation
        Can stop it.

    Raises
    ------
    RefusedError
        If graph, repository, a task or a quantum is not what it should be.
    ExecutionError
        If quanta have failed.
    Interrupted
        If a signal or a cancellation asked to stop; the same call goes on.
    AggregatorError
        If what became of a quantum can't be put on record.
    """
    config.check()
    config = _with_directory(config)
    if ids is not None and aggregation is not None:
        raise errors.RefusedError("Only a run of all quanta can be followed by an aggregation.")
    began, graph_path, repository = time.monotonic(), os.fspath(graph_path), os.fspath(repository)
    report = _report(config)
    outputs = [*outputs, *([report.output] if report else [])]
    with (
        interruption.Interruption(cancellation) as stopping,
        graph_context.GraphContext(graph_path, repository) as context,
        _follower(graph_path, repository, aggregation, outputs, stopping) as follower,
    ):
        output_paths.check_all(outputs, _protection(context))
        if report is not None:
            report.output.remove()
        quanta = graph_quanta.GraphQuanta(context, ids)
        done = _empty(context)
        done.n_quanta = len(quanta)
        try:
            with errors.explained(), _locked(context, is_whole=ids is None) as hold:
                ingested_quanta.refuse(context, is_whole=ids is None)
                if ids is None:
                    _init(context, done)
                execution = _Execution(context, config, done, stopping, repository, follower, hold, report)
                code = execution.run(quanta, on_progress, began)
            stopping.check()
            _check(done, code, follower)
            if report is not None:
                report.write(context.graph.header, quanta.blocks(), None)
        except errors.AggregatorError as exc:
            done.elapsed = time.monotonic() - began
            exc.summary = done
            if report is not None and done.total():
                _write_after_failure(report, context, quanta, exc)
            if isinstance(exc, errors.RefusedError) and (done.total() or done.n_init_written):
                raise exc.as_failure() from exc
            raise
        done.elapsed = time.monotonic() - began
    return done


def _locked(
    context: graph_context.GraphContext, *, is_whole: bool
) -> contextlib.AbstractContextManager[run_lock.Hold]:
    # Jobs of a few quanta run at the same time.
    lock = run_lock.held if is_whole else run_lock.held_by_job
    return lock(context.graph.header.output_run, context.config.datastores)


@contextlib.contextmanager
def _follower(
    graph_path: str,
    repository: str,
    config: configuration.AggregatorConfig | None,
    outputs: Collection[output_paths.Output],
    stopping: interruption.Interruption,
) -> Iterator[followed_execution.Follower | None]:
    """Return an aggregation that follows the execution, if there is one."""
    if config is None:
        yield None
        return
    # It imports half of everything, which jobs of a few quanta do not need.
    from aggregator.aggregation import aggregation_request, preparation
    from aggregator.running import followed_execution

    with aggregation_request.check(graph_path, repository, config, list(outputs)) as request:
        try:
            preparation.rehearse(request)
            yield followed_execution.Follower(request, stopping)
        except errors.RefusedError:
            request.checkpoint.undo()
            raise


def _check(
    done: execution_summary.ExecutionSummary, code: int, follower: followed_execution.Follower | None
) -> None:
    """Raise what went wrong."""
    error = None if follower is None else follower.error
    if code:
        failure = _failure(done)
        raise ExecutionError(failure if error is None else f"{failure}\n{error}", code) from error
    if error is not None:
        raise error.as_failure() if isinstance(error, errors.RefusedError) else error


def _protection(context: graph_context.GraphContext) -> output_paths.Protection:
    """Return what must stay as it is; refuse to log to it."""
    protection = repository_files.protection(context.config, context.graph.header.output_run)
    repository_files.check_logs(protection)
    return protection


def _report(config: run_config.RunConfig) -> execution_report.ExecutionReport | None:
    """Return the report that is asked for, if one is."""
    if config.report_path is None:
        return None
    return execution_report.ExecutionReport(os.fspath(config.report_path), in_process=config.in_process)


def _with_directory(config: run_config.RunConfig) -> run_config.RunConfig:
    """Make the directory for what quanta read and write; return the options with its absolute path."""
    if config.provenance_directory is None:
        return config
    path = os.path.abspath(config.provenance_directory)
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as exc:
        raise errors.RefusedError(f"{path}: can't make this directory ({exc.strerror}).") from exc
    return dataclasses.replace(config, provenance_directory=path)


def _write_after_failure(
    report: execution_report.ExecutionReport,
    context: graph_context.GraphContext,
    quanta: graph_quanta.GraphQuanta,
    error: errors.AggregatorError,
) -> None:
    """Write a report on what went wrong; that it can't be written must not hide that."""
    try:
        report.write(context.graph.header, quanta.blocks(), error)
    except errors.AggregatorError as exc:
        _log.error("The report could not be written: %s", exc)


def _empty(context: graph_context.GraphContext) -> execution_summary.ExecutionSummary:
    run, path = context.graph.header.output_run, uris.absolute(context.graph.path)
    return execution_summary.ExecutionSummary(run, path, context.config.path)


def _init(context: graph_context.GraphContext, done: execution_summary.ExecutionSummary) -> None:
    counts = init_outputs.write(context)
    done.n_init_written, done.n_init_kept = counts.n_written, counts.n_kept


def _failure(done: execution_summary.ExecutionSummary) -> str:
    blocked = done.total(quantum_attempts.Fate.BLOCKED)
    also = f", and {blocked} are blocked" if blocked else ""
    failed = "1 quantum has failed" if done.n_failed == 1 else f"{done.n_failed} quanta have failed"
    if done.n_in_use:
        return f"{failed}{also}. {done.n_in_use} of them other processes execute, too: wait until these end."
    return f"{failed}{also}. What became of each is on record."


class _Execution:
    """One execution of quanta.

    Parameters
    ----------
    context
        Graph and repository.
    config
        Options.
    done
        What was done.
    stopping
        Takes signals.
    repository
        Where the repository is.
    follower
        An aggregation that follows, if there is one.
    hold
        What shows that the run is locked.
    report
        Where to tell of each quantum, if that is asked for.
    """

    def __init__(
        self,
        context: graph_context.GraphContext,
        config: run_config.RunConfig,
        done: execution_summary.ExecutionSummary,
        stopping: interruption.Interruption,
        repository: str,
        follower: followed_execution.Follower | None,
        hold: run_lock.Hold,
        report: execution_report.ExecutionReport | None,
    ) -> None:
        self._context = context
        self._config = config
        self._done = done
        self._stopping = stopping
        self._repository = repository
        self._follower = follower
        self._hold = hold
        self._report = report

    def run(
        self, quanta: graph_quanta.GraphQuanta, on_progress: progress.Callback | None, began: float
    ) -> int:
        """Execute quanta; return the exit code that follows from what became of them."""
        config, follower = self._config, self._follower
        totals = dict.fromkeys(["quanta", *(follower.counts if follower else ())], len(quanta))
        shown = progress.Progress(
            totals, began, config.log_status_interval, config.interactive_status, on_progress, self._done
        )
        account = quanta_account.QuantaAccount(self._done, shown, self._stopping, self._report, follower)
        with shown:
            shown.phase("executing")
            follows = follower.following(len(quanta), shown) if follower else contextlib.nullcontext()
            try:
                with follows:
                    code = self._execute(quanta, account)
            finally:
                self._done.aggregation = follower.summary if follower else None
                peaks = {"all" if config.in_process else "coordinator": memory.peak(os.getpid())}
                self._done.peaks = {
                    k: v for k, v in (peaks | {"workers": memory.largest_child()}).items() if v
                }
        self._done.phases = shown.seconds
        return code

    def _execute(self, quanta: graph_quanta.GraphQuanta, account: quanta_account.QuantaAccount) -> int:
        if self._config.engine is None:
            return local_quanta.execute(
                self._context, self._repository, self._config, quanta, account, self._hold
            )
        # Jobs of a few quanta do not need it.
        from aggregator.running import remote_quanta

        return remote_quanta.execute(self._context, self._config, quanta, account, self._hold)
