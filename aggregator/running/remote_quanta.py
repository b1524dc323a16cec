"""Executes quanta in jobs of an engine, on hosts that see the same graph and the same files."""

from __future__ import annotations

import functools
import logging
import os

from aggregator.butler import run_lock
from aggregator.execution import (
    cluster_executor,
    cluster_schedule,
    earlier_successes,
    graph_context,
    graph_quanta,
    quantum_attempts,
    readiness,
)
from aggregator.execution.workflows import clusters as clusters_module
from aggregator.running import engine_jobs, lifeline, local_quanta, quanta_account, run_config
from aggregator.storage import uris
from aggregator.workers.engines import job_engines


def execute(
    context: graph_context.GraphContext,
    config: run_config.RunConfig,
    quanta: graph_quanta.GraphQuanta,
    account: quanta_account.QuantaAccount,
    hold: run_lock.Hold,
) -> int:
    """Execute quanta; return the exit code that follows from what became of them.

    Parameters
    ----------
    context
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
    RefusedError
        If there is no such engine, or clusters do not fit to the graph.
    AggregatorError
        If jobs can't begin.
    """
    definitions = [clusters_module.definition(text) for text in config.clusters]
    clusters_module.check(definitions, context.definitions)
    # Most of what a job takes is to begin.
    executed = earlier_successes.find(context, quanta)
    schedule = cluster_schedule.ClusterSchedule(quanta, definitions, frozenset(executed))
    run, datastores = context.graph.header.output_run, context.config.datastores
    has_jobs = lambda: bool(run_lock.job_executor(run, datastores))  # noqa: E731
    with (
        job_engines.opened(config.engine) as engine,
        lifeline.made(_subjects(context.graph.path, hold), has_jobs) as line,
    ):
        for data in executed.values():
            fate = quantum_attempts.Fate.EXISTING
            account.tell(quantum_attempts.Report(data.id, data.task, dict(data.data_id), fate))
        rim = cluster_executor.Rim(
            functools.partial(engine_jobs.job, _setup(context, config, line.path)),
            functools.partial(_has_succeeded, context),
            functools.partial(local_quanta.bury, context, hold, None),
            account.tell,
            account.check,
            line.end_jobs,
        )
        executor = cluster_executor.ClusterExecutor(engine, schedule, rim, fail_fast=config.fail_fast)
        account.stopping.told(executor.execute)
    return executor.exit_code


def _subjects(graph_path: str, hold: run_lock.Hold) -> list[str]:
    """Return beside what there may be a file that jobs live by: all of it is what they see, too."""
    beside_graph = [] if uris.is_remote(graph_path) else [os.path.abspath(graph_path)]
    return [*beside_graph, *(os.path.join(each.path, ".jobs") for each in hold.ownerships)]


def _setup(context: graph_context.GraphContext, config: run_config.RunConfig, path: str) -> engine_jobs.Setup:
    options = ["--no-interactive-status", "-j", str(config.n_processes)]
    if config.timeout is not None:
        options += ["--timeout", str(config.timeout)]
    if config.fail_fast:
        options.append("--fail-fast")
    if not config.raise_on_partial_outputs:
        options.append("--no-raise-on-partial-outputs")
    if config.provenance_directory is not None:
        options += ["--provenance", str(config.provenance_directory)]
    levels = [
        f"{name or '.'}={logging.getLevelName(level)}" for name, level in local_quanta.log_levels().items()
    ]
    graph = uris.absolute(context.graph.path)
    return engine_jobs.Setup(graph, context.config.path, tuple(levels), tuple(options), path)


def _has_succeeded(context: graph_context.GraphContext, data: readiness.QuantumData) -> bool:
    return graph_quanta.has_metadata(context, context.block(data.quantum))
