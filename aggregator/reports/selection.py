"""Which quanta a report lists one by one (aggregate-and-ingest.md section 7)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from aggregator.reports import quanta
from aggregator.schemas.execution import caveats, statuses
from aggregator.storage import errors

_DEFAULT = frozenset({statuses.FAILED, statuses.ABORTED, statuses.ABORTED_SUCCESS})
_STATUSES = {name: status for status, name in statuses.NAMES.items()}
_CAVEATS = {name: bit for bit, name in caveats.NAMES.items()}


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """Which quanta are listed: failed ones by default."""

    states: frozenset[int] = _DEFAULT
    """Statuses."""

    caveats: int = 0
    """Successes are listed only with any of these caveats; 0 means with or without."""

    def options(self) -> list[str]:
        """Return the options of the command that `make` turns into this selection."""
        implied = _DEFAULT | {statuses.SUCCESSFUL} if self.caveats else _DEFAULT
        words = []
        for name, status in _STATUSES.items():
            if status in self.states - implied:
                words += ["--state", name]
            elif status in implied - self.states:
                words += ["--no-state", name]
        for name, bit in _CAVEATS.items():
            if self.caveats & bit:
                words += ["--caveat", name]
        return words

    def rows(self, table: quanta.QuantumTable) -> npt.NDArray[np.int64]:
        """Return the rows of the quanta to list, in file order."""
        status = table.rows["status"]
        chosen = np.isin(status, list(self.states))
        if self.caveats:
            bits = np.maximum(table.rows["caveats"], 0)
            chosen &= (status != statuses.SUCCESSFUL) | (bits & self.caveats != 0)
        return np.flatnonzero(chosen)


def make(
    states: Iterable[str] = (), no_states: Iterable[str] = (), caveat_names: Iterable[str] = ()
) -> Selection:
    """Return the selection that the names of options give.

    Parameters
    ----------
    states, no_states
        Names of statuses that are listed, too, and that are not.
    caveat_names
        Names of caveats: successes with any of them are listed, too.

    Raises
    ------
    RefusedError
        If there is no such status or caveat.
    """
    chosen = _DEFAULT | {_look_up(_STATUSES, "status", name) for name in states}
    chosen -= {_look_up(_STATUSES, "status", name) for name in no_states}
    bits = 0
    for name in caveat_names:
        bits |= _look_up(_CAVEATS, "caveat", name)
    return Selection(chosen | {statuses.SUCCESSFUL} if bits else chosen, bits)


def _look_up(values: dict[str, int], what: str, name: str) -> int:
    if name not in values:
        raise errors.RefusedError(f"there is no {what} {name!r}; there are {', '.join(values)}")
    return values[name]
