"""Tables of Arrow and pandas, and of notebooks, made of rows."""

import html
import importlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from aggregator.schemas import printable
from aggregator.storage import errors

if TYPE_CHECKING:
    import pyarrow

Kind = Literal["text", "category", "integer", "number", "boolean"]
"""What the values of a column are; a category is a text that many rows share."""

Columns = Mapping[str, Kind]
"""Names and kinds of the columns of a table, in order."""

Row = Mapping[str, Any]
"""Values by column; what is missing has no value."""

BATCH_ROWS: Final = 1 << 14
"""Rows that are made at once."""

_LONGEST: Final = 200
"""Characters of a text that a notebook shows."""


def import_library(name: str) -> Any:
    """Return pyarrow or pandas.

    Raises
    ------
    RefusedError
        If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as exc:
        raise errors.RefusedError(
            f"tables need {name}, which can't be imported ({exc}): "
            "pip install 'quantum-graph-aggregator[tables]'"
        ) from exc


def schema(columns: Columns) -> "pyarrow.Schema":
    """Return the Arrow schema of a table."""
    pa = import_library("pyarrow")
    types = {
        "text": pa.string(),
        "category": pa.dictionary(pa.int32(), pa.string()),
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
    }
    return pa.schema([(name, types[kind]) for name, kind in columns.items()])


def batches(columns: Columns, rows: Iterable[Row]) -> "Iterator[pyarrow.RecordBatch]":
    """Yield a table in parts of bounded size."""
    pa = import_library("pyarrow")
    form, left = schema(columns), iter(rows)
    while some := list(itertools.islice(left, BATCH_ROWS)):
        arrays = [pa.array([row.get(field.name) for row in some], field.type) for field in form]
        yield pa.RecordBatch.from_arrays(arrays, schema=form)


def to_html(caption: str, columns: Iterable[str], rows: Iterable[Row], more: bool) -> str:
    """Return a table for a notebook; all text in it was made by others, and is escaped."""
    names = list(columns)
    head = "".join(f"<th>{_cell(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(row.get(n))}</td>' for n in names)}</tr>" for row in rows)
    rest = "<p>…</p>" if more else ""
    return f"<p>{_cell(caption)}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"


def _cell(value: object) -> str:
    text = "" if value is None else printable.line(str(value))
    return html.escape(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")
