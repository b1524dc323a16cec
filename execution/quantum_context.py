"""What a task sees of the world while it runs a quantum: its datasets, and little else."""

from __future__ import annotations

import dataclasses
import logging
import types
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aggregator.butler import dataset_refs, limited_butler
from aggregator.butler import quantum as quantum_module
from aggregator.butler.formatting import dataset_provenance
from aggregator.execution import connected_refs
from aggregator.schemas.graphs import pipeline

_OF_THE_EXECUTOR: Final = (pipeline.METADATA_CONNECTION, pipeline.LOG_CONNECTION)
"""Ends of the names of dataset types that the executor writes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Resources:
    """What a quantum may use; nobody enforces it."""

    num_cores: int = 1
    """Cores."""

    max_mem: int | None = None
    """Memory in bytes; nothing if it is not known."""


class QuantumContext:
    """The butler of a running quantum.

    Parameters
    ----------
    butler
        Reads and writes datasets.
    quantum
        The quantum, with what is left of its inputs and outputs.
    resources
        What it may use.
    """

    def __init__(
        self,
        butler: limited_butler.LimitedButler,
        quantum: quantum_module.Quantum,
        resources: Resources = Resources(),
    ) -> None:
        self.quantum = quantum
        self.quantum_id = quantum.id
        self.data_id = quantum.dataId
        self.dimensions = butler.dimensions
        self.resources = resources
        self.log = logging.getLogger(quantum.task_label)
        self.ids_put: list[uuid.UUID] = []
        """Ids of the outputs that were written, in this order."""
        self._butler = butler
        self._provenance = dataset_provenance.DatasetProvenance(quantum.id)
        self._inputs = {ref for refs in quantum.inputs.values() for ref in refs}
        self._outputs = set(puttable(quantum.outputs))

    def get(self, dataset: Any) -> Any:
        """Read datasets.

        Parameters
        ----------
        dataset
            One reference, a list, or all inputs as the task was given them; nothing in place of a reference
            stays nothing.

        Returns
        -------
        objects
            An object, or a handle if the reference is deferred; a list; or a dict by connection.

        Raises
        ------
        ValueError
            If one is no input of the quantum.
        TypeError
            If it is something else.
        """
        match dataset:
            case connected_refs.ConnectedRefs():
                return {name: self.get(refs) for name, refs in dataset}
            case list() | tuple():
                return [self.get(ref) for ref in dataset]
            case connected_refs.DeferredRef():
                return self._butler.getDeferred(self._input(dataset.datasetRef))
            case dataset_refs.DatasetRef():
                return self._butler.get(self._input(dataset))
            case None:
                return None
        raise TypeError(f"an object of type {type(dataset).__name__} is no reference to a dataset")

    def put(self, values: Any, dataset: Any = None, **objects: Any) -> None:
        """Write datasets.

        Parameters
        ----------
        values
            An object; a list of objects; or an object whose attributes are named like connections. With
            `objects` it is the references to outputs, as the task was given them.
        dataset
            One reference, a list, or all outputs as the task was given them.
        objects
            In place of these two: objects by connection.

        Raises
        ------
        ValueError
            If one is no output of the quantum, or the values do not fit to the references.
        TypeError
            If it is something else.
        """
        if objects:
            values, dataset = types.SimpleNamespace(**objects), values
        match dataset:
            case connected_refs.ConnectedRefs():
                self._put_connections(values, dataset)
            case list() | tuple():
                self._put_list(values, dataset)
            case dataset_refs.DatasetRef():
                self._put(values, dataset)
            case _:
                raise TypeError(f"an object of type {type(dataset).__name__} is no reference to a dataset")

    def add_additional_provenance(self, ref: dataset_refs.DatasetRef, extra: Mapping[str, Any]) -> None:
        """Note something of an input, for the files of outputs.

        Raises
        ------
        ValueError
            If it was not read, or a name means something else.
        """
        self._provenance.add_extra_provenance(ref.id, extra)

    def _input(self, ref: dataset_refs.DatasetRef) -> dataset_refs.DatasetRef:
        if ref not in self._inputs:
            raise ValueError(f"{ref} is no input of the quantum")
        self._provenance.add_input(ref)
        return ref

    def _put_connections(self, values: Any, dataset: connected_refs.ConnectedRefs) -> None:
        if values is None or isinstance(values, Sequence | Mapping | str | int | float):
            raise ValueError("objects for several connections have to be attributes of one object")
        for name, refs in dataset:
            value = getattr(values, name, None)
            if value is None:
                continue
            if isinstance(refs, list):
                self._put_list(value, refs)
            else:
                self._put(value, refs)

    def _put_list(self, values: Any, refs: Sequence[dataset_refs.DatasetRef]) -> None:
        if not isinstance(values, Sequence) or len(values) != len(refs):
            raise ValueError(f"there has to be one object for each of {len(refs)} outputs")
        for value, ref in zip(values, refs, strict=True):
            self._put(value, ref)

    def _put(self, value: Any, ref: dataset_refs.DatasetRef) -> None:
        if ref not in self._outputs:
            raise ValueError(f"{ref} is no output of the quantum that its task may write")
        self._butler.put(value, ref, provenance=self._provenance)
        self.ids_put.append(ref.id)


def puttable(outputs: connected_refs.Refs) -> list[dataset_refs.DatasetRef]:
    """Return the outputs that a task may write: logs and metadata are the executor's, whosever they are."""
    return [
        ref
        for refs in outputs.values()
        for ref in refs
        if not ref.datasetType.name.endswith(_OF_THE_EXECUTOR)
    ]
