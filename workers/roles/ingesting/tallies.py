"""What came of the batches that are behind one answer of the ingester: numbers of datasets, and conflicts."""

import dataclasses
from typing import Final

from aggregator.schemas import messages
from aggregator.schemas.checkpoints import ledger

_NAMED: Final = 10
"""Datasets that are named, of all that do not belong in the database."""


@dataclasses.dataclass(slots=True)
class Tally:
    """What came of some batches.

    Attributes
    ----------
    n_ingested
        Datasets that are new in the database.
    n_skipped
        Datasets that were there already.
    n_again
        Datasets that were committed before, and had to be again.
    conflicts
        Datasets that the database refused.
    """

    n_ingested: int = 0
    n_skipped: int = 0
    n_again: int = 0
    conflicts: list[messages.Conflict] = dataclasses.field(default_factory=list)

    def reply(self, lines: list[ledger.Line], stale: list[str]) -> messages.Ingested:
        """Return it as a message.

        Parameters
        ----------
        lines
            What the ledger gets.
        stale
            Ids of datasets that do not belong in the database.
        """
        return messages.Ingested(
            lines,
            self.n_ingested,
            self.n_skipped,
            self.conflicts,
            self.n_again,
            n_stale=len(stale),
            stale=stale[:_NAMED],
        )
