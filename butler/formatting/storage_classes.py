"""What objects the datasets of a storage class are, and how those of one become those of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from aggregator.butler.formatting import table_kinds

_TYPES: Final[Mapping[str, type[Any]]] = {
    "int": int,
    "StructuredDataDict": dict,
    "StructuredDataList": list,
    "ArrowColumnList": list,
    "NumpyArray": np.ndarray,
    "Thumbnail": np.ndarray,
}
"""Types of the objects, where the storage class asks for one that is no table."""

_METADATA: Final = "TaskMetadata"


def accepted(value: Any, storage_class: str) -> Any:
    """Return the object that is to be written as a dataset of a storage class.

    Storage classes that are not known here are left to their format.

    Raises
    ------
    TypeError
        If the object is of another type, and can't be converted.
    """
    if storage_class in table_kinds.OF_STORAGE_CLASSES:
        if table_kinds.of(value) is None:
            raise TypeError(f"it is of type {type(value).__name__}, and has to be a table")
        return value
    kind = _TYPES.get(storage_class)
    if kind is None or isinstance(value, kind):
        return value
    if storage_class == "StructuredDataDict" and type(value).__name__ == _METADATA:
        return value.to_dict()
    raise TypeError(f"it is of type {type(value).__name__}, and has to be of type {kind.__name__}")


def converted(value: Any, stored: str, target: str) -> Any:
    """Return the object of a storage class that one of another stands for.

    Parameters
    ----------
    value
        The object as its format returns it.
    stored
        Storage class that the dataset was written with.
    target
        Storage class of the object that is returned.

    Raises
    ------
    ValueError
        If there is no conversion.
    """
    kind = table_kinds.OF_STORAGE_CLASSES.get(target)
    if kind is not None and table_kinds.of(value) is not None:
        # Only who has tables needs that library.
        from aggregator.butler.formatting import arrow_tables

        return arrow_tables.from_arrow(arrow_tables.to_arrow(value), kind)
    if target in ("", stored):
        return value
    if target == "StructuredDataDict" and stored == _METADATA:
        return _flattened(value)
    if target in _TYPES and isinstance(value, _TYPES[target]):
        return value
    raise ValueError(f"a dataset of storage class {stored} can't be had as {target}")


def _flattened(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return task metadata as a mapping without the three kinds of values."""
    inner = {name: _flattened(section) for name, section in metadata.get("metadata", {}).items()}
    return {**metadata.get("scalars", {}), **metadata.get("arrays", {}), **inner}
