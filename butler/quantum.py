"""A quantum with its datasets, as a predicted graph has it."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence

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
            each.task_label: (self._refs(each.inputs), each.datastore_records) for each in init_quanta
        }

    def quantum(self, block: predicted.Quantum) -> Quantum:
        """Return a regular quantum.

        Raises
        ------
        FormatError
            If it does not fit to the pipeline.
        """
        group = self._task_groups.get(block.task_label)
        if group is None:
            raise errors.FormatError(self._place, "", f"has no task {block.task_label!r}; build it again")
        init_inputs, records = self._init.get(block.task_label, ({}, {}))
        data_id = dataset_refs.DataId(group, catalog.decode_values(block.data_coordinate))
        return self._make(block, data_id, init_inputs, [records, block.datastore_records])

    def init_quantum(self, block: predicted.Quantum) -> Quantum:
        """Return an init quantum.

        Raises
        ------
        FormatError
            If it does not fit to the pipeline.
        """
        return self._make(block, self._empty, {}, [block.datastore_records])

    def _make(
        self,
        block: predicted.Quantum,
        data_id: dataset_refs.DataId,
        init_inputs: Refs,
        documents: Sequence[Mapping[str, object]],
    ) -> Quantum:
        records: dict[str, frozenset[datastore_records.FileRecord]] = {}
        for document in documents:
            for name, rows in datastore_records.parse(document, self._place).items():
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
