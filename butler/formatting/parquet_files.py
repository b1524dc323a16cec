"""Tables as Parquet files, which the reference reads and writes in the same form."""

from __future__ import annotations

import fnmatch
import io
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet
from aggregator.butler.formatting import (
    arrow_columns,
    arrow_tables,
    dataset_provenance,
    file_formats,
    table_kinds,
)


class ParquetFormat(file_formats.Format):
    """An Arrow table with what its schema has to tell besides. What is read is an Arrow table."""

    parameters: ClassVar[frozenset[str]] = frozenset({"columns", "strip_astropy_meta_yaml"})
    derived: ClassVar[Mapping[str, str]] = {
        "columns": "ArrowColumnList",
        "rowcount": "int",
        "schema": "ArrowSchema",
    }

    def encode(self, value: Any, provenance: Mapping[str, Any]) -> bytes:
        """Return the file; provenance goes into the ``meta`` of a table of Astropy, as no other has any."""
        stream = io.BytesIO()
        if isinstance(value, pa.Schema):
            pyarrow.parquet.write_metadata(value, stream)
            return stream.getvalue()
        if provenance and table_kinds.of(value) is table_kinds.Kind.ASTROPY:
            # A copy, since the caller's table may be put somewhere else next.
            value = value.copy(copy_data=False)
            value.meta = dataset_provenance.replaced(value.meta, provenance)
        pyarrow.parquet.write_table(arrow_tables.to_arrow(value), stream)
        return stream.getvalue()

    def decode(self, data: bytes, parameters: Mapping[str, Any]) -> pa.Table:
        """Return the table, or some of its columns.

        Parameters
        ----------
        data
            The file.
        parameters
            ``columns``: names or patterns of columns; ``strip_astropy_meta_yaml``: whether to leave out the
            header of a table of Astropy, as by default.

        Raises
        ------
        ParameterError
            If there is no such column.
        """
        source = pa.BufferReader(data)
        schema = pyarrow.parquet.read_schema(source)
        names = _chosen(schema, parameters["columns"]) if parameters.get("columns") else None
        is_pandas = b"pandas" in (schema.metadata or {})
        table = pyarrow.parquet.read_table(
            source, columns=names, use_threads=False, use_pandas_metadata=is_pandas
        )
        metadata = dict(table.schema.metadata or {})
        # Tables that Astropy itself has written keep it.
        if parameters.get("strip_astropy_meta_yaml", True) and arrow_columns.ROW_COUNT in metadata:
            metadata.pop(arrow_tables.ASTROPY_HEADER, None)
            table = table.replace_schema_metadata(metadata)
        return table

    def component(self, value: Any, name: str) -> Any:
        """Return names of the columns, number of rows, or the schema."""
        table: pa.Table = value
        if name == "rowcount":
            return table.num_rows
        return table.column_names if name == "columns" else table.schema


def _chosen(schema: pa.Schema, patterns: str | Iterable[str]) -> list[str]:
    """Return the columns that patterns are for, in their order, each once."""
    names = [name for name in schema.names if not name.startswith("__")]
    selection: dict[str, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matches = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not matches:
            raise file_formats.ParameterError(f"there is no column {pattern!r}, only {', '.join(names)}")
        selection.update(dict.fromkeys(matches))
    return list(selection)
