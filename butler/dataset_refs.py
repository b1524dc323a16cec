"""Datasets as tasks name them: dataset types, data IDs, and references to single datasets.

Attributes that tasks use are called as in the Rubin middleware (`dataId`, `datasetType`), so that a task need
not know whose references it is given.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator, Mapping
from typing import Final

from aggregator.butler.dimensions import universe

Value = int | str
"""Value of a dimension."""


AS_STORED: Final = ""
"""In place of a storage class: the one that the dataset was stored with."""


@dataclasses.dataclass(frozen=True, slots=True)
class DataId(Mapping[str, Value]):
    """Values of dimensions: a mapping of all of them, required and implied."""

    dimensions: universe.Group
    """The dimensions."""

    coordinate: tuple[Value, ...]
    """Their values, in the order of the group's keys."""

    @classmethod
    def make(cls, dimensions: universe.Group, values: Mapping[str, Value]) -> DataId:
        """Return the data ID of some dimensions.

        Parameters
        ----------
        dimensions
            The dimensions.
        values
            A value for each of them; others are left out.

        Raises
        ------
        KeyError
            If a value is missing.
        """
        return cls(dimensions, tuple(values[name] for name in dimensions.keys))

    def __getitem__(self, name: str) -> Value:
        try:
            return self.coordinate[self.dimensions.keys.index(name)]
        except ValueError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.dimensions.keys)

    def __len__(self) -> int:
        return len(self.dimensions.keys)

    @property
    def required(self) -> dict[str, Value]:
        """Values of the dimensions that no other implies."""
        return dict(zip(self.dimensions.required, self.coordinate, strict=False))

    def __str__(self) -> str:
        values = zip(self.dimensions.keys, self.coordinate, strict=False)
        return "{" + ", ".join(f"{name}: {value!r}" for name, value in values) + "}"


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetType:
    """A dataset type, or a component of one: then its name is ``parent.component``."""

    name: str
    """Its name."""

    dimensions: universe.Group
    """Its dimensions."""

    storage_class: str
    """Name of the storage class of its datasets as the user of this type wants them."""

    parent_storage_class: str = AS_STORED
    """Name of the storage class of the whole datasets, if this is a component."""

    @property
    def parent(self) -> str:
        """Name of the dataset type that this one is a component of; its own if it is none."""
        return self.name.partition(".")[0]

    @property
    def component(self) -> str | None:
        """Name of the component; nothing if it is none."""
        return self.name.partition(".")[2] or None


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetRef:
    """One dataset."""

    datasetType: DatasetType
    """Its dataset type."""

    dataId: DataId
    """Its data ID."""

    run: str
    """RUN collection that it belongs to."""

    id: uuid.UUID
    """Its id."""

    def __hash__(self) -> int:
        # The id says it all, and the others take ten times as long.
        return hash(self.id)

    def isComponent(self) -> bool:
        """Return whether it is a component of a dataset."""
        return self.datasetType.component is not None

    def makeComponentRef(self, component: str, storage_class: str = AS_STORED) -> DatasetRef:
        """Return the reference to a component.

        Parameters
        ----------
        component
            Its name.
        storage_class
            Name of its storage class; by default the one that it was stored with.
        """
        kind = self.datasetType
        name = f"{kind.parent}.{component}"
        whole = kind.parent_storage_class if self.isComponent() else kind.storage_class
        part = DatasetType(name, kind.dimensions, storage_class, whole)
        return dataclasses.replace(self, datasetType=part)

    def __str__(self) -> str:
        return f"{self.datasetType.name}@{self.dataId} (run={self.run} id={self.id})"
