"""A butler for jobs that may be done again: datasets that are there already stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aggregator.stages import repository_butler
from aggregator.storage import errors


class KeepingButler:
    """Leaves datasets as they are that are in the run; a `butlers.Butler`.

    Parameters
    ----------
    butler
        Reads and writes.
    """

    def __init__(self, butler: repository_butler.RepositoryButler) -> None:
        self._butler = butler
        self.is_there = butler.is_there
        self.get = butler.get
        self.close = butler.close

    def put(self, item: Any, dataset_type: str, ids: Mapping[str, Any]) -> None:
        """Write a dataset, unless it is there, or another process has written it meanwhile."""
        if self._butler.is_written(dataset_type, ids):
            return
        try:
            self._butler.put(item, dataset_type, ids)
        except errors.AggregatorError:
            if not self._butler.is_written(dataset_type, ids):
                raise
