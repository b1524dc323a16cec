"""A quantum with its datasets, as a predicted graph has it."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterable, Iterator, Mapping

from aggregator.butler import dataset_refs
from aggregator.butler.datastores import catalog
from aggregator.butler.dimensions import universe
from aggregator.schemas import datastore_records
from aggregator.schemas.graphs import pipeline, predicted
from aggregator.storage import errors

Refs = Mapping[str, tuple[dataset_refs.DatasetRef, ...]]
"""Datasets by connection."""


@dataclasses.dataclass(frozen=True, slots=True)
class Quantum:
    """What is executed as a whole."""

    id: uuid.UUID
    """Its id."""

    task_label: str
    """Label of its task; empty for what writes the list of packages."""

    dataId: dataset_refs.DataId
    """Its data ID."""

    inputs: Refs
    """Datasets that it is to read."""

    outputs: Refs
    """Datasets that it is to write, metadata and log included."""

    init_inputs: Refs = dataclasses.field(default_factory=dict)
    """Datasets that its task reads when it is made."""

    datastore_records: datastore_records.Records = dataclasses.field(default_factory=dict)
    """Records of datasets that it reads and that no quantum of the graph writes."""

    def predicted_inputs(self) -> Iterator[dataset_refs.DatasetRef]:
        """Return all datasets that it is to read."""
        for refs in (*self.inputs.values(), *self.init_inputs.values()):
            yield from refs

    def predicted_outputs(self) -> Iterator[dataset_refs.DatasetRef]:
        """Return all datasets that it is to write."""
        for refs in self.outputs.values():
            yield from refs


class QuantumReader:
    """Makes quanta of what a predicted graph has.

    Parameters
    ----------
    source
        The graph's pipeline.
    dimensions
        Its dimensions.
    init_quanta
        Its init quanta, whose inputs quanta of the same task may read, too.
    place
        Where the graph is, for messages.
    """

    def __init__(
        self,
        source: pipeline.Pipeline,
        dimensions: universe.Universe,
        init_quanta: Iterable[predicted.Quantum],
        place: str,
    ) -> None:
        self._place = place
        self._task_groups = {task.label: dimensions.group(task.dimensions) for task in source.tasks}
        self._task_groups[""] = dimensions.group(())
        self._empty = dataset_refs.DataId(self._task_groups[""], ())
        self.dataset_types = {
            kind.name: dataset_refs.DatasetType(
                kind.name, dimensions.group(kind.dimensions), kind.storage_class
            )
            for kind in source.dataset_types
        }
        self._init = {
            each.task_label: (self._refs(each.inputs), datastore_records.parse(each.datastore_records, place))
            for each in init_quanta
        }

    def quantum(self, block: predicted.Quantum) -> Quantum:
        """Return a regular quantum.

        Raises
        ------
        FormatError
            If it does not fit to the pipeline.
        """
        init_inputs, records = self._init.get(block.task_label, ({}, {}))
        return self._make(block, self.data_id(block), init_inputs, records)

    def data_id(self, block: predicted.Quantum) -> dataset_refs.DataId:
        """Return the data ID of a regular quantum.

        Raises
        ------
        FormatError
            If it does not fit to the pipeline.
        """
        group = self._task_groups.get(block.task_label)
        if group is None:
            raise errors.FormatError(self._place, "", f"has no task {block.task_label!r}; build it again")
        return dataset_refs.DataId(group, catalog.decode_values(block.data_coordinate))

    def init_quantum(self, block: predicted.Quantum) -> Quantum:
        """Return an init quantum.

        Raises
        ------
        FormatError
            If it does not fit to the pipeline.
        """
        return self._make(block, self._empty, {}, {})

    def _make(
        self,
        block: predicted.Quantum,
        data_id: dataset_refs.DataId,
        init_inputs: Refs,
        init_records: datastore_records.Records,
    ) -> Quantum:
        records = datastore_records.parse(block.datastore_records, self._place)
        for name, rows in init_records.items():
            records[name] = records.get(name, frozenset()) | rows
        return Quantum(
            uuid.UUID(block.quantum_id),
            block.task_label,
            data_id,
            self._refs(block.inputs),
            self._refs(block.outputs),
            init_inputs,
            records,
        )

    def _refs(self, datasets: Mapping[str, list[predicted.Dataset]]) -> Refs:
        return {name: tuple(map(self.ref, entries)) for name, entries in datasets.items()}

    def ref(self, dataset: predicted.Dataset) -> dataset_refs.DatasetRef:
        """Return the reference to a dataset of the graph.

        Raises
        ------
        FormatError
            If it has no type there.
        """
        kind = self.dataset_types.get(dataset.dataset_type_name)
        if kind is None:
            problem = f"has no dataset type {dataset.dataset_type_name!r}; build it again"
            raise errors.FormatError(self._place, "", problem)
        data_id = dataset_refs.DataId(kind.dimensions, catalog.decode_values(dataset.data_coordinate))
        return dataset_refs.DatasetRef(kind, data_id, dataset.run, uuid.UUID(dataset.dataset_id))
