"""What happened to a dataset: produced, or why not."""

import dataclasses
from typing import Final

from aggregator.reading import causes, lineage
from aggregator.schemas.execution import caveats, statuses
from aggregator.schemas.graphs import nodes

_CAVEATS: Final = {
    caveats.UPSTREAM_FAILURE_NO_WORK: "nothing was left to do after what a quantum before it had not written",
    caveats.UNPROCESSABLE_DATA: "its data can't be processed",
    caveats.PARTIAL_OUTPUTS_ERROR: "an error that left some outputs unwritten was accepted as a success",
    caveats.ADJUST_QUANTUM_RAISED: "it had nothing to do, which was found out before the task was made",
    caveats.NO_WORK: "it had nothing to do",
}
"""What caveats say about an output that is missing; the first that applies is told."""

_ENDS: Final = {
    statuses.FAILED: "failed",
    statuses.ABORTED: "was aborted",
    statuses.UNKNOWN: "ended in an unknown way",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Explanation:
    """What happened to a dataset."""

    dataset: nodes.Dataset
    """The dataset."""

    outcome: str
    """"input" (existed before the run), "produced", "blocked", "failed", or "not written"."""

    reason: str
    """Why, in words; without data IDs."""

    quantum: nodes.Quantum | nodes.InitQuantum | None
    """Quantum that was to write it; nothing for inputs of the run."""

    cause: nodes.Quantum | None
    """The failed quantum nearest above, if it is blocked."""


def explain(
    dataset: nodes.Dataset, producer: lineage.Node | None, first_causes: causes.Causes
) -> Explanation:
    """Tell what happened to a dataset.

    Parameters
    ----------
    dataset
        The dataset.
    producer
        The quantum that was to write it.
    first_causes
        Causes of blocked quanta.
    """
    if isinstance(producer, nodes.InitQuantum):
        verb = "wrote it" if dataset.produced else "did not write it"
        outcome = "produced" if dataset.produced else "not written"
        reason = f"the initialisation of task {producer.task_label} {verb}"
        return Explanation(dataset, outcome, reason, producer, None)
    if not isinstance(producer, nodes.Quantum):
        reason = "it is an input of the run, so it existed before"
        return Explanation(dataset, "input", reason, None, None)
    if producer.status == statuses.BLOCKED and not dataset.produced:
        cause = first_causes.first(producer)
        reason = "its quantum never ran, because a quantum above it failed"
        if cause is None:
            reason = "its quantum never ran, and no failure above it is on record"
        return Explanation(dataset, "blocked", reason, producer, cause)
    outcome, reason = _attempted(dataset, producer)
    return Explanation(dataset, outcome, reason, producer, None)


def _attempted(dataset: nodes.Dataset, quantum: nodes.Quantum) -> tuple[str, str]:
    """Return outcome and reason for an output of a quantum that ran."""
    last, n = quantum.attempts[-1] if quantum.attempts else nodes.Attempt(), len(quantum.attempts)
    which = "its only attempt" if n == 1 else f"the last of {n} attempts"
    end = _ENDS.get(quantum.status)
    if dataset.produced:
        but = f", though that {end}" if end else ""
        return "produced", f"{which} to run the quantum wrote it{but}"
    if end:
        why = ""
        if last.exception is None:
            why = " and left no exception; if the log is missing too, its process was probably killed"
        return "failed", f"{which} to run the quantum {end}{why}"
    for bit, words in _CAVEATS.items():
        if (last.caveats or 0) & bit:
            return "not written", f"its quantum succeeded without it: {words}"
    return "not written", "its quantum succeeded without writing it"
