"""Tables of any kind as Arrow tables, and Arrow tables as those of any kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
from aggregator.butler.formatting import arrow_columns, table_kinds

ASTROPY_HEADER: Final = b"table_meta_yaml"
"""Key of the header that Astropy makes of a table, its ``meta`` among that."""

_PANDAS_INDEX: Final = "lsst::arrow::astropy_pandas_index"
"""Key of the column that is to be the index of a data frame."""


def to_arrow(value: Any) -> pa.Table:
    """Return the Arrow table of a table.

    Raises
    ------
    TypeError
        If the object is no table, or a column has no type that Arrow knows.
    """
    kind = table_kinds.of(value)
    if kind is None:
        raise TypeError(f"it is of type {type(value).__name__}, and has to be a table")
    made: pa.Table = _TO_ARROW[kind](value)
    return made


def from_arrow(table: pa.Table, kind: table_kinds.Kind) -> Any:
    """Return the table of another kind that an Arrow table stands for."""
    return _FROM_ARROW[kind](table)


def _from_columns(columns: Mapping[str, Any]) -> pa.Table:
    lengths = {len(column) for column in columns.values()} or {0}
    if len(lengths) > 1:
        raise TypeError(f"its columns have different numbers of rows, {sorted(lengths)}")
    metadata = {arrow_columns.ROW_COUNT: str(lengths.pop()).encode()}
    for name, column in columns.items():
        metadata.update(arrow_columns.notes(name, column))
    arrays = [arrow_columns.to_arrow(name, column) for name, column in columns.items()]
    return pa.Table.from_arrays(arrays, names=list(columns), metadata=metadata)


def _from_numpy(value: Any) -> pa.Table:
    return _from_columns({name: value[name] for name in value.dtype.names})


def _from_astropy(value: Any) -> pa.Table:
    from astropy.table import meta

    table = _from_columns({name: _plain_column(value[name]) for name in value.colnames})
    metadata = dict(table.schema.metadata)
    if _PANDAS_INDEX in value.meta:
        metadata[_PANDAS_INDEX.encode()] = str(value.meta[_PANDAS_INDEX]).encode()
    metadata[ASTROPY_HEADER] = "\n".join(meta.get_yaml_from_table(value)).encode()
    fields = []
    for field in table.schema:
        column = value[field.name]
        unit, description = getattr(column, "unit", None), column.info.description
        notes = {"description": description} if description else {}
        fields.append(field.with_metadata({**notes, "unit": str(unit)} if unit else notes))
    return table.cast(pa.schema(fields, metadata=metadata))


def _plain_column(column: Any) -> Any:
    """Return the array of a column, without its unit."""
    if isinstance(column, np.ma.MaskedArray):
        return column
    return column.value if hasattr(column, "unit") and hasattr(column, "value") else np.asarray(column)


def _from_pandas(value: Any) -> pa.Table:
    import pandas

    if isinstance(value.index, pandas.RangeIndex) and value.index.name is not None:
        # A range would be noted as such, and be no column.
        value = value.set_axis(pandas.Index(value.index.to_numpy(), name=value.index.name))
    table = pa.Table.from_pandas(value)
    metadata = {**table.schema.metadata, arrow_columns.ROW_COUNT: str(table.num_rows).encode()}
    for field in table.schema:
        if not field.name.startswith("__") and arrow_columns.is_string(field.type):
            texts = table[field.name].drop_null().to_pylist()
            length = max(map(len, texts), default=0) if len(table) else 10
            metadata[f"lsst::arrow::len::{field.name}".encode()] = str(length).encode()
    return table.replace_schema_metadata(metadata)


def columns(table: pa.Table) -> dict[str, Any]:
    """Return the columns of an Arrow table as NumPy arrays."""
    metadata = table.schema.metadata or {}
    return {name: arrow_columns.to_numpy(name, table[name], metadata) for name in table.column_names}


def _to_numpy(table: pa.Table) -> Any:
    arrays = columns(table)
    if any(isinstance(array, np.ma.MaskedArray) for array in arrays.values()):
        from numpy.ma import mrecords

        dtype = [(name, array.dtype, array.shape[1:]) for name, array in arrays.items()]
        make: Any = mrecords.fromarrays
        return make(list(arrays.values()), dtype=dtype)
    result = np.empty(len(table), [(name, array.dtype, array.shape[1:]) for name, array in arrays.items()])
    for name, array in arrays.items():
        result[name] = array
    return result.view(np.recarray)


def _to_astropy(table: pa.Table) -> Any:
    from astropy.table import Table

    result = Table(columns(table))
    metadata = table.schema.metadata or {}
    if ASTROPY_HEADER in metadata:
        _apply_header(result, metadata[ASTROPY_HEADER].decode())
    else:
        _apply_notes(result, table.schema)
    if result.meta.get(_PANDAS_INDEX) not in (None, *result.colnames):
        del result.meta[_PANDAS_INDEX]
    return result


def _apply_header(result: Any, header: str) -> None:
    from astropy.table import meta

    document = meta.get_header_from_yaml(header.split("\n"))
    entries = {entry["name"]: entry for entry in document["datatype"]}
    for column in result.columns.values():
        for attribute in ("description", "format", "unit", "meta"):
            if attribute in entries.get(column.name, {}):
                setattr(column, attribute, entries[column.name][attribute])
    result.meta.update(document.get("meta") or {})


def _apply_notes(result: Any, schema: pa.Schema) -> None:
    for field in schema:
        notes = field.metadata or {}
        for attribute in ("description", "unit"):
            if text := notes.get(attribute.encode(), b"").decode():
                setattr(result[field.name], attribute, text)
    if index := (schema.metadata or {}).get(_PANDAS_INDEX.encode()):
        result.meta[_PANDAS_INDEX] = index.decode()


def _to_pandas(table: pa.Table) -> Any:
    frame = table.to_pandas(use_threads=False, integer_object_nulls=True)
    index = (table.schema.metadata or {}).get(_PANDAS_INDEX.encode(), b"").decode()
    return frame.set_index(index) if index in table.column_names else frame


_TO_ARROW: Final[Mapping[table_kinds.Kind, Callable[[Any], pa.Table]]] = {
    table_kinds.Kind.ARROW: lambda value: value,
    table_kinds.Kind.ASTROPY: _from_astropy,
    table_kinds.Kind.NUMPY: _from_numpy,
    table_kinds.Kind.COLUMNS: _from_columns,
    table_kinds.Kind.PANDAS: _from_pandas,
}

_FROM_ARROW: Final[Mapping[table_kinds.Kind, Callable[[pa.Table], Any]]] = {
    table_kinds.Kind.ARROW: lambda table: table,
    table_kinds.Kind.ASTROPY: _to_astropy,
    table_kinds.Kind.NUMPY: _to_numpy,
    table_kinds.Kind.COLUMNS: columns,
    table_kinds.Kind.PANDAS: _to_pandas,
}
