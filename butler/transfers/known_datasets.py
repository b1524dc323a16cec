"""What a repository knows of datasets that are to come into it."""

from __future__ import annotations

from collections.abc import Iterable

from aggregator.butler.registry import collection_rows, registry

_Type = collection_rows.CollectionType


class KnownDatasets:
    """A `renewal.Destination`.

    Parameters
    ----------
    target
        Its database; nothing if it is going to be made.
    """

    def __init__(self, target: registry.Registry | None) -> None:
        self._target = target
        collections = {} if target is None else target.holdings.collections()
        self._runs = {row.name: row.id for row in collections.values() if row.type is _Type.RUN}
        self._names = {key: name for name, key in self._runs.items()}

    def runs_of(self, ids: list[str]) -> Iterable[tuple[str, str]]:
        """Return id, and name of the run, of those of some datasets that are there."""
        if self._target is None:
            return []
        return [(each, self._names.get(key, "")) for each, key in self._target.holdings.runs_of(ids)]

    def has_datasets(self, run: str) -> bool:
        """Return whether there is a RUN collection with this name that has datasets."""
        if self._target is None or run not in self._runs:
            return False
        return bool(self._target.holdings.kinds_of([self._runs[run]]))
