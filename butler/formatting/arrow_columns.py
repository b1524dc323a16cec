"""Columns of Arrow tables from NumPy arrays, and back; what Arrow's types do not tell is in the schema.

The keys in the schema are the reference's: lengths of strings, and shapes of columns with several dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

ROW_COUNT: Final = b"lsst::arrow::rowcount"
"""Key of the number of rows."""

_LENGTHS: Final = ("lsst::arrow::len::", "table::len::")
_SHAPE: Final = "lsst::arrow::shape::"
_DEFAULT_LENGTH: Final = 10
"""Length of strings in an empty table that does not tell it."""


def notes(name: str, column: Any) -> dict[bytes, bytes]:
    """Return what the schema has to tell of a column."""
    dtype, shape = column.dtype, column.shape[1:]
    if dtype.kind in "US":
        length = str(dtype.itemsize // (4 if dtype.kind == "U" else 1)).encode()
        return {f"{prefix}{name}".encode(): length for prefix in _LENGTHS}
    return {f"{_SHAPE}{name}".encode(): str(shape).encode()} if len(shape) > 1 else {}


def to_arrow(name: str, column: Any) -> pa.Array:
    """Return the Arrow array of a NumPy array, be it masked, of any byte order, or of several dimensions.

    Raises
    ------
    TypeError
        If it holds objects that Arrow has no common type for.
    """
    mask = np.ma.getmaskarray(column) if isinstance(column, np.ma.MaskedArray) else None
    values = np.asarray(np.ma.getdata(column))
    if values.dtype.byteorder not in "=|<" and values.dtype.kind != "U":
        values = values.astype(values.dtype.newbyteorder("="))
    if values.dtype.kind == "M" and not values.dtype.str.endswith("[ns]"):
        values = values.astype("datetime64[us]")
    try:
        if values.ndim > 1:
            return _lists(values, mask)
        if values.dtype.kind in "US":
            return pa.array(values.tolist(), mask=mask, type=_text_type(values.dtype))
        return pa.array(values, mask=mask)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise TypeError(f"column {name!r} of type {values.dtype} can't be stored ({error})") from error


def _text_type(dtype: Any) -> pa.DataType:
    return pa.string() if dtype.kind == "U" else pa.binary()


def _lists(values: Any, mask: Any) -> pa.Array:
    width = math.prod(values.shape[1:])
    flat = values.reshape(-1)
    kind = _text_type(flat.dtype) if flat.dtype.kind in "US" else None
    items = flat.tolist() if kind is not None else flat
    return pa.FixedSizeListArray.from_arrays(
        pa.array(items, type=kind, mask=None if mask is None else mask.reshape(-1)), width
    )


def to_numpy(name: str, column: pa.ChunkedArray, metadata: Mapping[bytes, bytes]) -> Any:
    """Return the NumPy array of a column; a masked one if values are missing."""
    kind = column.type
    is_text = is_string(kind) or is_binary(kind)
    array: Any
    if column.null_count:
        fill = _fill_value(kind)
        data = column.fill_null(fill if not is_binary(kind) else b"").to_numpy()
        array = np.ma.MaskedArray(data=data, mask=column.is_null().to_numpy(), fill_value=fill)
    else:
        array = column.to_numpy()
    if is_text:
        length = _length(name, array, metadata)
        return array.astype(f"U{length}" if is_string(kind) else f"S{length}")
    if pa.types.is_fixed_size_list(kind):
        shape = _shape(name, kind, metadata)
        flat = np.stack(array) if len(array) else array.astype(kind.value_type.to_pandas_dtype())
        return flat.reshape((len(array), *shape))
    return array


def _fill_value(kind: pa.DataType) -> Any:
    if pa.types.is_floating(kind):
        return math.nan
    if pa.types.is_signed_integer(kind):
        return -1
    if pa.types.is_boolean(kind):
        return True
    return "" if is_string(kind) or is_binary(kind) else 0


def _length(name: str, array: Any, metadata: Mapping[bytes, bytes]) -> int:
    length = metadata.get(f"{_LENGTHS[0]}{name}".encode())
    if length is not None:
        return int(length)
    if not len(array):
        return _DEFAULT_LENGTH
    return max((len(value) for value in np.ma.getdata(array) if value), default=0)


def _shape(name: str, kind: pa.DataType, metadata: Mapping[bytes, bytes]) -> tuple[int, ...]:
    shape = metadata.get(f"{_SHAPE}{name}".encode())
    if shape is None:
        return (kind.list_size,)
    return tuple(int(part) for part in shape.decode().strip("() ").split(",") if part.strip())


def is_string(kind: pa.DataType) -> bool:
    """Return whether a type is one of texts."""
    return any((pa.types.is_string(kind), pa.types.is_large_string(kind), pa.types.is_string_view(kind)))


def is_binary(kind: pa.DataType) -> bool:
    """Return whether a type is one of bytes."""
    return any((pa.types.is_binary(kind), pa.types.is_large_binary(kind), pa.types.is_binary_view(kind)))
