"""Keeps account of what becomes of quanta while they are executed, and tells it to all who want to know."""

from __future__ import annotations

import logging

from aggregator.console import interruption, progress
from aggregator.execution import quantum_attempts, task_errors
from aggregator.running import execution_report, execution_summary, followed_execution

_log = logging.getLogger(__name__)


class QuantaAccount:
    """An account of quanta.

    Parameters
    ----------
    done
        Counts them.
    shown
        Shows progress.
    stopping
        Takes signals.
    report
        A report on each of them, if that is asked for.
    follower
        An aggregation that follows, if there is one.
    """

    def __init__(
        self,
        done: execution_summary.ExecutionSummary,
        shown: progress.Progress,
        stopping: interruption.Interruption,
        report: execution_report.ExecutionReport | None,
        follower: followed_execution.Follower | None,
    ) -> None:
        self.stopping = stopping
        self._done = done
        self._shown = shown
        self._report = report
        self._follower = follower

    def check(self) -> bool:
        """Show progress, and let an aggregation go on; return whether to begin no other quantum."""
        self._shown.beat(lambda: f"{self._done.n_failed} have failed")
        if self._follower is not None:
            self._follower.go_on()
        return self.stopping.is_asked

    def tell(self, report: quantum_attempts.Report) -> None:
        """Tell what became of a quantum."""
        self._done.add(report)
        if self._report is not None:
            self._report.add(report)
        self._shown.advance("quanta", 1)
        if self._follower is not None:
            self._follower.tell(report)
        exception = report.exception
        if exception is not None and exception.type_name in (task_errors.KILLED, task_errors.TIMED_OUT):
            # All others have told it themselves.
            _log.error("Quantum %s of task %r: %s", report.quantum_id, report.task_label, exception.message)
