"""Quanta and datasets while a graph is being built."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterable, Mapping

from aggregator.butler import dataset_refs
from aggregator.butler.dimensions import universe
from aggregator.butler.registry import searches
from aggregator.execution import plain_tasks
from aggregator.execution.pipelines import pipeline_graph


@dataclasses.dataclass(slots=True, eq=False)
class DatasetNode:
    """A dataset."""

    kind: pipeline_graph.TypeNode
    """Its dataset type."""

    data_id: dataset_refs.DataId
    """Its data ID."""

    place: searches.Place | None = None
    """Its id and run, when these are known."""

    is_overall: bool = False
    """Whether it exists before."""

    is_gone: bool = False
    """Whether nothing writes it any more."""

    @property
    def key(self) -> searches.Values:
        """Values of the required dimensions."""
        return required(self.data_id)

    def ref(self, connection: plain_tasks.Connection) -> dataset_refs.DatasetRef:
        """Return the reference that a connection has to it."""
        assert self.place is not None
        kind, component = self.kind, connection.dataset_type.partition(".")[2]
        name = f"{kind.name}.{component}" if component else kind.name
        whole = kind.storage_class if component else dataset_refs.AS_STORED
        seen = dataset_refs.DatasetType(name, kind.dimensions, connection.storage_class, whole)
        return dataset_refs.DatasetRef(seen, self.data_id, self.place.run, uuid.UUID(self.place.id))


Members = dict[str, list[DatasetNode]]
"""Datasets by dataset type, or by connection."""


@dataclasses.dataclass(slots=True, eq=False)
class QuantumNode:
    """A quantum."""

    task: pipeline_graph.TaskNode
    """Its task."""

    data_id: dataset_refs.DataId
    """Its data ID."""

    id: str
    """Its id, 32 hexadecimal digits."""

    inputs: Members
    """What it may read, by dataset type; prerequisites are added when they are found."""

    outputs: Members
    """What it may write, by dataset type."""

    connected_inputs: Members = dataclasses.field(default_factory=dict)
    """What it reads, by connection."""

    connected_outputs: Members = dataclasses.field(default_factory=dict)
    """What it writes, by connection."""


@dataclasses.dataclass(slots=True)
class Skeleton:
    """All quanta and datasets."""

    quanta: dict[str, dict[searches.Values, QuantumNode]]
    """Quanta by task label, and values of the required dimensions."""

    datasets: dict[str, dict[searches.Values, DatasetNode]]
    """Datasets by dataset type, and values of the required dimensions."""

    init_inputs: dict[str, Members] = dataclasses.field(default_factory=dict)
    """What the initialisation of each task reads, by connection."""

    init_outputs: dict[str, Members] = dataclasses.field(default_factory=dict)
    """What it writes, by connection."""

    packages: searches.Place | None = None
    """Id and run of the dataset with versions of packages."""

    def all_quanta(self) -> Iterable[QuantumNode]:
        """Iterate over all quanta in order."""
        for each in self.quanta.values():
            yield from each.values()


def required(data_id: dataset_refs.DataId) -> searches.Values:
    """Return the values of the required dimensions."""
    return data_id.coordinate[: len(data_id.dimensions.required)]


def data_ids(group: universe.Group, rows: Iterable[searches.Values]) -> list[dataset_refs.DataId]:
    """Return the data IDs of rows with values of all dimensions, in order."""
    places = [group.names.index(name) for name in group.keys]
    return sorted(
        (dataset_refs.DataId(group, tuple([row[place] for place in places])) for row in rows),
        key=lambda data_id: data_id.coordinate,
    )


def projected(values: Mapping[str, dataset_refs.Value], group: universe.Group) -> searches.Values:
    """Return the values that a data ID has of the required dimensions of others."""
    return tuple([values[name] for name in group.required])
