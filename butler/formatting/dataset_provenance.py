"""Where a dataset comes from, as formats note it that have a place for that."""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import Mapping
from typing import Any, Final

from aggregator.butler import dataset_refs

_PREFIX: Final = "LSST.BUTLER."
_RESERVED: Final = frozenset({"run", "id", "datasettype"})
_MOST_INPUTS: Final = 2000
"""Of more inputs just the number is noted."""

_KEY: Final = re.compile(
    r"LSST\.BUTLER\.(?:ID|RUN|DATASETTYPE|QUANTUM|N_INPUTS|DATAID\..+|INPUT\.\d+\..+)$", re.IGNORECASE
)


@dataclasses.dataclass(slots=True)
class DatasetProvenance:
    """What went into the outputs of a quantum."""

    quantum_id: uuid.UUID | None = None
    """The quantum."""

    inputs: dict[uuid.UUID, dataset_refs.DatasetRef] = dataclasses.field(default_factory=dict)
    """Datasets that were read, in the order of the first time."""

    extras: dict[uuid.UUID, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """What else is to be noted of them."""

    def add_input(self, ref: dataset_refs.DatasetRef) -> None:
        """Note a dataset that was read."""
        self.inputs.setdefault(ref.id, ref)

    def add_extra_provenance(self, dataset_id: uuid.UUID, extra: Mapping[str, Any]) -> None:
        """Note something else of a dataset that was read.

        Raises
        ------
        ValueError
            If it was not read, or a name means something else.
        """
        if dataset_id not in self.inputs:
            raise ValueError(f"dataset {dataset_id} has not been read, so nothing can be noted of it")
        if reserved := sorted(name for name in extra if name.lower() in _RESERVED):
            raise ValueError(f"{', '.join(reserved)}: these names have another meaning")
        self.extras.setdefault(dataset_id, {}).update(extra)

    def keys(self, ref: dataset_refs.DatasetRef) -> dict[str, Any]:
        """Return what is to be noted in the file of an output, by key and in order."""
        notes: dict[str, Any] = {"ID": str(ref.id), "RUN": ref.run, "DATASETTYPE": ref.datasetType.name}
        notes.update({f"DATAID.{name}": value for name, value in sorted(ref.dataId.required.items())})
        if self.quantum_id is not None:
            notes["QUANTUM"] = str(self.quantum_id)
        notes["N_INPUTS"] = len(self.inputs)
        inputs = self.inputs.values() if len(self.inputs) <= _MOST_INPUTS else ()
        for number, each in enumerate(inputs):
            about = {"ID": str(each.id), "RUN": each.run, "DATASETTYPE": each.datasetType.name}
            about.update(self.extras.get(each.id, {}))
            notes.update({f"INPUT.{number}.{name}": _simple(value) for name, value in about.items()})
        return {_PREFIX + name.upper(): value for name, value in notes.items()}


def _simple(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else str(value)


def replaced(notes: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return the notes of an object with keys in place of those of the dataset that it was read from."""
    return {**{name: value for name, value in notes.items() if not _KEY.match(str(name))}, **keys}
