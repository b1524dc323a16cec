"""What a first pass over a bundle finds out about ids, before they are renewed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from aggregator.schemas.graphs import addresses, renewals


class Survey:
    """What a first pass over a bundle finds out about the ids of its datasets."""

    def __init__(self) -> None:
        self.masks: dict[str, bytes] = {}
        """Mask of each run that has datasets with new ids, by its name before."""
        self.kept: dict[str, set[str]] = {}
        """Ids of datasets that are in the destination already, and stay as they are, by run."""
        self._ids: list[addresses.Ids] = []
        self._rows: list[npt.NDArray[np.int32]] = []
        self._table: renewals.MaskedIds | None = None

    def has_moved(self, run: str) -> bool:
        """Return whether some datasets of a run don't stay as they are."""
        return run in self.masks or run not in self.kept

    def add(self, run: str, mask: bytes, ids: list[str]) -> None:
        """Add datasets that get new ids."""
        self.masks[run] = mask
        row = list(self.masks).index(run)
        self._ids.append(addresses.parse_ids(ids))
        self._rows.append(np.full(len(ids), row, dtype=np.int32))

    def new_ids(self, ids: list[str]) -> list[str]:
        """Return the new ids of some datasets; those that are not renewed stay as they are."""
        if not self.masks:
            return ids
        if self._table is None:
            joined = np.concatenate(self._ids)
            order = np.argsort(joined, kind="stable")
            rows = np.concatenate(self._rows)[order]
            self._table = renewals.MaskedIds(joined[order], rows, list(self.masks.values()))
            self._ids, self._rows = [], []
        return addresses.hex_digits(self._table.of(addresses.parse_ids(ids)))


class Candidates:
    """Datasets that could get new ids."""

    def __init__(self) -> None:
        self.ids: dict[str, list[list[str]]] = {}
        """Their ids, by run."""
        self.with_files: set[str] = set()
        """Runs that files come along of. Datasets of others are only named, as what something came from: they
        are what they were."""
        self.begun: set[str] = set()
        """Runs that an earlier merge, perhaps one that was killed, has put some of them into."""
