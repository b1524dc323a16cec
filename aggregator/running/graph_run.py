"""Executes the quanta of a predicted graph, in this process or in workers, and keeps account of it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import tempfile
import time
import uuid
from collections.abc import Collection, Iterator

from aggregator import repository_files
from aggregator.console import interruption, progress
from aggregator.execution import (
    attempt_logs,
    graph_context,
    graph_executor,
    graph_quanta,
    init_outputs,
    quantum_attempts,
    quantum_worker,
    readiness,
    single_quantum_executor,
    task_errors,
)
from aggregator.running import execution_summary
from aggregator.schemas import argument_types, output_paths
from aggregator.schemas.execution import task_metadata
from aggregator.storage import errors, uris
from aggregator.workers.engines import descriptors, in_process, memory, processes
from aggregator.workers.engines import engine as engine_module

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


@dataclasses.dataclass(frozen=True, slots=True)
class RunConfig:
    """Options of an execution."""

    n_processes: int = 1
    """Number of worker processes."""

    in_process: bool = False
    """Whether to execute in the calling process, without any workers."""

    timeout: float | None = None
    """Seconds that a quantum may take."""

    fail_fast: bool = False
    """Whether to end with the first failure."""

    existing_outputs: bool = True
    """Whether to look at what earlier attempts have left; else that is lost, and its story too."""

    raise_on_partial_outputs: bool = True
    """Whether a quantum fails that could not write all outputs."""

    interactive_status: bool | None = None
    """Whether to show progress bars; by default if standard error is a terminal."""

    log_status_interval: float | None = None
    """Seconds between progress messages where no bars are shown; 60 by default."""


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
    ):
        done = _empty(context)
        _init(context, done)
    return done


def execute(
    graph_path: str | os.PathLike[str],
    repository: str | os.PathLike[str],
    config: RunConfig,
    *,
    ids: Collection[uuid.UUID] | None = None,
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
    if config.in_process and config.timeout:
        raise errors.RefusedError(
            "A quantum can be ended after a time in a worker process only: leave one out."
        )
    began, repository = time.monotonic(), os.fspath(repository)
    with (
        interruption.Interruption(cancellation) as stopping,
        graph_context.GraphContext(os.fspath(graph_path), repository) as context,
    ):
        protection = repository_files.protection(context.config, context.graph.header.output_run)
        output_paths.check_all(outputs, protection)
        quanta = graph_quanta.GraphQuanta(context, ids)
        done = _empty(context)
        done.n_quanta = len(quanta)
        try:
            with errors.explained():
                if ids is None:
                    _init(context, done)
                code = _Execution(context, config, done, stopping, repository).run(quanta, on_progress, began)
            stopping.check()
            if code:
                raise ExecutionError(_failure(done), code)
        except errors.AggregatorError as exc:
            done.elapsed = time.monotonic() - began
            exc.summary = done
            if isinstance(exc, errors.RefusedError) and (done.total() or done.n_init_written):
                raise exc.as_failure() from exc
            raise
        done.elapsed = time.monotonic() - began
    return done


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
    """

    def __init__(
        self,
        context: graph_context.GraphContext,
        config: RunConfig,
        done: execution_summary.ExecutionSummary,
        stopping: interruption.Interruption,
        repository: str,
    ) -> None:
        self._context = context
        self._config = config
        self._done = done
        self._stopping = stopping
        self._repository = repository
        self._logs = attempt_logs.LogFiles(context.files)

    def run(
        self, quanta: graph_quanta.GraphQuanta, on_progress: progress.Callback | None, began: float
    ) -> int:
        """Execute quanta; return the exit code that follows from what became of them."""
        config, totals = self._config, {"quanta": len(quanta)}
        n_workers = max(1, min(config.n_processes, len(quanta)))
        shown = progress.Progress(
            totals, began, config.log_status_interval, config.interactive_status, on_progress, self._done
        )
        with _spool() as spool, shown:
            shown.phase("executing")
            executor = graph_executor.QuantumGraphExecutor(
                self._engine(n_workers),
                functools.partial(_program, self._setup(spool, n_workers)),
                n_workers,
                functools.partial(self._bury, spool),
                graph_executor.Policy(config.timeout, config.fail_fast),
                functools.partial(self._tell, spool, shown),
                functools.partial(self._check, shown),
            )
            try:
                self._stopping.told(lambda: executor.execute(quanta))
            finally:
                peaks = {"all" if config.in_process else "coordinator": memory.peak(os.getpid())}
                self._done.peaks = {
                    k: v for k, v in (peaks | {"workers": memory.largest_child()}).items() if v
                }
        self._done.phases = shown.seconds
        return executor.exit_code

    def _engine(self, n_workers: int) -> engine_module.Engine:
        if self._config.in_process:
            return in_process.Engine()
        descriptors.check(n_workers)
        return processes.Engine()

    def _setup(self, spool: attempt_logs.Spool, n_workers: int) -> quantum_worker.Setup:
        config = self._config
        loggers = {"": logging.getLogger(), **logging.Logger.manager.loggerDict}
        levels = {name: each.level for name, each in loggers.items() if isinstance(each, logging.Logger)}
        options = single_quantum_executor.Options(
            assume_no_existing_outputs=not config.existing_outputs,
            raise_on_partial_outputs=config.raise_on_partial_outputs,
        )
        return quantum_worker.Setup(
            graph_path=self._context.graph.path,
            repository=self._repository,
            options=options,
            spool=spool.directory,
            log_levels={name: level for name, level in levels.items() if level},
            is_parallel=n_workers > 1 and not config.in_process,
        )

    def _check(self, shown: progress.Progress) -> bool:
        shown.beat(lambda: f"{self._done.n_failed} have failed")
        return self._stopping.is_asked

    def _tell(
        self, spool: attempt_logs.Spool, shown: progress.Progress, report: quantum_attempts.Report
    ) -> None:
        self._done.add(report)
        spool.remove(report.quantum_id)
        shown.advance("quanta", 1)
        exception = report.exception
        if exception is not None and exception.type_name in (task_errors.KILLED, task_errors.TIMED_OUT):
            # All others have told it themselves.
            _log.error("Quantum %s of task %r: %s", report.quantum_id, report.task_label, exception.message)

    def _bury(
        self,
        spool: attempt_logs.Spool,
        data: readiness.QuantumData,
        exception: task_metadata.ExceptionInfo,
    ) -> quantum_attempts.Fate:
        """Write the log of a quantum whose process is gone, unless that has written it."""
        block = self._context.block(data.quantum)
        has_succeeded = graph_quanta.has_metadata(self._context, block)
        fate = quantum_attempts.Fate.SUCCEEDED if has_succeeded else quantum_attempts.Fate.FAILED
        ref = quantum_attempts.log_ref(self._context.quantum(block))
        records = spool.read(data.id)
        if ref is not None and (records or not has_succeeded):
            reason = None if has_succeeded else exception
            attempt_logs.write_for_the_dead(self._logs, ref, records, reason, exception.message)
        return fate


def _program(setup: quantum_worker.Setup, name: str) -> engine_module.Program:
    return engine_module.Program(name, functools.partial(quantum_worker.QuantumWorker, setup))


@contextlib.contextmanager
def _spool() -> Iterator[attempt_logs.Spool]:
    """Make a directory for the records of running attempts; remove it afterwards."""
    with tempfile.TemporaryDirectory(prefix="aggregator-run-", ignore_cleanup_errors=True) as directory:
        yield attempt_logs.Spool(directory)
