"""Judges quanta from their statuses and the graph's edges (docs/design.md, Data flow)."""

import numpy as np
import numpy.typing as npt

from aggregator.schemas import verdicts
from aggregator.schemas.checkpoints import digest
from aggregator.schemas.execution import statuses as status_codes

_NONE, _HOLDS, _BLOCKS = range(3)
"""What a quantum does to those after it; more is worse."""


class Judge:
    """Judges quanta in an order in which every quantum comes after its ancestors.

    Parameters
    ----------
    producers, starts
        Edges in the order of their consumers, as `shards.Shards` has them.
    incomplete
        Whether a quantum that has not succeeded may still do so.
    unreadable_fails
        Whether a quantum whose files can't be read counts as failed.
    """

    def __init__(
        self,
        producers: npt.NDArray[np.int32],
        starts: npt.NDArray[np.int64],
        incomplete: bool,
        unreadable_fails: bool = False,
    ) -> None:
        self._producers = producers
        self._starts = starts
        self._effects = np.zeros(len(starts) - 1, dtype=np.int8)
        self._incomplete = incomplete
        self._unreadable_fails = unreadable_fails

    def judge(self, begin: int, statuses: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """Return the verdicts of consecutive quanta.

        Parameters
        ----------
        begin
            Position of the first.
        statuses
            Their statuses, shape (n,); all before them have been judged.
        """
        end = begin + len(statuses)
        producers = self._producers[self._starts[begin] : self._starts[end]]
        consumers = np.repeat(np.arange(len(statuses)), np.diff(self._starts[begin : end + 1]))
        unreadable = statuses == digest.UNREADABLE
        holds = unreadable & (not self._unreadable_fails)
        if self._incomplete:
            holds |= (statuses != status_codes.SUCCESSFUL) & (statuses != status_codes.ABORTED_SUCCESS)
        fails = (statuses == status_codes.FAILED) | (statuses == status_codes.ABORTED)
        fails |= unreadable & self._unreadable_fails
        own = np.where(holds, _HOLDS, np.where(fails, _BLOCKS, _NONE)).astype(np.int8)
        # What comes from other shards; quanta of one shard can depend on each other, too.
        inner = producers >= begin
        worst = np.zeros(len(statuses), dtype=np.int8)
        np.maximum.at(worst, consumers[~inner], self._effects[producers[~inner]])
        if inner.any() and (own.any() or worst.any()):
            _spread(worst, own, producers[inner] - begin, consumers[inner])
        held = (worst != _BLOCKS) & (holds | (worst == _HOLDS))
        blocked = worst == _BLOCKS
        self._effects[begin:end] = np.where(blocked | held, np.where(blocked, _BLOCKS, _HOLDS), own)
        result = np.full(len(statuses), verdicts.ACCEPTED, dtype=np.int8)
        result[held] = verdicts.HELD
        result[blocked] = verdicts.BLOCKED
        return result


def _spread(
    worst: npt.NDArray[np.int8],
    own: npt.NDArray[np.int8],
    producers: npt.NDArray[np.int32],
    consumers: npt.NDArray[np.int64],
) -> None:
    """Let edges within a shard change the worst that comes to each quantum from those before it.

    Consumers are ascending, so that what comes to a producer is known before it goes on.
    """
    coming, effects = worst.tolist(), own.tolist()
    for producer, consumer in zip(producers.tolist(), consumers.tolist(), strict=True):
        before, effect = coming[producer], effects[producer]
        coming[consumer] = max(
            coming[consumer], max(before, _HOLDS) if effect == _HOLDS else before or effect
        )
    worst[:] = coming
