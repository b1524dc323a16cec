"""What failures mean for a run: whether it ends, and with which exit code."""

from __future__ import annotations

from aggregator.execution import quantum_attempts, task_errors
from aggregator.storage import errors


class RunEnding:
    """The end of a run, as far as it follows from what became of quanta.

    Parameters
    ----------
    fail_fast
        Whether all ends with the first failure.
    """

    def __init__(self, *, fail_fast: bool) -> None:
        self._fail_fast = fail_fast
        self.exit_code = 0
        """Exit code that follows so far."""
        self.reason: str | None = None
        """Why to end what is under way; nothing if it goes on."""

    def note(self, report: quantum_attempts.Report) -> None:
        """Note what became of a quantum."""
        if report.fate in (quantum_attempts.Fate.SUCCEEDED, quantum_attempts.Fate.EXISTING):
            return
        is_invalid = report.exit_code == task_errors.INVALID_EXIT_CODE
        chooses_code = is_invalid or report.exit_code == task_errors.REPEATABLE_EXIT_CODE
        ends = is_invalid or (self._fail_fast and report.fate is not quantum_attempts.Fate.BLOCKED)
        if self.reason is None and ends:
            self.exit_code = report.exit_code if chooses_code else errors.AggregatorError.exit_code
            self.reason = f"the run was stopped when quantum {report.quantum_id} had failed"
        self.exit_code = self.exit_code or errors.AggregatorError.exit_code
