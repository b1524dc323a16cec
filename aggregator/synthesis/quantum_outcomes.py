"""What happens to each quantum: chosen shares of all kinds of trouble, and what follows from them."""

from typing import Final

import numpy as np
import numpy.typing as npt

from aggregator.storage import errors
from aggregator.synthesis import node_numbers, parameters, quantum_blocks, seeded_numbers, survey_pipeline

SUCCESS: Final = 0
RETRIED: Final = 1
"""Successful at the second or third attempt."""
CAVEAT: Final = 2
"""Successful without all outputs."""
LOGLESS: Final = 3
"""Killed when all but the log was written."""
CORRUPT: Final = 4
"""Successful, but its log or metadata can't be read."""
FAILED: Final = 5
"""Failed; the log tells why."""
UNFINISHED: Final = 6
"""Killed between log and metadata: the log tells nothing."""
KILLED: Final = 7
"""Killed before it wrote log or metadata."""
BLOCKED: Final = 8
"""Never started, since something before it failed."""

NAMES: Final = (
    *("success", "retried", "caveats", "without log", "corrupt", "failed", "without metadata"),
    *("without both", "blocked"),
)
"""Names for people."""

_STREAM: Final = 1
"""Distinguishes the numbers drawn here from those for contents."""

_TRIES: Final = 3000
"""How many places for failures with descendants are looked at."""

Fates = npt.NDArray[np.uint8]
"""Fate of each quantum, in the order of the graph, shape (n,)."""


class _Successors:
    """The edges of the graph, from each quantum to those that need it."""

    def __init__(self, graph: node_numbers.Nodes) -> None:
        pieces = [quantum_blocks.edges(graph, task, 0, count) for task, count in enumerate(graph.task_counts)]
        producers = np.concatenate([p.astype(np.int32) for p, _ in pieces])
        consumers = np.concatenate([c.astype(np.int32) for _, c in pieces])
        order = np.argsort(producers, kind="stable")
        self._consumers, self._producers = consumers[order], producers[order]
        self._begins = np.searchsorted(self._producers, np.arange(graph.n_quanta + 1)).astype(np.int64)

    def ends(self, chosen: Fates) -> npt.NDArray[np.int64]:
        """Return quanta that can fail without blocking more than is blocked already."""
        alive = np.zeros(len(chosen), dtype=np.bool_)
        alive[self._producers[chosen[self._consumers] != BLOCKED]] = True
        return np.flatnonzero(~alive & (chosen == SUCCESS))

    def below(self, quantum: int, limit: int) -> npt.NDArray[np.int64] | None:
        """Return all that depends on a quantum, or nothing if that is more than a limit."""
        front = np.array([quantum], dtype=np.int64)
        successors = np.zeros(0, dtype=np.int64)
        while len(front):
            pieces = [self._consumers[self._begins[q] : self._begins[q + 1]] for q in front.tolist()]
            front = np.setdiff1d(np.concatenate(pieces).astype(np.int64), successors)
            successors = np.concatenate([successors, front])
            if len(successors) > limit:
                return None
        return successors


def choose(options: parameters.SynthesisParameters, graph: node_numbers.Nodes) -> Fates:
    """Return what happens to each quantum.

    Raises
    ------
    RefusedError
        Raised if so many failures can't block as few, or as many, quanta as asked for.
    """
    n = graph.n_quanta
    numbers = seeded_numbers.Dice(options.seed, _STREAM)
    fates = np.full(n, SUCCESS, dtype=np.uint8)
    n_aborted = _count(options.aborted, n)
    stops = np.array(
        [FAILED] * _count(options.failed, n)
        + [KILLED] * ((n_aborted + 2) // 3)
        + [UNFINISHED] * ((n_aborted + 1) // 3),
        dtype=np.uint8,
    )
    stops = stops[numbers.permutation(len(stops))]
    _stop(fates, stops, _count(options.blocked, n), graph, numbers)
    others = np.array(
        [RETRIED] * _count(options.retried, n)
        + [CAVEAT] * _count(options.caveats, n)
        + [LOGLESS] * (n_aborted // 3)
        + [CORRUPT] * _count(options.corrupt, n),
        dtype=np.uint8,
    )
    free = np.flatnonzero(fates == SUCCESS)
    places = free[numbers.permutation(len(free))][: len(others)]
    fates[places] = others[: len(places)]
    return fates


def _count(share: float, n: int) -> int:
    return round(share * n)


def _stop(
    fates: Fates, stops: Fates, n_blocked: int, graph: node_numbers.Nodes, numbers: seeded_numbers.Dice
) -> None:
    """Let quanta fail: some with descendants until enough are blocked, the others where nothing follows."""
    if not len(stops):
        if n_blocked:
            raise errors.RefusedError("Nothing is blocked unless something fails; choose blocked=0.")
        return
    successors = _Successors(graph)
    left, placed = n_blocked, 0
    # Early tasks first: much is below them, and nothing of it may have failed before.
    tasks = np.sort(numbers.below(len(survey_pipeline.TASKS), _TRIES)).tolist()
    for task, luck in zip(tasks, numbers.uniform(_TRIES).tolist(), strict=True):
        if not left or placed == len(stops):
            break
        quantum = graph.first_rows[task] + int(luck * graph.task_counts[task])
        if fates[quantum] != SUCCESS:
            continue
        # What is below is counted before what is blocked already is taken out.
        below = successors.below(quantum, n_blocked)
        if below is None or not len(below) or not np.isin(fates[below], (SUCCESS, BLOCKED)).all():
            continue
        new = below[fates[below] == SUCCESS]
        if 0 < len(new) <= left:
            fates[quantum] = stops[placed]
            fates[new] = BLOCKED
            left, placed = left - len(new), placed + 1
    ends = successors.ends(fates)
    rest = stops[placed:]
    if len(rest) > len(ends):
        raise errors.RefusedError(
            f"{len(stops)} failures block more than {n_blocked} quanta; choose a larger share of blocked."
        )
    fates[ends[numbers.permutation(len(ends))][: len(rest)]] = rest
