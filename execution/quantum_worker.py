"""The program of workers that execute quanta: each opens graph and repository once, for many quanta."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping

from aggregator.execution import (
    attempt_logs,
    graph_context,
    quantum_attempts,
    single_quantum_executor,
    task_errors,
)
from aggregator.schemas.execution import task_metadata
from aggregator.storage import errors, locks

_NO_LOG = (
    "The process of this quantum ended when it had succeeded, before its log was written: records are lost"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Setup:
    """What every worker is told."""

    graph_path: str
    """The predicted graph."""

    repository: str
    """The repository."""

    options: single_quantum_executor.Options
    """How quanta are executed."""

    spool: str
    """Directory for records of logs that are not written yet."""

    log_levels: Mapping[str, int]
    """Log level by logger; the root logger's name is empty."""

    is_parallel: bool
    """Whether there are others."""

    ownerships: tuple[locks.Ownership, ...] = ()
    """What tells that the directories of the run are where they were."""


class QuantumWorker:
    """Executes quanta of a graph.

    Parameters
    ----------
    setup
        What it is told.
    """

    def __init__(self, setup: Setup) -> None:
        self._context = graph_context.GraphContext(setup.graph_path, setup.repository)
        try:
            self._load_tasks(setup)
        except BaseException:
            self._context.graph.close()
            raise
        # Only now: libraries want to make their loggers themselves.
        for name, level in setup.log_levels.items():
            logging.getLogger(name).setLevel(level)
        self._spool = attempt_logs.Spool(setup.spool)
        self._logs = attempt_logs.LogFiles(self._context.files)
        self._executor = single_quantum_executor.SingleQuantumExecutor(
            self._context.files,
            setup.options,
            dataset_types=self._context.dataset_types,
            spool=self._spool,
            ownerships=setup.ownerships,
        )

    def _load_tasks(self, setup: Setup) -> None:
        """Import all tasks that have quanta: one that can't be imported is refused before the first."""
        for label, n_quanta in self._context.graph.header.n_task_quanta.items():
            if n_quanta and not self._context.task(label).can_run_in_parallel and setup.is_parallel:
                raise errors.RefusedError(
                    f"Task {label!r} does not allow that several of its quanta run at a time; use -j 1."
                )

    def handle(self, message: graph_context.Address | None) -> quantum_attempts.Report | None:
        """Execute a quantum of the graph; nothing in its place only asks whether the worker is ready.

        Raises
        ------
        AggregatorError
            If what became of it can't be put on record.
        """
        if message is None:
            return None
        block = self._context.block(message)
        quantum = self._context.quantum(block)
        result = self._executor.attempt(self._context.task(block.task_label), quantum)
        if result.lacks_log and (ref := quantum_attempts.log_ref(quantum)) is not None:
            # Nobody can tell what has happened without a log, and nobody would execute the quantum again.
            self._executor.remove_leftovers(quantum)
            attempt_logs.write_for_the_dead(self._logs, ref, [], None, _NO_LOG)
        failure = result.failure
        if isinstance(failure, KeyboardInterrupt) and type(failure) is not KeyboardInterrupt:
            # Somebody has asked this process to end.
            raise failure
        report = quantum_attempts.Report(quantum.id, block.task_label, quantum.dataId.required, result.fate)
        if failure is None:
            return report
        told = task_metadata.ExceptionInfo(task_errors.type_name(failure), task_errors.message(failure), {})
        return dataclasses.replace(report, exception=told, exit_code=task_errors.exit_code(failure))

    def close(self) -> None:
        """Close the graph, and what it has begun to write."""
        self._spool.close()
        self._context.graph.close()
