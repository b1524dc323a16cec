"""Executes quanta on this host: in this process, or in workers."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

from aggregator.butler import run_lock
from aggregator.execution import (
    attempt_logs,
    graph_context,
    graph_executor,
    graph_quanta,
    quantum_attempts,
    quantum_worker,
    readiness,
    single_quantum_executor,
)
from aggregator.running import quanta_account, run_config, spool_directory
from aggregator.schemas.execution import task_metadata
from aggregator.storage import locks
from aggregator.workers.engines import descriptors, in_process, processes
from aggregator.workers.engines import engine as engine_module


def execute(
    context: graph_context.GraphContext,
    repository: str,
    config: run_config.RunConfig,
    quanta: graph_quanta.GraphQuanta,
    account: quanta_account.QuantaAccount,
    hold: run_lock.Hold,
) -> int:
    """Execute quanta; return the exit code that follows from what became of them.

    Parameters
    ----------
    context, repository
        Graph and repository.
    config
        Options.
    quanta
        The quanta.
    account
        Is told what became of each.
    hold
        What shows that the run is locked.

    Raises
    ------
    AggregatorError
        If a worker can't do what it is for.
    """
    n_workers = max(1, min(config.n_processes, len(quanta)))
    with spool_directory.made() as directory:
        spool = attempt_logs.Spool(directory)
        executor = graph_executor.QuantumGraphExecutor(
            _engine(config, n_workers, hold.descriptors),
            functools.partial(_program, _setup(context, repository, config, directory, n_workers, hold)),
            n_workers,
            functools.partial(bury, context, hold, spool),
            graph_executor.Policy(config.timeout, config.fail_fast),
            account.tell,
            account.check,
        )
        account.stopping.told(lambda: executor.execute(quanta))
    return executor.exit_code


def _engine(config: run_config.RunConfig, n_workers: int, inherited: Sequence[int]) -> engine_module.Engine:
    if config.in_process:
        return in_process.Engine()
    descriptors.check(n_workers)
    return processes.Engine(inherited, leads_groups=True)


def _setup(
    context: graph_context.GraphContext,
    repository: str,
    config: run_config.RunConfig,
    spool: str,
    n_workers: int,
    hold: run_lock.Hold,
) -> quantum_worker.Setup:
    directory = config.provenance_directory
    options = single_quantum_executor.Options(
        assume_no_existing_outputs=not config.existing_outputs,
        raise_on_partial_outputs=config.raise_on_partial_outputs,
        provenance_directory=None if directory is None else str(directory),
    )
    return quantum_worker.Setup(
        graph_path=context.graph.path,
        repository=repository,
        options=options,
        spool=spool,
        log_levels=log_levels(),
        is_parallel=n_workers > 1 and not config.in_process,
        ownerships=hold.ownerships,
    )


def log_levels() -> dict[str, int]:
    """Return the levels of loggers that have one, by name; that of the root logger is empty."""
    loggers = {"": logging.getLogger(), **logging.Logger.manager.loggerDict}
    levels = {name: each.level for name, each in loggers.items() if isinstance(each, logging.Logger)}
    return {name: level for name, level in levels.items() if level}


def _program(setup: quantum_worker.Setup, name: str) -> engine_module.Program:
    return engine_module.Program(name, functools.partial(quantum_worker.QuantumWorker, setup))


def bury(
    context: graph_context.GraphContext,
    hold: run_lock.Hold,
    spool: attempt_logs.Spool | None,
    data: readiness.QuantumData,
    exception: task_metadata.ExceptionInfo,
) -> quantum_attempts.Fate:
    """Write the log of a quantum whose process is gone, unless that has written it.

    Parameters
    ----------
    context
        Graph and repository.
    hold
        What shows that the run is locked.
    spool
        Where its records are, if that can be known.
    data
        The quantum.
    exception
        How it has failed, unless it has left metadata.

    Raises
    ------
    AggregatorError
        If the directory of the run is another one by now, or something can't be written.
    """
    for ownership in hold.ownerships:
        locks.check(ownership)
    block = context.block(data.quantum)
    has_succeeded = graph_quanta.has_metadata(context, block)
    fate = quantum_attempts.Fate.SUCCEEDED if has_succeeded else quantum_attempts.Fate.FAILED
    ref = quantum_attempts.log_ref(context.quantum(block))
    records = [] if spool is None else spool.read(data.id)
    if ref is not None and (records or not has_succeeded):
        reason = None if has_succeeded else exception
        logs = attempt_logs.LogFiles(context.files)
        attempt_logs.write_for_the_dead(logs, ref, records, reason, exception.message)
    return fate
