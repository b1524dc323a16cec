"""Formatters of tables: those of Astropy, of Arrow, and structured arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from aggregator.butler.formatting import arrow_tables, parquet_files, table_kinds
from aggregator.stages.formatters import item_formatter
from aggregator.stages.storages import content

_FORMAT = parquet_files.ParquetFormat()


def conversions(kind: table_kinds.Kind) -> Mapping[content.Form, item_formatter.Conversion]:
    """Return what tables of a kind can become: a file of Parquet in an archive, a table in FITS, or rows."""

    def of_values(value: Any, _: item_formatter.Circumstances) -> Any:
        return arrow_tables.from_arrow(_FORMAT.decode(value, {}), kind)

    def of_units(units: content.Units, _: item_formatter.Circumstances) -> Any:
        table = _of_units(units)
        if kind is table_kinds.Kind.ASTROPY:
            return table
        return arrow_tables.from_arrow(arrow_tables.to_arrow(table), kind)

    def of_rows(rows: list[dict[str, Any]], about: item_formatter.Circumstances) -> Any:
        keys = item_formatter.columns(about.settings)
        named = [{keys.get(name, name): value for name, value in row.items()} for row in rows]
        return arrow_tables.from_arrow(_typed(pa.Table.from_pylist(named)), kind)

    return {
        content.Form.VALUES: item_formatter.Conversion(_to_values, of_values),
        content.Form.UNITS: item_formatter.Conversion(_to_units, of_units),
        content.Form.ROWS: item_formatter.Conversion(_to_rows, of_rows),
    }


def _typed(table: pa.Table) -> pa.Table:
    """Return a table in which columns that have no values at all are texts: others would not take them."""
    fields = [
        field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def _to_values(value: Any, _: item_formatter.Circumstances) -> bytes:
    return _FORMAT.encode(value, {})


def _to_units(value: Any, _: item_formatter.Circumstances) -> Any:
    if table_kinds.of(value) in (table_kinds.Kind.ASTROPY, table_kinds.Kind.NUMPY):
        return value
    return arrow_tables.from_arrow(arrow_tables.to_arrow(value), table_kinds.Kind.ASTROPY)


def _of_units(units: content.Units) -> Any:
    import astropy.table

    if units.number is not None:
        return astropy.table.Table.read(units.units, hdu=units.number)
    return astropy.table.Table.read(units.units)


def _to_rows(value: Any, about: item_formatter.Circumstances) -> content.Rows:
    """Return the rows of a table; columns that it lacks have one value for all, from the additional data."""
    table = arrow_tables.to_arrow(value)
    keys = item_formatter.columns(about.settings) or {name: name for name in table.column_names}
    columns = [
        table.column(key).to_pylist() if key in table.column_names else [about.data.get(key)] * table.num_rows
        for key in keys.values()
    ]
    return item_formatter.rows(keys, list(zip(*columns, strict=True)), about)
