"""What several runs of one transfer claim, so that they are compared before anything is written."""

from __future__ import annotations

import collections
from collections.abc import Iterable

from aggregator.butler.transfers import account
from aggregator.schemas import bundle

_Key = tuple[str, str, tuple[bundle.Value, ...]]


class Claims:
    """Datasets of runs that more than one run becomes; the first to claim a data ID has it."""

    def __init__(self) -> None:
        self._runs: collections.Counter[str] = collections.Counter()
        self._ids: dict[_Key, str] = {}
        self._graphs: dict[str, set[str]] = {}

    def add_runs(self, runs: Iterable[str]) -> None:
        """Note what runs of a source become, one name for each of them."""
        self._runs.update(runs)

    def graphs(self, run: str, dataset_id: str) -> set[str]:
        """Return the graphs that others have for a run, and add one."""
        graphs = self._graphs.setdefault(run, set())
        before = set(graphs)
        graphs.add(dataset_id)
        return before

    def take(self, datasets: bundle.Datasets, on_conflict: str) -> list[account.Conflict]:
        """Return the datasets that contradict what others have claimed before (C3).

        Parameters
        ----------
        datasets
            Datasets, in the order of the transfer.
        on_conflict
            What happens then: with "skip" nothing stands in the way. Otherwise somebody has to decide, since
            the first would be the newest of the destination.
        """
        if self._runs[datasets.run] < 2:
            return []
        conflicts = []
        for row in datasets.rows:
            key = datasets.run, row.dataset_type, tuple(row.values)
            other = self._ids.setdefault(key, row.id)
            if other != row.id and on_conflict != "skip":
                text = (
                    f"{row.dataset_type} {row.values} in {datasets.run}: an earlier one has dataset "
                    f"{other}, this one {row.id}"
                )
                conflicts.append(account.Conflict("C3", text, row.id, other))
        return conflicts
