"""References to the datasets of a quantum, as its task gets them: one attribute for each connection."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aggregator.butler import dataset_refs

Refs = Mapping[str, Sequence[dataset_refs.DatasetRef]]
"""Datasets by connection."""


class DeferredRef:
    """A dataset that the task reads when it needs it. It has the attributes of the reference to it.

    Parameters
    ----------
    ref
        The dataset.
    """

    def __init__(self, ref: dataset_refs.DatasetRef) -> None:
        self.datasetRef = ref

    def __getattr__(self, name: str) -> Any:
        # While it is unpickled there is nothing to look into yet.
        if name == "datasetRef":
            raise AttributeError(name)
        return getattr(self.datasetRef, name)


class ConnectedRefs(types.SimpleNamespace):
    """References by connection: one, or a list of those of a connection that is for any number."""

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Return pairs of connection and what it has."""
        return iter(vars(self).items())

    def __len__(self) -> int:
        """Return the number of connections."""
        return len(vars(self))

    def keys(self) -> Iterator[str]:
        """Return the connections."""
        return iter(vars(self))


def connect(refs: Refs, multiple: Mapping[str, bool], deferred: Mapping[str, bool]) -> ConnectedRefs:
    """Return the references as a task gets them; a connection for one dataset that has none is left out.

    Parameters
    ----------
    refs
        Datasets by connection; those that are not in `multiple` are left out.
    multiple
        Whether each connection is for any number of datasets.
    deferred
        Whether its datasets are read when they are needed; false where it is not said.
    """
    result = ConnectedRefs()
    for name, is_multiple in multiple.items():
        given = [DeferredRef(ref) if deferred.get(name) else ref for ref in refs.get(name, ())]
        if is_multiple or given:
            setattr(result, name, given if is_multiple else given[0])
    return result
