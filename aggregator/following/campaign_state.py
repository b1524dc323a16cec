"""How far a campaign is, from what the files of its quanta tell."""

import dataclasses

import numpy as np
import numpy.typing as npt

from aggregator.aggregation import judgement
from aggregator.schemas import verdicts
from aggregator.schemas.checkpoints import digest
from aggregator.schemas.execution import statuses as status_codes

Flags = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, slots=True)
class CampaignState:
    """Numbers of quanta, each of which is counted once."""

    n_succeeded: int
    """Those that have succeeded."""

    n_failed: int
    """Those that have told of a failure, or records of their jobs have; each may be tried again."""

    n_unreadable: int
    """Those whose files can't be read."""

    n_blocked: int
    """Those that have left nothing, and come after one that failed or can't be read."""

    n_ready: int
    """Those that have left nothing, while all that they need is there: in a queue, running, or killed."""

    n_waiting: int
    """Those that wait for others."""

    is_settled: bool
    """Whether all have succeeded, and no file is to come any more."""

    @property
    def n_quanta(self) -> int:
        """All quanta."""
        return self.n_over + self.n_ready + self.n_waiting

    @property
    def n_over(self) -> int:
        """Those that do not run any more, unless somebody tries them again."""
        return self.n_succeeded + self.n_failed + self.n_unreadable + self.n_blocked

    @property
    def is_attempted(self) -> bool:
        """Whether nothing is left that could run."""
        return self.n_over == self.n_quanta


def count(
    statuses: npt.NDArray[np.int8],
    absent: Flags,
    settled: Flags,
    producers: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    size: int,
) -> CampaignState:
    """Return how far a campaign is.

    Parameters
    ----------
    statuses
        Status of each quantum as its digest has it, shape (n,), in scanning order.
    absent
        Whether it has left neither log nor metadata, shape (n,).
    settled
        Whether no file of it is to come any more, shape (n,).
    producers, starts
        Edges in the order of their consumers, as `shards.Shards` has them.
    size
        Quanta to judge at a time: those of a shard.
    """
    succeeded = (statuses == status_codes.SUCCESSFUL) | (statuses == status_codes.ABORTED_SUCCESS)
    unreadable = statuses == digest.UNREADABLE
    # Nobody knows yet what becomes of one that has left nothing, as of those after it.
    codes = np.where(
        succeeded, status_codes.SUCCESSFUL, np.where(absent, digest.UNREADABLE, status_codes.FAILED)
    )
    judge = judgement.Judge(producers, starts, incomplete=False)
    judgements = [
        judge.judge(begin, codes[begin : begin + size].astype(np.int8))
        for begin in range(0, len(statuses), size)
    ]
    blocked = absent & (np.concatenate([np.zeros(0, dtype=np.int8), *judgements]) == verdicts.BLOCKED)
    waits = np.zeros(len(statuses), dtype=bool)
    consumers = np.repeat(np.arange(len(statuses)), np.diff(starts))
    waits[consumers[~succeeded[producers]]] = True
    pending = absent & ~blocked
    return CampaignState(
        n_succeeded=int(succeeded.sum()),
        n_failed=int((~succeeded & ~unreadable & ~absent).sum()),
        n_unreadable=int(unreadable.sum()),
        n_blocked=int(blocked.sum()),
        n_ready=int((pending & ~waits).sum()),
        n_waiting=int((pending & waits).sum()),
        is_settled=bool((succeeded & settled).all()),
    )
